"""Every table and figure of the article, the paper's numbers and ours: made from what is committed.

    python -m cirlib.report.index    writes figures/index.md, and the status table of README.md

Nothing here is typed in: our numbers come from ``data/results/<profile>/*.csv`` and the cards of
the trained networks, theirs from ``data/paper/*.csv``. What is not there is "not yet".
"""

import os
import sys
from pathlib import Path
from typing import NamedTuple

from cirlib import checkpoints
from cirlib.base import paths, provenance
from cirlib.base.files import UserError, atomic
from cirlib.data import paper
from cirlib.measure.ablations import FIGURE7, TABLES_3_4
from cirlib.profiles import MODELS
from cirlib.report.catalogue import ITEMS, Item
from cirlib.report.lines import NOT_YET, TABLE1, Line, training

PROFILES = ("paper", "compact")  # of an item's results those of the first that has them are shown
MARKERS = "<!-- status: `make index` writes it -->", "<!-- end of status -->"
SUFFIXES = (".md", ".webp", ".jpg", ".png")  # of what a browser shows


# What is read from each result


class Found(NamedTuple):
    """What there is of an item."""

    item: Item
    profile: str | None  # None: nothing is there
    lines: list[Line]
    facts: dict  # provenance of its CSV, without one of its first picture
    pictures: list[Path]


def look(item: Item) -> Found:
    """The results of an item, in the first of PROFILES that has some."""
    for profile in PROFILES:
        folder = paths.FIGURES / profile
        files = (folder / f"{name}{suffix}" for name in item.pictures for suffix in SUFFIXES)
        pictures = [path for path in files if path.exists()]
        path = paths.RESULTS / profile / f"{item.csv}.csv"
        models = tuple(m for m in item.models if m in checkpoints.available(profile))
        if item.csv and path.exists():
            frame, facts = provenance.load_csv(path), provenance.load_facts(path)
            if "date" in frame:  # rows of several runs
                facts |= {"first": frame["date"].min(), "date": frame["date"].max()}
            return Found(item, profile, item.lines(profile, frame), facts, pictures)
        if models:
            card = checkpoints.load_card(models[0], profile)
            facts = {"date": card["date"]}
            return Found(item, profile, training(profile, models), facts, pictures)
        if pictures and not item.csv and not item.models:
            return Found(item, profile, [], provenance.load_facts(pictures[0]), pictures)
    return Found(item, None, [], {}, [])


def _about(found: Found) -> str:
    """Profile, protocol and day of the results of an item, and whether other networks made them."""
    weights = found.facts.get("weights")
    former = ""
    if weights and all(weights != checkpoints.fingerprint(found.profile, models)
                       for models in (MODELS, FIGURE7, TABLES_3_4)):  # fmt: skip
        former = "**of networks that have been replaced**"
    parts = [f"`{found.profile}`", provenance.protocol(found.facts), _day(found.facts), former]
    return ", ".join(part for part in parts if part)


def _day(facts: dict) -> str:
    last = str(facts.get("date", ""))[:10]
    first = str(facts.get("first", last))[:10]
    return last if first == last else f"{first} to {last}"


def _options(item: Item, facts: dict) -> str:
    """What makes the batch measure as much as is shown: by itself it measures less."""
    if item.csv == "latency":
        sizes = ("{}x{}".format(*paper.image_sizes()[name]) for name in TABLE1)
        return f" --config latency_sizes={','.join(sizes)}"
    if "photos" not in facts or item.csv == "table2_whole":  # no batch measures whole photographs
        return ""
    told = {"images": facts["data"], "limit": facts["photos"]}
    if item.csv != "suggest":  # its crop is not the batch's
        told["crop"] = facts.get("crop") or 0
    return " --config " + " ".join(f"{key}={value}" for key, value in told.items())


