"""Ours beside the published numbers: compared, judged by a tolerance, and put in words."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from cirlib import checkpoints
from cirlib.measure.metrics import METRICS
from cirlib.report.figures import MODEL_LABELS

_NOT_KEYS = ("value", "unit", "place", "quote", "note")


def compare(
    paper: pd.DataFrame, ours: pd.DataFrame, tolerance: Mapping[str, float | str]
) -> pd.DataFrame:
    """Set our numbers beside the paper's, one metric of one model a row.

    Both frames are in long form with ``column``, ``value`` and the keys that tell the paper's rows
    apart. ``tolerance`` names the deviation allowed for each metric: a number is absolute, in the
    metric's unit, and a string such as ``"5%"`` is relative to the paper's number.

    Returns the keys, ``unit``, ``paper``, ``ours``, ``difference`` (ours - paper), ``tolerance``
    and ``within tolerance`` (boolean, NA where one side is missing). All rows of the paper are
    kept, in its order: what we have not measured has a missing ``ours``. Rows of ours that the
    paper lacks follow, so that a misspelt key shows.

    Raises ValueError if keys are lacking or rows of ours are repeated, or if ``tolerance`` lacks a
    metric that both sides have.
    """
    all_keys = [name for name in paper.columns if name not in _NOT_KEYS]
    keys = [name for name in all_keys if name in ours.columns]
    # Table 4 prints one model twice; without a needed key, different numbers would coincide.
    if paper.drop_duplicates([*keys, "value"]).duplicated(keys).any():
        lacking = [name for name in all_keys if name not in keys]
        raise ValueError(f"ours lacks a key that tells the paper's rows apart, of {lacking}")
    left = paper.rename(columns={"value": "paper"}).assign(place=range(len(paper)))
    right = ours[[*keys, "value"]].rename(columns={"value": "ours"}).assign(after=range(len(ours)))
    for key in keys:  # integer, float and nullable keys of either side must meet
        if pd.api.types.is_numeric_dtype(left[key]):
            left[key] = left[key].astype("Float64")
            right[key] = right[key].astype("Float64")
    both = left.merge(right, on=keys, how="outer", validate="many_to_one")
    both = both.sort_values(["place", "after"], ignore_index=True)
    dtypes = {key: paper[key].dtype for key in all_keys}
    both = both.astype(dtypes | dict.fromkeys(("paper", "ours"), "float64"))
    units = paper.drop_duplicates("column").set_index("column")["unit"]
    both["unit"] = both["unit"].fillna(both["column"].map(units))
    both["difference"] = both["ours"] - both["paper"]
    both["tolerance"] = both["column"].map(
        {m: t if isinstance(t, str) else f"{t:g}" for m, t in tolerance.items()}
    )
    both["within tolerance"] = _within(both, tolerance)
    outcome = ["unit", "paper", "ours", "difference", "tolerance", "within tolerance"]
    return both[all_keys + outcome]


def verdict(
    claim: str, numbers: Sequence[float], holds: bool | None, decimals: int = 1, form: str = ""
) -> dict[str, str]:
    """A row of a table of claims: the paper's conclusion, our numbers, and whether it holds.

    holds: None is "undecided". A missing number, or none, makes it "not measured".
    form: of the numbers, as "{} against {}"; by default they stand in a row. An interval at its
    end, "{} to {}", is left out where it has no width: of a single photo.
    """
    known = len(numbers) and not any(pd.isna(number) for number in numbers)
    if known and form.endswith(" to {}") and numbers[-1] == numbers[-2]:
        form = form.removesuffix(" to {}") + " (one photo: no interval)"
    word = "undecided" if holds is None else "yes" if holds else "no"
    told = [f"{number:.{decimals}f}" for number in numbers if pd.notna(number)]
    return {"the paper's conclusion": claim,
            "our numbers": form.format(*told) if known and form else ", ".join(told),
            "holds": word if known else "not measured"}  # fmt: skip


def _within(both: pd.DataFrame, tolerance: Mapping[str, float | str]) -> pd.Series:
    verdict = pd.Series(pd.NA, index=both.index, dtype="boolean")
    for metric, rows in both[both["difference"].notna()].groupby("column", sort=False):
        if metric not in tolerance:
            raise ValueError(f"no tolerance for {metric}: name one, as a number or as '5%'")
        allowed = tolerance[metric]
        if isinstance(allowed, str):
            allowed = float(allowed.removesuffix("%")) / 100 * rows["paper"].abs()
        # 24.35 - 24.24 exceeds 0.11 in binary: a deviation on the limit counts as inside.
        slack = 1e-9 * rows["paper"].abs()
        verdict[rows.index] = rows["difference"].abs() <= allowed + slack
    return verdict


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
        better = METRICS.get(row["column"])
        if better is not None:
            direction += " (better than)" if better == (row["difference"] > 0) else " (worse than)"
        off = f"{abs(row['difference']):.2g}{' points' if unit == ' %' else unit}"
        sentences.append(
            f"{MODEL_LABELS[row['method']]}, {METRIC_LABELS[row['column']]}{where}: "
            f"{row['ours']:.4g}{unit}, {off} {direction} the paper's {row['paper']:.4g}{unit}."
        )
    return sentences
