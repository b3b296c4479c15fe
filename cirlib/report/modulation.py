"""Figures 1, 6 and 8 to 16: what models make of one photo as the task moves.

Task vectors go down, models across. The paper's moving figures are animated WebP files here: every
browser shows them, also within a README. Of Figure 1 a GIF is four times as large, and its 256
colours add a noise of their own; an animated PNG is seven times as large; MP4 needs an encoder.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from textwrap import fill

import imageio.v3 as imageio
import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont

from cirlib.base import paths
from cirlib.base.files import atomic
from cirlib.base.provenance import save_facts
from cirlib.degradation import Levels
from cirlib.engine.modulator import Modulator
from cirlib.measure.modulation import MATCHED, QUANTITIES
from cirlib.report.cost import costs_as_run
from cirlib.report.figures import MODEL_COLOURS, MODEL_LABELS, PAGE_WIDTH, subplots

TEXT = 13  # pixels, height of the letters
LINE = TEXT + 6  # pixels, of text with its margins
GAP = 4  # pixels between pictures
AXES = " = (deblur, denoise, dejpeg)"
FRAME = "#F0E442"  # around what is enlarged


class Gallery:
    """Models by name, which all modulate the same image."""

    def __init__(self, nets: Mapping[str, object], device: torch.device | str = "cpu"):
        self.modulators = {name: Modulator(net, device) for name, net in nets.items()}
        self.image: np.ndarray | None = None

    def load(self, image: np.ndarray) -> None:
        """Take an image, uint8 H x W x 3."""
        self.image = image
        for modulator in self.modulators.values():
            modulator.load(image)

    def effects(self, task) -> list[np.ndarray]:
        """The effect of each model on the image, in their order."""
        return [modulator.effect(task) for modulator in self.modulators.values()]

    @property
    def titles(self) -> list[str]:
        return ["input", *(MODEL_LABELS[name] for name in self.modulators)]


def as_printed(task: Sequence[float]) -> str:
    """A task as the paper prints it: (0.2, 0, 0)."""
    return "(" + ", ".join(f"{t:g}" for t in task) + ")"


def described(photo: str, levels: Levels, task: Sequence[float]) -> str:
    """A caption: what was done to a photo, and the task (deblur, denoise, dejpeg) that undoes it.

    As in "chelsea with blur r 1.2, noise sigma 15, JPEG quality 74; optimum (0.3, 0.3, 0.3)".
    """
    kinds = zip(("blur r", "noise sigma", "JPEG quality"), levels, strict=True)
    done = ", ".join(f"{kind} {value:g}" for kind, value in kinds if value)
    return f"{photo} with {done or 'no damage'}; optimum {as_printed(task)}"


def modulation_grid(
    gallery: Gallery,
    image: np.ndarray,
    tasks: Sequence[Sequence[float]],
    caption: str,
    zoom: tuple[int, int, int, int] | None = None,
) -> np.ndarray:
    """Figures 9 to 16 as one picture: a row a task, a column a model, the input on the left.

    caption: a line above all, which says what the input is. zoom: left, top, width, height in
    pixels of a part that is framed, and shown below each picture, as wide as that.
    """
    gallery.load(image)
    rows = []
    for k, task in enumerate(tasks):
        pictures = [_zoomed(picture, zoom) for picture in (image, *gallery.effects(task))]
        label = f"task {as_printed(task)}" + (AXES if k == 0 else "")
        row = _labelled(pictures, gallery.titles, label, caption)
        rows.append(row if k == 0 else _without_head(row))
    return np.vstack(rows)


def _zoomed(picture: np.ndarray, zoom: tuple[int, int, int, int] | None) -> np.ndarray:
    """The picture with a frame around a part, and below it that part, as wide as the picture."""
    if zoom is None:
        return picture
    left, top, width, height = zoom
    W = picture.shape[1]
    part = Image.fromarray(picture[top : top + height, left : left + width])
    part = part.resize((W, round(W * height / width)), Image.Resampling.NEAREST)
    framed = Image.fromarray(picture.copy())
    ImageDraw.Draw(framed).rectangle((left - 1, top - 1, left + width, top + height), outline=FRAME)
    return np.vstack([framed, np.full((2, W, 3), 255, np.uint8), part])


def save_picture(picture: np.ndarray, name: str, profile: str, facts: Mapping[str, object]) -> Path:
    """Save a picture of photographs as ``name``.jpg in the profile's figures; returns the path.

    Beside it goes ``name``.json with its provenance and facts (seed, data, weights). Quality 72
    with full chroma: artifacts hardly visible, a tenth of the size of a PNG. Raises UserError if it
    cannot be written.
    """
    path = paths.FIGURES / profile / f"{name}.jpg"
    with atomic(path) as temporary:
        Image.fromarray(picture).save(temporary, "JPEG", quality=72, subsampling="4:4:4")
    save_facts(path, {"profile": profile} | dict(facts))
    return path


def sweep(direction: Sequence[float], steps: int = 10) -> list[tuple[float, ...]]:
    """Tasks from none to a direction's full strength and back, for a loop without a jump."""
    up = [tuple(round(k / steps * d, 6) for d in direction) for k in range(steps + 1)]
    return up + up[-2:0:-1]


