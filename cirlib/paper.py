"""The published numbers (Tables 1 to 4 and what the text claims), and ours beside them.

They live in ``data/paper/*.csv`` and nowhere else; the README there explains the columns and lists
where the paper contradicts itself. A number is one row: ``method`` (a model's name in our code),
``column`` (the metric), further keys such as ``resolution`` or ``effects``, ``value`` and ``unit``.
"""

from collections.abc import Mapping, Sequence
from decimal import Decimal

import pandas as pd

from cirlib import paths
from cirlib.files import UserError

TABLES = ("table1", "table2", "table3", "table4", "claims")

_INTEGERS = ("experiment", "effects", "shared_layers")
_FLOATS = ("lambda1", "lambda2", "value")
_NOT_KEYS = ("value", "unit", "place", "quote", "note")


def table(name: str) -> pd.DataFrame:
    """Return a published table in long form, one number a row, in the paper's order.

    Keys that do not apply to a row are missing (NA), as a PSNR's number of effects in Table 3.

    Raises UserError if ``name`` is none of ``TABLES`` or the file is not there.
    """
    if name not in TABLES:
        raise UserError(f"the paper has no table {name!r}: choose one of {', '.join(TABLES)}")
    path = paths.PAPER / f"{name}.csv"
    if not path.exists():
        raise UserError(f"{path} is missing: run from a clone of the repository")
    # Only an empty cell is missing: pandas would also take the words "None" and "NA" for it.
    frame = pd.read_csv(path, dtype="str", keep_default_na=False, na_values=[""])
    for column in frame.columns:
        if column in _INTEGERS:
            frame[column] = frame[column].astype("Int64")
        elif column in _FLOATS:
            frame[column] = frame[column].astype("float64")
    return frame


def value(source: str | pd.DataFrame, /, **keys) -> float:
    """Return the one number of ``source`` (a table or its name) that matches all ``keys``.

    ``value("table1", method="tsnet", column="flops", resolution="4K")`` is in the row's unit. A
    key that is None matches rows where that key is missing. Every column can be a key: where the
    text repeats a claim, ``place`` picks one ("Abstract", "Section 4.1").

    Raises LookupError if no row or more than one matches, or a key is not a column.
    """
    frame = table(source) if isinstance(source, str) else source
    asked = ", ".join(f"{key}={wanted!r}" for key, wanted in keys.items())
    match = pd.Series(True, index=frame.index)
    for key, wanted in keys.items():
        if key not in frame.columns:
            raise LookupError(f"{key!r} is none of the columns {list(frame.columns)}")
        same = frame[key].isna() if wanted is None else frame[key] == wanted
        match &= same.fillna(False).astype(bool)
    rows = frame[match]
    if len(rows) != 1:
        hint = f": {'; '.join(rows['place'].head(3))}" if len(rows) and "place" in rows else ""
        raise LookupError(f"{len(rows)} numbers, not one, with {asked or 'no key'}{hint}")
    return float(rows["value"].iloc[0])


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


def to_markdown(frame: pd.DataFrame) -> str:
    """Return ``frame`` as a markdown table; the index is left out.

    A result of :func:`compare` is written with as many decimals as the paper gives a metric, and
    with words where a side is missing. Other numbers get four significant digits or more.
    """
    frame = frame.reset_index(drop=True)
    text = pd.DataFrame({name: _spell_all(frame[name]) for name in frame.columns})
    types = pd.api.types
    numeric = {
        name
        for name in frame
        if types.is_numeric_dtype(frame[name].dtype) and not types.is_bool_dtype(frame[name].dtype)
    }
    if {"column", "paper", "ours", "difference"} <= set(frame.columns):
        for _, rows in frame.groupby("column", sort=False):
            decimals = _decimals(rows["paper"] if rows["paper"].notna().any() else rows["ours"])
            for name, missing in (("paper", "not published"), ("ours", "not measured")):
                text.loc[rows.index, name] = [_number(x, decimals, missing) for x in rows[name]]
            text.loc[rows.index, "difference"] = [
                "" if pd.isna(x) else _number(x, decimals, sign="+") for x in rows["difference"]
            ]
    align = ["right" if name in numeric else "left" for name in frame.columns]
    return text.to_markdown(index=False, disable_numparse=True, colalign=align)


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


def _spell_all(column: pd.Series) -> list[str]:
    if pd.api.types.is_bool_dtype(column.dtype):
        return ["" if pd.isna(x) else "yes" if x else "no" for x in column]
    if pd.api.types.is_float_dtype(column.dtype):
        decimals = _decimals([float(f"{x:.4g}") for x in column.dropna()])
        return [_number(x, decimals) for x in column]
    return ["" if pd.isna(x) else str(x) for x in column]


def _decimals(numbers) -> int | None:
    """Return how many decimals the most precise of ``numbers`` has; None for tiny ones."""
    exact = [Decimal(repr(float(x))).normalize() for x in numbers if pd.notna(x)]
    places = max((-x.as_tuple().exponent for x in exact if x.is_finite()), default=0)
    return None if places > 6 else max(places, 0)


def _number(x: float, decimals: int | None, missing: str = "", sign: str = "") -> str:
    if pd.isna(x):
        return missing
    if decimals is None:
        return f"{x:{sign}g}"
    # A small network's 0.03 GFLOPs must not read 0.0 because the paper's are whole tenths.
    if not sign and 0 < abs(x) < 10 ** (1 - decimals):
        return f"{x:.2g}"
    return f"{x:{sign}z.{decimals}f}"
