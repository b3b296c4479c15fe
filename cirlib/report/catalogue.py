"""Every table and figure of the article: its notebook, its files, how its headline is read.

The one list that the batch's rules and figures/index.md follow from, and that the headlines of the
README and the first cell of each notebook are held against.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from cirlib import checkpoints, profiles
from cirlib.architecture import full_architecture
from cirlib.base import paths
from cirlib.base.provenance import load_csv
from cirlib.cost import cost
from cirlib.data import paper
from cirlib.measure.intervals import at_cost
from cirlib.profiles import MODELS

FIGURE6 = (
    "deblur", "deblur_dejpeg", "all", "real_all", "real_denoise", "real_dejpeg",
    "video_denoise_dejpeg", "video_deblur",
)  # its moving rows  # fmt: skip


class Headline(NamedTuple):
    """A number of the paper beside ours, as text; without one of the paper's it is empty."""

    quantity: str
    paper: str
    ours: str


@dataclass(frozen=True)
class Item:
    """A table, figure or section.

    code: the functions that make it, with their modules. outputs: files by name, CSVs below
    results/<profile>, all else below figures/<profile>; "{model}" stands for each model that there
    is. headline: (profile, folder of the CSVs) -> Headlines. trains: the models that its notebook
    trains, without which the profile has no such figures. command: what measures it, where the
    batch does not.
    """

    name: str
    title: str
    notebook: str
    code: str
    outputs: tuple[str, ...]
    headline: Callable[[str, Path], list[Headline]] | None = None
    trains: tuple[str, ...] = ()
    command: str = ""


def pick(frame: pd.DataFrame, column: str, /, **keys) -> float:
    """The first value of a column in rows with these keys; missing (NaN) without such a row."""
    for key, wanted in keys.items():
        frame = frame[frame[key] == wanted]
    return frame[column].iloc[0] if len(frame) else float("nan")


def spell(value: float, decimals: int = 2, unit: str = "") -> str:
    """1234.5678 -> '1,234.57'; "not measured", without a unit, where it is missing."""
    return "not measured" if pd.isna(value) else f"{value:,.{decimals}f}{unit}"


def training(*models: str) -> Callable[[str, Path], list[Headline]]:
    def read(profile: str, folder: Path) -> list[Headline]:
        steps = spell(paper.value("claims", column="iterations"), 0)
        return [
            Headline(f"{MODELS[model].label}, steps"
                     + (" after CResMD's" if MODELS[model].fine_tuned else ""), steps,
                     spell(checkpoints.load_card(model, profile)["steps_done"], 0))
            for model in models if checkpoints.exists(model, profile)
        ]  # fmt: skip

    return read


def flops(profile: str, folder: Path) -> list[Headline]:
    costs, size = load_csv(folder / "cost.csv"), paper.image_sizes()["4K"]
    whole = cost([full_architecture(32, 64)], size).per_effect(1) / 1e9
    theirs = paper.value("table1", method="cresmd", column="flops", resolution="4K")
    found = [Headline("GFLOPs of the paper's CResMD at 4K", spell(theirs, 1), spell(whole, 1))]
    for model in ("tsnet", "ta-tsnet"):
        theirs = paper.value("claims", method=model, column="flops_reduction", place="Section 1")
        saved = theirs, _saved(costs, model, 27)
        found.append(Headline(f"27 effects, FLOPs saved by {MODELS[model].label}",
                              *(spell(one, 1, "%") for one in saved)))  # fmt: skip
    spent, full = (paper.value("table3", method=model, column="flops", effects=1)
                   for model in ("ta-tsnet", "cresmd"))  # fmt: skip
    saved = 100 * (1 - spent / full), _saved(costs, "ta-tsnet", 1)
    found.append(Headline("One effect, FLOPs saved by TA+TSNet",
                          *(spell(one, 1, "%") for one in saved)))  # fmt: skip
    return found


def _saved(costs: pd.DataFrame, model: str, M: int) -> float:
    return 100 - pick(costs, "share_of_cresmd", model=model, resolution="HVGA", effects=M)


