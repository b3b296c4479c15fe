"""Every table and figure of the article, the paper's numbers and ours: made from what is committed.

    python -m cirlib.report.index    writes figures/index.md, and the status table of README.md

Nothing here is typed in: our numbers come from ``data/results/<profile>/*.csv``, the tables that
the notebooks have written, and the cards of the trained networks, theirs from ``data/paper/*.csv``.
"""

import os
import sys
from pathlib import Path

from cirlib import checkpoints
from cirlib.base import paths, provenance
from cirlib.base.files import UserError, atomic
from cirlib.measure.ablations import FIGURE7, TABLES_3_4
from cirlib.profiles import MODELS
from cirlib.report.catalogue import ITEMS, Headline, Item, outputs

PROFILES = ("paper", "full", "compact")  # the first that has results of an item is shown
MARKERS = "<!-- status: `make index` writes it -->", "<!-- end of status -->"
NOT_YET = "not yet"
SHOWN = 50  # lines of a table that the index embeds; longer ones are linked

HEAD = """# Every table and figure, the paper's numbers and ours

Written by `make index` from `data/results/`, the tables beside this file and `data/paper/`. A
command, after `source .venv/bin/activate`, measures or draws one item anew, of the shipped
networks, below `data/mine/`; `make reproduce` does so for all, with fewer photographs and sizes.
*drawn*, *shown*: the paper has a picture and no number. Brackets are 95% intervals over
photographs. Figures 2 and 3 of the article are drawings of the method, which is
`cirlib/networks.py` and `cirlib/search.py`, and are not drawn again.

To train the networks anew, those of the ablations included: `make data`, then `python -m cirlib
train --model all --profile compact --images bsd432`. The shipped ones have also seen ten
photographs of CLIC 2025, and some have had fewer steps: `data/checkpoints/compact/*.json` says how
many.

## Where the paper is silent, and where we depart from it

Where it is silent we chose. The tail of the network is the one whose FLOPs are the paper's (the
public CResMD code's is 9% larger, `tail="public"`). The global task scale has no bias, so that the
task (0, 0, 0) returns the photo unchanged. A shared layer uses the common gate forward and each
task's own backward, without which all layers become shared at once. At most 85% of the layers of
TA+TSNet become shared.

We depart from it in this. The search asks all 27 tasks at every step instead of those of the
mini-batch, remembers consent with alpha 0.05 instead of 0.9, and gives a shared layer up only below
one half (notebook 12). The rate of a searched model falls by a cosine, and TSNet has three quarters
of the lambda1 of the others. A block that becomes shared keeps the task scale of the middle task, as
a constant; the paper drops it, which our super network feels from the first block on (notebook 12
measures both). Searched models train on levels of none, half or full where the paper draws none or
full: its samplings never show 16 of the 27 tasks of the evaluation, and a network with gates of its
own for each has to meet them (notebook 11)."""


def committed(item: Item) -> tuple[str | None, list[Path]]:
    """The first of PROFILES that has results of an item, and their files; None and [] without."""
    for profile in PROFILES:
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
    replaced = weights and weights not in (checkpoints.fingerprint(profile, m) for m in known)
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
    told = {"images": facts["data"], "limit": facts["photos"], "crop": facts.get("crop") or 0} if (
        "photos" in facts and main.suffix == ".csv") else {}  # fmt: skip
    if main.name == "latency.csv":
        told = {"latency_sizes": ",".join(dict.fromkeys(
            provenance.load_csv(main).query("architecture == 'published'")["size"]))}  # fmt: skip
    options = "".join(f" {key}={value}" for key, value in told.items())
    return (f"snakemake --cores all --force {root}/{main.parent.name}/{main.name}"
            + (f" --config{options}" if options else ""))  # fmt: skip


def markdown(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def status() -> str:
    """The README's table: the paper's number beside ours, a row a headline, and its notebook."""
    rows = [
        [f"{item.name}: {line.quantity}", line.paper or "none", line.ours, f"`{item.notebook[:2]}`"]
        for item in ITEMS if not item.trains
        for line in headlines(item, committed(item)[0])
    ]  # fmt: skip
    return markdown(["", "paper", "ours", "notebook"], rows)


def index() -> str:
    """figures/index.md: of every item its headline, its tables, its files and its command."""
    parts = [HEAD]
    for item in ITEMS:
        profile, files = committed(item)
        parts.append(f"## {item.name}: {item.title}")
        if profile is None:
            parts.append(f"Not yet. Notebook `{item.notebook}`.")
            continue
        about = f"profile {_about(profile, files)}, notebook `{item.notebook}`"
        parts.append(f"{about}: `{_command(item, files)}`.")
        lines = headlines(item, profile)
        if lines:
            rows = [[line.quantity, line.paper or "none", line.ours] for line in lines]
            parts.append(markdown(["headline", "paper", "ours"], rows))
        for file in files:
            text = file.read_text(encoding="utf-8") if file.suffix == ".md" else ""
            if 0 < len(text.splitlines()) <= SHOWN:
                parts.append(text.rstrip())
        links = [f"[{file.name}]({Path(os.path.relpath(file, paths.SHIPPED_FIGURES)).as_posix()})"
                 for file in files]  # fmt: skip
        parts.append(f"Files: {', '.join(links)}.")
    return "\n\n".join(parts) + "\n"


def with_status(readme: str) -> str:
    """A README with the table between its markers made anew; one without markers as it is."""
    begin, end = MARKERS
    if begin not in readme:
        return readme
    if readme.count(begin) != 1 or readme.count(end) != 1:
        raise UserError(f"README.md must have one line {begin} and one line {end}: put them back")
    head, _, rest = readme.partition(begin)
    _, _, tail = rest.partition(end)
    return f"{head}{begin}\n\n{status()}\n\n{end}{tail}"


def write() -> list[Path]:
    """Write figures/index.md and the README's status; returns the paths."""
    readme = paths.ROOT / "README.md"
    written = {paths.SHIPPED_FIGURES / "index.md": index(),
               readme: with_status(readme.read_text(encoding="utf-8"))}  # fmt: skip
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
