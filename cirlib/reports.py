"""Tables and figures of notebooks 20 and 21: Tables 1 to 4 in FLOPs, Table 2, ours beside theirs.

A table has one row for every model of the paper. What is not there says so: "not trained yet" or
why a metric could not be measured.
"""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from torch.utils.flop_counter import FlopCounterMode

from cirlib import checkpoints, compact, metrics, paper, paths, provenance
from cirlib.cost import (
    Architecture,
    Cost,
    cost,
    full_architecture,
    live,
    shared_layers,
    split_flops,
)
from cirlib.degradation import TASK_LEVELS, TASKS, Levels, levels_to_task
from cirlib.evaluation import HIGHER_IS_BETTER, bootstrap, positive, summary
from cirlib.figures import MODEL_COLOURS, MODEL_LABELS, PAGE_WIDTH
from cirlib.files import UserError
from cirlib.profiles import MODELS, get_profile
from cirlib.search import SearchNet

Size = tuple[int, int]  # width, height in pixels
PAPER_NET = (32, 64)  # blocks and channels of Section 7.3
NOT_TRAINED = "not trained yet"
METRIC_LABELS = {
    "flops": "FLOPs",
    "share_of_cresmd": "share of CResMD's FLOPs",
    "shared_layers": "shared layers",
    "flops_reduction": "FLOPs saved",
    "psnr": "PSNR",
    "ssim": "SSIM",
    "niqe": "NIQE",
    "lpips": "LPIPS",
}


# Cost: Eqs. 1, 2, 4


def image_sizes() -> dict[str, Size]:
    """The paper's resolutions. It names no pixels for 2K: its FLOPs fit 2048 x 1080 alone."""

    def size(name: str) -> Size:
        width, height = (
            int(paper.value("claims", column=side, resolution=name)) for side in ("width", "height")
        )
        return width, height

    return {"HD": size("HD"), "2K": (2048, 1080), "4K": size("4K"), "HVGA": size("HVGA")}


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
    full = flops[flops["method"] == "cresmd"].rename(columns={"value": "full"})
    shares = flops.merge(full[["resolution", "effects", "full"]], on=["resolution", "effects"])
    shares = shares.assign(column="share_of_cresmd", unit="%")
    shares["value"] = (100 * shares["value"] / shares["full"]).round(1)
    shares = shares[shares["resolution"].isin(("HD", "HVGA"))]
    long = pd.concat([both, shares], ignore_index=True)
    return long[["method", "column", "resolution", "effects", "value", "unit"]]


