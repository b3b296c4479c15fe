"""Table 1's latencies and Figure 5, ours beside the paper's, from what latency.py measures."""

import json
import math
import subprocess
import sys
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from cirlib import latency, paper, paths
from cirlib.cost import cost, full_architecture, live
from cirlib.figures import MODEL_COLOURS, MODEL_LABELS, PAGE_WIDTH
from cirlib.files import UserError
from cirlib.provenance import load_csv
from cirlib.reports import architectures, costs_as_run, image_sizes

LABELS = {"latency_cpu_single": "CPU, one thread", "latency_cpu_multi": "CPU, all cores",
          "latency_gpu": "GPU"}  # fmt: skip


def measure(
    sizes: Sequence[str], threads: Sequence[int], rounds: int, architecture: str, **options
) -> pd.DataFrame:
    """Run ``bench latency`` for each size and number of threads, each in a process of its own.

    options: further ones of the command (effects, models, profile). Returns its results, with
    architecture, size, threads, effects, device, date, commit, torch and rounds (which earlier
    versions did not say).

    Raises UserError when a run fails.
    """
    rows = []
    for size in sizes:
        for number in threads:
            flags = {"size": size, "threads": number, "rounds": rounds,
                     "architecture": architecture} | options  # fmt: skip
            command = [sys.executable, "-m", "cirlib", "bench", "latency", "--json"]
            command += [word for key, value in flags.items() for word in (f"--{key}", str(value))]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                raise UserError(f"{' '.join(command[1:])} failed: {done.stderr.strip()}")
            facts = json.loads(done.stdout)
            about = {key: facts[key] for key in
                     ("architecture", "size", "threads", "effects", "device")}  # fmt: skip
            about |= {key: facts[key] for key in ("date", "commit", "torch", "rounds")}
            rows += [about | row for row in facts["results"]]
    return pd.DataFrame(rows)


def with_earlier(measured: pd.DataFrame, profile: str) -> pd.DataFrame:
    """Add what earlier runs measured and this one did not, from latency.csv, ours or shipped.

    So the table keeps what took long, or another machine: each row has its own date and device.
    Rows of trained networks that others have replaced since are left out.
    """
    shipped = paths.ROOT / "data" / "results"
    for folder in (paths.RESULTS, shipped):
        csv = folder / profile / "latency.csv"
        if csv.exists():
            keys = ["architecture", "size", "threads", "effects", "device"]
            earlier = load_csv(csv)
            fresh = set(measured[keys].itertuples(index=False, name=None))
            old = [row not in fresh for row in earlier[keys].itertuples(index=False, name=None)]
            earlier = earlier[old]
            there = earlier[of_present_networks(earlier, profile)]
            return pd.concat([measured, there], ignore_index=True)
    return measured


def of_present_networks(rows: pd.DataFrame, profile: str) -> list[bool]:
    """Of each row of measure(): whether the networks that were timed with it are there now.

    They are if the FLOPs of each are those of the network of its name.
    """
    now = architectures(profile) if (rows["architecture"] == "trained").any() else {}

    def present(row) -> bool:
        if row["architecture"] != "trained":
            return True
        if row["model"] not in now:
            return False
        size = tuple(int(n) for n in row["size"].split("x"))
        M = row["effects"]
        tasks = [live(now[row["model"]][k % len(now[row["model"]])]) for k in range(M)]
        return math.isclose(cost(tasks, size).per_effect(M) / 1e9, row["gflops_per_effect"],
                            rel_tol=1e-4)  # fmt: skip

    found = pd.Series([present(row) for _, row in rows.iterrows()], rows.index, dtype=bool)
    race = [rows[key] for key in ("architecture", "size", "threads", "device")]
    return found.groupby(race).transform("all").tolist()


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
            theirs = published[(published["column"] == name) & (published["resolution"] == image)]
            theirs = theirs.set_index("method")
            multi = name == "latency_cpu_multi"
            machines = [(f"{device}, {threads} threads" if multi else device, found)
                        for (device, threads), found
                        in here.groupby(["device", "threads"], sort=False)]  # fmt: skip
            for machine, found in machines or [("not measured here", here)]:
                rows += _rows_of_table1(name, image, machine, theirs, found.set_index("model"))
    return pd.DataFrame(rows)


