"""Table 2: quality of the best of 27 effects, ours beside the paper's."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from cirlib import checkpoints
from cirlib.base import paths, provenance
from cirlib.base.files import UserError
from cirlib.data import paper
from cirlib.degradation import TASKS, Levels, levels_to_task
from cirlib.measure import metrics
from cirlib.measure.intervals import bootstrap, positive
from cirlib.measure.quality import summary
from cirlib.profiles import PROFILES
from cirlib.report import compare
from cirlib.report.compare import METRIC_LABELS, annotate
from cirlib.report.figures import MODEL_COLOURS, MODEL_LABELS, PAGE_WIDTH, name_marks, subplots

# Of degradation_type, and all inputs.
DAMAGES = ["blur only", "noise only", "JPEG only", "two of them", "all three", "all"]


def degradation_type(levels: Levels) -> str:
    """Which of the three degradations there are, in words."""
    t = levels_to_task(levels)
    names = [name for name, level in zip(("blur", "noise", "JPEG"), t, strict=True) if level]
    return ("none", f"{names[0] if names else ''} only", "two of them", "all three")[len(names)]


def quality_table(frames: Mapping[str, pd.DataFrame], crop: int | None) -> pd.DataFrame:
    """Table 2 in tidy form from evaluation's frames by model: a row a model and metric.

    Columns: model, metric, value (missing: not measured), images, inputs, effects, crop.
    """
    rows = [(model, metric, value, frame["image"].nunique(), len(frame), len(TASKS), crop)
            for model, frame in frames.items()
            for metric, value in summary(frame).items()]  # fmt: skip
    names = ["model", "metric", "value", "images", "inputs", "effects", "crop"]
    return pd.DataFrame(rows, columns=names).astype({"value": "float64", "crop": "Int64"})


def compare_quality(quality: pd.DataFrame, profile: str, tolerance: Mapping) -> pd.DataFrame:
    """``paper | ours | difference | within tolerance`` of a quality_table, with a note."""
    ours = quality.rename(columns={"model": "method", "metric": "column"})
    ours = ours[["method", "column", "value"]]
    return annotate(compare.compare(paper.table("table2"), ours, tolerance), profile)


def table2(comparison: pd.DataFrame) -> pd.DataFrame:
    """A compare_quality in the paper's shape, a row a model, each cell "ours (the paper's)"."""
    decimals = {"psnr": 2, "ssim": 4, "niqe": 2, "lpips": 4}
    rows: dict[str, dict[str, str]] = {}
    for _, one in comparison.iterrows():
        ours, theirs = (f"{value:.{decimals[one['column']]}f}" for value in one[["ours", "paper"]])
        title = f"{METRIC_LABELS[one['column']]}{', dB' * (one['column'] == 'psnr')}"
        shown = "not measured" if pd.isna(one["ours"]) else ours
        rows.setdefault(MODEL_LABELS[one["method"]], {})[title] = f"{shown} ({theirs})"
    return pd.DataFrame(rows).T.rename_axis("ours (the paper's)").reset_index()


def draw_lost(comparison: pd.DataFrame) -> Figure:
    """What each searched model loses against its CResMD, PSNR in dB: ours, and the paper's (star).

    comparison: a compare_quality.
    """
    psnr = comparison.query("column == 'psnr'").set_index("method")[["paper", "ours"]].astype(float)
    lost = (psnr.loc["cresmd"] - psnr.drop("cresmd")).iloc[::-1]
    figure, axis = subplots(figsize=(PAGE_WIDTH, 0.9 + 0.36 * len(lost)))
    for y, (model, (theirs, ours)) in enumerate(lost.iterrows()):
        colour = MODEL_COLOURS[model]
        axis.hlines(y, *sorted((theirs, ours)), color=colour, lw=1, alpha=0.5)
        axis.plot(theirs, y, "*", ms=9, mfc="white", color=colour)
        axis.plot(ours, y, "o", ms=5, color=colour)
        axis.annotate(f"{ours:.2f}", (ours, y), (0, 5), textcoords="offset points", ha="center",
                      color=colour, fontsize=8)  # fmt: skip
    axis.set_yticks(range(len(lost)), [MODEL_LABELS[model] for model in lost.index])
    whole = psnr.loc["cresmd"]
    axis.set(xlabel=f"PSNR lost against the own CResMD, dB\n(star: the paper's, whose CResMD has "
                    f"{whole['paper']:.2f} dB; here ours has {whole['ours']:.2f})",
             xlim=(0, 1.15 * lost.max().max()), ylim=(-0.6, len(lost) - 0.2))  # fmt: skip
    axis.grid(False, axis="y")
    return figure