def closed_form() -> pd.DataFrame:
    """GFLOPs of the paper-size CResMD, counted from its layers, beside the printed numbers.

    The last columns: the same network with the tail of the public CResMD code, and the ratio.
    """
    rows = []
    for name, size in image_sizes().items():
        ours, public = (
            cost([full_architecture(*PAPER_NET, tail)], size).per_effect(1) / 1e9
            for tail in ("paper", "public")
        )
        table = "table3" if name == "HVGA" else "table1"
        key = {"effects": 1} if name == "HVGA" else {"resolution": name}
        theirs = paper.value(table, method="cresmd", column="flops", **key)
        rows.append({
            "image": name, "size": f"{size[0]} x {size[1]}",
            "we see": f"{ours:.1f}", "paper": f"{theirs:.1f}",
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
            found[model] = [net.architecture(task) for task in TASKS]
    return found


def costs_as_run(found: Mapping[str, list[Architecture]], size: Size) -> dict[str, Cost]:
    """Cost of each model's compacted networks, in which dead channels are gone (cost.live)."""
    return {model: cost([live(a) for a in own], size) for model, own in found.items()}


def cost_table(
    found: Mapping[str, list[Architecture]],
    sizes: Mapping[str, Size] | None = None,
    effects: Sequence[int] = (1, 27),
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
            for M in effects:
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

    CResMD in GFLOPs is the paper-size network's whatever the profile; the other models' absolute
    numbers are compared for a profile of that size only. Shares and shared layers always are.
    """
    preset = get_profile(profile)
    same_size = (preset.blocks, preset.channels) == PAPER_NET
    theirs = published_costs()
    if not same_size:
        theirs = theirs[(theirs["column"] != "flops") | (theirs["method"] == "cresmd")]
    theirs = theirs[(theirs["column"] == "flops") | (theirs["method"] != "cresmd")]
    keys = ["method", "resolution", "effects"]
    ours = costs.rename(columns={"model": "method"})
    full = {"cresmd": [full_architecture(*PAPER_NET)]}
    absolute = ours if same_size else cost_table(full).rename(columns={"model": "method"})
    shared = ours.drop_duplicates("method").assign(resolution="HVGA", effects=pd.NA)
    parts = [(absolute, "flops"), (ours, "share_of_cresmd"), (shared, "shared_layers")]
    long = pd.concat(
        frame[[*keys, column]].rename(columns={column: "value"}).assign(column=column)
        for frame, column in parts
    )
    wanted = theirs[[*keys, "column"]].drop_duplicates()
    long = long.astype({"effects": "Int64"}).merge(wanted, on=[*keys, "column"])
    table = annotate(paper.compare(theirs, long, tolerance), profile)
    closed = (table["method"] == "cresmd") & (not same_size)
    table.loc[closed, "note"] = "paper-size network, closed form"
    return table


def counted_flops(net: SearchNet, task, size: Size) -> tuple[int, int]:
    """FLOPs of a task's compacted network: counted while it runs, and in closed form.

    Both with the first convolution, which the paper's numbers leave out.
    """
    width, height = size
    image = torch.zeros(1, 3, height, width)
    trunk, head = compact.trunk(net), compact.head(net, task)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        head(trunk(compact.State(image)))
    closed = split_flops(live(net.architecture(task)), size, count_first=True)
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
    figure, axis = plt.subplots(figsize=(PAGE_WIDTH, 3.4))
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
    axis.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g} %"))
    axis.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def draw_cost_per_task(costs: Mapping[str, Cost], effects: int = 27) -> Figure:
    """FLOPs of each of the 27 tasks in % of CResMD's: a row of bars a model.

    Grey: the task's share 1 / M of the trunk. CResMD, the same for every task, is drawn only when
    there is nothing else.
    """
    full = costs["cresmd"].per_effect(1)
    models = [model for model in MODELS if model in costs and model != "cresmd"] or ["cresmd"]
    figure, axes = plt.subplots(
        len(models), 1, sharex=True, squeeze=False, figsize=(PAGE_WIDTH, 1.5 + 0.95 * len(models))
    )
    x = np.arange(len(TASKS)) + np.repeat(np.arange(3), 9) * 0.6  # a gap between the blurs
    for model, axis in zip(models, axes.flat, strict=True):
        trunk = 100 * costs[model].trunk / effects / full
        heads = 100 * np.array(costs[model].heads) / full
        axis.bar(x, trunk, color="#999999")
        axis.bar(x, heads, bottom=trunk, color=MODEL_COLOURS[model])
        grey = f" (grey: the trunk, a {effects}th)" if trunk else ""
        axis.set_title(MODEL_LABELS[model] + grey, loc="left")
        axis.set_ylim(0)
        axis.grid(False, axis="x")
    labels = [f"{t.r:g} · {t.sigma:g} · {t.q or 'none'}" for t in TASK_LEVELS]
    axis.set_xticks(x, labels, rotation=90)
    axis.set_xlim(x[0] - 0.7, x[-1] + 0.7)
    axis.set_xlabel("task: restores blur r · noise σ · JPEG quality q")
    figure.supylabel("FLOPs of one effect, % of CResMD", fontsize=8.5)
    return figure


# Quality: Table 2


def degradation_type(levels: Levels) -> str:
    """Which of the three degradations there are, in words."""
    t = levels_to_task(levels)
    names = [name for name, level in zip(("blur", "noise", "JPEG"), t, strict=True) if level]
    return ("none", f"{names[0] if names else ''} only", "two of them", "all three")[len(names)]


def quality_table(frames: Mapping[str, pd.DataFrame], crop: int | None) -> pd.DataFrame:
    """Table 2 in tidy form from evaluation's frames by model: a row a model and metric.

    Columns: model, metric, value (missing: not measured), images, inputs, effects, crop.
    """
    rows = []
    for model, frame in frames.items():
        about = {"images": frame["image"].nunique(), "inputs": len(frame),
                 "effects": len(TASKS), "crop": crop}  # fmt: skip
        for metric, value in summary(frame).items():
            rows.append({"model": model, "metric": metric, "value": value} | about)
    names = ["model", "metric", "value", "images", "inputs", "effects", "crop"]
    frame = pd.DataFrame(rows, columns=names)
    return frame.astype({"value": "float64", "crop": "Int64"})


def compare_quality(quality: pd.DataFrame, profile: str, tolerance: Mapping) -> pd.DataFrame:
    """``paper | ours | difference | within tolerance`` of a quality_table, with a note."""
    ours = quality.rename(columns={"model": "method", "metric": "column"})
    ours = ours[["method", "column", "value"]]
    return annotate(paper.compare(paper.table("table2"), ours, tolerance), profile)


def check_table2(frames: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """What Section 4.2 reads out of Table 2, asked of ours.

    frames: evaluation.best_scores by model, on the same photos. A verdict is undecided where other
    photos could turn it.
    """
    searched = [("tsnet", "cresmd"), ("ta-tsnet", "cresmd")]
    relative = [("tsnet-m", "tsnet"), ("ta-tsnet-m", "ta-tsnet")]
    rows = []
    for metric, what, pairs in (
        ("psnr", "less PSNR", searched + relative),
        ("niqe", "a better, which is a lower, NIQE", searched),
    ):
        for model, other in pairs:
            numbers, less = [np.nan], None
            if all(metric in frames.get(name, ()) for name in (model, other)):
                one, two = (
                    frames[name].groupby("image", sort=False)[metric].mean()
                    for name in (model, other)
                )
                lost = (two - one).to_numpy()
                numbers, less = [one.mean(), two.mean(), *bootstrap(lost)], positive(lost)
            rows.append(paper.verdict(
                f"{MODEL_LABELS[model]} has {what} than {MODEL_LABELS[other]} "
                "(both, 95% interval of what it is less)", numbers, less, 2,
            ))  # fmt: skip
    return pd.DataFrame(rows)


def whole_photos(profile: str) -> tuple[dict[str, pd.DataFrame], dict]:
    """Scores of whole photographs by model, and the facts that they have in common.

    ``python -m cirlib evaluate --csv`` has written them, as ``whole_<model>.csv`` among the results
    of the profile. Those of networks that have been replaced are left out; ``date`` is the last.

    Raises UserError if they are not of the same photographs.
    """
    frames, facts = {}, []
    for model in checkpoints.available(profile):
        weights = checkpoints.digest(checkpoints.load(model, profile))
        for results in (paths.RESULTS, paths.ROOT / "data" / "results"):  # one's own first
            path = results / profile / f"whole_{model}.csv"
            if model not in frames and provenance.load_facts(path).get("weights") == weights:
                frames[model] = provenance.load_csv(path)
                facts.append(provenance.load_facts(path))
    common = {
        key: value
        for key, value in (facts[0] if facts else {}).items()
        if all(other.get(key) == value for other in facts)
    }
    if facts and not {"fingerprint", "seed", "crop"} <= common.keys():
        raise UserError(
            f"whole_*.csv of profile {profile} are of different photographs or seeds: "
            "make them anew with `python -m cirlib evaluate --csv`"
        )
    return frames, common | ({"date": max(each["date"] for each in facts)} if facts else {})


def unmeasured(frames: Mapping[str, pd.DataFrame], crop: int | None) -> dict[str, str]:
    """Metric -> why it was not measured, with the cure."""
    there, reasons = metrics.available(), {}
    for name in metrics.METRICS:
        if not there[name]:
            reasons[name] = "the weights are missing; run `python -m cirlib data weights`"
        elif any(frame[name].isna().any() for frame in frames.values() if name in frame):
            size = f", and a crop is {crop} x {crop}" if crop else ""
            reasons[name] = (
                f"it is defined from 96 x 192 pixels of detail on{size}: take a larger `crop`"
            )
    return reasons


def gains(frames: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """PSNR in dB by type of degradation: the inputs', and how much each model's best effect gains.

    A column a model, rows from a single degradation to all three, and all inputs last.
    """
    columns = {}
    for model, frame in frames.items():
        kinds = [degradation_type(levels) for levels in _levels(frame)]
        gained = (frame["psnr"] - frame["input_psnr"]).groupby(kinds).mean()
        gained["all"] = (frame["psnr"] - frame["input_psnr"]).mean()
        if not columns:
            inputs = frame["input_psnr"].groupby(kinds)
            columns["inputs"] = inputs.size()
            columns["input PSNR"] = inputs.mean()
            columns["inputs"]["all"] = len(frame)
            columns["input PSNR"]["all"] = frame["input_psnr"].mean()
        columns[f"{MODEL_LABELS[model]}, gain"] = gained
    order = ("blur only", "noise only", "JPEG only", "two of them", "all three", "all")
    table = pd.DataFrame(columns, index=list(order)).round(2)
    return table.rename_axis("degraded by").reset_index()


def suggestion_table(frames: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """How good a rule's pick of one effect is, from evaluation's suggestion_scores by model.

    A row a model and rule: ``best of 27`` (with the clean photo at hand), ``known damage``,
    ``suggested`` (Modulator.suggest), ``least NIQE`` of the 27 effects, ``always the same`` task
    (the best one for these inputs, with hindsight) and ``nothing``, the input as it is.
    Columns: model, rule, psnr (mean, dB), lost (dB below the best of 27) with low and high (its 95%
    interval over photos), best (share of inputs whose best effect it picks, %), best_of_3 (share
    of inputs whose best effect is among the first three; of an order only), gained (dB over the
    input), harmed (share of inputs whose PSNR falls, %) and inputs. A rule that could not be
    applied to all inputs has no numbers.
    """
    rows = []
    for model, frame in frames.items():
        psnr = frame[[f"psnr_{k}" for k in range(len(TASKS))]].to_numpy()
        picks = {
            "best of 27": psnr.argmax(1),
            "known damage": frame["known"],
            "suggested": frame["suggested"],
            "least NIQE": frame["niqe"],
            "always the same": np.full(len(psnr), psnr.mean(0).argmax()),
            "nothing": np.zeros(len(psnr), int),
        }
        for rule, pick in picks.items():
            row = {"model": model, "rule": rule, "inputs": len(psnr)}
            if not pd.isna(pick).any():
                got = psnr[np.arange(len(psnr)), np.asarray(pick, int)]
                lost = pd.Series(psnr.max(1) - got).groupby(frame["image"].to_numpy()).mean()
                low, high = bootstrap(lost.to_numpy())
                row |= {"psnr": got.mean(), "lost": (psnr.max(1) - got).mean(),
                        "low": low, "high": high, "best": 100 * (got == psnr.max(1)).mean(),
                        "gained": (got - psnr[:, 0]).mean(),
                        "harmed": 100 * (got < psnr[:, 0]).mean()}  # fmt: skip
            if rule == "suggested":
                row["best_of_3"] = 100 * (frame["rank"] <= 3).mean()
            rows.append(row)
    names = ["model", "rule", "psnr", "lost", "low", "high", "best", "best_of_3", "gained",
             "harmed", "inputs"]  # fmt: skip
    return pd.DataFrame(rows, columns=names)


def best_levels(frame: pd.DataFrame, metric: str = "psnr") -> np.ndarray:
    """How often which restoration level was best: 3 (type) x 3 (true level) x 3 (best level).

    Levels 0, 1, 2 are none, half and full strength. Inputs without a best effect are left out.
    """
    counts = np.zeros((3, 3, 3), int)
    for levels, best in zip(_levels(frame), frame[f"best_{metric}"], strict=True):
        if pd.notna(best):
            for d, (true, chosen) in enumerate(
                zip(levels_to_task(levels), TASKS[int(best)], strict=True)
            ):
                counts[d, round(2 * true), round(2 * chosen)] += 1
    return counts


def draw_best_levels(counts: np.ndarray) -> Figure:
    """best_levels as three maps: of the inputs with a true level, which share had which best."""
    figure, axes = plt.subplots(1, 3, sharey=True, figsize=(PAGE_WIDTH, 2.35))
    for title, one, axis in zip(("blur", "noise", "JPEG"), counts, axes, strict=True):
        shares = one / np.maximum(one.sum(1, keepdims=True), 1)  # true x best
        axis.imshow(shares.T, vmin=0, vmax=1, origin="lower", cmap="Blues")
        for (true, best), share in np.ndenumerate(shares):
            colour = "white" if share > 0.6 else "black"
            axis.text(true, best, f"{100 * share:.0f} %", ha="center", va="center", color=colour)
        axis.set_xticks(range(3), ["none", "half", "full"])
        axis.set_yticks(range(3), ["none", "half", "full"])
        axis.set(title=title, xlabel="true level", xlim=(-0.5, 2.5), ylim=(-0.5, 2.5))
        axis.grid(False)
    axes[0].set_ylabel("best restoration level")
    return figure


def _levels(frame: pd.DataFrame) -> list[Levels]:
    """Of each row; pandas turns a missing quality into NaN."""
    qualities = [None if pd.isna(q) else int(q) for q in frame["q"]]
    return [Levels(*levels) for levels in zip(frame["r"], frame["sigma"], qualities, strict=True)]


# Both


def annotate(comparison: pd.DataFrame, profile: str) -> pd.DataFrame:
    """A result of paper.compare with a ``note`` where a model is not trained or not measured."""
    trained = {*checkpoints.available(profile)}
    missing = comparison["ours"].isna()
    untrained = missing & ~comparison["method"].isin(trained)
    notes = np.select([untrained, missing], [NOT_TRAINED, "not measured"], "")
    return comparison.assign(note=notes)


def misses(comparison: pd.DataFrame) -> list[str]:
    """A sentence on each row of a comparison that is out of tolerance."""
    sentences = []
    out = comparison[comparison["within tolerance"].eq(False).fillna(False)]
    for row in out.to_dict("records"):
        unit = "" if pd.isna(row["unit"]) else f" {row['unit']}"
        at = [str(row["resolution"])] if pd.notna(row.get("resolution")) else []
        at += [f"M = {row['effects']}"] if pd.notna(row.get("effects")) else []
        where = f" ({', '.join(at)})" if at else ""
        direction = "below" if row["difference"] < 0 else "above"
        better = HIGHER_IS_BETTER.get(row["column"])
        if better is not None:
            direction += " (better than)" if better == (row["difference"] > 0) else " (worse than)"
        off = f"{abs(row['difference']):.2g}{' points' if unit == ' %' else unit}"
        sentences.append(
            f"{MODEL_LABELS[row['method']]}, {METRIC_LABELS[row['column']]}{where}: "
            f"{row['ours']:.4g}{unit}, {off} {direction} the paper's {row['paper']:.4g}{unit}."
        )
    return sentences


def training_view(profile: str) -> pd.DataFrame:
    """How the models of a profile were made, from their cards, below how the paper's were.

    A searched model's steps come on top of those of the CResMD it starts from.
    """
    blocks, channels = PAPER_NET
    theirs = {
        name: int(paper.value("claims", column=name))
        for name in ("iterations", "batch_size", "train_images")
    }
    rows = [{"model": "the paper's", "blocks x channels": f"{blocks} x {channels}",
             "steps": f"{theirs['iterations']:,}", "patches a step": theirs["batch_size"],
             "photographs": theirs["train_images"], "from": "DIV2K", "hours": None}]  # fmt: skip
    for model in checkpoints.available(profile):
        card = checkpoints.load_card(model, profile)
        rows.append({"model": MODEL_LABELS[model],
                     "blocks x channels": f"{card['blocks']} x {card['channels']}",
                     "steps": f"{card['steps_done']:,}", "patches a step": card["batch"],
                     "photographs": card["photos"], "from": card["images"],
                     "hours": round(card["hours"], 2)})  # fmt: skip
    return pd.DataFrame(rows).astype({"hours": "float64"})
