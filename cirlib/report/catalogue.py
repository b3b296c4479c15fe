"""Every table and figure of the article: its notebook, its files, how it is read."""

from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd

from cirlib.report.lines import (
    Line,
    ablation,
    evenness,
    flops,
    latency,
    pressure,
    quality,
    suggestion,
    whole,
)

FIGURE6 = (
    "deblur", "deblur_dejpeg", "all", "real_all", "real_denoise", "real_dejpeg",
    "video_denoise_dejpeg", "video_deblur",
)  # its moving rows  # fmt: skip


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
