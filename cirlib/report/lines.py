"""Each number of the paper beside ours, as text."""

from typing import NamedTuple

import pandas as pd

from cirlib import checkpoints
from cirlib.data import paper
from cirlib.measure.modulation import QUANTITIES
from cirlib.profiles import MODELS, SHORT
from cirlib.report import compare
from cirlib.report import cost as cost_report
from cirlib.report import latency as latency_report
from cirlib.report.ablations import OURS
from cirlib.report.figures import MODEL_LABELS

TABLE1 = ("HD", "2K", "4K")  # its images


NOT_YET = "not yet"


NOT_MEASURED = "not measured"  # of a metric that the inputs are too small for, say


class Line(NamedTuple):
    """A number of the paper beside ours, as text."""

    quantity: str
    paper: str
    ours: str
    headline: bool = True  # whether the README shows it, too


def spell(value: float | None, decimals: int, missing: str = NOT_YET) -> str:
    """12.3456, 2 -> '12.35'; what is missing says so."""
    return missing if value is None or pd.isna(value) else f"{value:,.{decimals}f}"


def _pick(frame: pd.DataFrame, column: str, /, **keys) -> float | None:
    """The first value of a column in rows with these keys; None without one."""
    for key, wanted in keys.items():
        frame = frame[frame[key] == wanted]
    return None if frame.empty else frame[column].iloc[0]


def training(profile: str, models: tuple[str, ...]) -> list[Line]:
    """How networks were trained, and what their search has found."""
    steps = spell(paper.value("claims", column="iterations"), 0)
    costs, found = cost_report.published_costs(), []
    for model in models:
        card, label = checkpoints.load_card(model, profile), MODEL_LABELS[model]
        after = " after CResMD's" if MODELS[model].fine_tuned else ""
        found.append(Line(f"{label}: training steps{after}", steps, f"{card['steps_done']:,}"))
        for effects in (1, 27) if MODELS[model].searched else ():
            theirs = _pick(costs, "value", method=model, column="share_of_cresmd",
                           resolution="HVGA", effects=effects)  # fmt: skip
            ours = 100 * card[f"flops_m{effects}"]
            place = "" if theirs is None else " (Table 3)"  # Table 1 has another number for TSNet
            found.append(
                Line(
                    f"{label}: FLOPs at M = {effects}, % of CResMD{place}",
                    spell(theirs, 1, "none"),
                    spell(ours, 1),
                    effects == 27,
                )
            )
    return found


def flops(profile: str, frame: pd.DataFrame) -> list[Line]:
    counted = cost_report.closed_form()
    lines = [
        Line(f"CResMD of the paper's size at {row['image']}, GFLOPs", row["paper"], row["we see"],
             row["image"] == "4K")
        for row in counted.to_dict("records")
    ]  # fmt: skip
    costs = cost_report.published_costs()
    for model in ("tsnet", "ta-tsnet"):
        key = {"resolution": "HD", "effects": 27}
        theirs = _pick(costs, "value", method=model, column="share_of_cresmd", **key)
        ours = _pick(frame, "share_of_cresmd", model=model, **key)
        lines.append(Line(f"{MODEL_LABELS[model]}, M = 27, % of CResMD", spell(theirs, 1),
                          spell(ours, 1)))  # fmt: skip
    return lines


def latency(profile: str, frame: pd.DataFrame) -> list[Line]:
    """How many times faster than CResMD, networks with the paper's FLOPs, on each machine.

    A line for TA+TSNet says so where no machine has been measured.
    """
    lines, table = [], paper.table("table1")
    fast = frame[(frame["architecture"] == "published") & (frame["runtime"] != "eager")]
    fast = fast.assign(
        image=fast["size"].map(latency_report.resolution),
        row=fast.apply(latency_report.column, axis=1),
    )
    for name in TABLE1:
        for what in latency_report.LABELS:
            here = fast[(fast["image"] == name) & (fast["row"] == what)]
            theirs = {m: paper.value(table, method=m, column=what, resolution=name)
                      for m in MODELS if (table["method"] == m).any()}  # fmt: skip
            if here.empty:
                ratio = spell(theirs["cresmd"] / theirs["ta-tsnet"], 1)
                quantity = f"TA+TSNet at {name}, {latency_report.LABELS[what]}, times faster"
                lines.append(Line(quantity, ratio, NOT_MEASURED, headline=False))
            for (machine, threads), own in here.groupby(["device", "threads"], sort=False):
                times = own.set_index("model")["seconds_per_effect"]
                cores = f", {threads} threads" if what == "latency_cpu_multi" else ""
                where = f"{latency_report.LABELS[what]} ({machine}{cores})"
                for model in ("tsnet", "ta-tsnet"):
                    ours = times["cresmd"] / times[model] if model in times else None
                    lines.append(Line(
                        f"{MODEL_LABELS[model]} at {name}, {where}, times faster",
                        spell(theirs["cresmd"] / theirs[model], 1), spell(ours, 1, NOT_MEASURED),
                        name == "HD" and model == "ta-tsnet",
                    ))  # fmt: skip
    return lines


