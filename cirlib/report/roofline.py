"""What bounds the latencies of Table 1: arithmetic or memory, layer by layer."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cirlib.report.figures import MODEL_COLOURS, MODEL_LABELS, PAGE_WIDTH, plain_ticks, subplots


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


def draw_roofline(layers: pd.DataFrame, peak: float, bandwidth: float, effects: int = 27) -> Figure:
    """Each kind of convolution under the roof; a mark's area is its share of an effect's time.

    layers, peak, bandwidth: as for roofline(), with a column model. effects: M of Eq. 4.
    """
    figure, axes = subplots(figsize=(PAGE_WIDTH, 3.2))
    low, high = layers["intensity"].min() / 4, layers["intensity"].max() * 2
    x = np.geomspace(low, high, 200)
    axes.plot(x, np.minimum(peak, x * bandwidth) / 1e9, color="0.4",
              label=f"roof: {peak / 1e9:.0f} GFLOP/s, {bandwidth / 1e9:.0f} GB/s")  # fmt: skip
    for model, here in layers.groupby("model", sort=False):
        time = here["milliseconds"] * here["count"]
        time = time.where(here["part"] != "trunk", time / effects)
        axes.scatter(here["intensity"], here["gflops"], s=10 + 150 * time / time.sum(), alpha=0.7,
                     color=MODEL_COLOURS[model], label=MODEL_LABELS[model])  # fmt: skip
    axes.set(xscale="log", yscale="log", xlabel="FLOPs for each byte moved", ylabel="GFLOP/s",
             ylim=(layers["gflops"].min() / 2, 1.5 * peak / 1e9))  # fmt: skip
    for axis in (axes.xaxis, axes.yaxis):
        plain_ticks(axis)
    axes.legend(loc="lower right")
    _name_layers(axes, layers)
    return figure


def _name_layers(axes: Axes, layers: pd.DataFrame) -> None:
    """Names of layers above or below their marks, clear of each other, of marks and of the roof."""
    axes.figure.draw_without_rendering()  # the layout is final then
    points = axes.figure.dpi / 72  # pixels in a point

    def place(row, height: str) -> np.ndarray:
        return axes.transData.transform((row["intensity"], row[height])) / points

    rows = [row for _, row in layers.sort_values("gflops").iterrows()]
    taken = [(*(place(row, height) - (0, 3)), half)  # as of a name in the middle of it
             for row in rows for height, half in (("gflops", 6), ("roof", 0))]  # fmt: skip
    for row in rows:
        name = f"{row['layer']} {row['inputs']}→{row['outputs']}"
        x, y = place(row, "gflops")
        half = 2.3 * len(name)  # of the width; letters of 6 points
        free = (
            lift for lift in (-11, 7, -18, 14, -25, 21, -32, 28, -39, 35)
            if all(abs(x - u) > half + other or abs(y + lift - v) > 7 for u, v, other in taken)
        )  # fmt: skip
        lift = next(free, -11)
        taken.append((x, y + lift, half))
        axes.annotate(name, (row["intensity"], row["gflops"]), (0, lift), fontsize=6,
                      textcoords="offset points", ha="center",
                      color=MODEL_COLOURS[row["model"]])  # fmt: skip
