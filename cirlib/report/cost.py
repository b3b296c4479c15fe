"""Tables 1, 3 and 4 in FLOPs and Figure 5, ours beside the paper's (notebook 20).

A table has one row for every model of the paper. What is not there says so: "not trained yet" or
why a metric could not be measured.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from cirlib import checkpoints, compact
from cirlib.architecture import Architecture, full_architecture, live, shared_layers
from cirlib.cost import Cost, conv_flops, cost, split_flops
from cirlib.data import paper
from cirlib.data.images import Size
from cirlib.data.paper import image_sizes
from cirlib.degradation import TASKS, Levels
from cirlib.profiles import MODELS, get_profile
from cirlib.report import compare
from cirlib.report.compare import NOT_TRAINED, annotate
from cirlib.report.figures import MODEL_COLOURS, MODEL_LABELS, PAGE_WIDTH, name_lines, subplots
from cirlib.search import SearchNet

PAPER_NET = (32, 64)  # blocks and channels of Section 7.3


# Cost: Eqs. 1, 2, 4


def published_costs() -> pd.DataFrame:
    """FLOPs of Tables 1 and 3 in long form, and Table 3's ``shared_layers`` (%).

    ``flops`` is in GFLOPs, ``share_of_cresmd`` in % of CResMD's on the same image: that one can be
    compared with a smaller preset's. It does not depend on the image: 2K and 4K are left out.
    """
    one, three = paper.table("table1"), paper.table("table3")
    three = three[three["shared_layers"].isna() & three["column"].isin(("flops", "shared_layers"))]
    three = three.assign(resolution="HVGA").drop(columns="shared_layers")
    both = pd.concat([one[one["column"] == "flops"], three], ignore_index=True)
    flops = both[both["column"] == "flops"]
    whole = flops.groupby(["resolution", "effects"], dropna=False)["value"].transform("max")
    percent = (100 * flops["value"] / whole).round(1)  # nothing costs more than CResMD
    shares = flops.assign(column="share_of_cresmd", unit="%", value=percent)
    shares = shares[shares["resolution"].isin(("HD", "HVGA"))]
    long = pd.concat([both, shares], ignore_index=True)
    return long[["method", "column", "resolution", "effects", "value", "unit"]]


def closed_form() -> pd.DataFrame:
    """GFLOPs of the paper-size CResMD, counted from its layers, beside the printed numbers.

    The last columns: the same network with the tail of the public CResMD code, and the ratio.
    """
    rows = []
    for name, size in image_sizes().items():
        flops = conv_flops(full_architecture(*PAPER_NET), size)[1:] / 1e9
        ours = flops.sum()
        public = ours + 3 * flops[-3:-1].sum()  # up and post are four times as wide there
        table = "table3" if name == "HVGA" else "table1"
        key = {"effects": 1} if name == "HVGA" else {"resolution": name}
        theirs = paper.value(table, method="cresmd", column="flops", **key)
        rows.append({
            "image": name, "size": f"{size[0]} x {size[1]}",
            "counted": f"{ours:.1f}", "paper": f"{theirs:.1f}",
            "deviation": f"{100 * (ours / theirs - 1):+.3f} %",
            "match": "yes" if abs(ours / theirs - 1) < 0.002 else "no",
            "public tail": f"{public:.1f}", "public / ours": f"{public / ours:.3f}",
        })  # fmt: skip
    return pd.DataFrame(rows)


def architectures(profile: str) -> dict[str, list[Architecture]]:
    """Of each trained model of the profile the 27 task-specific architectures, as searched.

    CResMD needs no training to be counted: it is always there.
    """
    preset = get_profile(profile)
    found = {"cresmd": [full_architecture(preset.blocks, preset.channels)] * len(TASKS)}
    for model in checkpoints.available(profile):
        if MODELS[model].searched:
            net = checkpoints.load(model, profile)
            found[model] = net.architectures(TASKS)
    return found


def costs_as_run(found: Mapping[str, list[Architecture]], size: Size) -> dict[str, Cost]:
    """Cost of each model's compacted networks, without dead channels (architecture.live)."""
    return {model: cost([live(a) for a in own], size) for model, own in found.items()}


