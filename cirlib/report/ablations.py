"""Section 5: Tables 3 and 4 and Figure 7, ours beside the paper's.

The ablations are trained for fewer steps than the models of Table 2, those of a comparison for as
many as each other, and each comparison has its reference among them. What is compared within one
table is a drop of PSNR below our CResMD on the same inputs, and a share of our CResMD's FLOPs.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise, product

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cirlib import checkpoints
from cirlib.data import paper
from cirlib.degradation import TASKS
from cirlib.measure.ablations import FIXED, PRESSED
from cirlib.measure.intervals import all_hold, at_cost, bootstrap, positive
from cirlib.profiles import ABLATIONS, BALANCE, SHORT
from cirlib.report.compare import verdict
from cirlib.report.figures import MODEL_COLOURS, MODEL_LABELS, PAGE_WIDTH, name_marks, subplots

# How tables of readers name them.
OURS = {"shared_layers": "shared layers, %", "psnr": "PSNR, dB", "drop": "PSNR drop, dB",
        "share_m1": "FLOPs at M = 1, % of CResMD",
        "share_m27": "FLOPs at M = 27, % of CResMD"}  # fmt: skip


def _published(rows: pd.DataFrame) -> dict[str, float]:
    """Of one row of Table 3 or 4 what ours can be compared with."""
    three = paper.table("table3")
    base = {column: paper.value(three, method="cresmd", column=column, effects=M)
            for column, M in (("psnr", None), ("flops", 1))}  # fmt: skip

    psnr = paper.value(rows, column="psnr")
    one, many = (paper.value(rows, column="flops", effects=M) for M in (1, 27))
    return {
        OURS["shared_layers"]: paper.value(rows, column="shared_layers"),
        OURS["psnr"]: psnr,
        OURS["drop"]: base["psnr"] - psnr,
        OURS["share_m1"]: 100 * one / base["flops"],
        OURS["share_m27"]: 100 * many / base["flops"],
    }


def _with_theirs(names: Mapping[str, str], theirs: Mapping[str, dict], frame: pd.DataFrame):
    """A row for each of names (model -> label): ours and the paper's of each column of OURS."""
    ours, rows = frame.set_index("model"), []
    for model, label in names.items():
        row = {"model": label, "steps": ours["steps"].get(model, np.nan)}
        for column, title in OURS.items():
            row[f"{title} (paper)"] = theirs.get(model, {}).get(title, np.nan)
            row[title] = ours[column].get(model, np.nan)
        rows.append(row)
    return pd.DataFrame(rows).astype({"steps": "Int64"})


def table3(frame: pd.DataFrame) -> pd.DataFrame:
    """Table 3: layers shared by decree, without pruning, beside what a search finds.

    frame: score(). FLOPs are in % of CResMD's, PSNR in dB below it. TA+TSNet is the reference,
    trained as long as the ablations; TSNet stands beside it.
    """
    three = paper.table("table3")
    theirs = {}
    for name in FIXED:
        percent = three["shared_layers"] == round(100 * ABLATIONS[name].fixed)
        theirs[name] = _published(three[percent & (three["method"] == "ta-tsnet-abl")])
    references = {"cresmd": "cresmd", "tsnet-abl-1": "tsnet", SHORT: "ta-tsnet"}
    for name, method in references.items():
        theirs[name] = _published(three[three["method"] == method])
    names = {"cresmd": "CResMD", **{name: ABLATIONS[name].label for name in FIXED},
             "tsnet-abl-1": "TSNet", SHORT: "TA+TSNet"}  # fmt: skip
    return _with_theirs(names, theirs, frame)


def table4(frame: pd.DataFrame) -> pd.DataFrame:
    """Table 4: TA+TSNet at other lambda1 and lambda2; columns as of table3, and these two."""
    four = paper.table("table4").query("experiment != 5")  # which is the second once more
    factors = {name: (model.lambda1, model.lambda2) for name, model in BALANCE.items()}
    middle = four[four["experiment"] == 2].iloc[0]
    theirs = {}
    for name, (one, two) in factors.items():
        same = np.isclose(four["lambda1"], one * middle["lambda1"], rtol=1e-6, atol=0)
        same &= np.isclose(four["lambda2"], two * middle["lambda2"], rtol=1e-6, atol=0)
        theirs[name] = _published(four[same])
    labels = {name: f"{one:g} x lambda1, {two:g} x lambda2" for name, (one, two) in factors.items()}
    table = _with_theirs(labels, theirs, frame)
    for place, which in enumerate(("lambda1", "lambda2")):
        published = [value[place] * middle[which] for value in factors.values()]
        table.insert(2 + 2 * place, f"{which} (paper)", published)
        table.insert(3 + 2 * place, which, _column(frame, which, list(factors)))
    return table


