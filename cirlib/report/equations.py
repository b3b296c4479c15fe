"""Equations beside their code: a function's source, what it makes of a small example, a verdict.

For the chapters on the method, notebooks 10 to 13.
"""

import inspect
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from IPython.display import Markdown
from matplotlib.figure import Figure

from cirlib.base.paths import ROOT
from cirlib.report.figures import PAGE_WIDTH, subplots


def show_source(*things) -> Markdown:
    """The source of functions or classes, read from the files that run, with their names."""
    parts = {}
    for thing in things:
        file = Path(inspect.getsourcefile(thing)).relative_to(ROOT).as_posix()
        parts.setdefault(f"`{file}`", []).append(textwrap.dedent(inspect.getsource(thing)).rstrip())
    code = {name: "\n\n\n".join(sources) for name, sources in parts.items()}
    return Markdown("\n\n".join(f"{name}\n\n```python\n{code[name]}\n```" for name in code))


def holds(verdict: bool | None, told: str) -> Markdown:
    """How a section ends. None: what is compared was not made alike."""
    word = "Cannot be compared" if verdict is None else "Yes" if verdict else "No"
    return Markdown(f"**Does it hold?** {word}: {told}")


def heat_maps(
    pieces: Mapping[str, object],
    rows: Sequence[str] = (),
    columns: Sequence[str] = (),
    sides: tuple[str, str] = ("selection point $n$", "channel $c$"),
) -> Figure:
    """Small arrays side by side as shaded cells with their numbers, row under row.

    pieces: title -> an array of R x C numbers or booleans, or of R, which is drawn as a column.
    rows and columns: what stands at the cells of the first and of each piece, else 0, 1, ... and
    1, 2, ...; sides: what the two are. Numbers below 0 are orange, above 0 violet, 0 is white; all
    pieces have one scale.
    """
    arrays = [np.asarray(piece, float) for piece in pieces.values()]
    arrays = [array[:, None] if array.ndim == 1 else array for array in arrays]
    widths = [array.shape[1] for array in arrays]
    side = min(0.44, (PAGE_WIDTH - 0.9) / (sum(widths) + 0.5 * (len(widths) - 1)))  # of a cell
    size = (side * (sum(widths) + 0.5 * (len(widths) - 1)) + 0.9, side * len(arrays[0]) + 0.85)
    figure, axes = subplots(
        1, len(arrays), sharey=True, squeeze=False, figsize=size, width_ratios=widths
    )
    most = max(np.abs(array).max() for array in arrays) or 1
    for axis, title, array in zip(axes.flat, pieces, arrays, strict=True):
        axis.imshow(array, cmap="PuOr", vmin=-1.6 * most, vmax=1.6 * most, aspect="auto")
        for (row, column), value in np.ndenumerate(array):
            axis.text(column, row, f"{value:.3g}", ha="center", va="center", fontsize=7)
        axis.set_title(title, fontsize=8.5)
        axis.set_xticks(range(array.shape[1]), columns or range(1, array.shape[1] + 1))
        if array.shape[1] == 1:
            axis.set_xticks([])
        axis.set_yticks(range(len(array)), rows or range(len(array)))
        axis.tick_params(length=0)
        axis.grid(False)
        axis.spines[:].set_visible(False)
    axes[0, 0].set(ylabel=sides[0], xlabel=sides[1] if widths[0] > 1 else "")
    plt.close(figure)
    return figure