def cost_table(
    found: Mapping[str, list[Architecture]], sizes: Mapping[str, Size] | None = None
) -> pd.DataFrame:
    """FLOPs of one imagery effect, averaged over the 27 tasks: a row a model, size and M.

    Columns: model, resolution, width, height, effects (M), shared_layers (%), trunk and head
    (GFLOPs; head is the mean over the tasks), flops = trunk / M + head (Eq. 4),
    share_of_cresmd (% of this preset's), and ``searched``, the flops before dead channels were
    removed.
    """
    run = {model: [live(a) for a in own] for model, own in found.items()}
    rows = []
    for name, size in (sizes or image_sizes()).items():
        full = cost(run["cresmd"], size).per_effect(1)
        for model in found:
            result, searched = cost(run[model], size), cost(found[model], size)
            about = {"model": model, "resolution": name, "width": size[0], "height": size[1]}
            for M in (1, 27):
                rows.append(about | {
                    "effects": M, "shared_layers": 100 * shared_layers(found[model][0]),
                    "trunk": result.trunk / 1e9, "head": result.head_mean / 1e9,
                    "flops": result.per_effect(M) / 1e9,
                    "share_of_cresmd": 100 * result.per_effect(M) / full,
                    "searched": searched.per_effect(M) / 1e9,
                })  # fmt: skip
    return pd.DataFrame(rows)


def cost_view(costs: pd.DataFrame, profile: str, effects: int) -> pd.DataFrame:
    """Of a cost_table the GFLOPs at one M, a row for every model, and shares ours and theirs."""
    chosen = costs[costs["effects"] == effects]
    first = chosen.drop_duplicates("model").set_index("model")
    view = pd.DataFrame(index=list(MODELS))
    for name, rows in chosen.groupby("resolution", sort=False):
        view[f"{name}, GFLOPs"] = rows.set_index("model")["flops"].round(4)
    view["of CResMD, %"] = first["share_of_cresmd"].round(1)
    theirs = published_costs().query("column == 'share_of_cresmd' and resolution == 'HVGA'")
    theirs = theirs[theirs["effects"] == effects].set_index("method")["value"]
    view["paper (Table 3), %"] = theirs.reindex(view.index)
    return _named(view, profile)


def parts_view(costs: pd.DataFrame, profile: str, resolution: str) -> pd.DataFrame:
    """Of a cost_table the split in trunk and head on one size, a row for every model."""
    chosen = costs[costs["resolution"] == resolution]
    wide = chosen.pivot(index="model", columns="effects")
    M = chosen["effects"].min()
    view = pd.DataFrame(index=list(MODELS))
    view["shared layers, %"] = wide["shared_layers", M].round(0)
    view["trunk, GFLOPs"] = wide["trunk", M]
    view["head, GFLOPs"] = wide["head", M]
    view["dead channels, %"] = (100 * (1 - wide["flops", M] / wide["searched", M])).round(2)
    return _named(view, profile)


def _named(view: pd.DataFrame, profile: str) -> pd.DataFrame:
    """A frame indexed by model with labels in front, and a note on what is not trained."""
    trained = {*checkpoints.available(profile), "cresmd"}
    notes = ["" if model in trained else NOT_TRAINED for model in view.index]
    view = view.assign(note=notes)
    view.insert(0, "model", [MODEL_LABELS[model] for model in view.index])
    return view.reset_index(drop=True)


def compare_costs(costs: pd.DataFrame, profile: str, tolerance: Mapping) -> pd.DataFrame:
    """``paper | ours | difference | within tolerance`` of a cost_table, with a note.

    CResMD in GFLOPs is the paper's network, whatever the profile. Of the others shares of their
    own CResMD and shared layers are compared.
    """
    theirs = published_costs()
    theirs = theirs[(theirs["column"] == "flops") == (theirs["method"] == "cresmd")]
    keys = ["method", "resolution", "effects"]
    ours = costs.rename(columns={"model": "method"})
    full = cost_table({"cresmd": [full_architecture(*PAPER_NET)]}).assign(method="cresmd")
    shared = ours.drop_duplicates("method").assign(resolution="HVGA", effects=pd.NA)
    parts = (full, "flops"), (ours, "share_of_cresmd"), (shared, "shared_layers")
    long = pd.concat(frame.melt(keys, column, "column") for frame, column in parts)
    wanted = theirs[[*keys, "column"]].drop_duplicates()
    long = long.astype({"effects": "Int64"}).merge(wanted, on=[*keys, "column"])
    return annotate(compare.compare(theirs, long, tolerance), profile)


