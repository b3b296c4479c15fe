"""How figures look and where figures and tables are saved.

Each begins with ``subplots``, which takes on the project's one style, ``cirlib.mplstyle``. A model
has the same colour and name in all figures.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import LogLocator, NullLocator

from cirlib.base import paths
from cirlib.base.files import atomic
from cirlib.base.provenance import save_facts

PAGE_WIDTH = 6.3  # inches

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
MODEL_LABELS = {
    "cresmd": "CResMD",
    "tsnet": "TSNet",
    "ta-tsnet": "TA+TSNet",
    "tsnet-m": "TSNet-m",
    "ta-tsnet-m": "TA+TSNet-m",
    "tsnet-abl": "TSNet-Abl",
    "ta-tsnet-abl": "TA+TSNet-Abl",
}

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
    zoom: tuple[int, int, int, int] | None = None,
    zoom_size: float = 0.42,
    width: float = PAGE_WIDTH,
) -> Figure:
    """Draw images row by row in a grid, pixels uninterpolated, and return the figure.

    ``images`` are uint8 arrays of shape (H, W, 3) or (H, W); None leaves a cell empty.
    ``titles`` stand above the images in order: fewer of them label the first ones, so that one
    per column heads the grid. ``row_titles`` stand left of the rows. ``columns`` defaults to a
    single row. ``zoom`` = (left, top, width, height) in pixels is framed in every image and
    enlarged in the corner farthest from it, to the share ``zoom_size`` of the image's width or
    height, whichever is reached first. ``width`` is the figure's, in inches.

    A cell narrower than its image drops pixels: crop the images to what is to be seen.

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
    rows = -(-len(images) // columns)
    starts = range(0, rows * columns, columns)
    aspects = [_aspect(images[start : start + columns]) for start in starts]
    titled = sum(any(titles[start : start + columns]) for start in starts)
    cell = (width - (0.25 if row_titles else 0)) / columns
    figure, axes = subplots(
        rows,
        columns,
        squeeze=False,
        figsize=(width, cell * sum(aspects) + 0.2 * titled),
        height_ratios=aspects,
    )
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0, hspace=0)
    for index, axis in enumerate(axes.flat):
        axis.set(xticks=[], yticks=[])
        axis.grid(False)
        axis.spines[:].set_visible(False)
        if index % columns == 0 and index // columns < len(row_titles):
            axis.set_ylabel(row_titles[index // columns])
        if index < len(titles):
            axis.set_title(titles[index], pad=3)
        if index < len(images) and images[index] is not None:
            _draw(axis, images[index])
            if zoom is not None:
                _draw_zoom(axis, images[index], zoom, zoom_size)
    return figure


def _check_image(image: np.ndarray, zoom: tuple[int, int, int, int] | None) -> None:
    shape = image.shape
    if image.dtype != np.uint8 or not (image.ndim == 2 or image.ndim == 3 and shape[2] == 3):
        raise ValueError(f"images are uint8, (H, W, 3) or (H, W); not {image.dtype}, {shape}")
    if zoom is not None:
        left, top, width, height = zoom
        inside = 0 <= left < left + width <= shape[1] and 0 <= top < top + height <= shape[0]
        if not inside:
            raise ValueError(f"zoom {zoom} is not inside an image {shape[1]} wide, {shape[0]} high")


def _aspect(row: Sequence[np.ndarray | None]) -> float:
    """Return height over width of the tallest image, since that is what a row must hold."""
    return max((image.shape[0] / image.shape[1] for image in row if image is not None), default=1.0)


def _draw(axis: Axes, image: np.ndarray) -> None:
    # Fixed limits: matplotlib would stretch a grey image to its own darkest and brightest.
    axis.imshow(image, interpolation="nearest", cmap="gray", vmin=0, vmax=255)


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
    _draw(inset, image[top : top + height, left : left + width])
    inset.set(xticks=[], yticks=[])
    inset.grid(False)
    inset.spines[:].set(visible=True, color=_HIGHLIGHT, linewidth=1)


def plain_ticks(axis: Axis) -> None:
    """1, 2, 5, 10 and so on along a logarithmic axis."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_locator(NullLocator())


def _between_ticks(axes: Axes) -> None:
    """Vertical limits at the ticks (1, 2, 5, 10, ...) around what is drawn."""
    low, high = axes.yaxis.get_data_interval()
    decades = np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)) + 1)
    ticks = np.outer(10.0**decades, (1, 2, 5)).ravel()
    axes.set_ylim(ticks[ticks <= low].max(), ticks[ticks >= high].min())