def running_cost(
    nets: Mapping[str, object], tasks: Sequence[Sequence[float]], size: tuple[int, int]
) -> dict[str, np.ndarray]:
    """GFLOPs that each model has spent after each of the tasks, on an image of (width, height).

    The shared trunk counts once, with the first effect.
    """
    found = {name: [net.architecture(task) for task in tasks] for name, net in nets.items()}
    costs = costs_as_run(found, size)
    return {name: (one.trunk + np.cumsum(one.heads)) / 1e9 for name, one in costs.items()}


def animate(
    gallery: Gallery,
    images: Iterable[np.ndarray],
    tasks: Iterable[Sequence[float]],
    caption: str,
    zoom: tuple[int, int, int, int] | None = None,
    spent: Mapping[str, Sequence[float]] | None = None,
) -> list[np.ndarray]:
    """Frames that show the input and each model's effect side by side, with names and the task.

    One image a task: the same again for a photo, the next one for a video, whose frames are
    numbered. caption, zoom: as of modulation_grid. spent: of each model the GFLOPs that the effects
    up to each frame have cost (see running_cost), which then stand under its name, and "spent so
    far" under the input's.
    """
    frames, loaded, label = [], None, ""
    for k, (image, task) in enumerate(zip(images, tasks, strict=False)):  # one may repeat for ever
        if image is not loaded:
            gallery.load(image)
            label = f"frame {k}, " if k else ""
            loaded = image
        pictures = [_zoomed(picture, zoom) for picture in (image, *gallery.effects(task))]
        told = f"{label}task {as_printed(task)}{AXES}"
        below = None
        if spent:
            costs = (f"{spent[model][k]:.1f} GFLOPs" for model in gallery.modulators)
            below = ["spent so far:", *costs]
        frames.append(_labelled(pictures, gallery.titles, told, caption, below))
    return frames


def _labelled(
    pictures: Sequence[np.ndarray],
    names: Sequence[str],
    label: str,
    caption: str,
    below: Sequence[str] | None = None,
) -> np.ndarray:
    """Pictures in a row on white; above them a caption, their names and a label, a line each.

    below: of each picture a second line, under its name.
    """
    H, W, _ = pictures[0].shape
    heads = [names] if below is None else [names, below]
    top = (2 + len(heads)) * LINE
    canvas = Image.new("RGB", (len(pictures) * (W + GAP) - GAP, top + H), "white")
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(TEXT)
    draw.text((2, LINE / 2), caption, "black", font, anchor="lm")
    for k, picture in enumerate(pictures):
        canvas.paste(Image.fromarray(picture), (k * (W + GAP), top))
        for line, words in enumerate(heads):
            at = k * (W + GAP) + W / 2, (1.5 + line) * LINE
            draw.text(at, words[k], "black", font, anchor="mm")
    draw.text((2, top - LINE / 2), label, "black", font, anchor="lm")
    return np.asarray(canvas)