def times_faster(rows: pd.DataFrame, threads: str, kind: str) -> pd.Series:
    """Rows of TA+TSNets at HD, "one" or "all" threads: times faster than CResMD.

    kind: "published" or "trained".
    """
    rows = rows[(rows["architecture"] == kind) & (rows["size"] == "1280x720")]
    rows = rows[(rows["model"] == "ta-tsnet") & (rows["runtime"] == "oneDNN")]
    return rows[(rows["threads"] == 1) == (threads == "one")]["times_faster"]


def latency(profile: str, folder: Path) -> list[Headline]:
    rows, found = load_csv(folder / "latency.csv"), []
    for threads, column in (("one", "latency_cpu_single"), ("all", "latency_cpu_multi")):
        full, ours = (paper.value("table1", method=name, column=column, resolution="HD")
                      for name in ("cresmd", "ta-tsnet"))  # fmt: skip
        kinds = {"published": "untrained, the paper's FLOPs", "trained": "trained"}
        for kind, told in kinds.items():
            here = times_faster(rows, threads, kind)
            span = [spell(value, 1) for value in sorted({here.min(), here.max()})]
            found.append(Headline(f"TA+TSNet at HD, times faster, CPU, {threads} thread"
                                  + "s" * (threads == "all") + f", {told}", spell(full / ours, 1),
                                  " to ".join(span) if len(here) else "not measured"))  # fmt: skip
    return found


def quality(table: str) -> Callable[[str, Path], list[Headline]]:
    """PSNR of the best of 27 effects, of the crops or the whole photographs in a table."""

    def read(profile: str, folder: Path) -> list[Headline]:
        scores = load_csv(folder / table)
        theirs = {model: paper.value("table2", method=model, column="psnr") for model in MODELS}
        ours = {model: pick(scores, "value", model=model, metric="psnr") for model in MODELS}
        levels = (spell(psnr["cresmd"], 2, " dB") for psnr in (theirs, ours))
        found = [Headline("CResMD, best of 27 effects, PSNR", *levels)]
        for model in ("tsnet", "ta-tsnet", "tsnet-m", "ta-tsnet-m"):
            lost = [spell(psnr["cresmd"] - psnr[model], 2, " dB") for psnr in (theirs, ours)]
            found.append(Headline(f"{MODELS[model].label} loses", *lost))
        return found

    return read


def pressure(profile: str, folder: Path) -> list[Headline]:
    rows = load_csv(folder / "figure7.csv")
    cheap = {name: pick(rows, name, model=profiles.SHORT) for name in ("drop", "share_m27")}
    line = rows[rows["method"] == "tsnet-abl"]
    alone = at_cost(line["share_m27"], line["drop"], cheap["share_m27"])
    return [Headline("Figure 7, equal FLOPs: TSNet, and TA+TSNet, lose", "drawn",
                     f"{spell(alone)}, {spell(cheap['drop'])} dB")]  # fmt: skip


def decree(profile: str, folder: Path) -> list[Headline]:
    rows, drop, share = (load_csv(folder / "table3.csv"), "PSNR drop, dB",
                         "FLOPs at M = 27, % of CResMD")  # fmt: skip
    line = rows[rows["model"].str.startswith("TA+TSNet-Abl")]
    other = at_cost(line[share], line[drop], pick(rows, share, model="TA+TSNet"))
    theirs = pick(rows, f"{drop} (paper)", model="TA+TSNet-Abl 99%")  # a little dearer
    pairs = [(theirs, pick(rows, f"{drop} (paper)", model="TA+TSNet")),
             (other, pick(rows, drop, model="TA+TSNet"))]  # fmt: skip
    return [Headline("Table 3, equal FLOPs: sharing by decree, and TA+TSNet, lose",
                     *(", ".join(map(spell, pair)) + " dB" for pair in pairs))]  # fmt: skip


