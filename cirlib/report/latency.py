"""Table 1's latencies, ours beside the paper's, from what measure/latency.py has measured."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from cirlib.data import paper
from cirlib.data.paper import image_sizes
from cirlib.measure import latency
from cirlib.report.cost import costs_as_run
from cirlib.report.figures import (
    MODEL_COLOURS,
    MODEL_LABELS,
    PAGE_WIDTH,
    name_lines,
    plain_ticks,
    subplots,
)

LABELS = {"latency_cpu_single": "CPU, one thread", "latency_cpu_multi": "CPU, all cores",
          "latency_gpu": "GPU"}  # fmt: skip
TIMED = ("cresmd", "tsnet", "ta-tsnet")


def resolution(size: str) -> str:
    """'1280x720' -> 'HD'; other sizes stay as they are."""
    names = {f"{width}x{height}": name for name, (width, height) in image_sizes().items()}
    return names.get(size, size)


def column(row) -> str:
    """Which row of Table 1 a measurement belongs to, one of ours: plain PyTorch's, "eager", do not
    say on what they ran."""
    if row["runtime"] == "cuDNN":  # latency.contestant's name for any GPU, whatever its own is
        return "latency_gpu"
    return "latency_cpu_single" if row["threads"] == 1 else "latency_cpu_multi"


def table1(measured: pd.DataFrame) -> pd.DataFrame:
    """Table 1 as a wide table: a row a machine, image and model, ours beside the paper's.

    measured: rows of measure(), of the published architectures, those of the present machine
    first. Above them the FLOPs of these architectures, average of 27 effects, which no machine
    changes. "x" is how many times cheaper or faster than CResMD by the same route; "FLOPs, x" is
    the bound that the saved FLOPs set. What no machine has measured says so.
    """
    published = paper.table("table1")
    rows = _flops_of_table1(published)
    ours = measured[measured["runtime"] != "eager"]
    ours = ours.assign(column=[column(row) for _, row in ours.iterrows()],
                       image=[resolution(size) for size in ours["size"]])  # fmt: skip
    for name in LABELS:
        for image in ("HD", "2K", "4K"):
            here = ours[(ours["column"] == name) & (ours["image"] == image)]
            theirs = _of(published, name, image)
            multi = name == "latency_cpu_multi"
            machines = [(f"{device}, {threads} threads" if multi else device, found)
                        for (device, threads), found
                        in here.groupby(["device", "threads"], sort=False)]  # fmt: skip
            for machine, found in machines or [("not measured here", here)]:
                rows += _rows_of_table1(name, image, machine, theirs, found.set_index("model"))
    return pd.DataFrame(rows)


def _of(published: pd.DataFrame, column: str, image: str) -> pd.DataFrame:
    """The paper's rows of Table 1, by method."""
    rows = published[(published["column"] == column) & (published["resolution"] == image)]
    return rows.set_index("method")


def _row(device: str, image: str, model: str, theirs: pd.DataFrame, unit: str, machine: str):
    """A row of table1 with the paper's side alone."""
    value = theirs["value"]
    return {"device": device, "image": image, "model": MODEL_LABELS[model],
            "paper": f"{value[model]:g} {unit}",
            "paper, x": f"{value['cresmd'] / value[model]:.1f}",
            "ours": "", "ours, x": "", "FLOPs, x": "", "our machine": machine,
            "format": "", "date": ""}  # fmt: skip


def _flops_of_table1(published: pd.DataFrame) -> list[dict]:
    """The FLOPs of the networks that are timed: those of latency.published, of the paper's size."""
    rows, sizes = [], image_sizes()
    built = {model: [latency.published(model)] for model in TIMED}
    for image in ("HD", "2K", "4K"):
        theirs, costs = _of(published, "flops", image), costs_as_run(built, sizes[image])
        ours = {model: found.per_effect(27) / 1e9 for model, found in costs.items()}
        for model in TIMED:
            ratio = f"{ours['cresmd'] / ours[model]:.1f}"
            row = _row("FLOPs, M = 27", image, model, theirs, "G", "counted")
            rows.append(row | {"ours": f"{ours[model]:.1f} G", "ours, x": ratio, "FLOPs, x": ratio})
    return rows


def _rows_of_table1(name: str, image: str, machine: str, theirs, found) -> list[dict]:
    """CResMD, TSNet and TA+TSNet on one machine; theirs and found have a row a model."""
    rows = []
    for model in TIMED:
        unit = theirs["unit"][model]
        row = _row(LABELS[name], image, model, theirs, unit, machine)
        if model in found.index:
            mine, base = found.loc[model], found.loc["cresmd"]
            taken = mine["seconds_per_effect"]
            row |= {
                "ours": f"{taken:.3g} s" if unit == "s" else f"{1e3 * taken:.3g} ms",
                "ours, x": f"{base['seconds_per_effect'] / taken:.1f}",
                "FLOPs, x": f"{base['gflops_per_effect'] / mine['gflops_per_effect']:.1f}",
                "format": mine["dtype"],
                "date": mine["date"][:10],
            }
        rows.append(row)
    return rows


