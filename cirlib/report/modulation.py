"""Figures 1, 6 and 8 to 16: what models make of one photo as the task moves.

Task vectors go down, models across. The paper's moving figures are animated WebP files here: every
browser shows them, also within a README. Of Figure 1 a GIF is four times as large, and its 256
colours add a noise of their own; an animated PNG is seven times as large; MP4 needs an encoder.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import repeat
from pathlib import Path
from textwrap import fill
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from cirlib.base import paths
from cirlib.base.files import atomic
from cirlib.base.provenance import save_facts
from cirlib.degradation import Levels
from cirlib.engine.modulator import Modulator, Task
from cirlib.measure.intervals import bootstrap
from cirlib.measure.metrics import psnr
from cirlib.measure.modulation import MATCHED, QUANTITIES, detail_kept, evenness, gradient_energy
from cirlib.measure.sliders import SLIDERS
from cirlib.report.cost import costs_as_run
from cirlib.report.figures import (
    DPI,
    MODEL_COLOURS,
    MODEL_LABELS,
    PAGE_WIDTH,
    detail,
    show_images,
    subplots,
)

ALIKE = 0.05  # a difference in a number of one photo that is too small to be spoken of
AXES = f"Task = ({', '.join(SLIDERS)})".replace(" ", "\N{NO-BREAK SPACE}")  # on one line


class Gallery:
    """Models by name, which all modulate the same image."""

    def __init__(self, nets: Mapping[str, object], device: torch.device | str = "cpu"):
        self.modulators = {name: Modulator(net, device) for name, net in nets.items()}
        self.labels = [MODEL_LABELS[name] for name in nets]
        self.image: np.ndarray | None = None
        self.clean: np.ndarray | None = None

    def load(self, image: np.ndarray, clean: np.ndarray | None = None) -> None:
        """Take an image, uint8 H x W x 3, and the photo without its damage, where it is known."""
        self.image, self.clean = image, clean
        for modulator in self.modulators.values():
            modulator.load(image)

    def effects(self, task) -> list[np.ndarray]:
        """The effect of each model on the image, in their order."""
        return [modulator.effect(task) for modulator in self.modulators.values()]

    def note(self, picture: np.ndarray, claim: str = "") -> str:
        """What stands under a picture: its PSNR; without a clean photo, nothing can be measured but
        how the energy of the gradients rises.
        """
        if self.clean is not None:
            return f"{psnr(picture, self.clean):.2f} dB"
        return f"{self.octaves(picture):+.1f} octaves" if claim == "ringing" else ""

    def octaves(self, picture: np.ndarray) -> float:
        """By how many times 2 the energy of the gradients is above that of the input."""
        return float(np.log2(gradient_energy(picture) / gradient_energy(self.image)))

    def zoom(self) -> dict[str, object]:
        """What is enlarged three times: where the clean photo, or the input, has most texture,
        but at its border.
        """
        shown = self.image if self.clean is None else self.clean
        H, W, _ = shown.shape
        side = min(H, W) // 7
        border = side // 2
        left, top, *sides = detail(shown[border : H - border, border : W - border], side)
        place = left + border, top + border, *sides
        return {"zoom": place, "zoom_size": 3 * side / min(H, W)}


def as_printed(task: Sequence[float]) -> str:
    """A task as the paper prints it: (0.2, 0, 0)."""
    return "(" + ", ".join(f"{t:g}" for t in task) + ")"


def described(photo: str, levels: Levels, task: Sequence[float]) -> str:
    """A caption: what was done to a photo, and the task (deblur, denoise, dejpeg) that undoes it.

    As in "chelsea with blur r 1.2, noise sigma 15, JPEG quality 74; optimum (0.3, 0.3, 0.3)".
    """
    kinds = zip(("blur r", "noise sigma", "JPEG quality"), levels, strict=True)
    done = ", ".join(f"{kind} {value:g}" for kind, value in kinds if value)
    return f"{photo.replace('_', ' ')} with {done or 'no damage'}; optimum {as_printed(task)}"


class Claim(NamedTuple):
    """What the paper says of its TA+TSNet-m beside CResMD, as a number of an effect."""

    quantity: str
    wanted: str  # "higher" or "lower"
    words: tuple[str, str]  # what the paper's does, and the opposite
    measure: Callable[[Gallery, Modulator, tuple], float]
    place: str = "at"  # the task, or on the way to it


def _largest(gallery: Gallery, modulator: Modulator, task: tuple) -> float:
    tasks = [tuple(level * t for t in task) for level in np.linspace(0, 1, 11)]
    return evenness(np.diff([psnr(one, gallery.clean) for one in modulator.effects(tasks)]))[1]


CLAIMS = {
    "artifacts": Claim("PSNR gained on the input, dB", "higher",
                       ("makes fewer artifacts", "makes more artifacts"),
                       lambda gallery, modulator, task: psnr(modulator.effect(task), gallery.clean)
                       - psnr(gallery.image, gallery.clean)),
    "ringing": Claim("octaves by which the energy of the gradients rises", "lower",
                     ("rings less", "rings more"),
                     lambda gallery, modulator, task: gallery.octaves(modulator.effect(task))),
    "detail": Claim("detail kept, %", "higher", ("smooths less", "smooths more"),
                    lambda gallery, modulator, task:
                    detail_kept(modulator.effect(task), gallery.clean)),
    "evenness": Claim("largest of ten steps of PSNR over their mean", "lower",
                      ("is more even", "is less even"), _largest, "on the way to"),
}  # fmt: skip


def verdict(name: str, gallery: Gallery, task: tuple) -> str:
    """A claim of the paper asked of the image that is loaded, at a task, in a sentence."""
    claim = CLAIMS[name]
    values = {model: claim.measure(gallery, modulator, task)
              for model, modulator in gallery.modulators.items()}  # fmt: skip
    told = ", ".join(f"{MODEL_LABELS[model]}\N{NO-BREAK SPACE}{value:.1f}"
                     for model, value in values.items())  # fmt: skip
    told = f"{claim.quantity}, {claim.place} {as_printed(task)}: {told}."
    if {"cresmd", "ta-tsnet-m"} <= values.keys():
        ours, base = values["ta-tsnet-m"], values["cresmd"]
        found = ours > base if claim.wanted == "higher" else ours < base
        ending = (f"TA+TSNet-m {claim.words[not found]} than CResMD, "
                  f"{'as in' if found else 'against'} the paper.")  # fmt: skip
        if abs(ours - base) < ALIKE * max(abs(ours), abs(base)):
            ending = "TA+TSNet-m and CResMD are alike, against the paper."
        told += f" On this photo {ending}"
    return told[0].upper() + told[1:]


def modulation_grid(
    gallery: Gallery,
    image: np.ndarray,
    tasks: Sequence[Sequence[float]],
    caption: str,
    clean: np.ndarray | None = None,
    claim: str = "",
) -> Figure:
    """Figures 8a and 9 to 16: input and clean photo, and right of them a row a task, of all models.

    caption: lines above all, which say what the input is. clean: the photo without damage, where
    it is known. claim: a key of CLAIMS, whose verdict at the last task stands below all.
    """
    gallery.load(image, clean)
    pictures, notes = [], []
    for k, task in enumerate(tasks):
        effects = gallery.effects(task)
        first = (image, clean, None)[min(k, 2)]
        known = clean is not None
        about = (f"input, {gallery.note(image)}" if known else "input", "clean photo" * known, "")
        pictures += [first, *effects]
        notes += [about[min(k, 2)], *(gallery.note(effect, claim) for effect in effects)]
    return show_images(
        pictures, ["", *gallery.labels], 1 + len(gallery.labels), notes=notes, titled=1,
        row_titles=[f"task\n{as_printed(task)}" for task in tasks], caption=f"{caption}. {AXES}.",
        width=None, foot=verdict(claim, gallery, tuple(tasks[-1])) if claim else "",
        **gallery.zoom(),
    )  # fmt: skip


def sweep(direction: Sequence[float], steps: int = 10) -> list[tuple[float, ...]]:
    """Tasks from none to a direction's full strength and back, for a loop without a jump."""
    up = [tuple(round(k / steps * d, 6) for d in direction) for k in range(steps + 1)]
    return up + up[-2:0:-1]