def _flops_of_table1(published: pd.DataFrame) -> list[dict]:
    """The FLOPs of the networks that are timed: those of latency.published, of the paper's size."""
    rows, sizes = [], image_sizes()
    built = {model: [latency.published(model)] for model in ("cresmd", "tsnet", "ta-tsnet")}
    for image in ("HD", "2K", "4K"):
        theirs = published[(published["column"] == "flops") & (published["resolution"] == image)]
        theirs = theirs.set_index("method")["value"]
        costs = costs_as_run(built, sizes[image])
        ours = {model: found.per_effect(27) / 1e9 for model, found in costs.items()}
        for model in built:
            ratio = f"{ours['cresmd'] / ours[model]:.1f}"
            rows.append({
                "device": "FLOPs, M = 27", "image": image, "model": MODEL_LABELS[model],
                "paper": f"{theirs[model]:g} G",
                "paper, x": f"{theirs['cresmd'] / theirs[model]:.1f}",
                "ours": f"{ours[model]:.1f} G", "ours, x": ratio, "FLOPs, x": ratio,
                "our machine": "counted", "format": "", "date": "",
            })  # fmt: skip
    return rows


def _rows_of_table1(name: str, image: str, machine: str, theirs, found) -> list[dict]:
    """CResMD, TSNet and TA+TSNet on one machine; theirs and found have a row a model."""
    rows = []
    for model in ("cresmd", "tsnet", "ta-tsnet"):
        full, unit = theirs["value"]["cresmd"], theirs["unit"][model]
        row = {"device": LABELS[name], "image": image, "model": MODEL_LABELS[model],
               "paper": f"{theirs['value'][model]:g} {unit}",
               "paper, x": f"{full / theirs['value'][model]:.1f}",
               "ours": "", "ours, x": "", "FLOPs, x": "", "our machine": machine,
               "format": "", "date": ""}  # fmt: skip
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


def compare_ratios(measured: pd.DataFrame, goals: Mapping[str, float]) -> pd.DataFrame:
    """How many times faster TA+TSNet is than CResMD, and than plain PyTorch's CResMD.

    goals: of the published architecture at HD, 2K and 4K, by row of Table 1. A row for each
    measured architecture, device and image that has both models.
    """
    rows = []
    keys = ["architecture", "device", "size", "threads"]
    for (architecture, device, size, threads), here in measured.groupby(keys, sort=False):
        ours = here[here["runtime"] != "eager"].set_index("model")
        best = ours["seconds_per_effect"]
        plain = here[here["runtime"] == "eager"]["seconds_per_effect"]
        if not {"cresmd", "ta-tsnet"} <= set(best.index):
            continue
        name = column({"runtime": ours["runtime"].iloc[0], "threads": threads})
        ratio = best["cresmd"] / best["ta-tsnet"]
        asked = architecture == "published" and resolution(size) in ("HD", "2K", "4K")
        goal = goals.get(name) if asked else None
        rows.append({
            "architecture": architecture,
            "our machine": device, "threads": threads, "image": resolution(size),
            "TA+TSNet against CResMD, x": f"{ratio:.1f}",
            "goal": "" if goal is None else f"{goal:g}",
            "reached": "" if goal is None else "yes" if ratio >= goal else "no",
            "against plain PyTorch's CResMD, x": f"{plain.iloc[0] / best['ta-tsnet']:.1f}",
        })  # fmt: skip
    return pd.DataFrame(rows)


