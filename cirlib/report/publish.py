"""The one way in which what was measured becomes what is committed.

    python -m cirlib.report.publish PROFILE

Copies one's own results, figures and networks to data/results, figures and data/checkpoints where
they come from as large a run as what stands there, or a larger one. Results of fewer photographs
go to ``<profile>-<data>``: what a quick run shall agree with. Then figures/index.md is made anew.
"""

import shutil
import sys
from pathlib import Path

import pandas as pd

from cirlib import checkpoints
from cirlib.base import paths
from cirlib.base.files import UserError, atomic
from cirlib.base.provenance import load_csv, load_facts, pixels, protocol, save_csv
from cirlib.data.datasets import EMBEDDED, FOLDERS
from cirlib.data.paper import image_sizes
from cirlib.profiles import ABLATIONS, MODELS, get_profile
from cirlib.report import index, latency, tables
from cirlib.report.catalogue import Item, batch_files, beside

RACE = ["architecture", "size", "threads", "effects", "device"]  # rows that were timed together
CUT = ["architecture", "size", "effects", "model", "gflops_per_effect"]  # alike: as many channels


def publish(profile: str) -> list[str]:
    """Copy what is to be copied; a line for each file or network, with what it replaces.

    Raises UserError, before anything is copied, for the profile smoke and for results that code
    has made which is not committed.
    """
    if get_profile(profile).name == "smoke":
        raise UserError("networks of the profile smoke are made anew by everybody: publish others")
    networks = _networks(profile)
    found = [(item, own, [path for path in files if path.exists()])
             for item, own, files in batch_files(profile)]  # fmt: skip
    _check_commits([file for *_, files in found for file in files] + networks)
    told = [line for item, own, files in found for line in _publish(item, own, files)]
    for weights in networks:
        for file in checkpoints.files(weights.stem, profile).values():
            _copy(file, paths.SHIPPED / profile / file.name)
        told.append(f"network {weights.stem} of {profile}")
    return told


def _networks(profile: str) -> list[Path]:
    """The weights' files of one's own networks that have had as many steps as the shipped ones."""
    found = []
    for model in MODELS | ABLATIONS:
        own, shipped = (checkpoints.files(model, profile, folder)
                        for folder in (paths.CHECKPOINTS, paths.SHIPPED))  # fmt: skip
        steps = [load_facts(place["card"]).get("steps_done", 0) for place in (own, shipped)]
        if own["weights"].exists() and steps[0] >= steps[1]:
            found.append(own["weights"])
    return found


def _check_commits(files: list[Path]) -> None:
    for file in files:
        commit = str(load_facts(file).get("commit", ""))
        if commit == "unknown" or commit.endswith("-dirty"):
            raise UserError(f"{file} was made by code that is not committed ({commit}): commit "
                            "the code, and measure again")  # fmt: skip


def _publish(item: Item, profile: str, files: list[Path]) -> list[str]:
    """Copy the files of an item; a table goes with the CSV of its name, or with the first one."""
    told, tables_of = [], {file.stem: file for file in files if file.suffix == ".csv"}
    for file in files:
        first = tables_of.get(file.stem, next(iter(tables_of.values()), None))
        facts = load_facts(file if file.suffix != ".md" or first is None else first)
        root = paths.SHIPPED_RESULTS if file.suffix == ".csv" else paths.SHIPPED_FIGURES
        if file.name == "latency.csv":
            told += _merge_latencies(file, root / profile / file.name, profile)
            continue
        if file.name == "table1_latency.md":
            continue  # made of the rows of all machines
        same = first.name if file.suffix == ".md" and first else file.name
        folder = paths.SHIPPED_RESULTS if same.endswith(".csv") else root
        place = _folder(profile, facts, load_facts(folder / profile / same))
        if place is None or (place != profile and file.suffix != ".csv"):
            continue
        target = root / place / file.name
        before = protocol(load_facts(target)) if target.exists() else "nothing"
        for part in beside(file):
            _copy(part, target.with_name(part.name))
        told.append(f"{_short(target)} ({protocol(facts)}) replaces {before or 'as much'}")
    return told


def _folder(profile: str, mine: dict, there: dict) -> str | None:
    """Which folder results with these facts go to, if the other ones stand in the profile's."""
    data = mine.get("data", "")
    if "photos" in mine and not {*data.split("+")} <= {*EMBEDDED, *FOLDERS}:
        return None  # a folder of somebody's own
    if not there or (pixels(mine) >= pixels(there) and data == there.get("data", data)):
        return profile
    return f"{profile}-{data}" if "photos" in mine else None


def _merge_latencies(own: Path, target: Path, profile: str) -> list[str]:
    """Put races of this machine in the place of like ones; those of other machines stay.

    Races at other sizes than Table 1's are no news. Of networks that have been replaced those go
    whose FLOPs are no longer the same: a latency depends on the channels, not on the weights.
    """
    rows, facts = load_csv(own), load_facts(own)
    rows = rows[rows["size"].isin(f"{W}x{H}" for W, H in image_sizes().values())]
    if rows.empty:
        return []
    kept = load_csv(target) if target.exists() else rows[:0]
    if facts.get("weights") != load_facts(target).get("weights"):
        same = _among(kept, rows, CUT)
        kept = kept[[a or b for a, b in zip(kept["architecture"] != "trained", same, strict=True)]]
    stays = [not fresh for fresh in _among(kept, rows, RACE)]
    merged = pd.concat([rows, kept[stays]], ignore_index=True)
    save_csv(merged, target, facts)
    table = latency.table1(merged[merged["architecture"] == "published"])
    tables.save_table(table, "table1_latency", profile, facts, paths.SHIPPED_FIGURES)
    return [f"{_short(target)}: {len(rows)} rows replace {len(kept) - sum(stays)} of {len(kept)}"]


def _among(some: pd.DataFrame, others: pd.DataFrame, columns: list[str]) -> list[bool]:
    """For each of some rows whether one of the others has the same in these columns."""
    there = set(others[columns].itertuples(index=False, name=None))
    return [row in there for row in some[columns].itertuples(index=False, name=None)]


def _copy(file: Path, target: Path) -> None:
    with atomic(target) as temporary:
        shutil.copyfile(file, temporary)


def _short(path: Path) -> str:
    return str(path.relative_to(paths.ROOT)) if path.is_relative_to(paths.ROOT) else str(path)


if __name__ == "__main__":
    try:
        print("\n".join(publish(*(sys.argv[1:] or ["compact"]))))
        print(f"written: {_short(index.write())}")
    except UserError as error:
        sys.exit(f"error: {error}")