def running_cost(
    nets: Mapping[str, object], tasks: Sequence[Sequence[float]], size: tuple[int, int]
) -> dict[str, np.ndarray]:
    """GFLOPs that each model has spent after each of the tasks, on an image of (width, height).

    The shared trunk counts once, with the first effect that runs a head: (0, 0, 0) runs none.
    """
    found = {name: net.architectures(tasks) for name, net in nets.items()}
    runs = np.array([any(task) for task in tasks])
    return {
        name: (one.trunk * (np.cumsum(runs) > 0) + np.cumsum(runs * np.array(one.heads))) / 1e9
        for name, one in costs_as_run(found, size).items()
    }


def animate(
    gallery: Gallery,
    images: Iterable[np.ndarray],
    tasks: Iterable[Sequence[float]],
    caption: str,
    cleans: Iterable[np.ndarray | None] | None = None,
    spent: Mapping[str, Sequence[float]] | None = None,
) -> list[np.ndarray]:
    """Frames that show the input and each model's effect side by side, with names and the task.

    One image a task: the same again for a photo, the next one for a video, whose frames are
    numbered. caption: what the input is; without one the task is told in words. cleans: as many
    photos without damage. spent: of each model the GFLOPs that the effects up to each frame have
    cost (see running_cost), which then stand under its name, and "spent so far" under the input's.
    """
    frames, loaded, first, zoom = [], None, "input", {}
    pairs = zip(images, cleans or repeat(None), tasks, strict=False)  # one may repeat for ever
    for k, (image, clean, task) in enumerate(pairs):
        if image is not loaded:
            gallery.load(image, clean)
            first = f"input, frame {k}" if k else "input"
            loaded, zoom = image, zoom or gallery.zoom()
        pictures = [image, *gallery.effects(task)]
        titles = [first, *gallery.labels]
        if spent:
            costs = (f"{spent[model][k]:.1f} GFLOPs" for model in gallery.modulators)
            titles = [f"{a}\n{b}" for a, b in zip(titles, ("so far spent:", *costs), strict=True)]
        steady = [f"{t:.2f}" for t in task]  # as long in every frame
        words = ", ".join(map(" ".join, zip(SLIDERS, steady, strict=True)))
        figure = show_images(
            pictures, titles, notes=[gallery.note(picture) for picture in pictures], width=None,
            caption=caption and f"{caption}. {AXES}.",
            foot=f"task ({', '.join(steady)})" if caption else words, **zoom,
        )  # fmt: skip
        frames.append(drawn(figure))
    return frames


