"""Every table and figure of the article, the paper's numbers and ours: made from what is committed.

    python -m cirlib.report.index    writes figures/index.md

Nothing here is typed in: our numbers come from ``data/results/<profile>/*.csv``, the tables that
the notebooks have written, and the cards of the trained networks, theirs from ``data/paper/*.csv``.
"""

import os
import sys
from pathlib import Path

from cirlib import checkpoints
from cirlib.base import paths, provenance
from cirlib.base.files import UserError, atomic, say
from cirlib.measure.ablations import FIGURE7, TABLES_3_4
from cirlib.profiles import MODELS
from cirlib.report.catalogue import ITEMS, Headline, Item, outputs, size

SHOWN_FIRST = ("paper", "full", "compact")  # the first that has results of an item is shown
SHOWN = 19  # lines of a table that the index embeds, 15 rows of it; longer ones are linked

HEAD = """# Every table and figure, the paper's numbers and ours

Written by `make index` from `data/results/`, the tables beside this file and `data/paper/`. A
command, after `source .venv/bin/activate`, measures or draws one item anew, of the shipped
networks, below `data/mine/`; `make reproduce` does so for all, with fewer photographs and sizes.
[Departures](departures.md): what we do otherwise than the paper. *drawn*, *shown*: the paper has a
picture and no number. Brackets are 95% intervals over photographs, or the paper's numbers where a
heading says so. Figures 2 to 4 of the article are drawings of the method; ours are made by code.

To train the networks anew, those of the ablations included: `make data`, then `python -m cirlib
train --model all --profile compact --images bsd432`. The shipped ones of `compact` have also seen
ten photographs of CLIC 2025, those of `full` 247 more. Some have had fewer or further steps: the
cards in `data/checkpoints/` say how many."""


def first_results(item: Item) -> tuple[str | None, list[Path]]:
    """The first profile that has results of an item, and their files; None and [] without."""
    for profile in SHOWN_FIRST:
        there = checkpoints.available(profile)
        files = [path for path in outputs(item, profile, there, True) if path.exists()]
        complete = item.headline is None or item.trains or any(f.suffix == ".csv" for f in files)
        if files and complete:
            return profile, files
    return None, []


def headlines(item: Item, profile: str | None) -> list[Headline]:
    """The numbers of an item that are worth a line, the paper's beside ours."""
    if profile is None or item.headline is None:
        return []
    return item.headline(profile, paths.SHIPPED_RESULTS / profile)


def _about(profile: str, files: list[Path]) -> str:
    """Profile, protocol and day of the results of an item, and whether other networks made them."""
    facts = provenance.load_facts(next((f for f in files if f.suffix == ".csv"), files[0]))
    weights, known = facts.get("weights"), (MODELS, FIGURE7, TABLES_3_4)
    replaced = weights and weights not in (
        checkpoints.weights_fingerprint(profile, m) for m in known
    )
    parts = [f"`{profile}`", provenance.protocol(facts), str(facts.get("date", ""))[:10],
             "**of networks that have been replaced**" if replaced else ""]  # fmt: skip
    return ", ".join(part for part in parts if part)


def _command(item: Item, files: list[Path]) -> str:
    """What makes an item anew, with as many photographs as are shown: the batch takes less."""
    if item.command:
        return item.command
    main = next((f for f in files if f.suffix == ".csv"), files[0])
    root = "results" if main.suffix == ".csv" else "figures"
    facts = provenance.load_facts(main)
    crop = "ablation_crop" if main.stem in ("figure7", "table3", "table4") else "crop"
    told = {"images": facts["data"], "limit": facts["photos"], crop: facts.get("crop") or 0} if (
        "photos" in facts and main.suffix == ".csv") else {}  # fmt: skip
    if main.name == "latency.csv":
        rows = provenance.load_csv(main).query("architecture == 'published'")
        told = {"latency_sizes": ",".join(dict.fromkeys(rows["size"])),
                "runs": int(rows["runs"].max()), "rounds": int(rows["rounds"].max())}  # fmt: skip
    if main.parent.name != size(item.notebook, "compact"):  # else the batch makes it, untold
        told = {"profile": main.parent.name} | told
    options = "".join(f" {key}={value}" for key, value in told.items())
    return (f"snakemake --cores all --force {root}/{main.parent.name}/{main.name}"
            + (f" --config{options}" if options else ""))  # fmt: skip


def _code(item: Item) -> str:
    """Where the functions are that make an item: `cirlib/report/cost.py` (`draw_figure5`)."""
    places = (name.rpartition(".") for name in item.code.split())
    return ", ".join(f"`cirlib/{module.replace('.', '/')}.py` (`{function}`)"
                     for module, _, function in places)  # fmt: skip


def _link(file: Path) -> str:
    """To a file, and to the PDF of a figure."""
    place = Path(os.path.relpath(file, paths.SHIPPED_FIGURES))
    link = f"[{file.name}]({place.as_posix()})"
    if not file.with_suffix(".pdf").exists():
        return link
    return f"{link} ([PDF]({place.with_suffix('.pdf').as_posix()}))"


def index() -> str:
    """figures/index.md: of every item its headline, its tables, its files and its command."""
    parts = [HEAD]
    for item in ITEMS:
        profile, files = first_results(item)
        parts.append(f"## {item.name}: {item.title}")
        if profile is None:
            parts.append(f"Not yet. Notebook `{item.notebook}`.")
            continue
        parts.append(f"profile {_about(profile, files)}, notebook `{item.notebook}`, code "
                     f"{_code(item)}: `{_command(item, files)}`.")  # fmt: skip
        lines = headlines(item, profile)
        if lines:
            rows = [f"| {x.quantity} | {x.paper or 'none'} | {x.ours} |" for x in lines]
            parts.append("\n".join(["| headline | paper | ours |", "| --- | --- | --- |", *rows]))
        for file in files:
            text = file.read_text(encoding="utf-8") if file.suffix == ".md" else ""
            if 0 < len(text.splitlines()) <= SHOWN:
                parts.append(text.rstrip())
        parts.append(f"Files: {', '.join(map(_link, files))}.")
    return "\n\n".join(parts) + "\n"


def write() -> Path:
    """Write figures/index.md; returns its path."""
    path = paths.SHIPPED_FIGURES / "index.md"
    with atomic(path) as temporary:
        temporary.write_text(index(), encoding="utf-8", newline="\n")
    return path


if __name__ == "__main__":
    try:
        say(f"written: {write()}")
    except UserError as error:
        sys.exit(f"error: {error}")