def counted_flops(net: SearchNet, task, size: Size) -> tuple[int, int]:
    """FLOPs of a task's compacted network: counted while it runs, and in closed form.

    Both with the first convolution, which the paper's numbers leave out.
    """
    from torch.utils.flop_counter import FlopCounterMode  # here: it takes half a second

    width, height = size
    image = torch.zeros(1, 3, height, width)
    plan = compact.plan(net.architecture(task))
    trunk, head = compact.trunk(net, plan), compact.head(net, plan, task)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        head(trunk(compact.State(image)))
    closed = split_flops(plan.architecture, size, count_first=True)
    return counter.get_total_flops(), sum(closed)


def published_growth(model: str) -> Cost | None:
    """Trunk and mean head in GFLOPs from Table 3's two numbers, for M = 1 and 27, by Eq. 4."""
    theirs = published_costs().query("column == 'flops' and resolution == 'HVGA'")
    flops = theirs[theirs["method"] == model].set_index("effects")["value"]
    if flops.empty:
        return None
    trunk = (flops[1] - flops[27]) / (1 - 1 / 27)
    return Cost(trunk, (flops[1] - trunk,))


def draw_cost_growth(costs: Mapping[str, Cost], most: int = 64) -> Figure:
    """FLOPs of one effect in % of CResMD's against the number of effects M, both logarithmic.

    Solid: ours (``costs``, see costs_as_run). Dashed: the paper's two points of Table 3 and the
    curve that Eq. 4 puts through them.
    """
    M = np.geomspace(1, most, 200)
    figure, axis = subplots(figsize=(PAGE_WIDTH, 3.4))
    full, full_paper = costs["cresmd"].per_effect(1), published_growth("cresmd").per_effect(1)
    for model in MODELS:
        style, label = {"color": MODEL_COLOURS[model]}, MODEL_LABELS[model]
        if model in costs:
            y = [100 * costs[model].per_effect(m) / full for m in M]
            axis.plot(M, y, label=f"{label}, ours" if model != "cresmd" else label, **style)
        theirs = published_growth(model)
        if theirs is not None and model != "cresmd":
            y = [100 * theirs.per_effect(m) / full_paper for m in M]
            axis.plot(M, y, "--", lw=1, label=f"{label}, paper", **style)
            y = [100 * theirs.per_effect(m) / full_paper for m in (1, 27)]
            axis.plot((1, 27), y, "o", mfc="white", **style)
    ticks = [2**k for k in range(int(np.log2(most)) + 1)]
    axis.set(xscale="log", yscale="log", xlabel="number of effects of one image, M",
             ylabel="FLOPs of one effect, % of CResMD")  # fmt: skip
    axis.set_xticks(ticks, [str(m) for m in ticks])
    axis.minorticks_off()
    percents = [t for t in (1, 2, 5, 10, 20, 50, 100) if t >= axis.get_ylim()[0]]
    axis.set_yticks(percents)
    axis.yaxis.set_major_formatter("{x:g} %")
    name_lines(axis)
    return figure