def side_by_side(table: pd.DataFrame) -> pd.DataFrame:
    """What can be compared of table3() or table4(), each cell "ours (the paper's)"."""
    shown = {"ours (the paper's)": table["model"]}
    for name, decimals in (("shared_layers", 0), ("drop", 2), ("share_m1", 1), ("share_m27", 1)):
        both = zip(table[OURS[name]], table[f"{OURS[name]} (paper)"], strict=True)
        shown[OURS[name]] = ["" if pd.isna(ours) else f"{ours:.{decimals}f} ({theirs:.{decimals}f})"
                             for ours, theirs in both]  # fmt: skip
    return pd.DataFrame(shown)


def task_specific(table: pd.DataFrame, profile: str) -> pd.DataFrame:
    """What is left to single tasks in the networks of Table 4; table: that of table4().

    U, the task-specific part of an effect's FLOPs, follows from those at M = 1, which are S + U,
    and at M = 27, S / 27 + U; so it can be had from what the paper prints. Channels: how many a
    task uses, on average, at the first selection point that is not shared; missing where a network
    is not trained.
    """
    one, many, M = OURS["share_m1"], OURS["share_m27"], len(TASKS)
    rows = {"model": table["model"]}
    for side in (" (paper)", ""):
        U = (M * table[many + side] - table[one + side]) / (M - 1)
        rows[f"task-specific FLOPs, % of CResMD{side}"] = U
    channels = dict.fromkeys(BALANCE, np.nan)
    for name in checkpoints.available(profile, BALANCE):
        own = checkpoints.load(name, profile).architectures(TASKS)
        after = int(own[0].phi.sum())
        channels[name] = np.mean([architecture.gates[after].sum() for architecture in own])
    return pd.DataFrame(rows | {"channels at the first point not shared": list(channels.values())})


# Conclusions: each can fail


def falling(values: Sequence[float]) -> bool:
    return all(a > b for a, b in pairwise(values))


def ordered(theirs: Sequence[float], own: Sequence[float]) -> bool:
    """Whether of each two that differ in the paper ours differ in the same direction."""
    pairs = product(zip(theirs, own, strict=True), repeat=2)
    return all(a > b for (p, a), (q, b) in pairs if p > q)


def _column(frame: pd.DataFrame, column: str, models: Sequence[str]) -> list[float]:
    return frame.set_index("model")[column].reindex(models).tolist()


def growing(drops: pd.DataFrame, models: Sequence[str]) -> bool | None:
    """Whether each of the models loses more than the one before; drops: those of score().

    None where a 95% interval over photos of such a difference holds 0, or there is one photo only.
    """
    lost = drops.reindex(columns=list(models))
    return all_hold(positive((lost[b] - lost[a]).to_numpy()) for a, b in pairwise(models))


def at_equal_flops(
    frame: pd.DataFrame, drops: pd.DataFrame, line: Sequence[str], model: str
) -> tuple[list[float], bool | None]:
    """Whether the models of a line lose more than another one at its FLOPs (M = 27).

    frame, drops: those of score(). What the line loses is read off the line through its points,
    in the logarithm of the FLOPs; beyond its ends the last point counts.

    Returns its PSNR drop (dB), the other's, the ends of the 95% interval over photos of their
    difference, and True, False, or None where that holds 0 or rests on a single photo. NaN where
    something is not there, or some have been trained longer than others.
    """
    (own,), (target,) = (_column(frame, name, [model]) for name in ("drop", "share_m27"))
    costs = _column(frame, "share_m27", line)
    lost = at_cost(costs, _column(frame, "drop", line), target)
    if np.isnan([own, lost]).any() or len(set(_column(frame, "steps", [*line, model]))) > 1:
        return [lost, own, np.nan, np.nan], None  # "not measured"
    differences = np.array([
        at_cost(costs, photo[list(line)], target) - photo[model]
        for _, photo in drops.iterrows()
    ])  # fmt: skip
    return [lost, own, *bootstrap(differences)], positive(differences)


