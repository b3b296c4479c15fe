"""Every table and figure of the article, the paper's numbers and ours: made from what is committed.

    python -m cirlib.index    writes figures/index.md, and the status table of README.md

Nothing here is typed in: our numbers come from ``data/results/<profile>/*.csv`` and the cards of
the trained networks, theirs from ``data/paper/*.csv``. What is not there is "not yet".
"""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from cirlib import checkpoints, paper, paths, provenance, reports, speed
from cirlib.ablations import FIGURE7, OURS, TABLES_3_4
from cirlib.figures import MODEL_LABELS
from cirlib.files import UserError, atomic
from cirlib.modulation_quality import QUANTITIES
from cirlib.profiles import MODELS, SHORT

PROFILES = ("paper", "compact")  # of an item's results those of the first that has them are shown
MARKERS = "<!-- status: `make index` writes it -->", "<!-- end of status -->"
FIGURE6 = (
    "deblur", "deblur_dejpeg", "all", "real_all", "real_denoise", "real_dejpeg",
    "video_denoise_dejpeg", "video_deblur",
)  # its moving rows  # fmt: skip
TABLE1 = ("HD", "2K", "4K")  # its images
SUFFIXES = (".md", ".webp", ".jpg", ".png")  # of what a browser shows
NOT_YET = "not yet"
NOT_MEASURED = "not measured"  # of a metric that the inputs are too small for, say


class Line(NamedTuple):
    """A number of the paper beside ours, as text."""

    quantity: str
    paper: str
    ours: str
    headline: bool = True  # whether the README shows it, too


@dataclass(frozen=True)
class Item:
    """A table, figure or section: its notebook, its files, and how its results are read.

    pictures: under figures/<profile>, without suffix. csv: under data/results/<profile>.
    lines: (profile, the CSV) -> Lines. models: those whose training it is about. Without CSV and
    models the pictures are all there is.
    """

    name: str
    title: str
    notebook: str
    pictures: tuple[str, ...]
    csv: str | None = None
    lines: Callable[[str, pd.DataFrame], list[Line]] | None = None
    models: tuple[str, ...] = ()


def spell(value: float | None, decimals: int, missing: str = NOT_YET) -> str:
    """12.3456, 2 -> '12.35'; what is missing says so."""
    return missing if value is None or pd.isna(value) else f"{value:,.{decimals}f}"


def _pick(frame: pd.DataFrame, column: str, /, **keys) -> float | None:
    """The first value of a column in rows with these keys; None without one."""
    for key, wanted in keys.items():
        frame = frame[frame[key] == wanted]
    return None if frame.empty else frame[column].iloc[0]


# What is read from each result


def training(profile: str, models: tuple[str, ...]) -> list[Line]:
    """How networks were trained, and what their search has found."""
    steps = spell(paper.value("claims", column="iterations"), 0)
    costs, found = reports.published_costs(), []
    for model in models:
        card, label = checkpoints.load_card(model, profile), MODEL_LABELS[model]
        after = " after CResMD's" if MODELS[model].fine_tuned else ""
        found.append(Line(f"{label}: training steps{after}", steps, f"{card['steps_done']:,}"))
        for effects in (1, 27) if MODELS[model].searched else ():
            theirs = _pick(costs, "value", method=model, column="share_of_cresmd",
                           resolution="HVGA", effects=effects)  # fmt: skip
            ours = 100 * card[f"flops_m{effects}"]
            place = "" if theirs is None else " (Table 3)"  # Table 1 has another number for TSNet
            found.append(
                Line(
                    f"{label}: FLOPs at M = {effects}, % of CResMD{place}",
                    spell(theirs, 1, "none"),
                    spell(ours, 1),
                    effects == 27,
                )
            )
    return found


def flops(profile: str, frame: pd.DataFrame) -> list[Line]:
    counted = reports.closed_form()
    lines = [
        Line(f"CResMD of the paper's size at {row['image']}, GFLOPs", row["paper"], row["we see"],
             row["image"] == "4K")
        for row in counted.to_dict("records")
    ]  # fmt: skip
    costs = reports.published_costs()
    for model in ("tsnet", "ta-tsnet"):
        key = {"resolution": "HD", "effects": 27}
        theirs = _pick(costs, "value", method=model, column="share_of_cresmd", **key)
        ours = _pick(frame, "share_of_cresmd", model=model, **key)
        lines.append(Line(f"{MODEL_LABELS[model]}, M = 27, % of CResMD", spell(theirs, 1),
                          spell(ours, 1)))  # fmt: skip
    return lines