def draw_table1(measured: pd.DataFrame) -> Figure:
    """Table 1's rows as marks: how many times faster than CResMD, ours filled, the paper's hollow.

    measured: rows of measure(), of which the published architectures at HD, 2K and 4K are drawn,
    below the name of the machine that they come from. Of equal rows the first counts. A grey stroke
    is how many times fewer the FLOPs are.
    """
    rows = measured[(measured["architecture"] == "published") & (measured["runtime"] != "eager")]
    rows = rows.assign(image=[resolution(size) for size in rows["size"]])
    rows = rows[rows["image"].isin(("HD", "2K", "4K"))]
    rows = rows.drop_duplicates(["device", "threads", "image", "model"])
    rows = rows.sort_values(["device", "image", "threads"], key=lambda column: column.map(
        {"HD": 0, "2K": 1, "4K": 2}) if column.name == "image" else column)  # fmt: skip
    races = list(rows.groupby(["device", "threads", "image"], sort=False))
    height = len(races) + rows["device"].nunique()
    figure, axis = subplots(figsize=(PAGE_WIDTH, 0.75 + 0.19 * height))
    names, ticks, device, y = [], [], "", 0
    for (machine, threads, image), race in races:
        if machine != device:
            axis.text(0.7, y, machine, va="center", fontsize=7.5, weight="bold")
            device, y = machine, y - 1
        found, name = race.set_index("model"), column(race.iloc[0])
        for model in found.index.intersection(["tsnet", "ta-tsnet"]):
            fewer, faster = (found[cost]["cresmd"] / found[cost][model]
                             for cost in ("gflops_per_effect", "seconds_per_effect"))  # fmt: skip
            theirs = [paper.value("table1", method=one, column=name, resolution=image)
                      for one in ("cresmd", model)]  # fmt: skip
            style = {"color": MODEL_COLOURS[model], "ls": "", "ms": 5}
            told = [f"{MODEL_LABELS[model]}, {whose}" if not ticks else "" for whose in
                    ("the paper's", "ours")]  # fmt: skip
            axis.plot(fewer, y, "|", color="0.6", ms=9)
            axis.plot(theirs[0] / theirs[1], y, "o", mfc="white", label=told[0], **style)
            axis.plot(faster, y, "o", label=told[1], **style)
        names.append(f"{image}, {threads} thread" + "s" * int(threads > 1))
        ticks.append(y)
        y -= 1
    axis.set(xscale="log", xlabel="times faster than CResMD (stroke: times fewer FLOPs)",
             xlim=(0.65, 32), ylim=(y + 0.4, 0.6))  # fmt: skip
    axis.set_yticks(ticks, names)
    axis.grid(False, axis="y")
    plain_ticks(axis.xaxis)
    figure.legend(loc="outside lower center", ncols=4, handletextpad=0.1)
    return figure


def draw_time_growth(measured: pd.DataFrame, profile: str, most: int = 64) -> Figure:
    """Time of one effect against M and against the size of the image.

    measured: rows of measure() of a profile's trained networks, of several sizes and one number of
    threads.
    """
    figure, (left, right) = subplots(1, 2, figsize=(1.25 * PAGE_WIDTH, 3.2))
    rows = measured[measured["runtime"] != "eager"]
    middle = "1280x720" if "1280x720" in set(rows["size"]) else rows["size"].iloc[-1]
    M = np.unique(np.geomspace(1, most, 60).round())
    for model, here in rows.groupby("model", sort=False):
        style = {"color": MODEL_COLOURS[model], "label": MODEL_LABELS[model]}
        one = here[here["size"] == middle].iloc[0]
        left.plot(M, one["seconds_trunk"] / M + one["seconds_head"], **style)
        pixels = [np.prod([int(n) for n in size.split("x")]) / 1e6 for size in here["size"]]
        order = np.argsort(pixels)
        right.plot(np.array(pixels)[order], here["seconds_per_effect"].to_numpy()[order], "o-",
                   markersize=3, **style)  # fmt: skip
    left.set(xscale="log", yscale="log", xlabel="effects of one image, M",
             ylabel="seconds for one effect",
             title=f"{middle.replace('x', ' x ')}, by Eq. 4")  # fmt: skip
    ticks = [2**k for k in range(int(np.log2(most)) + 1)]
    left.set_xticks(ticks, [str(tick) for tick in ticks])
    left.minorticks_off()
    right.set(xscale="log", yscale="log", xlabel="megapixels", title="M = 27")
    for axes in (left, right):
        axes.margins(0.08)
        low, high = axes.yaxis.get_data_interval()
        ticks = np.outer(10.0 ** np.arange(-5, 5), (1, 2, 5)).ravel()
        axes.set_ylim(0.95 * ticks[ticks <= low].max(), 1.05 * ticks[ticks >= high].min())
    for axis in (left.yaxis, right.xaxis, right.yaxis):
        plain_ticks(axis)
    device, threads = rows[["device", "threads"]].iloc[0]
    told = "1 thread" if threads == 1 else f"{threads} threads"
    figure.suptitle(f"trained networks of {profile}, on {device}, {told}", fontsize=8.5)
    for axes in (left, right):
        name_lines(axes)
    return figure
