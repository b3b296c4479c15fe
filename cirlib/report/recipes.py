"""Section 3.2: what each recipe for the search has given, pilot by pilot."""

from string import ascii_lowercase

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from cirlib.base import paths
from cirlib.base.provenance import load_csv
from cirlib.report.figures import MODEL_COLOURS, PAGE_WIDTH, subplots

SHARES = {"flops_m1": "an effect alone", "flops_m27": "one of 27 effects"}


def recipes(profile: str, model: str = "ta-tsnet") -> pd.DataFrame:
    """A model's experiments that have a recipe's name: a row each, of each recipe with a letter.

    Columns: mark, recipe, seed, shared_layers (%), flops_m1, flops_m27 (% of CResMD's) and psnr
    (dB, against CResMD's on the same ten crops of CBSD68).
    """
    rows = load_csv(paths.SHIPPED_RESULTS / profile / "experiments.csv")
    psnr = rows["psnr_cbsd68_10x128"]
    (whole,) = psnr[rows["recipe"] == "CResMD"]
    found = rows[["recipe", "seed"]].join(100 * rows[["shared_layers", *SHARES]])
    found["psnr"] = psnr - whole
    found = found[rows["recipe"].notna() & rows["model"].str.startswith(model)]
    found.insert(0, "mark", [ascii_lowercase[k] for k in pd.factorize(found["recipe"])[0]])
    return found.reset_index(drop=True)


def draw_recipes(rows: pd.DataFrame) -> Figure:
    """PSNR against CResMD over cost, of an effect alone and of one of 27.

    rows: of recipes(). Up and left is better. A dot is a further seed of what it is joined to.
    """
    colour, names = MODEL_COLOURS["ta-tsnet"], rows.groupby("mark")["recipe"].first()
    figure, axes = subplots(1, len(SHARES), sharey=True,
                            figsize=(PAGE_WIDTH, 2.7 + 0.075 * (len(names) + 1)))  # fmt: skip
    for axis, (share, title) in zip(axes, SHARES.items(), strict=True):
        for mark, seeds in rows.groupby("mark"):
            x, y = seeds[share].tolist(), seeds["psnr"].tolist()
            axis.plot(x[:1], y[:1], "o", ms=11, mfc="white", color=colour)
            axis.text(x[0], y[0], mark, ha="center", va="center", fontsize=7)
            axis.plot(x, y, "-", color=colour, zorder=1)
            axis.plot(x[1:], y[1:], "o", ms=4, color=colour, zorder=4)
        axis.set(xlabel=f"FLOPs of {title},\n% of CResMD's")
        axis.margins(0.15)
    axes[0].set_ylabel("PSNR against CResMD, dB")
    keys = [Line2D([], [], ls="", label=f"{mark}: {name}") for mark, name in names.items()]
    figure.legend(handles=keys, loc="outside lower center", ncols=2, handlelength=0)
    return figure