def roofline(layers: pd.DataFrame, peak: float, bandwidth: float) -> pd.DataFrame:
    """Add to rows of latency.layer_rates what bounds them.

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
    figure, axes = plt.subplots(figsize=(PAGE_WIDTH, 3.2))
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
        _plain_ticks(axis)
    axes.legend(loc="lower right")
    _name_layers(axes, layers)
    return figure


def _plain_ticks(axis: Axis) -> None:
    """1, 2, 5, 10 and so on along a logarithmic axis."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_locator(NullLocator())


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


def _between_ticks(axes: Axes) -> None:
    """Vertical limits at the ticks (1, 2, 5, 10, ...) around what is drawn."""
    low, high = axes.yaxis.get_data_interval()
    decades = np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)) + 1)
    ticks = np.outer(10.0**decades, (1, 2, 5)).ravel()
    axes.set_ylim(ticks[ticks <= low].max(), ticks[ticks >= high].min())


def draw_time_growth(measured: pd.DataFrame, profile: str, most: int = 64) -> Figure:
    """Time of one effect against M and against the size of the image.

    measured: rows of measure() of a profile's trained networks, of several sizes and one number of
    threads.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(PAGE_WIDTH, 3.2))
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
    for axis in (left.yaxis, right.xaxis, right.yaxis):
        _plain_ticks(axis)
    for axes in (left, right):
        _between_ticks(axes)
    threads = rows["threads"].iloc[0]
    figure.suptitle(f"trained {profile} networks, threads: {threads}")
    handles = right.get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", ncols=len(handles[0]))
    return figure


def draw_figure5(
    nets: Mapping[str, object],
    size: tuple[int, int],
    strips: Mapping[str, Sequence[np.ndarray]],
    tasks: Mapping[str, Sequence[tuple]],
) -> Figure:
    """FLOPs of an effect against the task vector, with the effects above (Figure 5).

    nets: trained networks by model. strips and tasks: by the title of a column, effects of one
    photo and the tasks that made them. Bars are GFLOPs at an image of (width, height): a model's
    own part in its colour, the trunk that TA+TSNet runs once an image in grey, and what is saved
    of CResMD's cost left white.
    """
    figure, axes = plt.subplots(2, len(tasks), figsize=(PAGE_WIDTH, 3.6),
                                height_ratios=[1, 2.4], squeeze=False)  # fmt: skip
    net = next(iter(nets.values()))
    blocks, channels, tail = net.net.blocks, net.net.channels, net.net.tail
    full = cost([full_architecture(blocks, channels, tail)], size).per_effect(1) / 1e9
    for k, (title, wanted) in enumerate(tasks.items()):
        above, below = axes[:, k]
        above.imshow(np.hstack(strips[title]), aspect="equal")
        above.set_title(title)
        above.axis("off")
        x, width = np.arange(len(wanted)), 0.8 / len(nets)
        for n, (model, net) in enumerate(nets.items()):
            costs = cost([live(net.architecture(task)) for task in wanted], size)
            place = x + (n - (len(nets) - 1) / 2) * width
            heads, trunk = np.array(costs.heads) / 1e9, costs.trunk / 1e9
            below.bar(place, full, width, fill=False, edgecolor="0.75", linestyle=":",
                      label="saved of CResMD's" if n == 0 else None)  # fmt: skip
            below.bar(place, heads, width, color=MODEL_COLOURS[model],
                      label=f"{MODEL_LABELS[model]}, of the task")  # fmt: skip
            if trunk:
                below.bar(place, trunk, width, bottom=heads, color="0.7",
                          label=f"{MODEL_LABELS[model]}, once an image")  # fmt: skip
        below.set_xticks(x, [f"{max(task):g}" for task in wanted])
        below.set_xlabel("level in the task vector")
        below.grid(False, axis="x")
    axes[1, 0].set_ylabel("GFLOPs")
    handles, labels = axes[1, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2)
    return figure