def latency(profile: str, frame: pd.DataFrame) -> list[Line]:
    """How many times faster than CResMD, networks with the paper's FLOPs, on each machine.

    A line for TA+TSNet says so where no machine has been measured.
    """
    lines, table = [], paper.table("table1")
    fast = frame[(frame["architecture"] == "published") & (frame["runtime"] != "eager")]
    fast = fast.assign(
        image=fast["size"].map(speed.resolution), row=fast.apply(speed.column, axis=1)
    )
    for name in TABLE1:
        for what in speed.LABELS:
            here = fast[(fast["image"] == name) & (fast["row"] == what)]
            theirs = {m: paper.value(table, method=m, column=what, resolution=name)
                      for m in MODELS if (table["method"] == m).any()}  # fmt: skip
            if here.empty:
                ratio = spell(theirs["cresmd"] / theirs["ta-tsnet"], 1)
                quantity = f"TA+TSNet at {name}, {speed.LABELS[what]}, times faster"
                lines.append(Line(quantity, ratio, NOT_MEASURED, headline=False))
            for (machine, threads), own in here.groupby(["device", "threads"], sort=False):
                times = own.set_index("model")["seconds_per_effect"]
                cores = f", {threads} threads" if what == "latency_cpu_multi" else ""
                where = f"{speed.LABELS[what]} ({machine}{cores})"
                for model in ("tsnet", "ta-tsnet"):
                    ours = times["cresmd"] / times[model] if model in times else None
                    lines.append(Line(
                        f"{MODEL_LABELS[model]} at {name}, {where}, times faster",
                        spell(theirs["cresmd"] / theirs[model], 1), spell(ours, 1, NOT_MEASURED),
                        name == "HD" and model == "ta-tsnet",
                    ))  # fmt: skip
    return lines


def quality(profile: str, frame: pd.DataFrame) -> list[Line]:
    lines = []
    for row in paper.table("table2").to_dict("records"):
        model, metric = row["method"], row["column"]
        decimals = 2 if metric in ("psnr", "niqe") else 4
        unit = ", dB" if metric == "psnr" else ""
        ours = _pick(frame, "value", model=model, metric=metric)
        there = model in set(frame["model"])
        lines.append(
            Line(
                f"{MODEL_LABELS[model]}: {reports.METRIC_LABELS[metric]}{unit}",
                spell(row["value"], decimals),
                spell(ours, decimals, NOT_MEASURED if there else NOT_YET),
                metric == "psnr",
            )
        )
    return lines


def whole(profile: str, frame: pd.DataFrame) -> list[Line]:
    """Table 2 on whole photographs: PSNR alone, of the models that there are."""
    return [
        line._replace(quantity=f"{line.quantity} (whole photographs)")
        for line in quality(profile, frame)
        if line.headline and line.ours != NOT_YET
    ]


def ablation(profile: str, frame: pd.DataFrame) -> list[Line]:
    """Tables 3 and 4: our results have the paper's columns beside them.

    Labels tell the steps: TSNet and TA+TSNet are not Table 2's here, but short references.
    """
    lines = []
    for row in frame.to_dict("records"):
        steps = "" if pd.isna(row["steps"]) else f", {row['steps']:,.0f} steps"
        for name, decimals in (("drop", 2), ("shared_layers", 0), ("share_m1", 1),
                               ("share_m27", 1)):  # fmt: skip
            column = OURS[name]
            lines.append(
                Line(
                    f"{row['model']}{steps}: {column}",
                    spell(row[f"{column} (paper)"], decimals, "none"),
                    spell(row[column], decimals),
                    name == "drop",
                )
            )
    return lines


def pressure(profile: str, frame: pd.DataFrame) -> list[Line]:
    """Figure 7 has no printed numbers: TSNet-Abl, and what it is compared with."""
    return [
        Line(f"{row['label']}, {row['steps']:,} steps: PSNR drop, dB (FLOPs at M = 27: "
             f"{row['share_m27']:.1f}% of CResMD)", "drawn", spell(row["drop"], 2))
        for row in frame.to_dict("records")
        if row["method"] == "tsnet-abl" or row["model"] == SHORT
    ]  # fmt: skip