def draw_figure5(
    nets: Mapping[str, object],
    size: tuple[int, int],
    strips: Mapping[str, Sequence[np.ndarray]],
    tasks: Mapping[str, Sequence[tuple]],
    damages: Mapping[str, Levels],
) -> Figure:
    """FLOPs of effect after effect, in the order of a slider, beside the effects (Figure 5).

    nets: trained networks by model. strips, tasks and damages: by the title of a row, an input with
    its effects, the tasks that made these, and the damage of the input. A bar is what an effect
    takes, in GFLOPs at an image of (width, height), its number above it; CResMD's are beyond the
    axis. The trunk, grey, is run with a row's first effect alone; hatched: saved, since later ones
    reuse its features.
    """
    figure, axes = subplots(len(tasks), 2, figsize=(1.5 * PAGE_WIDTH, 1.45 * len(tasks) + 0.6),
                            sharex="col", sharey="col", width_ratios=[1.8, 1],
                            squeeze=False)  # fmt: skip
    net = next(iter(nets.values())).net
    full = cost([full_architecture(net.blocks, net.channels)], size).per_effect(1) / 1e9
    for (title, wanted), (beside, bars) in zip(tasks.items(), axes, strict=True):
        levels = [f"{max(task):g}" for task in wanted]
        found = zip(("blur r", "noise σ", "JPEG q"), damages[title], strict=True)
        source = ", ".join(f"{kind} {value:g}" for kind, value in found if value)
        moved = ", ".join("l" if part else "0" for part in wanted[-1])
        for k, picture in enumerate(strips[title]):
            beside.imshow(picture, extent=(k + 0.02, k + 0.98, 0.02, 0.98))
            beside.text(k + 0.5, 0, [source, *levels][k], ha="center", va="top", size=8)
        beside.set(xlim=(0, len(wanted) + 1), ylim=(-0.12, 1))
        beside.axis("off")
        beside.text(-0.05, 0.5, f"{title}\n$l$ of $({moved})$", rotation=90, ha="right",
                    va="center", ma="center", size=9)  # fmt: skip
        x, width = np.arange(len(wanted)), 0.84 / len(nets)
        bars.text(0.99, 0.97, f"CResMD \N{UPWARDS ARROW} {full:.3g} each", va="top", ha="right",
                  size=7, transform=bars.transAxes)  # fmt: skip
        told = [f"CResMD {len(wanted) * full:.3g}"]
        for n, (model, net) in enumerate(nets.items()):
            costs = cost([live(one) for one in net.architectures(wanted)], size)
            place = x + (n - (len(nets) - 1) / 2) * width
            heads, trunk = np.array(costs.heads) / 1e9, costs.trunk / 1e9
            style = {"width": 0.94 * width, "ec": MODEL_COLOURS[model], "lw": 0.6}
            label = MODEL_LABELS[model]
            bars.bar(place, heads, color=MODEL_COLOURS[model], label=f"{label}: the task's own",
                     **style)  # fmt: skip
            if trunk:
                bars.bar(place[0], trunk, bottom=heads[0], color="0.7", **style,
                         label=f"{label}: the trunk, once")  # fmt: skip
                bars.bar(place[1:], trunk, 0.94 * width, heads[1:], fill=False, hatch="////",
                         ec="0.65", label="saved: the trunk's features are there")  # fmt: skip
            run = heads + np.where(x == 0, trunk, 0)
            for at, spent in zip(place, run, strict=True):
                bars.annotate(f"{spent:.2g}" if spent < 99.5 else f"{spent:.0f}", (at, spent),
                              (0, 2), textcoords="offset points", ha="center", size=8,
                              color=MODEL_COLOURS[model],
                              bbox={"fc": "white", "ec": "none", "pad": 0.1})  # fmt: skip
            told.append(f"{label} {run.sum():.3g}")
        bars.set_title(f"GFLOPs in all: {', '.join(told)}", size=8, loc="left")
        bars.set_xticks(x, levels)
        bars.set_ylabel(f"GFLOPs, {size[0]} x {size[1]}", size=8)
        bars.locator_params(axis="y", nbins=4)
        bars.grid(False, axis="x")
    ends = [bar.get_y() + bar.get_height() for axis in axes[:, 1] for bar in axis.patches]
    axes[0, 1].set_ylim(0, 1.3 * max(ends))
    axes[0, 0].set_title(f"an input, and effects of {label}", size=8, loc="left")
    axes[-1, 1].set_xlabel("level $l$, one after the other")
    handles, labels = axes[0, 1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    return figure