def drawn(figure: Figure) -> np.ndarray:
    """The pixels of a figure at DPI, uint8 H x W x 3; closes it."""
    figure.dpi = DPI
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    plt.close(figure)
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def save_webp(
    frames: Sequence[np.ndarray],
    name: str,
    profile: str,
    facts: Mapping[str, object],
    held: Sequence[bool] = (),
) -> Path:
    """Save frames (uint8 H x W x 3) as ``name``.webp in the profile's figures; returns the path.

    One is kept without loss, in 60% of the bytes of a PNG; several move in a loop, those that are
    held for over a second. Beside it goes ``name``.json with its provenance and facts (seed, data,
    weights). The same frames give the same bytes. Raises UserError if it cannot be written.
    """
    path, how = paths.FIGURES / profile / f"{name}.webp", {"lossless": True}
    first, *rest = map(Image.fromarray, frames)
    if rest:
        shown = [1200 if hold else 160 for hold in held] or 160  # milliseconds
        how = {"save_all": True, "append_images": rest, "loop": 0, "duration": shown,
               "quality": 80, "method": 4}  # fmt: skip
    with atomic(path) as temporary:
        first.save(temporary, "WEBP", **how)
    save_facts(path, {"profile": profile} | dict(facts))
    return path


def draw_effects(
    modulator: Modulator, image: np.ndarray, optimum: Task, caption: str, clean: np.ndarray
) -> Figure:
    """Nine effects of a photo around the task that fits it: less and more of deblur and denoise.

    Deblur 0, the optimum's, 1 down, denoise across, the optimum's dejpeg. Cropped to the 192
    pixels in which the clean photo has most texture; PSNR stands below.
    """
    modulator.load(image)
    left, top, width, height = detail(clean, min(192, *clean.shape[:2]))
    window = slice(top, top + height), slice(left, left + width)
    down, across = ((0, level, 1) for level in optimum[:2])
    tasks = [(deblur, denoise, optimum[2]) for deblur in down for denoise in across]
    effects = [effect[window].copy() for effect in modulator.effects(tasks)]
    notes = [f"{psnr(one, clean[window]):.2f} dB" for one in effects]
    return show_images(effects, [f"denoise {level:g}" for level in across], 3, width=4.2,
                       row_titles=[f"deblur {level:g}" for level in down], notes=notes,
                       caption=f"{caption}, in the middle; dejpeg {optimum[2]:g}")  # fmt: skip