def evenness(profile: str, frame: pd.DataFrame) -> list[Line]:
    """Figure 8 and Section 7.1 have no numbers at all; ours come with a 95% interval."""
    shown = ("step_lpips_cv", "mismatch_lost")
    return [
        Line(f"{MODEL_LABELS[row['model']]}: {QUANTITIES[row['quantity']][1]}", "shown",
             f"{row['value']:.3g} ({row['low']:.3g} to {row['high']:.3g})",
             row["quantity"] in shown and row["model"] in ("cresmd", "ta-tsnet-m"))
        for row in frame.to_dict("records")
    ]  # fmt: skip


def suggestion(profile: str, frame: pd.DataFrame) -> list[Line]:
    """How much PSNR a pick of one effect loses against the best of 27: not in the paper."""
    shown = ("suggested", "least NIQE", "always the same")
    return [
        Line(f"{MODEL_LABELS[row['model']]}, {row['rule']}: dB below the best of 27", "none",
             spell(row["lost"], 2), row["rule"] in shown and row["model"] == "ta-tsnet")
        for row in frame[frame["rule"] != "best of 27"].to_dict("records")
    ]  # fmt: skip


ITEMS = (
    Item("Sections 3.3, 7.3", "degradations and samplings", "01_data_synthesis",
         ("degradations", "samplings")),
    Item("Section 7.3", "CResMD", "10_train_cresmd", ("training_cresmd",),
         models=("cresmd",)),
    Item("Section 3.2", "TSNet", "11_train_tsnet", ("training_tsnet",), models=("tsnet",)),
    Item("Section 3.2", "TA+TSNet", "12_train_ta_tsnet", ("training_ta_tsnet",),
         models=("ta-tsnet",)),
    Item("Section 3.3", "TSNet-m and TA+TSNet-m", "13_train_relative", ("training_relative",),
         models=("tsnet-m", "ta-tsnet-m")),
    Item("Table 1", "FLOPs", "20_cost_and_latency",
         ("table1_flops", "cost_growth", "cost_per_task"), "cost", flops),
    Item("Table 1", "latency", "20_cost_and_latency",
         ("table1_latency", "time_growth", "roofline", "alternatives"), "latency", latency),
    Item("Table 2", "quality, best of 27 effects", "21_quality",
         ("table2", "table2_claims", "ssim_variants", "best_levels"), "table2", quality),
    Item("Table 2", "PSNR of whole photographs", "21_quality",
         ("table2_whole", "table2_whole_claims"), "table2_whole", whole),
    Item("Table 3", "layers shared by decree", "31_ablation_sharing",
         ("table3", "table3_claims"), "table3", ablation),
    Item("Table 4", "balance of sharing and pruning", "31_ablation_sharing",
         ("table4", "table4_claims"), "table4", ablation),
    Item("Figure 1", "an effect, moving", "40_modulation_figures", ("figure1",)),
    Item("Figure 4", "absolute and relative ground truth", "01_data_synthesis",
         ("relative_pairs",)),
    Item("Figure 5", "computation while modulating", "20_cost_and_latency", ("figure5",)),
    Item("Figure 6", "examples of modulation, moving", "40_modulation_figures",
         ("figure6", *(f"figure6_{row}" for row in FIGURE6))),
    Item("Figure 7", "TSNet under more pressure", "30_ablation_pressure",
         ("figure7", "figure7_claims"), "figure7", pressure),
    Item("Figure 8", "evenness and artifacts", "41_modulation_quality",
         ("figure8a", "figure8b", "modulation", "modulation_claims", "modulation_counts"),
         "modulation", evenness),
    Item("Figures 9 to 16", "modulation, models side by side", "40_modulation_figures",
         tuple(f"figure{number}" for number in range(9, 17))),
    Item("Section 1", "sliders that answer at once", "50_slider_demo",
         ("demo_strip", "demo_sweep")),
    Item("Section 1", "which effect fits a photo", "41_modulation_quality", ("suggest",),
         "suggest", suggestion),
)  # fmt: skip


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
        sizes = ("{}x{}".format(*reports.image_sizes()[name]) for name in TABLE1)
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
