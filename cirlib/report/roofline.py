"""What bounds the latencies of Table 1: arithmetic or memory, layer by layer."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from cirlib.report.figures import (
    MODEL_COLOURS,
    MODEL_LABELS,
    PAGE_WIDTH,
    name_marks,
    plain_ticks,
    subplots,
)


def roofline(layers: pd.DataFrame, peak: float, bandwidth: float) -> pd.DataFrame:
    """Add to rows of measure.roofline.layer_rates what bounds them.

    peak: FLOP/s, bandwidth: bytes/s. New columns: intensity (FLOPs a byte moved), roof (GFLOP/s:
    the lower of the peak and of what the bandwidth feeds), reached (share of the roof).
    """
    intensity = layers["gflops"] / layers["gbytes"]
    roof = np.minimum(peak, intensity * bandwidth) / 1e9
    return layers.assign(intensity=intensity, roof=roof, reached=layers["gflops"] / roof)


def per_effect(layers: pd.DataFrame, effects: int) -> pd.Series:
    """Milliseconds of the convolutions of one effect by model, Eq. 4: measured, and at the roof.

    layers: of roofline(), with a column model. Index: (model, "measured" or "roof").
    """
    measured = layers["milliseconds"] * layers["count"]
    shares = np.where(layers["part"] == "trunk", 1 / effects, 1)
    both = pd.DataFrame({"measured": measured * shares,
                         "roof": measured * shares * layers["reached"]})  # fmt: skip
    return both.groupby(layers["model"]).sum().stack()


def draw_roofline(layers: pd.DataFrame, peak: float, bandwidth: float, machine: str = "") -> Figure:
    """Each kind of convolution under the roof; a mark's area: its share of one of 27 effects' time.

    layers, peak, bandwidth: as for roofline(), with a column model. machine: on what all this was
    measured, the title.
    """
    figure, axes = subplots(figsize=(PAGE_WIDTH, 3.6))
    low, high = layers["intensity"].min() / 4, layers["intensity"].max() * 2
    x = np.geomspace(low, high, 200)
    axes.plot(x, np.minimum(peak, x * bandwidth) / 1e9, color="0.4")
    ridge = peak / bandwidth  # where the two ceilings meet
    for text, at, beside in ((f"copying feeds {bandwidth / 1e9:.0f} GB/s", ridge / 4, (-6, 0)),
                             (f"arithmetic: {peak / 1e9:.0f} GFLOP/s", high, (0, 4))):  # fmt: skip
        axes.annotate(text, (at, min(peak, at * bandwidth) / 1e9), beside, color="0.4", ha="right",
                      textcoords="offset points", fontsize=7.5)  # fmt: skip
    marks = []
    for model, here in layers.groupby("model", sort=False):
        time = here["milliseconds"] * here["count"]
        time = time.where(here["part"] != "trunk", time / 27)
        axes.scatter(here["intensity"], here["gflops"], s=10 + 150 * time / time.sum(), alpha=0.7,
                     color=MODEL_COLOURS[model], label=MODEL_LABELS[model])  # fmt: skip
        marks += [(row["intensity"], row["gflops"],
                   f"{row['layer']} {row['inputs']}→{row['outputs']}", MODEL_COLOURS[model])
                  for _, row in here.iterrows()]  # fmt: skip
    axes.set(xscale="log", yscale="log", xlabel="FLOPs for each byte moved", ylabel="GFLOP/s",
             ylim=(layers["gflops"].min() / 2, 1.8 * peak / 1e9))  # fmt: skip
    for axis in (axes.xaxis, axes.yaxis):
        plain_ticks(axis)
    axes.legend(loc="lower right")
    axes.set_title(machine, fontsize=8.5)
    name_marks(axes, marks)
    return figure