def _scored(profile: str, test: str, *roots: Path) -> dict[str, tuple[Path, dict]]:
    """Model -> file and facts of its ``<test>_<model>.csv``, in the first of the roots that has it.

    ``evaluate --csv`` has written them. Those of networks that have been replaced are left out.

    Raises UserError if they are not of the same photographs.
    """
    found = {}
    for model in checkpoints.available(profile):
        places = (root / profile / f"{test}_{model}.csv" for root in roots)
        if path := next(filter(Path.exists, places), None):
            facts = provenance.load_facts(path)
            if facts.get("weights") == checkpoints.digest(checkpoints.load(model, profile)):
                found[model] = path, facts
    alike = {tuple(facts.get(key) for key in ("fingerprint", "seed", "crop"))
             for _, facts in found.values()}  # fmt: skip
    if len(alike) > 1:
        raise UserError(
            f"{test}_*.csv of profile {profile} are of different photographs or seeds: "
            "make them anew with `python -m cirlib evaluate --csv`"
        )
    return found


def sizes_table() -> tuple[pd.DataFrame, dict]:
    """One test of the networks of all sizes: a row each profile and model, and its facts.

    The test is ``subset_<model>.csv`` among one's own or the committed results. Columns: network,
    blocks x channels, steps, FLOPs of an effect among 27 (% of the CResMD of its size), PSNR (dB)
    and how much of it is lost against that CResMD.
    """
    rows, sizes, about = [], [], {}
    for profile in PROFILES.values():
        scored = _scored(profile.name, "subset", paths.RESULTS, paths.SHIPPED_RESULTS)
        best = scored["cresmd"][1]["psnr"] if "cresmd" in scored else np.nan
        for model, (_, facts) in scored.items():
            card = checkpoints.load_card(model, profile.name)
            rows.append({
                "network": f"{MODEL_LABELS[model]}, {profile.name}",
                "blocks x channels": f"{profile.blocks} x {profile.channels}",
                "steps": card["steps_done"],
                "FLOPs of an effect, M = 27, %": round(100 * card["flops_m27"], 1),
                "PSNR, dB": round(facts["psnr"], 2),
                "less than its CResMD, dB": round(best - facts["psnr"], 2),
            })  # fmt: skip
        if scored:
            sizes.append(profile.name)
            about = {"photos": facts["images"], "profile": ", ".join(sizes)}
            about |= {key: facts[key] for key in ("seed", "data", "crop")}
    return pd.DataFrame(rows), about


def own_tasks(profile: str) -> tuple[pd.DataFrame, dict]:
    """PSNR (dB) of inputs restored by their own tasks alone: a row a model; and the test's facts.

    It is ``own_<model>.csv`` among the committed results, by ``evaluate --own``: no more than the
    best of 27 effects would have.
    """
    scored = _scored(profile, "own", paths.SHIPPED_RESULTS)
    psnr = pd.Series({model: facts["psnr"] for model, (_, facts) in scored.items()}, dtype=float)
    table = pd.DataFrame({
        "model": [MODEL_LABELS[model] for model in psnr.index], "PSNR, dB": psnr.to_numpy(),
        "less than CResMD, dB": (psnr.get("cresmd", np.nan) - psnr).to_numpy(),
    })  # fmt: skip
    facts = next((facts for _, facts in scored.values()), {})
    keys = {"photos": "images", "data": "data", "crop": "crop"}
    return table.round(2), {key: facts[name] for key, name in keys.items() if facts}


