"""What a search has found: the channels that each task keeps, and the trunk as it grew."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cirlib.architecture import live
from cirlib.degradation import TASKS
from cirlib.report.figures import MODEL_COLOURS, PAGE_WIDTH, subplots
from cirlib.report.training import PHASES
from cirlib.search import SearchNet
from cirlib.training import reopened, schedule

STRENGTHS = "○◐●"  # none, half and full


def draw_gate_map(net: SearchNet) -> Figure:
    """The 27 tasks by the selection points; shade: the share of channels that a task keeps.

    Channels that cannot matter (architecture.live) count as closed. Right: the mean of each task.
    Of the task (0, 0, 0), which returns the photo, nothing runs.
    Where layers are shared, a line marks the end of the trunk.
    """
    kept = 100 * np.stack([live(one).gates.mean(1) for one in net.architectures(TASKS)])
    idle = ~TASKS.any(axis=1)
    kept[idle] = np.nan
    figure, (axis, side) = subplots(
        1, 2, sharey=True, figsize=(PAGE_WIDTH, 4.4), width_ratios=[5, 1]
    )
    image = axis.imshow(kept, aspect="auto", vmin=0, vmax=100,
                        cmap=colormaps["cividis"].with_extremes(bad="0.85"))  # fmt: skip
    for row in np.flatnonzero(idle):
        axis.text(kept.shape[1] / 2, row, "the photo is returned, nothing runs", ha="center",
                  va="center_baseline", fontsize=7)  # fmt: skip
    names = ["  ".join(STRENGTHS[round(2 * t)] for t in task) for task in TASKS]
    axis.set_yticks(range(len(TASKS)), names, fontsize=7)
    axis.set_ylabel("task: deblur, denoise, dejpeg (○ none, ◐ half, ● full)")
    blocks = range(0, net.net.blocks, 4)
    axis.set_xticks([0, *(3 * b + 1 for b in blocks if b), kept.shape[1] - 1],
                    ["input", *(f"block {b + 1}" for b in blocks if b), "output"])  # fmt: skip
    axis.set_xlabel("channel-selection point, in the order of execution")
    if length := int(net.phi.sum()):
        axis.axvline(length - 0.5, color="white", linewidth=1.5, linestyle="--")
        axis.set_xlabel("channel-selection point, in the order of execution (dashed: end of trunk)")
    axis.grid(False)
    for border in (8.5, 17.5):
        axis.axhline(border, color="white", linewidth=1.5)
    figure.colorbar(image, ax=axis, location="top", aspect=50, pad=0.02,
                    label="channels that a task keeps at a point (%)")  # fmt: skip
    side.barh(range(len(TASKS)), kept.mean(1), color=MODEL_COLOURS[net.model.name])
    side.set(xlabel="of all points (%)", xlim=(0, 100))
    side.grid(False, axis="y")
    return figure


def draw_trunk(log: pd.DataFrame, card: Mapping) -> Figure:
    """How far the trunk reaches at each step of a search, and what an effect costs then. Further
    steps of what has been found are left out; a search that was opened once more is at the right.

    log and card: of a model that shares layers (checkpoints.load_log, load_card).
    """
    stretches = card.get("continued", ())
    end, again = schedule(card["steps"], stretches), reopened(stretches)
    spans = [(0, end), again] if again else [(0, end)]
    figure, axes = subplots(
        2, len(spans), sharex="col", sharey="row", squeeze=False, figsize=(PAGE_WIDTH, 4.2),
        height_ratios=[1.5, 1], width_ratios=[3, 1][: len(spans)],
    )  # fmt: skip
    for (above, below), span in zip(axes.T, spans, strict=True):
        _draw_span(above, below, log[log["step"].between(*span)], span)
    borders = [fraction * end for fraction in (card["share_from"], card["freeze_from"])]
    for axis in axes[:, 0]:
        for border in borders:
            axis.axvline(border, color="0.4", linestyle=":", linewidth=1)
    names = zip(PHASES, (0, *borders), (*borders, end), strict=True)
    places = [(0, *place) for place in names] + ([(1, "again", *again)] if again else [])
    for column, name, start, stop in places:
        axes[0, column].text((start + stop) / 2, 102, name, ha="center", fontsize=8, color="0.35")
    above, centred = axes[0, 0], {"ha": "center", "va": "center"}
    reached = 100 * log.loc[log["step"] <= end, "shared_layers"].iloc[-1]
    above.text(0.8 * end, reached / 2, "trunk: once for all tasks", color="white", **centred)
    above.text(borders[0] / 2, 50, "a network\nfor each\ntask", fontsize=8, **centred)
    above.set(ylim=(0, 100), ylabel="selection points (%),\ninput below, output above")
    axes[1, 0].set(ylim=(0, 105), ylabel="FLOPs of an effect\n(% of CResMD's)")
    figure.supxlabel("step of the search", fontsize="medium")
    return figure


def _draw_span(above: Axes, below: Axes, log: pd.DataFrame, span: tuple[int, int]) -> None:
    """Some steps of a search: the trunk above, an effect's FLOPs below, with what it ends at."""
    shared = 100 * log["shared_layers"]
    above.fill_between(log["step"], shared, 100, step="post", color="0.88", linewidth=0)
    above.fill_between(log["step"], shared, step="post", linewidth=0,
                       color=MODEL_COLOURS["ta-tsnet"])  # fmt: skip
    whole = span[0] == 0
    for column, style, label in (("flops_m1", "-", "an effect alone: "),
                                 ("flops_m27", "--", "one of 27 effects: ")):  # fmt: skip
        values = 100 * log[column]
        below.plot(log["step"], values, style, color="black")
        below.annotate(f"{label * whole}{values.iloc[-1]:.0f}%", (span[1], values.iloc[-1]),
                       (-2, 5), textcoords="offset points", ha="right")  # fmt: skip
    below.set_xlim(span)
    below.locator_params("x", nbins=6 if whole else 2)
    for axis in (above, below):
        axis.grid(False, axis="x")
