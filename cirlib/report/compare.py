"""Ours beside the published numbers: compared, judged by a tolerance, and put in words."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from cirlib import checkpoints
from cirlib.measure.quality import HIGHER_IS_BETTER
from cirlib.report.figures import MODEL_LABELS

_NOT_KEYS = ("value", "unit", "place", "quote", "note")


def compare(
    paper: pd.DataFrame, ours: pd.DataFrame, tolerance: Mapping[str, float | str]
) -> pd.DataFrame:
    """Set our numbers beside the paper's, one metric of one model a row.

    Both frames are in long form with ``column``, ``value`` and the keys that tell the paper's rows
    apart; ``wide.melt(id_vars="method", var_name="column")`` makes one of a wide frame.
    ``tolerance`` names the deviation allowed for each metric: a number is absolute, in the
    metric's unit, and a string such as ``"5%"`` is relative to the paper's number.

    Returns the keys, ``unit``, ``paper``, ``ours``, ``difference`` (ours - paper), ``tolerance``
    and ``within tolerance`` (boolean, NA where one side is missing). All rows of the paper are
    kept, in its order: what we have not measured has a missing ``ours``. Rows of ours that the
    paper lacks follow, so that a misspelt key shows.

    Raises ValueError if keys are lacking or rows of ours are repeated, if units differ, or if
    ``tolerance`` lacks a metric that both sides have, or names one that the paper lacks.
    """
    all_keys = [name for name in paper.columns if name not in _NOT_KEYS]
    keys = [name for name in all_keys if name in ours.columns]
    _check_sides(paper, ours, keys)
    unknown = set(tolerance) - set(paper["column"])
    if unknown:
        raise ValueError(f"tolerance for {sorted(unknown)}: the paper has no such metric here")

    left, right = paper.copy(), ours.copy()
    for key in keys:  # integer, float and nullable keys of either side must meet
        if pd.api.types.is_numeric_dtype(left[key]):
            left[key] = left[key].astype("Float64")
            right[key] = right[key].astype("Float64")
    right = right[keys + ["value"]].rename(columns={"value": "ours"})
    left = left.rename(columns={"value": "paper"})
    both = left.merge(right, on=keys, how="left", validate="many_to_one")
    alone = right.merge(left[keys].drop_duplicates(), on=keys, how="left", indicator=True)
    alone = alone[alone["_merge"] == "left_only"].drop(columns="_merge")
    if len(alone):
        if "unit" in ours.columns:
            alone["unit"] = ours["unit"].to_numpy()[alone.index]
        both = pd.concat([both, alone], ignore_index=True)

    for key in all_keys:
        both[key] = both[key].astype(paper[key].dtype)
    if "unit" not in both:
        both["unit"] = pd.Series(pd.NA, index=both.index, dtype="str")
    for name in ("paper", "ours"):
        both[name] = both[name].astype("float64")
    both["difference"] = both["ours"] - both["paper"]
    both["tolerance"] = both["column"].map({m: _spell(t) for m, t in tolerance.items()})
    both["within tolerance"] = _within(both, tolerance)
    outcome = ["unit", "paper", "ours", "difference", "tolerance", "within tolerance"]
    return both[all_keys + outcome]


def verdict(
    claim: str, numbers: Sequence[float], holds: bool | None, decimals: int = 1
) -> dict[str, str]:
    """A row of a table of claims: the paper's conclusion, our numbers, and whether it holds.

    holds: None is "undecided". A missing number makes it "not measured".
    """
    known = not any(pd.isna(number) for number in numbers)
    word = "undecided" if holds is None else "yes" if holds else "no"
    return {"the paper's conclusion": claim,
            "our numbers": ", ".join(f"{number:.{decimals}f}" for number in numbers),
            "holds": word if known else "not measured"}  # fmt: skip


def _check_sides(paper: pd.DataFrame, ours: pd.DataFrame, keys: list[str]) -> None:
    for name in ("column", "value"):
        if name not in ours.columns:
            raise ValueError(f"ours has no column {name!r}: melt a wide frame into long form first")
    if ours.duplicated(keys).any():
        twice = ours.loc[ours.duplicated(keys), keys].iloc[0].to_dict()
        raise ValueError(f"ours has more than one row with {twice}")
    # Table 4 prints one model twice; without a needed key, different numbers would coincide.
    if paper.drop_duplicates([*keys, "value"]).duplicated(keys).any():
        lacking = [n for n in paper.columns if n not in keys and n not in _NOT_KEYS]
        raise ValueError(f"ours lacks a key that tells the paper's rows apart, of {lacking}")
    if "unit" in ours.columns and "unit" in paper.columns:
        wanted = paper.groupby("column")["unit"].first()
        for metric, unit in zip(ours["column"], ours["unit"], strict=True):
            if pd.isna(unit) or metric not in wanted.index or pd.isna(wanted[metric]):
                continue
            if unit != wanted[metric]:
                raise ValueError(f"{metric} is in {unit} on our side, in {wanted[metric]} there")


def _within(both: pd.DataFrame, tolerance: Mapping[str, float | str]) -> pd.Series:
    verdict = pd.Series(pd.NA, index=both.index, dtype="boolean")
    for metric, rows in both[both["difference"].notna()].groupby("column", sort=False):
        if metric not in tolerance:
            raise ValueError(f"no tolerance for {metric}: name one, as a number or as '5%'")
        allowed = tolerance[metric]
        if isinstance(allowed, str):
            if not allowed.endswith("%"):
                raise ValueError(f"tolerance {allowed!r} of {metric}: write a number or '5%'")
            allowed = float(allowed[:-1]) / 100 * rows["paper"].abs()
        # 24.35 - 24.24 exceeds 0.11 in binary: a deviation on the limit counts as inside.
        slack = 1e-9 * rows["paper"].abs()
        verdict[rows.index] = rows["difference"].abs() <= allowed + slack
    return verdict


def _spell(allowed: float | str) -> str:
    return allowed if isinstance(allowed, str) else f"{allowed:g}"


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


def annotate(comparison: pd.DataFrame, profile: str) -> pd.DataFrame:
    """A result of compare with a ``note`` where a model is not trained or not measured."""
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
