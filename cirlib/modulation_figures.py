"""Figures 1, 6 and 8 to 16: what models make of one photo as the task moves.

Task vectors go down, models across. The paper's moving figures are animated WebP files here: small,
in 24-bit colour (a GIF's 256 would add a noise of their own), and every browser shows them.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from textwrap import fill

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont

from cirlib import paths
from cirlib.figures import MODEL_COLOURS, MODEL_LABELS, PAGE_WIDTH, show_images
from cirlib.files import atomic
from cirlib.modulation import Modulator
from cirlib.modulation_quality import MATCHED, QUANTITIES

TEXT = 14  # pixels, height of the letters over a frame
GAP = 4  # pixels between the pictures of a frame


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


def spell(task: Sequence[float]) -> str:
    """A task as the paper prints it: (0.2, 0, 0)."""
    return "(" + ", ".join(f"{t:g}" for t in task) + ")"


def modulation_grid(
    gallery: Gallery,
    image: np.ndarray,
    tasks: Sequence[Sequence[float]],
    zoom: tuple[int, int, int, int] | None = None,
    width: float = 1.4 * PAGE_WIDTH,
) -> Figure:
    """Figures 9 to 16: a row a task, a column a model, the input once, on the left.

    zoom: left, top, width, height in pixels of the part that is enlarged in a corner.
    """
    gallery.load(image)
    cells: list[np.ndarray | None] = []
    for k, task in enumerate(tasks):
        cells += [image if k == 0 else None, *gallery.effects(task)]
    return show_images(cells, gallery.titles, len(gallery.titles), zoom=zoom, width=width,
                       row_titles=[spell(task) for task in tasks])  # fmt: skip


def sweep(direction: Sequence[float], steps: int = 10) -> list[tuple[float, ...]]:
    """Tasks from none to a direction's full strength and back, for a loop without a jump."""
    up = [tuple(round(k / steps * d, 6) for d in direction) for k in range(steps + 1)]
    return up + up[-2:0:-1]


def animate(
    gallery: Gallery, images: Iterable[np.ndarray], tasks: Iterable[Sequence[float]]
) -> list[np.ndarray]:
    """Frames that show the input and each model's effect side by side, with names and the task.

    One image a task: the same again for a photo, the next one for a video.
    """
    frames, loaded = [], None
    for image, task in zip(images, tasks, strict=True):
        if image is not loaded:
            gallery.load(image)
            loaded = image
        pictures = [image, *gallery.effects(task)]
        frames.append(_labelled(pictures, [*gallery.titles, ""], spell(task)))
    return frames


def _labelled(pictures: Sequence[np.ndarray], names: Sequence[str], task: str) -> np.ndarray:
    """Pictures in a row on white, a name above each and the task under the first."""
    H, W, _ = pictures[0].shape
    head = TEXT + 8
    size = len(pictures) * (W + GAP) - GAP, H + 2 * head
    canvas = Image.new("RGB", size, "white")
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(TEXT)
    for k, (picture, name) in enumerate(zip(pictures, names, strict=False)):
        left = k * (W + GAP)
        canvas.paste(Image.fromarray(picture), (left, head))
        draw.text((left + W / 2, head / 2), name, "black", font, anchor="mm")
    draw.text(
        (0, H + 1.5 * head), f"(deblur, denoise, dejpeg) = {task}", "black", font, anchor="lm"
    )
    return np.asarray(canvas)


def save_animation(
    frames: Sequence[np.ndarray], name: str, profile: str, milliseconds: int = 160
) -> Path:
    """Save frames (uint8 H x W x 3) as ``name``.webp in the profile's figures, in a loop.

    The same frames give the same bytes. Raises UserError if it cannot be written.
    """
    path = paths.FIGURES / profile / f"{name}.webp"
    first, *rest = (Image.fromarray(frame) for frame in frames)
    with atomic(path) as temporary:
        first.save(temporary, "WEBP", save_all=True, append_images=rest, loop=0,
                   duration=milliseconds, quality=85, method=4)  # fmt: skip
    return path


def contact_sheet(frames: Sequence[np.ndarray], count: int = 4) -> np.ndarray:
    """Some frames of an animation, evenly spaced over its first half, one under the other."""
    half = len(frames) // 2 + 1
    return np.vstack([frames[round(k * (half - 1) / (count - 1))] for k in range(count)])


# Figure 8


def draw_steps(frames: Mapping[str, pd.DataFrame], quantity: str = "step_lpips") -> Figure:
    """Figure 8b: how much the image changes from one level to the next, for matched inputs.

    frames: modulation_quality.modulation_scores by model. A panel a case, a line a model: the mean
    over images of each step, relative to the mean step. Even modulation is the line at 1.
    """
    figure, axes = plt.subplots(1, len(MATCHED), sharey=True, figsize=(1.25 * PAGE_WIDTH, 2.5))
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
        axis.set(title=case, xlabel="level reached", ylim=(0, None))
    axes[0].set_ylabel("step / mean step")
    figure.legend(
        *axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(frames)
    )
    return figure


def draw_quantities(table: pd.DataFrame, quantities: Sequence[str]) -> Figure:
    """Means with 95% intervals, a panel a quantity, from modulation_quality.modulation_table."""
    figure, axes = plt.subplots(1, len(quantities), figsize=(1.25 * PAGE_WIDTH, 2.3), sharey=True)
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
    return figure
