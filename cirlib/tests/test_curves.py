"""Training logs as figures and numbers; what a search has found, and equations beside code."""

import pandas as pd
import pytest

from cirlib import checkpoints
from cirlib.base import paths
from cirlib.report import compare, equations, searched, training
from cirlib.search import gate
from cirlib.tests.conftest import random_searched

CARD = {"steps": 50, "halve_at": [0.5], "share_from": 0.3, "freeze_from": 0.7}


def log(rows: int = 50) -> pd.DataFrame:
    step = pd.Series(range(1, rows + 1))
    return pd.DataFrame({
        "step": step, "L": 10 / step + 5, "psnr": 25 + step / rows, "flops_m1": 1 - step / 100,
        "flops_m27": 1 - step / 80, "shared_layers": step / 100,
    })  # fmt: skip


@pytest.fixture
def trained():
    """A checkpoint of TA+TSNet with a log and a card."""
    card = CARD | {"shared_layers": 0.25, "flops_m1": 0.5, "flops_m27": 0.125}
    checkpoints.save(random_searched("ta-tsnet", seed=0), card, log().to_csv(index=False))


@pytest.mark.parametrize(
    ("models", "panels", "borders"),
    [
        (["cresmd"], 2, 1),
        (["tsnet"], 3, 1),
        (["ta-tsnet"], 4, 2),
        (["tsnet-m", "ta-tsnet-m"], 4, 2),
    ],
)
def test_panels_and_phases_suit_the_models(models, panels, borders):
    figure = training.training_curves({model: log() for model in models}, CARD)
    assert len(figure.axes) == panels
    for axis in figure.axes:
        dotted = [line for line in axis.lines if line.get_linestyle() == ":"]
        assert len(dotted) == borders


def test_a_short_log_is_drawn(trained):
    training.training_curves({"ta-tsnet": log(1)}, CARD)


def test_curves_are_saved_and_what_is_missing_is_said(trained, capsys):
    assert training.show_training(["ta-tsnet", "tsnet"], "tiny", "training") is not None
    assert capsys.readouterr().out == "TSNet is not trained yet for profile tiny: no curves.\n"
    assert {file.name for file in (paths.FIGURES / "tiny").iterdir()} == {
        "training.json",
        "training.pdf",
        "training.png",
    }
    assert training.show_training(["tsnet"], "tiny", "none") is None


def test_our_costs_meet_the_papers(trained):
    models = ["tsnet", "ta-tsnet", "ta-tsnet-m"]
    ours = training.searched_costs(models, "tiny")
    assert ours["value"].tolist() == [25, 50, 12.5]
    published = training.published_searches(models)
    assert published["value"].tolist() == [0, 21.6, 20.9, 62, 28.0, 4.0]  # of 189.1 GFLOPs
    both = compare.compare(published, ours, {"share_of_cresmd": 22, "shared_layers": 15})
    assert both.loc[both["ours"].notna(), "within tolerance"].tolist() == [False, True, True]


def test_gate_map_is_the_same_for_all_tasks_as_far_as_the_trunk_reaches():
    figure = searched.draw_gate_map(random_searched("ta-tsnet", seed=0, shared_points=5))
    kept = figure.axes[0].images[0].get_array()
    assert len(kept) == 27 and 0 <= kept.min() < kept.max() <= 100
    assert kept.mask[0].all() and not kept.mask[1:].any()  # of (0, 0, 0) nothing runs
    assert [bool((row == row[0]).all()) for row in kept[1:].T[:6]] == [True] * 5 + [False]


def test_trunk_reaches_as_far_as_the_log_says():
    figure = searched.draw_trunk(log(), CARD)
    assert figure.axes[0].collections[1].get_datalim(figure.axes[0].transData).y1 == 50


@pytest.mark.parametrize(
    "step, again, phases",
    [(50, {}, (15, 35, 50)), (20, {}, (24, 56)), (50, {"again": 10}, (15, 35, 50, 60))],
)
def test_phases_of_a_finished_search_stay_where_they_were_when_it_gets_further_steps(
    step, again, phases
):
    stretch = {"step": step, "until_then": {"steps": 50}} | again
    longer = CARD | {"steps": 80, "continued": [stretch]}
    figure = searched.draw_trunk(log(80), longer)
    spans = [axis.get_xlim() for axis in figure.axes[: 1 + bool(again)]]
    assert spans == [(0, 50 if step == 50 else 80)] + [(50, 60)] * bool(again)
    figure = training.training_curves({"ta-tsnet": log(80)}, longer)
    lines = [line.get_xdata()[0] for line in figure.axes[2].lines if line.get_linestyle() == ":"]
    assert lines == pytest.approx(phases)
    names = [text.get_text() for text in figure.axes[2].texts]
    assert names[-1] == ("frozen" if again or step < 50 else "further")
    assert ("again" in names) == bool(again)


def test_equations_are_shown_beside_the_code_that_runs_and_their_numbers():
    shown = equations.show_source(gate).data
    assert shown.startswith("`cirlib/search.py`") and "def gate(z: Tensor)" in shown
    figure = equations.heat_maps({"z": [[0.6, -0.4], [0, 1]], "s": [True, False]})
    texts = [text.get_text() for axis in figure.axes for text in axis.texts]
    assert texts == ["0.6", "-0.4", "0", "1", "1", "0"]
    for verdict, word in ((True, "Yes"), (False, "No"), (None, "Cannot be compared")):
        assert f"** {word}: it" in equations.holds(verdict, "it").data
