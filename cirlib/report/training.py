"""Training logs as figures, and where a search ended beside what the paper reports (Table 3)."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cirlib import checkpoints
from cirlib.data import paper
from cirlib.profiles import MODELS
from cirlib.report import cost as cost_report
from cirlib.report.compare import compare
from cirlib.report.cost import PAPER_NET
from cirlib.report.figures import MODEL_COLOURS, MODEL_LABELS, PAGE_WIDTH, save_figure, subplots
from cirlib.report.tables import to_markdown
from cirlib.training import reopened, schedule

SHARE = "share_of_cresmd"
PHASES = ("channels", "+ layers", "frozen")  # of the search, see profiles.Profile
# column of the log -> title of its panel, factor, line style
_LOSSES = ({"L": ("restoration loss L (grey levels)", 1, "-")},
           {"psnr": ("PSNR of training patches (dB)", 1, "-")})  # fmt: skip
_SEARCH = (
    {"flops_m1": ("FLOPs of an effect (% of CResMD's)", 100, "-"), "flops_m27": ("", 100, "--")},
    {"shared_layers": ("task-agnostic layers (%)", 100, "-")},
)


def training_curves(logs: Mapping[str, pd.DataFrame], card: Mapping) -> Figure:
    """Draw the logs of models trained by one schedule, with the phases of their search.

    logs: model -> its log, as checkpoints.load_log reads it. card: of one of them, whose
    ``halve_at``, ``share_from`` and ``freeze_from`` are fractions of its schedule. Loss and PSNR
    hang on which degradations are drawn, so they are faint, with a running mean on top. For
    searched models, solid FLOPs are of one effect alone (M = 1) and dashed ones of one among 27,
    which share the trunk.
    """
    steps = card["steps"]
    searched = any(MODELS[model].searched for model in logs)
    shared = any(MODELS[model].shared for model in logs)
    panels = _LOSSES + (_SEARCH if shared else _SEARCH[:1] if searched else ())
    columns = 3 if len(panels) == 3 else 2
    rows = len(panels) // columns
    figure, axes = subplots(rows, columns, sharex=True, squeeze=False,
                            figsize=(PAGE_WIDTH * columns / 2, 0.4 + 1.8 * rows))  # fmt: skip
    for axis, panel in zip(axes.flat, panels, strict=True):
        for model, log in logs.items():
            for column, (_, factor, style) in panel.items():
                _draw_curve(axis, log["step"], factor * log[column], model, style, panel in _LOSSES)
        axis.locator_params("x", nbins=5)
        axis.set_title(next(iter(panel.values()))[0])
        if panel in _SEARCH:
            axis.set_ylim(-3, 122)  # room for the phases' names
            axis.set_yticks(range(0, 101, 20))
    named = [axis for axis, panel in zip(axes.flat, panels, strict=True) if panel in _SEARCH]
    borders, names = _phases(card, shared) if searched else (
        [fraction * steps for fraction in card["halve_at"]], ())  # fmt: skip
    _mark(axes, named, borders, steps, names)
    over = {"frameon": True, "framealpha": 1, "edgecolor": "none"}  # over the dotted lines
    if len(logs) > 1:
        axes[0, 1].legend(loc="lower right", **over)
    else:
        figure.suptitle(MODEL_LABELS[next(iter(logs))], fontsize=9.5)
    if shared:
        styles = [axes[1, 0].plot([], [], style, color="0.4")[0] for style in ("-", "--")]
        axes[1, 0].legend(styles, ["M = 1", "M = 27"], loc="upper right",
                          bbox_to_anchor=(1, 0.9), **over)  # fmt: skip
    for axis in axes[-1]:
        halved = not searched and len(borders)
        axis.set_xlabel("step (dotted: learning rate halved)" if halved else "step")
    return figure


def _phases(card: Mapping, shared: bool) -> tuple[list[float], list[str]]:
    """The steps at which the phases of a search change, and the names of all phases."""
    stretches = card.get("continued", ())
    begun, span = schedule(card["steps"], stretches), reopened(stretches)
    names = [*PHASES] if shared else [PHASES[0], PHASES[2]]
    borders = [card[key] * begun for key in ("share_from", "freeze_from")[not shared :]]
    if begun < (span[0] if span else card["steps"]):
        borders, names = [*borders, begun], [*names, "further"]
    if span:
        borders, names = [*borders, *span], [*names, "again", PHASES[2]]
    return borders, names


def _draw_curve(axis: Axes, steps, values: pd.Series, model: str, style: str, noisy: bool) -> None:
    colour = MODEL_COLOURS[model]
    if noisy:
        axis.plot(steps, values, color=colour, alpha=0.2, linewidth=0.8)
        rows = max(len(values) // 25, 40 * len(values) // int(steps.max()))  # 40 steps at least
        values = values.rolling(rows + 1, center=True, min_periods=1).mean()
    axis.plot(steps, values, style, color=colour, label=MODEL_LABELS[model])


def _mark(axes, named, borders: Sequence[float], steps: int, names: Sequence[str]) -> None:
    """Dotted lines where something changes; ``named`` axes say what lies between them."""
    for axis in axes.flat:
        axis.set_xlim(0, steps)
        for border in borders:
            axis.axvline(border, color="0.5", linestyle=":", linewidth=1, zorder=0)
    starts = (0, *borders)
    short = min(b - a for a, b in pairwise((*starts, steps))) < 0.2 * steps
    lower = 8 if short else 0  # the second and third of three names
    for axis in named:
        for k, (name, start) in enumerate(zip(names, starts, strict=False)):
            axis.annotate(name, (start, 0.99), (2, -lower * (k % 3)), va="top", fontsize=6.5,
                          color="0.35", xycoords=axis.get_xaxis_transform(),
                          textcoords="offset points",
                          bbox={"fc": "white", "ec": "none", "pad": 0.3})  # fmt: skip


def show_training(models: Sequence[str], profile: str, name: str) -> Figure | None:
    """Draw, save and return the curves of those of ``models`` that are trained; say who is not."""
    trained = [model for model in models if model in checkpoints.available(profile)]
    for model in models:
        if model not in trained:
            print(f"{MODEL_LABELS[model]} is not trained yet for profile {profile}: no curves.")
    if not trained:
        return None
    logs = {model: checkpoints.load_log(model, profile) for model in trained}
    cards = [checkpoints.load_card(model, profile) for model in trained]
    longest = max(cards, key=lambda card: card["steps"])
    figure = training_curves(logs, longest)
    save_figure(figure, name, profile, {"seed": longest.get("seed"), "data": longest.get("images")})
    return figure


def searched_costs(models: Sequence[str], profile: str) -> pd.DataFrame:
    """What the searches ended with: one number a row, %, for compare.compare.

    share_of_cresmd: FLOPs of an effect, mean over the 27 tasks, without dead channels. Models that
    are not trained have no rows.
    """
    rows = []
    for model in (model for model in models if model in checkpoints.available(profile)):
        card = checkpoints.load_card(model, profile)
        rows += [(model, "shared_layers", None, 100 * card["shared_layers"])]
        rows += [(model, SHARE, M, 100 * card[f"flops_m{M}"]) for M in (1, 27)]
    frame = pd.DataFrame(rows, columns=["method", "column", "effects", "value"])
    return frame.astype({"effects": "Int64"})


def published_searches(models: Sequence[str]) -> pd.DataFrame:
    """The same numbers of the paper's Table 3, which has TSNet and TA+TSNet."""
    theirs = cost_report.published_costs()
    theirs = theirs[(theirs["resolution"] == "HVGA") & (theirs["column"] != "flops")]
    parts = [theirs[theirs["method"] == model].drop(columns="resolution") for model in models]
    return pd.concat(parts, ignore_index=True)


