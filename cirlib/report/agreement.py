"""The agreement: each committed number beside the one just measured by the same protocol.

    python -m cirlib.report.agreement PROFILE    the verdict, on the terminal and in agreement.md

How far two runs may differ is stated beside the committed numbers, as ``tolerance`` in the JSON
file of a CSV: by column, or by what the rows of a column ``value`` are of. 0 is for what is
counted, a number for scores, which other processors round otherwise, and "x 1.5" for ratios of
times. Columns before the first of these tell rows apart. Ends with 1 if a number is not reached.
"""

import math
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pandas as pd

from cirlib.base import paths
from cirlib.base.files import UserError, atomic
from cirlib.base.provenance import load_csv, load_facts, pixels, protocol
from cirlib.profiles import get_profile
from cirlib.report.catalogue import batch_files
from cirlib.report.tables import to_markdown

# What must be alike for numbers to be alike; latencies have size, threads and device in each row.
PROTOCOL = ("data", "photos", "fingerprint", "crop", "seed", "dtype", "size")
AGREES, DIFFERS, UNMEASURED = "agrees", "differs", "not measured here"


def agreement(profile: str) -> pd.DataFrame:
    """A row each committed number that has a tolerance, of what the batch of a profile measures.

    Columns: result (folder/name), protocol, number (what it is of), quantity, committed, mine,
    tolerance, off (the deviation, 1 is the tolerance) and verdict: "agrees", "differs", or why the
    two are not compared.
    """
    rows, measured = [], {path for *_, files in batch_files(profile) for path in files}
    for path in sorted(paths.SHIPPED_RESULTS.glob("*/*.csv")):
        facts = load_facts(path)
        own = paths.RESULTS / str(facts.get("profile")) / path.name
        if own not in measured or "tolerance" not in facts:
            continue
        reason = not_compared(facts, load_facts(own) if own.exists() else None)
        mine = {} if reason else dict(numbers(own, facts["tolerance"]))
        for (number, quantity), committed in numbers(path, facts["tolerance"]):
            row = {"result": f"{path.parent.name}/{path.stem}", "protocol": protocol(facts),
                   "number": number, "quantity": quantity, "committed": committed,
                   "mine": mine.get((number, quantity), math.nan),
                   "tolerance": str(facts["tolerance"][quantity])}  # fmt: skip
            row["off"] = off(committed, row["mine"], facts["tolerance"][quantity])
            known = DIFFERS if row["off"] > 1 else AGREES
            row["verdict"] = reason or (UNMEASURED if math.isnan(row["off"]) else known)
            rows.append(row)
    columns = ["result", "protocol", "number", "quantity", "committed", "mine", "tolerance", "off",
               "verdict"]  # fmt: skip
    return pd.DataFrame(rows, columns=columns)


def not_compared(committed: Mapping, mine: Mapping | None) -> str:
    """Why numbers with these facts are not compared; empty if they are."""
    if mine is None:
        return UNMEASURED
    if committed.get("weights") != mine.get("weights"):
        return "other networks, not compared"
    if all(committed.get(key) == mine.get(key) for key in PROTOCOL):
        return ""
    gain = pixels(mine) - pixels(committed)
    kind = "other photographs" if gain == 0 else "larger run" if gain > 0 else "smaller run"
    return f"{kind}, not compared"


def numbers(path: Path, tolerance: Mapping) -> Iterator[tuple[tuple[str, str], float]]:
    """The numbers of a CSV that have a tolerance: ((what it is of, quantity), value)."""
    frame = load_csv(path)
    columns = [name for name in frame if name in tolerance] or ["value"]
    keys = list(frame)[: list(frame).index(columns[0])]
    for row in frame.to_dict("records"):
        told = [str(row[key]) for key in keys if not pd.isna(row[key])]
        for column in columns:
            quantity = next((word for word in (column, *told) if word in tolerance), None)
            if quantity and not pd.isna(row[column]):
                yield (", ".join(told), quantity), float(row[column])


def off(committed: float, mine: float, tolerance: float | str) -> float:
    """The deviation in units of the tolerance; of an exact number 0 or infinite."""
    if math.isnan(mine):
        return math.nan
    if isinstance(tolerance, str):  # "x 1.5"
        return abs(math.log(mine / committed)) / math.log(float(tolerance.removeprefix("x")))
    if tolerance:
        return abs(mine - committed) / tolerance
    return 0 if math.isclose(mine, committed, rel_tol=1e-8) else math.inf


def summary(found: pd.DataFrame) -> pd.DataFrame:
    """A row each result and quantity: the number that is furthest off, and how many agree."""
    columns = ("result", "protocol", "quantity", "numbers", "committed", "mine", "tolerance",
               "verdict")  # fmt: skip
    compared = found["verdict"].isin((AGREES, DIFFERS))
    found = found.assign(why=found["verdict"].mask(compared, ""),
                         quantity=found["quantity"].where(compared, ""))  # fmt: skip
    rows = []
    for (result, told, quantity, why), here in found.sort_values(
        "why", key=lambda why: why != "", kind="stable"
    ).groupby(["result", "protocol", "quantity", "why"], sort=False):
        row = dict.fromkeys(columns, "") | {
            "result": result, "protocol": told, "quantity": quantity,
            "numbers": str(len(here)), "verdict": why or AGREES,
        }  # fmt: skip
        if not why:
            worst, bad = here.loc[here["off"].idxmax()], (here["verdict"] == DIFFERS).sum()
            row |= {key: f"{worst[key]:.6g}" for key in ("committed", "mine")}
            row |= {"tolerance": worst["tolerance"]}
            row |= {"verdict": f"{bad} of {len(here)} differ"} if bad else {}
        rows.append(row)
    return pd.DataFrame(rows, columns=columns)


def report(profile: str) -> bool:
    """Print the agreement of a profile and write agreement.md and .csv; whether nothing differs."""
    get_profile(profile)
    found = agreement(profile)
    counts = found["verdict"].value_counts()
    differing = found[found["verdict"] == DIFFERS].drop(columns=["off", "protocol"])
    text = f"Of profile {profile} nothing is committed that could be compared."
    if len(found):
        text = to_markdown(summary(found)) + (
            f"\n\n{counts.get(AGREES, 0)} numbers agree with what is committed, {len(differing)} "
            f"differ; {len(found) - counts.get(AGREES, 0) - len(differing)} are not compared. Of "
            "each quantity the number that is furthest off is shown."
        )
    if len(differing):
        text += f"\n\nWhat differs:\n\n{to_markdown(differing)}"
    place = paths.OUTPUT / "agreement.md"
    with atomic(place) as temporary:
        temporary.write_text(f"# The agreement\n\n{text}\n", encoding="utf-8", newline="\n")
    with atomic(place.with_suffix(".csv")) as temporary:
        found.to_csv(temporary, index=False, float_format="%.9g", lineterminator="\n")
    print(f"{text}\n\nAlso in {place}; number by number in {place.with_suffix('.csv').name}")
    return not len(differing)


if __name__ == "__main__":
    try:
        sys.exit(not report(*(sys.argv[1:] or ["compact"])))
    except UserError as error:
        sys.exit(f"error: {error}")
