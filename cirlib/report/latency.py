"""Table 1's latencies, ours beside the paper's, from what measure/latency.py has measured."""

import re
from collections.abc import Callable, Sequence
from itertools import product

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from cirlib import checkpoints
from cirlib.base import paths, provenance
from cirlib.data import paper
from cirlib.data.paper import image_sizes
from cirlib.measure import latency
from cirlib.report.cost import costs_as_run
from cirlib.report.figures import (
    MODEL_COLOURS,
    MODEL_LABELS,
    PAGE_WIDTH,
    plain_ticks,
    subplots,
)

LABELS = {"flops": "FLOPs, M = 27", "latency_cpu_single": "CPU, one thread",
          "latency_cpu_multi": "CPU, all cores", "latency_gpu": "GPU"}  # fmt: skip
TIMED = ("cresmd", "tsnet", "ta-tsnet")
IMAGES = ("HD", "2K", "4K")


def short(device: str) -> str:
    """'Intel(R) Xeon(R) Processor (6/167), AMX (bf16, int8)' -> 'Xeon (6/167), AMX'."""
    return " ".join(re.sub(r"\((R|TM|bf16, int8)\)|Intel|AMD|Processor", "", device).split())


def places(measured: pd.DataFrame) -> pd.DataFrame:
    """Rows of measure() with their row of Table 1, column, and its image, of other sizes the size.

    But for plain PyTorch's, "eager", which do not say on what they ran.
    """
    ours = measured[measured["runtime"] != "eager"]
    kinds = np.select(
        [ours["runtime"] == "cuDNN", ours["threads"] == 1],  # the first: any GPU, whatever its name
        ["latency_gpu", "latency_cpu_single"], "latency_cpu_multi",
    )  # fmt: skip
    names = {f"{width}x{height}": name for name, (width, height) in image_sizes().items()}
    return ours.assign(column=kinds, image=ours["size"].replace(names))


def committed_races() -> pd.DataFrame:
    """The committed rows of measure(), of all machines; architecture also tells whose networks are
    trained: "trained, compact".
    """
    races = []
    for profile in checkpoints.SIZES:
        path = paths.SHIPPED_RESULTS / profile / "latency.csv"
        if path.exists():
            rows = provenance.load_csv(path)
            kinds = rows["architecture"].replace("trained", f"trained, {profile}")
            races.append(rows.assign(architecture=kinds))
    return pd.concat(races, ignore_index=True)


def ratios(measured: pd.DataFrame) -> pd.DataFrame:
    """How many times faster than CResMD the searched networks are that share layers, and how many
    times fewer their FLOPs: a row a machine and kind of network, published or trained, least to
    most over sizes and numbers of threads.

    measured: rows of committed_races(), on CPUs.
    """
    race = ["device", "architecture", "threads", "size", "date"]
    rows = measured[(measured["runtime"] == "oneDNN") & (measured["effects"] == 27)]
    whole = rows[rows["model"] == "cresmd"].groupby(race)["gflops_per_effect"].first()
    rows = rows[rows["model"].isin(("ta-tsnet", "ta-tsnet-m"))]
    rows = rows[rows["architecture"] != "scattered"]
    fewer = whole.reindex(pd.MultiIndex.from_frame(rows[race])) / rows["gflops_per_effect"].values
    rows = rows.assign(fewer=fewer.to_numpy())
    found = []
    for (device, kind, model), part in rows.groupby(["device", "architecture", "model"]):
        row = {"processor": short(device), "network": f"{MODEL_LABELS[model]}, {kind}",
               "threads": ", ".join(map(str, sorted(set(part["threads"]))))}  # fmt: skip
        for name, values in (("times faster", part["times_faster"]),
                             ("times fewer FLOPs", part["fewer"])):  # fmt: skip
            low, high = f"{values.min():.1f}", f"{values.max():.1f}"
            row[name] = low if low == high else f"{low} to {high}"
        found.append(row)
    return pd.DataFrame(found)


