"""Which task fits a photo (section 1): rules for picking one, side by side."""

from collections.abc import Mapping

import pandas as pd
from matplotlib.figure import Figure

from cirlib.measure.intervals import bootstrap
from cirlib.measure.suggestion import UNHARMED
from cirlib.report.figures import MODEL_LABELS, PAGE_WIDTH, subplots

RULES = ("known damage", "suggested", "nearest of 27")
COLOURS = ("#666666", "#009E73", "#CC79A7")  # none of a model's that is shown beside them
WORSE = 0.1  # dB


def suggestion_table(frames: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """What picking a task by a rule gives, from suggestion_scores by model.

    A row a model, kind of input ("all damaged": those that are) and rule. Columns: model, kind,
    rule, psnr (mean, dB), gained (mean, dB over the input) with low and high (its 95% interval over
    photos), harmed (share of inputs whose PSNR falls by over 0.1 dB, %), worst (the largest fall,
    dB) and inputs.
    """
    rows = []
    for model, frame in frames.items():
        damaged = frame[~frame["kind"].isin(UNHARMED)]
        groups = [("all damaged", damaged), *frame.groupby("kind", sort=False)]
        for kind, part in groups:
            for rule in RULES:
                gained = part[rule] - part["nothing"]
                low, high = bootstrap(gained.groupby(part["image"]).mean().to_numpy())
                rows.append(
                    {"model": model, "kind": kind, "rule": rule, "psnr": part[rule].mean(),
                     "gained": gained.mean(), "low": low, "high": high,
                     "harmed": 100 * (gained < -WORSE).mean(),
                     "worst": max(0.0, -gained.min()), "inputs": len(part)}
                )  # fmt: skip
    return pd.DataFrame(rows)


def draw_suggestions(table: pd.DataFrame) -> Figure:
    """Of a suggestion_table what each rule gains, with intervals; a panel a model, a row a kind.

    On the right: of how many inputs the suggested task makes the PSNR worse.
    """
    models, kinds = (list(dict.fromkeys(table[name])) for name in ("model", "kind"))
    figure, axes = subplots(1, len(models), sharey=True, sharex=True, squeeze=False,
                            figsize=(1.25 * PAGE_WIDTH, 1 + 0.3 * len(kinds)))  # fmt: skip
    for model, axis in zip(models, axes.flat, strict=True):
        own = table[table["model"] == model].set_index(["kind", "rule"])
        for k, (rule, colour) in enumerate(zip(RULES, COLOURS, strict=True)):
            rows = own.xs(rule, level="rule").reindex(kinds)
            y = [-at + 0.25 * (1 - k) for at in range(len(kinds))]
            axis.hlines(y, rows["low"], rows["high"], color=colour, lw=1, alpha=0.6)
            axis.plot(rows["gained"], y, "o", color=colour, ms=3.5,
                      label="" if axis is not axes[0, 0] else rule)  # fmt: skip
            if rule == "suggested":
                for at, share in zip(y, rows["harmed"], strict=True):
                    axis.annotate(f"{share:.0f}% worse", (1, at), (-2, 0), ha="right", va="center",
                                  xycoords=axis.get_yaxis_transform(), color=colour,
                                  textcoords="offset points", fontsize=6.5,
                                  bbox={"fc": "white", "ec": "none", "pad": 1})  # fmt: skip
        axis.axvline(0, color="0.6", lw=0.8, ls=":")
        axis.set_yticks([-at for at in range(len(kinds))], kinds)
        axis.set(title=MODEL_LABELS[model], xlabel="PSNR above the input's, dB")
    low, high = axes[0, 0].get_xlim()
    axes[0, 0].set_xlim(low, high + 0.22 * (high - low))
    figure.legend(loc="outside lower center", ncols=len(RULES), handletextpad=0.1)
    return figure