def balance(profile: str, folder: Path) -> list[Headline]:
    rows = load_csv(folder / "table4.csv")
    same = all(
        (rows[name].rank(method="min") == rows[f"{name} (paper)"].rank(method="min")).all()
        for name in ("shared layers, %", "FLOPs at M = 1, % of CResMD",
                     "FLOPs at M = 27, % of CResMD")
    )  # fmt: skip
    return [Headline("Table 4: order by shared layers, by cost", "its five networks",
                     "the same" if same else "another")]  # fmt: skip


LOST = "mismatch_lost"  # the share of images that lose more than 1 dB


def evenness(profile: str, folder: Path) -> list[Headline]:
    rows = load_csv(folder / "modulation.csv")
    lost = ", ".join(
        f"{MODELS[model].label} {spell(pick(rows, 'value', model=model, quantity=LOST), 0)}%"
        for model in ("cresmd", "ta-tsnet", "ta-tsnet-m")
    )
    return [Headline("How often a task that does not fit costs over 1 dB", "shown", lost)]


def suggestion(profile: str, folder: Path) -> list[Headline]:
    rows = load_csv(folder / "suggest.csv")

    def picked(column: str, kind: str) -> float:
        return pick(rows, column, model="ta-tsnet", kind=kind, rule="suggested")

    found = [Headline("TA+TSNet, suggested task: gained", "",
                      spell(picked("gained", "all damaged"), 2, " dB"))]  # fmt: skip
    for kind in ("all damaged", "clean photo"):
        worse = spell(picked("harmed", kind), 0, "%")
        found.append(Headline(f"TA+TSNet, suggested task: made worse, {kind}", "", worse))
    return found