def further_steps(profile: str) -> tuple[pd.DataFrame, dict]:
    """What further steps brought the searched networks of a profile, by the test of sizes_table.

    What that test gave a network of fewer steps is committed as ``subset_<model>_<steps>.csv``.
    A row a network and number of steps: model, steps, and lost, the PSNR (dB) lost against CResMD.
    And the facts of the test.
    """
    now = _scored(profile, "subset", paths.SHIPPED_RESULTS)
    rows = [(model, checkpoints.load_card(model, profile)["steps_done"], facts["psnr"])
            for model, (_, facts) in now.items()]  # fmt: skip
    for path in (paths.SHIPPED_RESULTS / profile).glob("subset_*_*.csv"):
        _, model, steps = path.stem.split("_")
        rows.append((model, int(steps), provenance.load_facts(path)["psnr"]))
    table = pd.DataFrame(rows, columns=["model", "steps", "psnr"])
    best = now["cresmd"][1] if "cresmd" in now else {}
    table = table[table["model"] != "cresmd"].sort_values(["model", "steps"], ignore_index=True)
    about = {key: best.get(key) for key in ("seed", "data", "crop")} | {
        "photos": best.get("images"), "weights": checkpoints.weights_fingerprint(profile),
    }  # fmt: skip
    return table.assign(lost=best.get("psnr", np.nan) - table.pop("psnr")), about


def further_by_damage(profile: str, model: str) -> pd.DataFrame:
    """By the same test, what a network loses against CResMD (dB) by type of degradation: a column
    each number of steps.
    """
    folder, columns = paths.SHIPPED_RESULTS / profile, {}
    best = provenance.load_csv(folder / "subset_cresmd.csv")
    kinds = pd.Series([degradation_type(levels) for levels in _levels(best)])
    files = {int(path.stem.split("_")[2]): path for path in folder.glob(f"subset_{model}_*.csv")}
    card = checkpoints.files(model, profile, paths.SHIPPED)["card"]
    shipped = provenance.load_facts(card)["steps_done"]
    for steps, path in sorted((files | {shipped: folder / f"subset_{model}.csv"}).items()):
        lost = best["psnr"] - provenance.load_csv(path)["psnr"]
        columns[f"{steps:,} steps"] = {**lost.groupby(kinds).mean(), "all": lost.mean()}
    return pd.DataFrame(columns).reindex(DAMAGES).round(2).rename_axis("lost, dB").reset_index()


def draw_further_steps(table: pd.DataFrame) -> Figure:
    """PSNR lost against CResMD by the steps that a searched network has had, and the paper's.

    table: a further_steps. The paper's (stars) lost theirs on other photographs.
    """
    psnr = paper.table("table2").query("column == 'psnr'").set_index("method")["value"]
    iterations = paper.value("claims", column="iterations")
    (figure, axis), marks = subplots(figsize=(PAGE_WIDTH, 2.6)), []
    for model, rows in table.groupby("model"):
        colour, end = MODEL_COLOURS[model], rows.iloc[-1]
        axis.plot(rows["steps"], rows["lost"], "o-", ms=4, color=colour)
        axis.plot(iterations, psnr["cresmd"] - psnr[model], "*", ms=9, mfc="white", color=colour)
        marks.append((end["steps"], end["lost"], MODEL_LABELS[model], colour))
    axis.set(
        xscale="log",
        ylabel="PSNR lost against\nthe own CResMD, dB",
        xlabel="steps on top of CResMD's (stars: the paper's, on whole photographs)",
    )
    axis.set_ylim(0)
    name_marks(axis, marks)
    return figure


