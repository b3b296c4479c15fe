"""The published numbers: Tables 1 to 4, what the text claims, and what others have reached.

They live in ``data/paper/*.csv`` and nowhere else; the README there explains the columns and lists
where the paper contradicts itself. A number is one row: ``method`` (a model's name in our code),
``column`` (the metric), further keys such as ``resolution`` or ``effects``, ``value`` and ``unit``.
"""

from functools import cache
from pathlib import Path

import pandas as pd

from cirlib.base import paths
from cirlib.base.files import UserError
from cirlib.data.images import Size

TABLES = ("table1", "table2", "table3", "table4", "claims", "others")
_INTEGERS = ("experiment", "effects", "shared_layers")
_FLOATS = ("lambda1", "lambda2", "value")


def table(name: str) -> pd.DataFrame:
    """Return a published table in long form, one number a row, in the paper's order.

    Keys that do not apply to a row are missing (NA), as a PSNR's number of effects in Table 3.

    Raises UserError if ``name`` is none of ``TABLES`` or the file is not there.
    """
    if name not in TABLES:
        raise UserError(f"the paper has no table {name!r}: choose one of {', '.join(TABLES)}")
    return _read(paths.PAPER / f"{name}.csv").copy()


@cache
def _read(path: Path) -> pd.DataFrame:
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


def image_sizes() -> dict[str, Size]:
    """The paper's resolutions. It names no pixels for 2K: its FLOPs fit 2048 x 1080 alone."""

    def size(name: str) -> Size:
        width, height = (
            int(value("claims", column=side, resolution=name)) for side in ("width", "height")
        )
        return width, height

    return {"HD": size("HD"), "2K": (2048, 1080), "4K": size("4K"), "HVGA": size("HVGA")}