ITEMS = (
    Item("Section 1", "a photo, its effects and their cost", "00_start_here",
         "report.figures.show_images",
         ("start_here.png",)),
    Item("Sections 3.3, 7.3", "degradations and samplings", "01_data_synthesis",
         "degradation.degrade degradation.sample_levels",
         ("degradations.png", "samplings.png")),
    Item("Figure 4", "absolute and relative ground truth", "01_data_synthesis",
         "degradation.degrade_pair",
         ("relative_pairs.png",)),
    Item("Section 7.3", "the super network, drawn", "10_train_cresmd",
         "report.diagrams.draw_block", ("network.png",)),
    Item("Section 7.3", "CResMD", "10_train_cresmd",
         "report.training.show_training", ("training_cresmd.png", "sliders_cresmd.png"),
         training("cresmd"), trains=("cresmd",)),
    Item("Figure 3", "from a task to channels, drawn", "11_train_tsnet",
         "report.diagrams.draw_gates", ("figure3.png",)),
    Item("Section 3.2", "TSNet", "11_train_tsnet",
         "report.training.show_training report.searched.draw_gate_map",
         ("training_tsnet.png", "gate_map.png"),
         training("tsnet"), trains=("tsnet",)),
    Item("Figure 2", "what runs for three tasks, drawn", "12_train_ta_tsnet",
         "report.diagrams.draw_sharing", ("figure2.png",)),
    Item("Section 3.2", "TA+TSNet", "12_train_ta_tsnet",
         "report.training.show_training report.searched.draw_trunk",
         ("training_ta_tsnet.png", "trunk_growth.png", "gate_map_ta_tsnet.png"),
         training("ta-tsnet"), trains=("ta-tsnet",)),
    Item("Section 3.2", "recipes for the search", "12_train_ta_tsnet",
         "report.recipes.recipes report.recipes.draw_recipes", ("recipes.png",)),
    Item("Section 3.1", "cost and gain along each slider", "12_train_ta_tsnet",
         "measure.sliders.along_sliders report.sliders.draw_sliders", ("slider_costs.png",)),
    Item("Figure 4", "absolute and relative ground truth, drawn", "13_train_relative",
         "report.diagrams.draw_pairs", ("figure4.png",)),
    Item("Section 3.3", "TSNet-m and TA+TSNet-m", "13_train_relative",
         "report.training.show_training",
         ("training_relative.png", "half_slider.png"), training("tsnet-m", "ta-tsnet-m"),
         trains=("tsnet-m", "ta-tsnet-m")),
    Item("Table 1", "FLOPs", "20_cost_and_latency",
         "report.cost.cost_table report.cost.compare_costs",
         ("cost.csv", "table1_flops.md", "cost_growth.png"), flops),
    Item("Table 1", "latency", "20_cost_and_latency",
         "measure.latency.measure report.latency.table1 report.latency.draw_table1",
         ("latency.csv", "roofline.csv", "alternatives.csv", "table1_latency.md",
          "alternatives.md", "table1_times.png", "roofline.png"), latency),
    Item("Section 1", "from opening a photo to its first effect", "20_cost_and_latency",
         "report.latency.first_pictures", ("first.md",),
         command="for profile in compact full; do python -m cirlib bench first --profile $profile "
                 "--csv data/mine/results/$profile/first.csv; done"),
    Item("Section 1", "photos a minute of a folder", "20_cost_and_latency",
         "report.latency.folders", ("folder.md",),
         command="for profile in compact full; do python -m cirlib bench folder --profile $profile "
                 "--csv data/mine/results/$profile/folder.csv; done"),
    Item("Figure 5", "computation while modulating", "20_cost_and_latency",
         "report.cost.draw_figure5", ("figure5.png",)),
    Item("Table 2", "quality, best of 27 effects", "21_quality",
         "measure.quality.evaluate report.quality.quality_table",
         ("table2.csv", "best_scores_{model}.csv", "ssim_variants.csv", "table2.md",
          "table2_claims.md", "ssim_variants.md", "best_levels.png", "lost.png"),
         quality("table2.csv")),
    Item("Table 2", "PSNR of whole photographs", "21_quality",
         "report.quality.whole_photos",
         ("table2_whole.csv", "table2_whole.md", "table2_whole_claims.md"),
         quality("table2_whole.csv"),
         command="for model in cresmd tsnet ta-tsnet tsnet-m ta-tsnet-m; do python -m cirlib "
                 "evaluate --images cbsd68 --metrics psnr --dtype bfloat16 --model $model --csv "
                 "data/mine/results/compact/whole_$model.csv; done; papermill "
                 "notebooks/21_quality.ipynb data/mine/whole.ipynb --cwd notebooks "
                 "-p profile compact"),
    Item("Section 7.3", "the scale model and the paper's own size, one test", "21_quality",
         "report.quality.sizes_table", ("sizes.md",),
         command="for profile in compact full; do for model in cresmd tsnet ta-tsnet tsnet-m "
                 "ta-tsnet-m; do python -m cirlib evaluate --images cbsd68 --limit 10 --crop 128 "
                 "--profile $profile --model $model --csv "
                 "data/mine/results/$profile/subset_$model.csv; done; done; papermill "
                 "notebooks/21_quality.ipynb data/mine/sizes.ipynb --cwd notebooks"),
    Item("Section 7.3", "what further steps brought", "21_quality",
         "report.quality.further_steps report.quality.draw_further_steps", ("further_steps.png",)),
    Item("Section 4.2", "other methods, one damage at a time", "21_quality",
         "measure.peers.peers report.peers.peers_table", ("peers.csv", "peers.md"),
         command="papermill notebooks/21_quality.ipynb data/mine/peers.ipynb --cwd notebooks "
                 "-p profile full -p images cbsd68 -p peer_photos 0 -p peer_crop 0"),
    Item("Figure 7", "TSNet under more pressure", "30_ablation_pressure",
         "measure.ablations.score report.ablations.draw_figure7",
         ("figure7.csv", "figure7.md", "figure7_claims.md", "figure7.png"), pressure),
    Item("Table 3", "layers shared by decree", "31_ablation_sharing",
         "measure.ablations.score report.ablations.table3 report.ablations.draw_table3",
         ("table3.csv", "table3.md", "table3_claims.md", "table3.png"),
         decree),
    Item("Table 4", "balance of sharing and pruning", "31_ablation_sharing",
         "measure.ablations.score report.ablations.table4",
         ("table4.csv", "table4.md", "table4_claims.md"),
         balance),
    Item("Figure 1", "an effect, moving", "40_modulation_figures",
         "report.modulation.animate", ("figure1.webp",)),
    Item("Figure 6", "examples of modulation, moving", "40_modulation_figures",
         "report.modulation.animate", tuple(f"figure6_{row}.webp" for row in FIGURE6)),
    Item("Figures 9 to 16", "modulation, models side by side", "40_modulation_figures",
         "report.modulation.modulation_grid",
         tuple(f"figure{number}.webp" for number in range(9, 17))),
    Item("Figure 8", "evenness and artifacts", "41_modulation_quality",
         "measure.modulation.modulation_scores report.modulation.draw_steps",
         ("modulation.csv", "modulation_steps.csv", "modulation.md", "modulation_claims.md",
          "modulation_counts.md", "figure8a.webp", "figure8b.png", "modulation.png",
          "relative.png"), evenness),
    Item("Section 1", "which task fits a photo", "41_modulation_quality",
         "measure.suggestion.suggestion_scores report.suggestion.draw_suggestions",
         ("suggest.csv", "suggest.md", "suggest.png"), suggestion),
    Item("Section 1", "sliders that answer at once", "50_slider_demo",
         "report.modulation.draw_effects report.modulation.animate",
         ("demo_strip.png", "demo_sweep.webp")),
)  # fmt: skip

