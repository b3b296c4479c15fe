"""Every table and figure of the article: its notebook, its files, how its headline is read.

The one list that the batch's rules, figures/index.md and the README's status follow from, and that
the first cell of each notebook is held against.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from cirlib import checkpoints, profiles
from cirlib.base import paths
from cirlib.base.provenance import load_csv
from cirlib.data import paper
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

    outputs: files by name, CSVs below results/<profile>, all else below figures/<profile>;
    "{model}" stands for each model that there is. headline: (profile, folder of the CSVs) ->
    Headlines. trains: the models that its notebook trains, without which the profile has no such
    figures. command: what measures it, where the batch does not.
    """

    name: str
    title: str
    notebook: str
    outputs: tuple[str, ...]
    headline: Callable[[str, Path], list[Headline]] | None = None
    trains: tuple[str, ...] = ()
    command: str = ""


def pick(frame: pd.DataFrame, column: str, /, **keys) -> float:
    """The first value of a column in rows with these keys; missing (NaN) without such a row."""
    for key, wanted in keys.items():
        frame = frame[frame[key] == wanted]
    return frame[column].iloc[0] if len(frame) else float("nan")


def spell(value: float, decimals: int = 2) -> str:
    """1234.5678 -> '1,234.57'; "not measured" where it is missing."""
    return "not measured" if pd.isna(value) else f"{value:,.{decimals}f}"


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
    costs, found = load_csv(folder / "cost.csv"), []
    for model in ("tsnet", "ta-tsnet"):
        theirs, full = (paper.value("table1", method=name, column="flops", resolution="HD")
                        for name in (model, "cresmd"))  # fmt: skip
        ours = pick(costs, "share_of_cresmd", model=model, resolution="HD", effects=27)
        found.append(Headline(f"{MODELS[model].label}, FLOPs of one of 27 effects, % of CResMD's",
                              spell(100 * theirs / full, 1), spell(ours, 1)))  # fmt: skip
    return found


def times_faster(rows: pd.DataFrame, threads: str, size: str = "1280x720") -> pd.Series:
    """Rows of published TA+TSNets at a size, "one" or "all" threads: times faster than CResMD."""
    rows = rows[(rows["architecture"] == "published") & (rows["size"] == size)]
    rows = rows[(rows["model"] == "ta-tsnet") & (rows["runtime"] == "oneDNN")]
    return rows[(rows["threads"] == 1) == (threads == "one")]["times_faster"]


def latency(profile: str, folder: Path) -> list[Headline]:
    rows, found = load_csv(folder / "latency.csv"), []
    for threads, column in (("one", "latency_cpu_single"), ("all", "latency_cpu_multi")):
        full, ours = (paper.value("table1", method=name, column=column, resolution="HD")
                      for name in ("cresmd", "ta-tsnet"))  # fmt: skip
        here = times_faster(rows, threads)
        span = [spell(value, 1) for value in sorted({here.min(), here.max()})]
        found.append(Headline(f"TA+TSNet at HD, times faster, CPU, {threads} thread"
                              + "s" * (threads == "all"), spell(full / ours, 1),
                              " to ".join(span) if len(here) else "not measured"))  # fmt: skip
    return found


def quality(csv: str, *models: str) -> Callable[[str, Path], list[Headline]]:
    def read(profile: str, folder: Path) -> list[Headline]:
        scores = load_csv(folder / csv)
        return [
            Headline(f"{MODELS[model].label}, PSNR in dB",
                     spell(paper.value("table2", method=model, column="psnr")),
                     spell(pick(scores, "value", model=model, metric="psnr")))
            for model in models
        ]  # fmt: skip

    return read


def ablation(csv: str, model: str) -> Callable[[str, Path], list[Headline]]:
    """A row of Table 3 or 4, whose CSV has the paper's columns beside ours."""

    def read(profile: str, folder: Path) -> list[Headline]:
        rows, column = load_csv(folder / csv), "PSNR drop, dB"
        theirs, ours = (pick(rows, name, model=model) for name in (f"{column} (paper)", column))
        return [Headline(f"{model}: PSNR drop in dB", spell(theirs), spell(ours))]

    return read


def pressure(profile: str, folder: Path) -> list[Headline]:
    rows = load_csv(folder / "figure7.csv")
    named = (("TSNet-Abl 8x", "tsnet-abl-8"), ("TA+TSNet, as short", profiles.SHORT))
    return [
        Headline(f"{label}: PSNR drop in dB (FLOPs in %)", "drawn",
                 f"{spell(pick(rows, 'drop', model=model))} "
                 f"({spell(pick(rows, 'share_m27', model=model), 1)})")
        for label, model in named
    ]  # fmt: skip


def evenness(profile: str, folder: Path) -> list[Headline]:
    rows = load_csv(folder / "modulation.csv")
    return [
        Headline(f"{MODELS[model].label}, unevenness of the steps (LPIPS)", "shown",
                 spell(pick(rows, "value", model=model, quantity="step_lpips_cv")))
        for model in ("cresmd", "ta-tsnet-m")
    ]  # fmt: skip