def table1(measured: pd.DataFrame) -> pd.DataFrame:
    """Table 1 as a wide table: a row a machine, image and model, ours beside the paper's.

    measured: rows of measure(), of the published architectures, those of the present machine
    first. Above them the FLOPs of these architectures, average of 27 effects, which no machine
    changes. "x" is how many times cheaper or faster than CResMD by the same route; "FLOPs, x" is
    the bound that the saved FLOPs set. What no machine has measured says so.
    """
    published, ours, rows = paper.table("table1"), places(measured), []
    for name, image in product(LABELS, IMAGES):
        of_theirs = (published["column"] == name) & (published["resolution"] == image)
        theirs = published[of_theirs].set_index("method")
        here = ours[(ours["column"] == name) & (ours["image"] == image)]
        multi = name == "latency_cpu_multi"
        machines = [(f"{short(device)}, {threads} threads" if multi else short(device), found)
                    for (device, threads), found
                    in here.groupby(["device", "threads"], sort=False)]  # fmt: skip
        if name == "flops":
            machines = [("counted", _counted(image))]
        for machine, found in machines or [("not measured here", here)]:
            rows += _rows(name, image, machine, theirs, found.set_index("model"))
    return pd.DataFrame(rows)


def _counted(image: str) -> pd.DataFrame:
    """GFLOPs of the networks that are timed: those of latency.published, of the paper's size."""
    built = {model: [latency.published(model)] for model in TIMED}
    costs = costs_as_run(built, image_sizes()[image])
    flops = [(model, found.per_effect(27) / 1e9) for model, found in costs.items()]
    return pd.DataFrame(flops, columns=["model", "gflops_per_effect"])


def _rows(name: str, image: str, machine: str, theirs, found) -> list[dict]:
    """CResMD, TSNet and TA+TSNet on one machine; theirs and found have a row a model."""
    rows, value = [], theirs["value"]
    for model in TIMED:
        unit = "G" if name == "flops" else theirs["unit"][model]
        row = {"device": LABELS[name], "image": image, "model": MODEL_LABELS[model],
               "paper": f"{value[model]:g} {unit}",
               "paper, x": f"{value['cresmd'] / value[model]:.1f}",
               "ours": "", "ours, x": "", "FLOPs, x": "", "our machine": machine,
               "format": ""}  # fmt: skip
        if model in found.index:
            mine, base = found.loc[model], found.loc["cresmd"]
            fewer = f"{base['gflops_per_effect'] / mine['gflops_per_effect']:.1f}"
            row |= {"ours": f"{mine['gflops_per_effect']:.1f} G", "ours, x": fewer,
                    "FLOPs, x": fewer}  # fmt: skip
            if name != "flops":
                taken = mine["seconds_per_effect"]
                row |= {"ours": f"{taken:.3g} s" if unit == "s" else f"{1e3 * taken:.3g} ms",
                        "ours, x": f"{base['seconds_per_effect'] / taken:.1f}",
                        "format": mine["dtype"]}  # fmt: skip
        rows.append(row)
    return rows


def first_pictures() -> tuple[pd.DataFrame, dict]:
    """From opening a photo to its first effect, seconds, by networks of all sizes; and the facts.

    It is what ``bench first --csv`` has written among the committed results: ``first.csv``, and
    ``first_...csv`` of other sizes and machines.
    """
    return _committed("first*.csv", lambda rows: {
        "first effect, s": rows["first"].round(2),
        "range": _ranges(rows, 2),
        "a later one, s": rows["later"].round(2),
        "memory, GB": (rows["peak_bytes"] / 1e9).round(2),
    })  # fmt: skip


def folders() -> tuple[pd.DataFrame, dict]:
    """Photos a minute of a folder, by networks of all sizes; and the facts.

    It is what ``bench folder --csv`` has written as ``folder.csv`` among the committed results.
    """
    return _committed("folder.csv", lambda rows: {
        "photos": rows["photos"],
        "how": rows["way"],
        "photos a minute": rows["photos_per_minute"].round(1),
        "range": _ranges(rows, 1),
    })  # fmt: skip


def _ranges(rows: pd.DataFrame, decimals: int) -> list[str]:
    return [
        f"{low:.{decimals}f} to {high:.{decimals}f}" if low < high else ""
        for low, high in zip(rows["low"], rows["high"], strict=True)
    ]