def _without_head(row: np.ndarray) -> np.ndarray:
    """What _labelled has drawn, without caption and names (and nothing under these)."""
    return row[2 * LINE :]


def save_animation(
    frames: Sequence[np.ndarray], name: str, profile: str, facts: Mapping[str, object]
) -> Path:
    """Save frames (uint8 H x W x 3) as ``name``.webp in the profile's figures, in a loop.

    Beside it goes ``name``.json with its provenance and facts (seed, data, weights). The same
    frames give the same bytes. Raises UserError if it cannot be written.
    """
    path = paths.FIGURES / profile / f"{name}.webp"
    with atomic(path) as temporary:
        imageio.imwrite(temporary, np.stack(frames), plugin="pillow", is_batch=True,
                        loop=0, duration=160, quality=85, method=4)  # fmt: skip
    save_facts(path, {"profile": profile} | dict(facts))
    return path


def still(frames: Sequence[np.ndarray], count: int = 2) -> np.ndarray:
    """Some frames of an animation, one under the other.

    They are evenly spaced over its first half, whose end is the last of them.
    """
    half = len(frames) // 2
    first, *rest = (frames[round((k + 1) * half / count)] for k in range(count))
    return np.vstack([first, *map(_without_head, rest)])


# Figure 8


def draw_steps(frames: Mapping[str, pd.DataFrame], quantity: str = "step_lpips") -> Figure:
    """Figure 8b: how much the image changes from one level to the next, for matched inputs.

    frames: measure.modulation.modulation_scores by model. A panel a case, a line a model: the mean
    over images of each step, relative to the mean step. Even modulation is the line at 1.
    """
    figure, axes = subplots(1, len(MATCHED), sharey=True, figsize=(1.25 * PAGE_WIDTH, 2.5))
    for case, axis in zip(MATCHED, axes, strict=True):
        axis.axhline(1, color="0.6", lw=0.8, ls=":")
        for model, frame in frames.items():
            rows = frame[(frame["quantity"] == quantity) & (frame["case"] == case)]
            steps = rows.assign(value=rows["value"].abs()).pivot_table(
                index="level", columns="image", values="value"
            )
            relative = (steps / steps.mean()).mean(axis=1)
            axis.plot(relative.index, relative, color=MODEL_COLOURS[model],
                      label=MODEL_LABELS[model])  # fmt: skip
        axis.set(title=case, xlabel="level reached")
    axes[0].set_ylim(bottom=0)  # of all, which share it, once everything is drawn
    axes[0].set_ylabel(f"step / mean step, {quantity.removeprefix('step_').upper()}")
    figure.legend(
        *axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(frames)
    )
    return figure


def draw_quantities(table: pd.DataFrame, quantities: Sequence[str]) -> Figure:
    """Means with 95% intervals, a panel a quantity, from measure.modulation.modulation_table."""
    figure, axes = subplots(1, len(quantities), figsize=(1.25 * PAGE_WIDTH, 2.3), sharey=True)
    models = list(dict.fromkeys(table["model"]))[::-1]
    for quantity, axis in zip(quantities, np.atleast_1d(axes), strict=True):
        rows = table[table["quantity"] == quantity].set_index("model").reindex(models)
        for y, (model, row) in enumerate(rows.iterrows()):
            axis.plot(
                [row["low"], row["high"]], [y, y], color=MODEL_COLOURS[model], lw=3, alpha=0.4
            )
            axis.plot(row["value"], y, "o", color=MODEL_COLOURS[model])
        wanted, label = QUANTITIES[quantity]
        axis.set_title(f"{fill(label, 26)}\n{wanted} is better", fontsize=7.5)
        axis.set_yticks(range(len(models)), [MODEL_LABELS[model] for model in models])
        axis.set_ylim(-0.6, len(models) - 0.4)
    photos = table["images"].max()
    figure.supxlabel(f"bars: 95% intervals over {photos} photographs", fontsize=7.5)
    return figure