CHAPTERS = tuple(dict.fromkeys(item.notebook for item in ITEMS))

# Chapters that `make reproduce` runs with the networks of the paper's own size.
OF_FULL_SIZE = (
    "00_start_here", "10_train_cresmd", "11_train_tsnet", "12_train_ta_tsnet", "13_train_relative",
    "20_cost_and_latency", "21_quality", "40_modulation_figures", "41_modulation_quality",
    "50_slider_demo",
)  # fmt: skip


def place(notebook: str) -> str:
    """Which of all notebooks it is, as 2/13."""
    return f"{CHAPTERS.index(notebook) + 1}/{len(CHAPTERS)}"


def size(notebook: str, profile: str) -> str:
    """The profile whose networks the batch of a profile shows in a notebook."""
    return "full" if profile == "compact" and notebook in OF_FULL_SIZE else profile


# What is written with a file: a figure also as PDF, and facts beside all that cannot hold them.
_WITH = {".csv": (".json",), ".png": (".pdf", ".json"), ".webp": (".json",)}


def models(notebook: str) -> tuple[str, ...]:
    """The models that a notebook trains."""
    return tuple(model for item in ITEMS if item.notebook == notebook for model in item.trains)


def outputs(item: Item, profile: str, there: Iterable[str], committed: bool = False) -> list[Path]:
    """What is written of an item: one's own files, or those that are committed.

    there: the models that the profile has.
    """
    results, figures = ((paths.SHIPPED_RESULTS, paths.SHIPPED_FIGURES) if committed
                        else (paths.RESULTS, paths.FIGURES))  # fmt: skip
    there = list(there)
    if item.trains and not set(item.trains) & set(there):
        return []
    names = [name.format(model=model) for name in item.outputs
             for model in (there if "{model}" in name else [""])]  # fmt: skip
    return [(results if name.endswith(".csv") else figures) / profile / name for name in names]


def batch_files(profile: str) -> Iterator[tuple[Item, str, list[Path]]]:
    """Each item, the profile that the batch of a profile shows it of, and the files it writes."""
    for item in ITEMS:
        own = size(item.notebook, profile)
        yield item, own, outputs(item, own, checkpoints.available(own))


def beside(path: Path) -> list[Path]:
    """A file and those that are written with it."""
    return [path, *(path.with_suffix(suffix) for suffix in _WITH.get(path.suffix, ()))]


def written(notebook: str, profile: str, there: Iterable[str]) -> list[Path]:
    """All that the batch writes by running a notebook."""
    items = [item for item in ITEMS if item.notebook == notebook and not item.command]
    return [file for item in items for path in outputs(item, profile, there)
            for file in beside(path)]  # fmt: skip