def suggestion(profile: str, folder: Path) -> list[Headline]:
    rows = load_csv(folder / "suggest.csv")
    lost = pick(rows, "lost", model="ta-tsnet", rule="suggested")
    return [Headline("TA+TSNet, suggested effect: dB below the best of 27", "", spell(lost))]


ITEMS = (
    Item("Section 1", "a photo, its effects and their cost", "00_start_here",
         ("start_here.png",)),
    Item("Sections 3.3, 7.3", "degradations and samplings", "01_data_synthesis",
         ("degradations.png", "samplings.png")),
    Item("Figure 4", "absolute and relative ground truth", "01_data_synthesis",
         ("relative_pairs.png",)),
    Item("Section 7.3", "CResMD", "10_train_cresmd", ("training_cresmd.png",),
         training("cresmd"), trains=("cresmd",)),
    Item("Section 3.2", "TSNet", "11_train_tsnet", ("training_tsnet.png",),
         training("tsnet"), trains=("tsnet",)),
    Item("Section 3.2", "TA+TSNet", "12_train_ta_tsnet", ("training_ta_tsnet.png",),
         training("ta-tsnet"), trains=("ta-tsnet",)),
    Item("Section 3.3", "TSNet-m and TA+TSNet-m", "13_train_relative",
         ("training_relative.png",), training("tsnet-m", "ta-tsnet-m"),
         trains=("tsnet-m", "ta-tsnet-m")),
    Item("Table 1", "FLOPs", "20_cost_and_latency",
         ("cost.csv", "table1_flops.md", "cost_growth.png", "cost_per_task.png"), flops),
    Item("Table 1", "latency", "20_cost_and_latency",
         ("latency.csv", "roofline.csv", "alternatives.csv", "table1_latency.md",
          "alternatives.md", "time_growth.png", "roofline.png"), latency),
    Item("Figure 5", "computation while modulating", "20_cost_and_latency", ("figure5.png",)),
    Item("Table 2", "quality, best of 27 effects", "21_quality",
         ("table2.csv", "best_scores_{model}.csv", "ssim_variants.csv", "table2.md",
          "table2_claims.md", "ssim_variants.md", "best_levels.png"),
         quality("table2.csv", "cresmd", "tsnet", "ta-tsnet")),
    Item("Table 2", "PSNR of whole photographs", "21_quality",
         ("table2_whole.csv", "table2_whole.md", "table2_whole_claims.md"),
         quality("table2_whole.csv", *MODELS),
         command="python -m cirlib evaluate --images cbsd68 --metrics psnr --dtype bfloat16 "
                 "--model cresmd --csv data/mine/results/compact/whole_cresmd.csv"),
    Item("Figure 7", "TSNet under more pressure", "30_ablation_pressure",
         ("figure7.csv", "figure7.md", "figure7_claims.md", "figure7.png"), pressure),
    Item("Table 3", "layers shared by decree", "31_ablation_sharing",
         ("table3.csv", "table3.md", "table3_claims.md"),
         ablation("table3.csv", "TA+TSNet-Abl 85%")),
    Item("Table 4", "balance of sharing and pruning", "31_ablation_sharing",
         ("table4.csv", "table4.md", "table4_claims.md"),
         ablation("table4.csv", "1 x lambda1, 1 x lambda2")),
    Item("Figure 1", "an effect, moving", "40_modulation_figures", ("figure1.webp",)),
    Item("Figure 6", "examples of modulation, moving", "40_modulation_figures",
         ("figure6.jpg", *(f"figure6_{row}.webp" for row in FIGURE6))),
    Item("Figures 9 to 16", "modulation, models side by side", "40_modulation_figures",
         tuple(f"figure{number}.jpg" for number in range(9, 17))),
    Item("Figure 8", "evenness and artifacts", "41_modulation_quality",
         ("modulation.csv", "modulation_steps.csv", "modulation.md", "modulation_claims.md",
          "modulation_counts.md", "figure8a.jpg", "figure8b.png", "modulation.png"), evenness),
    Item("Section 1", "which effect fits a photo", "41_modulation_quality",
         ("suggest.csv", "suggest.md"), suggestion),
    Item("Section 1", "sliders that answer at once", "50_slider_demo",
         ("demo_strip.png", "demo_sweep.webp")),
)  # fmt: skip

NOTEBOOKS = tuple(dict.fromkeys(item.notebook for item in ITEMS))

# What is written with a file: a figure also as PDF, and facts beside all that cannot hold them.
_WITH = {".csv": (".json",), ".png": (".pdf", ".json"), ".jpg": (".json",), ".webp": (".json",)}


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


def beside(path: Path) -> list[Path]:
    """A file and those that are written with it."""
    return [path, *(path.with_suffix(suffix) for suffix in _WITH.get(path.suffix, ()))]


def files(notebook: str, profile: str, there: Iterable[str]) -> list[Path]:
    """All that the batch writes by running a notebook."""
    items = [item for item in ITEMS if item.notebook == notebook and not item.command]
    return [file for item in items for path in outputs(item, profile, there)
            for file in beside(path)]  # fmt: skip