def check_table2(frames: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """What Section 4.2 reads out of Table 2, asked of ours.

    frames: of measure.quality.evaluate by model, on the same photos. A verdict is undecided where
    other photos could turn it.
    """
    searched = [("tsnet", "cresmd"), ("ta-tsnet", "cresmd")]
    relative = [("tsnet-m", "tsnet"), ("ta-tsnet-m", "ta-tsnet")]
    rows = []
    for metric, what, pairs in (
        ("psnr", "less PSNR", searched + relative),
        ("niqe", "a better, which is a lower, NIQE", searched),
    ):
        for model, other in pairs:
            numbers, less = [], None
            if all(metric in frames.get(name, ()) for name in (model, other)):
                one, two = (
                    frames[name].groupby("image", sort=False)[metric].mean()
                    for name in (model, other)
                )
                lost = (two - one).to_numpy()
                numbers, less = [one.mean(), two.mean(), *bootstrap(lost)], positive(lost)
            rows.append(compare.verdict(
                f"{MODEL_LABELS[model]} has {what} than {MODEL_LABELS[other]} "
                "(95% interval of the difference)", numbers, less, 2,
                "{} against {}, less by {} to {}",
            ))  # fmt: skip
    return pd.DataFrame(rows)


def whole_photos(profile: str) -> tuple[dict[str, pd.DataFrame], dict]:
    """Scores of whole photographs by model, and the facts that they have in common.

    They are ``whole_<model>.csv`` among one's own results of the profile; ``date`` is the last.

    Raises UserError if they are not of the same photographs.
    """
    scored = _scored(profile, "whole", paths.RESULTS)
    if not scored:
        return {}, {}
    first, *others = facts = [facts for _, facts in scored.values()]
    common = {
        key: value for key, value in first.items()
        if all(other.get(key) == value for other in others)
    }  # fmt: skip
    frames = {model: provenance.load_csv(path) for model, (path, _) in scored.items()}
    return frames, common | {"date": max(each["date"] for each in facts)}


def unmeasured(frames: Mapping[str, pd.DataFrame], crop: int | None) -> dict[str, str]:
    """Metric -> why it was not measured, with the cure."""
    there, reasons = metrics.computable(), {}
    least = {"ssim": "11 x 11 pixels", "niqe": "96 x 192 pixels of detail",
             "lpips": "31 x 31 pixels"}  # fmt: skip
    for name in metrics.METRICS:
        if not there[name]:
            reasons[name] = "the weights are missing; run `python -m cirlib data weights`"
        elif any(frame[name].isna().any() for frame in frames.values() if name in frame):
            size = f", and a crop is {crop} x {crop}: take a larger `crop`" if crop else ""
            reasons[name] = f"it is defined from {least[name]} on{size}"
    return reasons


def gains(frames: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """PSNR in dB by type of degradation: the inputs', and how much each model's best effect gains.

    A column a model, rows from a single degradation to all three, and all inputs last.
    """
    columns = {}
    for model, frame in frames.items():
        frame = frame.assign(kind=[degradation_type(levels) for levels in _levels(frame)])
        groups = pd.concat([frame, frame.assign(kind="all")]).groupby("kind")
        means = groups[["psnr", "input_psnr"]].mean()
        columns = columns or {"inputs": groups.size(), "input PSNR": means["input_psnr"]}
        columns[f"{MODEL_LABELS[model]}, gain"] = means["psnr"] - means["input_psnr"]
    table = pd.DataFrame(columns, index=DAMAGES).round(2)
    return table.rename_axis("degraded by").reset_index()


def best_levels(frame: pd.DataFrame) -> np.ndarray:
    """How often which level was best by PSNR: 3 (type) x 3 (true level) x 3 (best level).

    Levels 0, 1, 2 are none, half and full strength.
    """
    counts = np.zeros((3, 3, 3), int)
    for levels, best in zip(_levels(frame), frame["best_psnr"], strict=True):
        pairs = zip(levels_to_task(levels), TASKS[int(best)], strict=True)
        for d, (true, chosen) in enumerate(pairs):
            counts[d, round(2 * true), round(2 * chosen)] += 1
    return counts


def draw_best_levels(counts: np.ndarray) -> Figure:
    """best_levels as three maps: of the inputs with a true level, which share had which best."""
    figure, axes = subplots(1, 3, sharey=True, figsize=(PAGE_WIDTH, 2.35))
    for title, one, axis in zip(("blur", "noise", "JPEG"), counts, axes, strict=True):
        shares = one / np.maximum(one.sum(1, keepdims=True), 1)  # true x best
        axis.imshow(shares.T, vmin=0, vmax=1, origin="lower", cmap="Blues")
        for (true, best), share in np.ndenumerate(shares):
            colour = "white" if share > 0.6 else "black"
            axis.text(true, best, f"{100 * share:.0f} %", ha="center", va="center", color=colour)
        axis.set_xticks(range(3), ["none", "half", "full"])
        axis.set_yticks(range(3), ["none", "half", "full"])
        axis.set(title=title, xlabel="true level", xlim=(-0.5, 2.5), ylim=(-0.5, 2.5))
        axis.grid(False)
    axes[0].set_ylabel("best restoration level")
    return figure


def _levels(frame: pd.DataFrame) -> list[Levels]:
    """Of each row; pandas turns a missing quality into NaN."""
    qualities = [None if pd.isna(q) else int(q) for q in frame["q"]]
    return [Levels(*levels) for levels in zip(frame["r"], frame["sigma"], qualities, strict=True)]