def quality(profile: str, frame: pd.DataFrame) -> list[Line]:
    lines = []
    for row in paper.table("table2").to_dict("records"):
        model, metric = row["method"], row["column"]
        decimals = 2 if metric in ("psnr", "niqe") else 4
        unit = ", dB" if metric == "psnr" else ""
        ours = _pick(frame, "value", model=model, metric=metric)
        there = model in set(frame["model"])
        lines.append(
            Line(
                f"{MODEL_LABELS[model]}: {compare.METRIC_LABELS[metric]}{unit}",
                spell(row["value"], decimals),
                spell(ours, decimals, NOT_MEASURED if there else NOT_YET),
                metric == "psnr",
            )
        )
    return lines


def whole(profile: str, frame: pd.DataFrame) -> list[Line]:
    """Table 2 on whole photographs: PSNR alone, of the models that there are."""
    return [
        line._replace(quantity=f"{line.quantity} (whole photographs)")
        for line in quality(profile, frame)
        if line.headline and line.ours != NOT_YET
    ]


def ablation(profile: str, frame: pd.DataFrame) -> list[Line]:
    """Tables 3 and 4: our results have the paper's columns beside them.

    Labels tell the steps: TSNet and TA+TSNet are not Table 2's here, but short references.
    """
    lines = []
    for row in frame.to_dict("records"):
        steps = "" if pd.isna(row["steps"]) else f", {row['steps']:,.0f} steps"
        for name, decimals in (("drop", 2), ("shared_layers", 0), ("share_m1", 1),
                               ("share_m27", 1)):  # fmt: skip
            column = OURS[name]
            lines.append(
                Line(
                    f"{row['model']}{steps}: {column}",
                    spell(row[f"{column} (paper)"], decimals, "none"),
                    spell(row[column], decimals),
                    name == "drop",
                )
            )
    return lines


def pressure(profile: str, frame: pd.DataFrame) -> list[Line]:
    """Figure 7 has no printed numbers: TSNet-Abl, and what it is compared with."""
    return [
        Line(f"{row['label']}, {row['steps']:,} steps: PSNR drop, dB (FLOPs at M = 27: "
             f"{row['share_m27']:.1f}% of CResMD)", "drawn", spell(row["drop"], 2))
        for row in frame.to_dict("records")
        if row["method"] == "tsnet-abl" or row["model"] == SHORT
    ]  # fmt: skip


def evenness(profile: str, frame: pd.DataFrame) -> list[Line]:
    """Figure 8 and Section 7.1 have no numbers at all; ours come with a 95% interval."""
    shown = ("step_lpips_cv", "mismatch_lost")
    return [
        Line(f"{MODEL_LABELS[row['model']]}: {QUANTITIES[row['quantity']][1]}", "shown",
             f"{row['value']:.3g} ({row['low']:.3g} to {row['high']:.3g})",
             row["quantity"] in shown and row["model"] in ("cresmd", "ta-tsnet-m"))
        for row in frame.to_dict("records")
    ]  # fmt: skip


def suggestion(profile: str, frame: pd.DataFrame) -> list[Line]:
    """How much PSNR a pick of one effect loses against the best of 27: not in the paper."""
    shown = ("suggested", "least NIQE", "always the same")
    return [
        Line(f"{MODEL_LABELS[row['model']]}, {row['rule']}: dB below the best of 27", "none",
             spell(row["lost"], 2), row["rule"] in shown and row["model"] == "ta-tsnet")
        for row in frame[frame["rule"] != "best of 27"].to_dict("records")
    ]  # fmt: skip