def draw_steps(frames: Mapping[str, pd.DataFrame], quantity: str = "step_lpips") -> Figure:
    """Figure 8b: how much the image changes from one level to the next, for matched inputs.

    frames: measure.modulation.modulation_scores by model. A row of panels a kind of model, a panel
    a case, a line a model: the mean over images of each step, relative to the image's mean step,
    with its 95% interval. Even modulation is the line at 1. CResMD is in both rows.
    """
    kinds = [[m for m in frames if m == "cresmd" or m.endswith("-m") == relative]
             for relative in (False, True)]  # fmt: skip
    kinds = [kind for kind in kinds if set(kind) != {"cresmd"}] or [list(frames)]
    figure, axes = subplots(len(kinds), len(MATCHED), sharey=True, sharex=True, squeeze=False,
                            figsize=(1.25 * PAGE_WIDTH, 1 + 1.7 * len(kinds)))  # fmt: skip
    for kind, row in zip(kinds, axes, strict=True):
        for case, axis in zip(MATCHED, row, strict=True):
            axis.axhline(1, color="0.6", lw=0.8, ls=":")
            for model in kind:
                rows = frames[model][frames[model]["quantity"] == quantity]
                rows = rows[rows["case"] == case]
                steps = rows.assign(value=rows["value"].abs()).pivot_table(
                    index="level", columns="image", values="value"
                )
                relative = (steps / steps.mean()).dropna(axis=1)
                ends = np.array([bootstrap(one) for one in relative.to_numpy()]).reshape(-1, 2)
                style = {"color": MODEL_COLOURS[model]}
                axis.fill_between(relative.index, *ends.T, alpha=0.2, lw=0, **style)
                axis.plot(relative.index, relative.mean(axis=1), label=MODEL_LABELS[model], **style)
        row[0].legend(loc="upper left", handlelength=1, borderaxespad=0.2)
        truth = "relative" if kind[-1].endswith("-m") else "absolute"
        measured = quantity.removeprefix("step_").upper()
        row[0].set_ylabel(f"{truth} ground truth:\nstep / mean step, {measured}")
    for case, above, below in zip(MATCHED, axes[0], axes[-1], strict=True):
        above.set_title(case)
        below.set_xlabel("level reached")
    axes[0, 0].text(1, 1, "even", fontsize=7, color="0.4", va="bottom", ha="right")
    axes[0, 0].set_ylim(bottom=0)  # of all, which share it, once everything is drawn
    photos = max(frame["image"].nunique() for frame in frames.values())
    figure.suptitle(f"bands: 95% intervals over {photos} photographs", fontsize=7.5)
    return figure


def draw_relative(cases: pd.DataFrame) -> Figure:
    """How much nearer than the input models come to the photo that keeps the rest, in dB.

    cases: measure.modulation.relative_cases. A panel a kind of input, of level 1.
    """
    figure, axes = subplots(1, len(MATCHED), sharey=True, figsize=(1.25 * PAGE_WIDTH, 2.2))
    for kind, axis in zip(MATCHED, axes, strict=True):
        own = cases[cases["input"] == kind]
        axis.axhline(0, color="0.6", lw=0.8, ls=":")
        for model in (name for name in MODEL_LABELS if name in cases):
            axis.plot(own["restored by"], own[model] - own["input left as it is"], "o-", ms=3,
                      color=MODEL_COLOURS[model], label=MODEL_LABELS[model])  # fmt: skip
        axis.set(title=kind, xlabel="restored by")
        axis.set_xticks(own["restored by"])
    axes[0].set_ylabel("PSNR against the\nmilder image, dB\nabove the input's")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    return figure


def draw_quantities(table: pd.DataFrame, quantities: Sequence[str]) -> Figure:
    """Means with 95% intervals, a panel a quantity, from measure.modulation.modulation_table."""
    rows = -(-len(quantities) // 4)
    figure, axes = subplots(rows, 4, figsize=(1.25 * PAGE_WIDTH, 0.2 + 1.9 * rows), sharey=True)
    models = list(dict.fromkeys(table["model"]))[::-1]
    for axis in axes.flat[len(quantities) :]:
        axis.remove()
    for quantity, axis in zip(quantities, axes.flat, strict=False):
        rows = table[table["quantity"] == quantity].set_index("model").reindex(models)
        for y, (model, row) in enumerate(rows.iterrows()):
            axis.plot([row["low"], row["high"]], [y, y], color=MODEL_COLOURS[model], lw=3,
                      alpha=0.4, solid_capstyle="butt")  # fmt: skip
            axis.plot(row["value"], y, "o", color=MODEL_COLOURS[model])
        wanted, label = QUANTITIES[quantity]
        axis.set_title(fill(label, 26), fontsize=7.5)
        axis.set_xlabel({"lower": "\N{LEFTWARDS ARROW} better",
                         "higher": "better \N{RIGHTWARDS ARROW}"}[wanted], fontsize=7)  # fmt: skip
        axis.set_yticks(range(len(models)), [MODEL_LABELS[model] for model in models])
        axis.set_ylim(-0.6, len(models) - 0.4)
    photos = table["images"].max()
    figure.supxlabel(f"bars: 95% intervals over {photos} photographs", fontsize=7.5)
    return figure