def _markdown(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def status() -> str:
    """The README's table: a row an item, what is reproduced of it in a sentence."""
    rows = []
    for found in map(look, ITEMS):
        item = found.item
        told = [line for line in found.lines if line.headline and line.ours != NOT_YET]
        text = NOT_YET
        if found.profile:
            text = "; ".join(
                f"{line.quantity} **{line.ours}**"
                + ("" if line.paper in ("drawn", "shown", "none") else f" (paper {line.paper})")
                for line in told
            )
            text = f"{text or 'drawn'} ({_about(found)})"
        rows.append([f"{item.name}: {item.title}", f"`{item.notebook}`", text])
    return _markdown(["paper", "notebook", "ours"], rows)


def index() -> str:
    """figures/index.md: a row a number, and the files and the command of every item."""
    parts = [
        "# Every table and figure, the paper's numbers and ours",
        "Written by `make index`, from `data/results/` and `data/paper/`. A command, after `source "
        ".venv/bin/activate`, measures or draws one item anew, of the shipped networks; `make "
        "reproduce` does so for all, some with fewer photographs or sizes. To train the networks "
        "anew, too, those of the ablations included: `make data`, `export CIRLIB_OUTPUT=folder` "
        "(the shipped ones stay as they are, and the commands write there), `python -m cirlib "
        "train --model all --profile compact --images bsd432`. The shipped ones have also seen ten "
        "photographs of CLIC 2025, and some have had fewer steps: "
        "`data/checkpoints/compact/*.json` says how many. Figures 2 and 3 of "
        "the article are drawings of the method: `cirlib/networks.py` and `cirlib/search.py` are "
        "that method, and are not drawn again. *drawn*, *shown*: the paper has a picture and no "
        "number; *none*: neither. Brackets are 95% intervals over photographs.",
    ]
    for found in map(look, ITEMS):
        item = found.item
        parts.append(f"## {item.name}: {item.title}")
        if not found.profile:
            parts.append(f"Not yet. Notebook `{item.notebook}`.")
            continue
        made = [f"figures/{found.profile}/{path.name}" for path in found.pictures]
        made += [f"data/results/{found.profile}/{item.csv}.csv"] if item.csv else []
        options = _options(item, found.facts)
        command = f"`snakemake --cores all --force {made[0]}{options}`" if made else ""
        about = [f"profile {_about(found)}", f"notebook `{item.notebook}`", command]
        parts.append(", ".join(part for part in about if part) + ".")
        if found.lines:
            rows = [[line.quantity, line.paper, line.ours] for line in found.lines]
            parts.append(_markdown(["quantity", "paper", "ours"], rows))
        csv = [paths.RESULTS / found.profile / f"{item.csv}.csv"] if item.csv else []
        links = [f"[{path.name}]({Path(os.path.relpath(path, paths.FIGURES)).as_posix()})"
                 for path in (*found.pictures, *csv)]  # fmt: skip
        parts += [f"Files: {', '.join(links)}."] if links else []
    return "\n\n".join(parts) + "\n"


def with_status(readme: str) -> str:
    """A README with the table between its markers made anew. Raises UserError without them."""
    begin, end = MARKERS
    if readme.count(begin) != 1 or readme.count(end) != 1:
        raise UserError(f"README.md must have one line {begin} and one line {end}: put them back")
    head, _, rest = readme.partition(begin)
    _, _, tail = rest.partition(end)
    return f"{head}{begin}\n\n{status()}\n\n{end}{tail}"


def write() -> list[Path]:
    """Write figures/index.md, and where results go to the repository its README; the paths."""
    written = {paths.FIGURES / "index.md": index()}
    if paths.OUTPUT == paths.ROOT:
        readme = paths.ROOT / "README.md"
        written[readme] = with_status(readme.read_text(encoding="utf-8"))
    for path, text in written.items():
        with atomic(path) as temporary:
            temporary.write_text(text, encoding="utf-8", newline="\n")
    return list(written)


if __name__ == "__main__":
    try:
        for path in write():
            print(f"written: {path}", file=sys.stderr)
    except UserError as error:
        sys.exit(f"error: {error}")
