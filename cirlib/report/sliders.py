"""GFLOPs along each slider, beside the decibels that are gained there."""

import pandas as pd
from matplotlib.figure import Figure

from cirlib.measure.sliders import SLIDERS
from cirlib.report.figures import MODEL_COLOURS, MODEL_LABELS, PAGE_WIDTH, subplots


def draw_sliders(frame: pd.DataFrame) -> Figure:
    """Draw along_sliders: a column a slider; above what an effect costs, below what it gains."""
    figure, axes = subplots(
        2, len(SLIDERS), sharex=True, sharey="row", squeeze=False, figsize=(PAGE_WIDTH, 3.6)
    )
    for row, quantity in zip(axes, ("GFLOPs", "gain"), strict=True):
        for axis, slider in zip(row, SLIDERS, strict=True):
            for model, part in frame[frame["slider"] == slider].groupby("model", sort=False):
                label, colour = MODEL_LABELS.get(model, model), MODEL_COLOURS.get(model)
                axis.plot(part["level"], part[quantity], ".-", label=label, color=colour)
            for level in (0, 0.5, 1):
                axis.axvline(level, color="0.5", linestyle=":", zorder=0)
    axes[0, 0].set_ylim(bottom=0)
    for top, bottom, slider in zip(*axes, SLIDERS, strict=True):
        top.set_title(slider)
        bottom.axhline(0, color="0.6", lw=0.8)
    axes[0, 0].set_ylabel("GFLOPs of an effect")
    axes[1, 0].set_ylabel("gain over the input (dB)")
    axes[1, 1].set_xlabel(
        "level of the damage, and of its restoration (dotted: those of the 27 tasks)"
    )
    axes[1, 2].legend(loc="upper left")
    return figure
