"""Tables as markdown, with where their numbers came from under them."""

import re
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path

import pandas as pd

from cirlib.base import paths
from cirlib.base.files import atomic
from cirlib.base.provenance import protocol
from cirlib.report.compare import METRIC_LABELS
from cirlib.report.figures import MODEL_LABELS

_FOR_PEOPLE = {"method": "model", "column": "quantity", "effects": "M"}  # of a comparison


def to_markdown(frame: pd.DataFrame) -> str:
    """Return ``frame`` as a markdown table; the index is left out, and a column ``note`` that is
    empty.

    A result of :func:`compare` is written with as many decimals as the paper gives a metric, and
    with words where a side is missing, and models and metrics by their names for people. Other
    numbers get four significant digits or more.
    """
    frame = frame.reset_index(drop=True)
    if "note" in frame and frame["note"].eq("").all():
        frame = frame.drop(columns="note")
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
        for name, labels in (("method", MODEL_LABELS), ("column", METRIC_LABELS)):
            if name in text:
                text[name] = [labels.get(x, x.replace("_", " ")) for x in text[name]]
        frame = frame.rename(columns=_FOR_PEOPLE)
        text.columns = frame.columns
        numeric = {_FOR_PEOPLE.get(name, name) for name in numeric}
    align = ["right" if name in numeric else "left" for name in frame.columns]
    return text.to_markdown(index=False, disable_numparse=True, colalign=align)


def save_table(
    frame: pd.DataFrame,
    name: str,
    profile: str,
    facts: Mapping[str, object],
    figures: Path | None = None,
) -> Path:
    """Save ``frame`` as the markdown table ``name``.md, with where it came from under it.

    ``facts`` is the provenance of the numbers, as base/provenance.py reads it from beside a CSV.
    ``figures``: the folder of all profiles, one's own by default.

    Returns the path. Raises UserError if it cannot be written.
    """
    path = (figures or paths.FIGURES) / profile / f"{name}.md"
    line = _provenance_line({"profile": profile, **facts})
    with atomic(path) as temporary:
        text = f"{to_markdown(frame)}\n\n*{line}*\n"
        temporary.write_text(text, "utf-8", "backslashreplace", newline="\n")  # see save_csv
    return path


def committed(name: str, profile: str) -> str:
    """The committed table ``name`` of a profile as markdown, its provenance first; "" without one.

    For the notebooks, where one's own run is smaller than the committed one.
    """
    path = paths.SHIPPED_FIGURES / profile / f"{name}.md"
    if not path.exists():
        return ""
    table, _, about = path.read_text(encoding="utf-8").partition("\n\n*")
    about = re.sub(r"(\d{4}-\d\d-\d\d)T[\d:+]+", r"\1", about.strip().strip("*"))  # the day alone
    return f"The committed `{name}` ({about}):\n\n{table}"


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


def _provenance_line(facts: Mapping[str, object]) -> str:
    told = {**facts, "data": protocol(facts)} if "photos" in facts else facts
    shown = [f"{name} {told[name]}" for name in ("profile", "seed", "data") if name in told]
    if "commit" in facts:
        commit, dash, dirty = str(facts["commit"]).partition("-")
        shown.append(f"commit {commit[:10]}{dash}{dirty}")
    shown += [str(facts["date"])] if "date" in facts else []
    shown += [f"torch {facts['torch']}"] if "torch" in facts else []
    if "device" in facts:
        threads = f", {facts['threads']} threads" if "threads" in facts else ""
        shown.append(f"{facts['device']}{threads}")
    return "; ".join(shown)
