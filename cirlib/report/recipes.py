"""Section 3.2: what each recipe for the search has given, pilot by pilot."""

from string import ascii_lowercase

import pandas as pd
from matplotlib.figure import Figure

from cirlib.base import paths
from cirlib.base.provenance import load_csv
from cirlib.report.figures import MODEL_COLOURS, PAGE_WIDTH, subplots

SHARES = {"flops_m1": "FLOPs, an effect alone", "flops_m27": "FLOPs, one of 27",
          "time_m27": "time, one of 27"}  # of CResMD's  # fmt: skip


def recipes(profile: str) -> pd.DataFrame:
    """The experiments that have a recipe's name: a row each, with a letter.

    Columns: mark, recipe, model, steps, shared_layers, flops_m1, flops_m27, time_m27 (% of
    CResMD's; missing where it was not measured) and psnr (dB, against CResMD's on the same ten
    crops of CBSD68).
    """
    rows = load_csv(paths.SHIPPED_RESULTS / profile / "experiments.csv")
    psnr = rows["psnr_cbsd68_10x128"]
    (whole,) = psnr[rows["recipe"] == "CResMD"]
    found = pd.DataFrame({"recipe": rows["recipe"], "model": rows["model"],
                          "steps": rows["steps_done"]})  # fmt: skip
    for share in ("shared_layers", *SHARES):
        found[share] = 100 * rows[share]
    found = found.assign(psnr=psnr - whole)[rows["recipe"].notna() & (rows["recipe"] != "CResMD")]
    found.insert(0, "mark", list(ascii_lowercase[: len(found)]))
    return found.reset_index(drop=True)


def draw_recipes(rows: pd.DataFrame) -> Figure:
    """PSNR against CResMD over cost: of an effect alone, of one of 27, and in measured time.

    rows: of recipes(). Up and left is better.
    """
    figure, axes = subplots(1, len(SHARES), sharey=True, figsize=(PAGE_WIDTH, 3.0))
    for axis, (share, title) in zip(axes, SHARES.items(), strict=True):
        for _, row in rows.dropna(subset=[share]).iterrows():
            colour = MODEL_COLOURS["ta-tsnet" if row["model"].startswith("ta") else "tsnet"]
            axis.plot(row[share], row["psnr"], "o", ms=11, mfc="white", color=colour)
            axis.text(row[share], row["psnr"], row["mark"], ha="center", va="center", fontsize=7)
        axis.set(xlabel=f"{title},\n% of CResMD's")
        axis.margins(0.15)
    axes[0].set_ylabel("PSNR against CResMD, dB")
    return figure