def compare_searches(models: Sequence[str], *profiles: str) -> str:
    """Where searches ended beside the paper's Table 3, as markdown, a table a profile."""
    theirs, tables = published_searches(models), []
    for name in dict.fromkeys(profiles):
        ours = searched_costs(models, name)
        table = compare(theirs, ours, dict.fromkeys(ours["column"], 0))
        table = to_markdown(table.drop(columns=["tolerance", "within tolerance"]))
        tables.append(f"**Profile {name}**\n\n" + ("not trained yet" if ours.empty else table))
    return "\n\n".join(tables)


def training_view(profile: str) -> pd.DataFrame:
    """How the models of a profile were made, from their cards, below how the paper's were.

    A searched model's steps come on top of those of the CResMD it starts from.
    """
    blocks, channels = PAPER_NET
    theirs = {
        name: int(paper.value("claims", column=name))
        for name in ("iterations", "batch_size", "train_images")
    }
    rows = [{"model": "the paper's", "blocks x channels": f"{blocks} x {channels}",
             "steps": f"{theirs['iterations']:,}", "patches a step": theirs["batch_size"],
             "photographs": theirs["train_images"], "from": "DIV2K"}]  # fmt: skip
    for model in checkpoints.available(profile):
        card = checkpoints.load_card(model, profile)
        rows.append({"model": MODEL_LABELS[model],
                     "blocks x channels": f"{card['blocks']} x {card['channels']}",
                     "steps": f"{card['steps_done']:,}", "patches a step": card["batch"],
                     "photographs": card["photos"], "from": card["images"]})  # fmt: skip
    return pd.DataFrame(rows)