AT_EQUAL_FLOPS = "(dB, 95% interval of the difference)"
BOTH = "{} against {}, more by {} to {}"


def check_table3(frame: pd.DataFrame, drops: pd.DataFrame) -> pd.DataFrame:
    """What the paper reads out of Table 3, asked of ours; frame, drops: those of score()."""
    psnr, many, one = (_column(frame, c, FIXED) for c in ("psnr", "share_m27", "share_m1"))
    searched = _column(frame, "share_m1", [SHORT])
    numbers, holds = at_equal_flops(frame, drops, FIXED, SHORT)
    return pd.DataFrame([
        verdict("PSNR falls as shared layers grow", psnr, growing(drops, FIXED), 2),
        verdict("cost at M = 27 falls as shared layers grow (%)", many, falling(many)),
        verdict("sharing alone saves nothing at M = 1 (%)", one, np.allclose(one, 100)),
        verdict("TA+TSNet saves at M = 1, too (%)", searched, searched[0] < 100),
        verdict("at equal FLOPs (M = 27) sharing by decree loses more than TA+TSNet "
                + AT_EQUAL_FLOPS, numbers, holds, 2, BOTH),
    ])  # fmt: skip


def check_table4(frame: pd.DataFrame) -> pd.DataFrame:
    """What the paper reads out of Table 4, asked of ours."""
    few = ["ta-tsnet-l1-d10", "ta-tsnet-l1-d1", "ta-tsnet-l1-d0.1"]  # lambda2 falls
    thin = ["ta-tsnet-l0.1-d1", "ta-tsnet-l1-d1", "ta-tsnet-l10-d1"]  # lambda1 grows
    rows = []
    for models, what in ((few, "smaller lambda2"), (thin, "larger lambda1")):
        shared, one = (_column(frame, c, models) for c in ("shared_layers", "share_m1"))
        rows.append(verdict(f"{what}: fewer shared layers (%)", shared, falling(shared)))
        rows.append(verdict(f"{what}: a single effect is cheaper (%)", one, falling(one)))
    for other, what in ((few[0], "ten times lambda2"), (thin[0], "a tenth of lambda1")):
        many = _column(frame, "share_m27", ["ta-tsnet-l1-d1", other])
        rows.append(verdict(f"{what}: many effects are cheaper (M = 27, %)", many, falling(many)))
    for title in (OURS[name] for name in ("shared_layers", "share_m1", "share_m27")):
        ranked = table4(frame).sort_values(f"{title} (paper)", ascending=False, kind="stable")
        theirs, own = ranked[f"{title} (paper)"].tolist(), ranked[title].tolist()
        rows.append(verdict(f"{title}: all five in the paper's order", own, ordered(theirs, own)))
    lost = _column(frame, "drop", [few[1], few[0], few[2], thin[0], thin[2]])
    rows.append(
        verdict("the middle, first here, loses least (PSNR, dB)", lost, lost[0] == min(lost), 2)
    )
    return pd.DataFrame(rows)