def _committed(
    names: str, columns: Callable[[pd.DataFrame], dict[str, Sequence]]
) -> tuple[pd.DataFrame, dict]:
    """Columns of committed CSVs, by networks of all sizes, beside what was measured; the facts."""
    tables, facts = [], {}
    for profile in checkpoints.SIZES[::-1]:
        for path in sorted((paths.SHIPPED_RESULTS / profile).glob(names)):
            rows, facts = provenance.load_csv(path), provenance.load_facts(path)
            tables.append(pd.DataFrame({
                "photo": [size.replace("x", " x ") for size in rows["size"]],
                "network": f"{MODEL_LABELS[facts['model']]}, {profile}",
                "processor": f"{short(facts['device'])}, {facts['threads']} threads",
                **columns(rows),
                "runs": facts["rounds"],
            }))  # fmt: skip
    return pd.concat(tables), {"data": facts["data"]}


def draw_table1(measured: pd.DataFrame) -> Figure:
    """Table 1's rows as marks: how many times faster than CResMD, ours filled, the paper's hollow.

    measured: rows of measure() or committed_races(), of which the published architectures at HD, 2K
    and 4K are drawn, below the name of the machine that they come from, and the trained ones of
    ``full`` where that has timed them, too. Of equal rows the first counts. A stroke is how many
    times fewer the FLOPs are, of the published.
    """
    keys = ["device", "threads", "image", "model"]
    shipped = places(measured[measured["architecture"] == "trained, full"])
    shipped = shipped.drop_duplicates(keys).set_index(keys)["seconds_per_effect"]
    rows = places(measured[measured["architecture"] == "published"])
    rows = rows.assign(image=pd.Categorical(rows["image"], IMAGES, ordered=True))
    rows = rows.dropna(subset="image").drop_duplicates(keys)
    rows = rows.sort_values(["device", "image", "threads"])
    races = list(rows.groupby(["device", "threads", "image"], sort=False, observed=True))
    height = len(races) + rows["device"].nunique()
    figure, axis = subplots(figsize=(PAGE_WIDTH, 0.75 + 0.19 * height))
    names, ticks, device, y = [], [], "", 0
    for (machine, threads, image), race in races:
        if machine != device:
            axis.text(0.7, y, short(machine), va="center", fontsize=7.5, weight="bold")
            device, y = machine, y - 1
        found, name = race.set_index("model"), race["column"].iloc[0]
        for model in found.index.intersection(["tsnet", "ta-tsnet"]):
            fewer, faster = (found[cost]["cresmd"] / found[cost][model]
                             for cost in ("gflops_per_effect", "seconds_per_effect"))  # fmt: skip
            theirs = [paper.value("table1", method=one, column=name, resolution=image)
                      for one in ("cresmd", model)]  # fmt: skip
            style = {"color": MODEL_COLOURS[model], "ls": "", "ms": 5}
            axis.plot(fewer, y, "|", color=MODEL_COLOURS[model], alpha=0.5, ms=9)
            axis.plot(theirs[0] / theirs[1], y, "o", mfc="white", **style)
            axis.plot(faster, y, "o", **style)
            whole, kept = (shipped.get((machine, threads, image, one), np.nan)
                           for one in ("cresmd", model))  # fmt: skip
            axis.plot(whole / kept, y, "x", mew=1.5, **style)
        names.append(f"{image}, {threads} thread" + "s" * int(threads > 1))
        ticks.append(y)
        y -= 1
    axis.set(xscale="log", xlabel="times faster than CResMD",
             xlim=(0.65, 32), ylim=(y + 0.4, 0.6))  # fmt: skip
    axis.set_yticks(ticks, names)
    axis.grid(False, axis="y")
    plain_ticks(axis.xaxis)
    colours = [Line2D([], [], color=MODEL_COLOURS[model], marker="s", ls="",
                      label=MODEL_LABELS[model]) for model in ("tsnet", "ta-tsnet")]  # fmt: skip
    marks = [Line2D([], [], color="0.3", marker=marker, ls="", mfc=fill, mew=1 + (marker == "x"),
                    label=label)
             for marker, fill, label in (("o", "white", "the paper's"),
                                         ("|", "0.3", "its FLOPs, times fewer"),
                                         ("o", "0.3", "ours with those FLOPs, untrained"),
                                         ("x", "0.3", "ours, trained"))]  # fmt: skip
    figure.legend(handles=colours + marks, loc="outside lower center", ncols=3, handletextpad=0.1)
    return figure
