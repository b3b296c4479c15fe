"""How figures look and where figures and tables are saved.

Each begins with ``subplots``, which takes on the project's one style, ``cirlib.mplstyle``. A model
has the same colour and name in all figures.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import fill

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import LogLocator, NullLocator
from numpy.lib.stride_tricks import sliding_window_view
from scipy.optimize import isotonic_regression

from cirlib.base import paths
from cirlib.base.files import atomic
from cirlib.base.provenance import save_facts
from cirlib.profiles import MODELS

PAGE_WIDTH = 6.3  # inches
DPI = 300  # pixels to the inch of what is saved, as in cirlib.mplstyle
_LINE, _GAP = 0.15, 0.04  # inches, of a line of text and between pictures

# Okabe and Ito's palette. A model trained with relative ground truth (-m) has the lighter
# colour beside its sibling's: the two blues, and vermilion with orange.
MODEL_COLOURS = {
    "cresmd": "#000000",
    "tsnet": "#0072B2",
    "ta-tsnet": "#D55E00",
    "tsnet-m": "#56B4E9",
    "ta-tsnet-m": "#E69F00",
    "tsnet-abl": "#CC79A7",
    "ta-tsnet-abl": "#009E73",
}
MODEL_LABELS = {name: model.label for name, model in MODELS.items()}
MODEL_LABELS |= {"tsnet-abl": "TSNet-Abl", "ta-tsnet-abl": "TA+TSNet-Abl"}

_AROUND = [(np.cos(a), np.sin(a)) for a in np.radians(
    [90, -90, 0, 180, 45, 135, -45, -135, 20, 160, -20, -160, 70, 110, -70, -110])]  # fmt: skip
_HIGHLIGHT = "#F0E442"  # the palette's yellow, which no model has


def subplots(*args, **kwargs) -> tuple[Figure, Axes | np.ndarray]:
    """matplotlib's ``pyplot.subplots`` in the project's style, which stays for what is drawn."""
    plt.style.use(Path(__file__).with_name("cirlib.mplstyle"))
    return plt.subplots(*args, **kwargs)


def save_figure(
    figure: Figure, name: str, profile: str, facts: Mapping[str, object] | None = None
) -> list[Path]:
    """Save ``figure`` as ``name``.pdf and ``name``.png in the profile's figures, and close it.

    The same figure gives the same bytes: neither file carries a date or, in the PNG, a version.
    Those stand in ``name``.json, with ``facts`` (seed, data, weights). A notebook can still show
    the closed figure, as the last expression of a cell.

    Returns the two paths. Raises UserError if they cannot be written; the figure then stays open.
    """
    folder = paths.FIGURES / profile
    saved = []
    for suffix, metadata in ((".pdf", {"CreationDate": None}), (".png", {"Software": None})):
        path = folder / f"{name}{suffix}"
        with atomic(path) as temporary:
            figure.savefig(temporary, metadata=metadata)
        saved.append(path)
    save_facts(path, {"profile": profile} | dict(facts or {}))
    plt.close(figure)
    return saved


def show_images(
    images: Sequence[np.ndarray | None],
    titles: Sequence[str] = (),
    columns: int | None = None,
    *,
    row_titles: Sequence[str] = (),
    titled: int = 0,
    notes: Sequence[str] = (),
    caption: str = "",
    foot: str = "",
    zoom: tuple[int, int, int, int] | None = None,
    zoom_size: float = 0.42,
    width: float | None = PAGE_WIDTH,
) -> Figure:
    """Draw images row by row in a grid, pixels uninterpolated, and return the figure.

    ``images`` are uint8 arrays of shape (H, W, 3); None leaves a cell empty.
    ``titles`` stand above the images in order: fewer of them label the first ones, so that one
    per column heads the grid; ``notes`` stand below them. ``row_titles`` stand left of the
    column ``titled``, ``caption`` above and ``foot`` below all, from the left. ``columns`` defaults
    to a single row.
    ``zoom`` = (left, top, width, height) in pixels is framed in every image and enlarged in the
    corner farthest from it, to the share ``zoom_size`` of the image's width or height, whichever
    is reached first (see detail for a choice).

    ``width`` is the figure's, in inches; a cell narrower than its image drops pixels. None: a pixel
    of the widest image is one of the figure, at DPI to the inch.

    Raises ValueError if there are no images, one is not uint8 or of another shape, or ``zoom``
    does not lie inside an image.
    """
    shapes = [image.shape for image in images if image is not None]
    if not shapes:
        raise ValueError("no images to show")
    for image in images:
        if image is not None:
            _check_image(image, zoom)
    columns = columns or len(images)
    starts = range(0, len(images), columns)
    left = _lines(row_titles) + (_GAP if row_titles else 0)
    if width is None:
        cell = max(shape[1] for shape in shapes) / DPI
        width = left + columns * (cell + _GAP) - _GAP
    whole = (re.sub(r", (?=\d)", ",\N{NO-BREAK SPACE}", text) for text in (caption, foot))  # tasks
    letters = int(17 * width)
    caption, foot = (fill(text, letters, break_on_hyphens=False) for text in whole)
    cell = (width - left + _GAP) / columns - _GAP
    heights = [cell * _aspect(images[start : start + columns]) for start in starts]
    above, below = ([_lines(texts[start : start + columns]) for start in starts]
                    for texts in (titles, notes))  # fmt: skip
    total = sum(heights) + _GAP * (len(starts) + 1) + _lines([caption]) + _lines([foot])
    total += sum(above) + sum(below)
    figure, axes = subplots(len(starts), columns, squeeze=False, figsize=(width, total))
    figure.set_layout_engine("none")
    style = {"ha": "left", "va": "top", "size": 7.5}
    figure.text(_GAP / width, 1 - _GAP / 2 / total, caption, **style)
    figure.text(_GAP / width, _lines([foot]) / total, foot, **style)
    top = total - _GAP - _lines([caption])
    for index, axis in enumerate(axes.flat):
        row, column = divmod(index, columns)
        if column == 0:
            top -= above[row] + heights[row]
        right = column * (cell + _GAP) + (left if column >= titled else 0)
        place = right, top, cell, heights[row]
        axis.set_position([at / size for at, size in zip(place, 2 * (width, total), strict=True)])
        axis.set(xticks=[], yticks=[])
        axis.grid(False)
        axis.spines[:].set_visible(False)
        if column == titled and row < len(row_titles):
            axis.set_ylabel(row_titles[row], labelpad=2)
        if index < len(titles):
            axis.set_title(titles[index], pad=2.5, size=8)
        if index < len(notes):
            axis.set_xlabel(notes[index], labelpad=1.5, size=7.5)
        if index < len(images) and images[index] is not None:
            axis.imshow(images[index], interpolation="nearest")
            if zoom is not None:
                _draw_zoom(axis, images[index], zoom, zoom_size)
        if column == columns - 1:
            top -= below[row] + _GAP
    return figure


def detail(image: np.ndarray, side: int) -> tuple[int, int, int, int]:
    """Where a square of ``side`` pixels has the most texture: left, top, width, height.

    Texture is the mean size of the differences between neighbours, so that many small ones count
    more than one edge. Squares with pixels at black or white are passed over, where there are
    others. image: the clean photo, uint8 H x W x 3.
    """
    x = image.astype(np.float32)
    change = sum(np.abs(np.diff(x, axis=k, append=np.take(x, [-1], k))).mean(2) for k in (0, 1))
    clipped = ((image < 3) | (image > 252)).any(2)
    means = (sliding_window_view(a, (side, side))[::2, ::2].mean((2, 3)) for a in (change, clipped))
    texture, lost = means
    best = np.where(lost <= max(0.002, lost.min()), texture, -1).argmax()
    top, left = np.unravel_index(best, texture.shape)
    return 2 * int(left), 2 * int(top), side, side


def _lines(texts: Sequence[str]) -> float:
    """Inches that the highest of the texts takes."""
    return _LINE * max((text.count("\n") + 1 for text in texts if text), default=0)


def _check_image(image: np.ndarray, zoom: tuple[int, int, int, int] | None) -> None:
    shape = image.shape
    if image.dtype != np.uint8 or image.ndim != 3 or shape[2] != 3:
        raise ValueError(f"images are uint8, (H, W, 3); not {image.dtype}, {shape}")
    if zoom is not None:
        left, top, width, height = zoom
        inside = 0 <= left < left + width <= shape[1] and 0 <= top < top + height <= shape[0]
        if not inside:
            raise ValueError(f"zoom {zoom} is not inside an image {shape[1]} wide, {shape[0]} high")


def _aspect(row: Sequence[np.ndarray | None]) -> float:
    """Return height over width of the tallest image, since that is what a row must hold."""
    return max((image.shape[0] / image.shape[1] for image in row if image is not None), default=1.0)


def _draw_zoom(axis: Axes, image: np.ndarray, zoom: tuple[int, int, int, int], size: float) -> None:
    left, top, width, height = zoom
    H, W = image.shape[:2]
    scale = size * min(W / width, H / height)
    w, h = scale * width / W, scale * height / H  # of the axes
    x = 1 - w if left + width / 2 < W / 2 else 0
    y = 0 if top + height / 2 < H / 2 else 1 - h
    frame = Rectangle((left - 0.5, top - 0.5), width, height, fill=False, ec=_HIGHLIGHT, lw=1)
    axis.add_patch(frame)
    inset = axis.inset_axes((x, y, w, h))
    inset.imshow(image[top : top + height, left : left + width], interpolation="nearest")
    inset.set(xticks=[], yticks=[])
    inset.grid(False)
    inset.spines[:].set(visible=True, color=_HIGHLIGHT, linewidth=1)


def name_lines(axes: Axes) -> None:
    """Write the label of each line at its right end, in its colour, clear of each other.

    As near to their ends, in the mean of squares, as labels 9 points apart can be.
    """
    axes.figure.draw_without_rendering()  # the layout is near its end then
    points = axes.figure.dpi / 72  # pixels in a point
    lines = [line for line in axes.get_lines() if not line.get_label().startswith("_")]
    ends = [(line.get_xdata()[-1], line.get_ydata()[-1]) for line in lines]
    heights = [axes.transData.transform(end)[1] / points for end in ends]
    order, apart = np.argsort(heights), 9 * np.arange(len(lines))
    places = isotonic_regression(np.array(heights)[order] - apart).x + apart
    for k, place in zip(order, places, strict=True):
        axes.annotate(lines[k].get_label(), ends[k], (5, place - heights[k]), va="center",
                      textcoords="offset points", color=lines[k].get_color(), fontsize=7.5,
                      annotation_clip=False)  # fmt: skip


def name_marks(axes: Axes, marks: Sequence[tuple[float, float, str, str]]) -> None:
    """Write names beside marks (x, y, name, colour), clear of marks, lines, texts and each other.

    Marks of a colour in one place have one name. A thin line leads to a name that is not beside
    its mark.
    """
    axes.figure.draw_without_rendering()
    points = axes.figure.dpi / 72  # pixels in a point
    groups: dict[tuple, list] = {}
    for x, y, name, colour in marks:
        at = axes.transData.transform((x, y)) / points
        near = (key for key in groups if key[2] == colour and np.hypot(*(at - key[:2])) < 3)
        groups.setdefault(next(near, (*at, colour)), []).append((x, y, name))
    taken = [(*key[:2], 5, 5) for key in groups]  # x, y, half a width, half a height
    for line in (line for line in axes.get_lines() if line.get_linestyle() != "None"):
        path = line.get_transform().transform(np.column_stack(line.get_data())) / points
        for a, b in zip(path, path[1:], strict=False):
            taken += [(*at, 0, 1) for at in np.linspace(a, b, 60)]
    for text in axes.texts:
        box = text.get_window_extent()
        taken.append(np.array([box.x0 + box.x1, box.y0 + box.y1, box.width, box.height])
                     / (2 * points))  # fmt: skip
    inside = axes.get_window_extent().padded(-3 * points)

    def covered(boxes: Sequence[tuple]) -> int:
        """How much that is taken, or outside, a name lies on; the line to it counts less."""
        x, y, half, high = np.array(boxes).T[..., None]
        u, v, wide, tall = np.array(taken).T
        on = ((abs(u - x) < half + wide) & (abs(v - y) < high + tall)).sum(axis=1)
        x, y, half, _ = boxes[0]
        ends = ((x - half, y - 4), (x + half, y + 4))
        outside = not all(inside.contains(points * x, points * y) for x, y in ends)
        return 100 * outside + 10 * on[0] + on[1:].sum()

    for (u, v, colour), group in groups.items():
        name = ", ".join(dict.fromkeys(name for *_, name in group))
        half = 2 * len(name) + 2

        def boxes(far: float, dx: float, dy: float, at=(u, v), half=half) -> list[tuple]:
            """Of a name so far in a direction, and of the line that leads there, from far on."""
            spot = at[0] + dx * (far + half - 4), at[1] + dy * far
            steps = np.linspace(at, spot, 30)[3:] if far > 10 else ()
            steps = [step for step in steps if np.hypot(*(step - at)) > 8]
            return [(*spot, half, 4.5), *((*step, 0, 0) for step in steps)]

        choices = (boxes(far, *way) for far in (10, 15, 21, 28, 36, 45, 60, 80) for way in _AROUND)
        found = min(choices, key=covered)
        taken += found
        lead = {"arrowstyle": "-", "lw": 0.5, "color": colour, "shrinkA": 0, "shrinkB": 3}
        axes.annotate(name, group[0][:2], (found[0][0] - u, found[0][1] - v), fontsize=6.5,
                      color=colour, ha="center", va="center", textcoords="offset points",
                      bbox={"fc": "white", "ec": "none", "pad": 0.5},
                      arrowprops=lead if len(found) > 1 else None)  # fmt: skip


def plain_ticks(axis: Axis) -> None:
    """1, 2, 5, 10 and so on along a logarithmic axis."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_locator(NullLocator())