def pressed(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of Figure 7's TSNet-Abl, by falling FLOPs."""
    rows = frame[frame["method"] == "tsnet-abl"]
    return rows.sort_values("share_m27", ascending=False)


def check_figure7(frame: pd.DataFrame, drops: pd.DataFrame) -> pd.DataFrame:
    """Whether TSNet-Abl loses more than TA+TSNet at equal FLOPs (M = 27), by score().

    Where TA+TSNet is cheaper than all of TSNet-Abl, the cheapest's drop counts, which favours
    TSNet-Abl.
    """
    lost = _column(frame, "drop", PRESSED)
    numbers, holds = at_equal_flops(frame, drops, PRESSED, SHORT)
    return pd.DataFrame([
        verdict("more pressure, less PSNR (drop, dB)", lost, growing(drops, PRESSED), 2),
        verdict(f"at equal FLOPs TSNet-Abl loses more than TA+TSNet {AT_EQUAL_FLOPS}",
                numbers, holds, 2, BOTH),
    ])  # fmt: skip


def draw_figure7(frame: pd.DataFrame) -> Figure:
    """PSNR below CResMD against FLOPs at M = 27: TSNet-Abl, TSNet and TA+TSNet.

    Solid: trained as long as the ablations. Hollow: the models of Table 2. Stars: the paper's two,
    against its own CResMD, by Table 3 (its figure is without numbers).
    """
    figure, axis = subplots(figsize=(PAGE_WIDTH, 3.4))
    curve, marks = pressed(frame), []
    style = {"color": MODEL_COLOURS["tsnet-abl"]}
    axis.plot(curve["share_m27"], -curve["drop"], "o-", **style)
    for _, row in curve[curve["model"] != "tsnet-abl-1"].iterrows():
        name = f"TSNet, {row['label'].removeprefix('TSNet-Abl ').rstrip('x')} × $\\lambda_1$"
        marks.append((row["share_m27"], -row["drop"], name, style["color"]))
    for model, reference in (("tsnet", "tsnet-abl-1"), ("ta-tsnet", SHORT)):
        style = {"color": MODEL_COLOURS[model]}
        for name, fill in ((reference, style["color"]), (model, "white")):
            for _, row in frame[frame["model"] == name].iterrows():
                told = f"{MODEL_LABELS[model]}, {row['steps']:,} steps"
                axis.plot(row["share_m27"], -row["drop"], "s", mfc=fill, **style)
                marks.append((row["share_m27"], -row["drop"], told, style["color"]))
        three = paper.table("table3")
        theirs = _published(three[three["method"] == model])
        at = theirs[OURS["share_m27"]], -theirs[OURS["drop"]]
        axis.plot(*at, "*", ms=9, mfc="white", **style)
        marks.append((*at, f"{MODEL_LABELS[model]}, the paper's", style["color"]))
    _finish(axis, marks)
    return figure


def draw_table3(table: pd.DataFrame) -> Figure:
    """PSNR below CResMD against FLOPs at M = 27: shared by decree and by search.

    table: that of table3(). Solid: ours. Hollow stars: the paper's, against its own CResMD.
    """
    figure, axis = subplots(figsize=(PAGE_WIDTH, 3.4))
    decree, marks = table["model"].str.startswith(MODEL_LABELS["ta-tsnet-abl"]), []
    parts = {"ta-tsnet-abl": table[decree]}
    parts |= {m: table[table["model"] == MODEL_LABELS[m]] for m in ("tsnet", "ta-tsnet")}
    for side, whose in ((" (paper)", ", the paper's"), ("", "")):
        for model, part in parts.items():
            costs, lost = part[OURS["share_m27"] + side], -part[OURS["drop"] + side]
            colour, names = MODEL_COLOURS[model], [MODEL_LABELS[model]]
            style = {"mfc": "white", "ms": 9} if side else {"ms": 6}
            axis.plot(costs, lost, "*:" if side else "o-", color=colour, **style)
            if model == "ta-tsnet-abl":
                names = [f"{share:.0f}% shared" for share in part[OURS["shared_layers"] + side]]
            named = list(zip(costs, lost, names, strict=True))
            if side:  # of a line the one in the middle, which says what it is
                named = named[len(named) // 2 :][:1]
            marks += [(x, y, name + whose, colour) for x, y, name in named]
    _finish(axis, marks)
    return figure


def _finish(axis: Axes, marks: Sequence[tuple[float, float, str, str]]) -> None:
    """The axes of a plot of PSNR against FLOPs, and the names beside its marks."""
    axis.set(xscale="log", xlabel="FLOPs of one effect, M = 27, % of CResMD",
             ylabel="PSNR, dB against CResMD,\nwhich got no further steps")  # fmt: skip
    axis.axhline(0, color="0.6", lw=0.8, ls=":")
    axis.margins(0.08)
    low, high = axis.get_xlim()
    ticks = [t for t in (1, 2, 3, 4, 6, 10, 15, 20, 30, 45, 70, 100) if low <= t <= high]
    axis.set_xticks(ticks, [f"{t} %" for t in ticks])
    axis.minorticks_off()
    name_marks(axis, marks)
