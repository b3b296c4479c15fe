"""Reports: counts match the paper's, missing models and metrics say so, best levels are counted."""

import math

import matplotlib

matplotlib.use("Agg")

import numpy as np
import pandas as pd
import pytest

from cirlib import checkpoints
from cirlib.base import paths, provenance
from cirlib.base.files import UserError
from cirlib.cost import Cost
from cirlib.data import paper
from cirlib.degradation import TASK_LEVELS, Levels
from cirlib.measure import metrics
from cirlib.profiles import MODELS
from cirlib.report import compare, cost, quality, suggestion, training
from cirlib.search import build
from cirlib.tests.conftest import TINY, random_searched

TOLERANCE = {"flops": "0.2%", "share_of_cresmd": 2, "shared_layers": 10}
CARD = {"blocks": 3, "channels": 8, "steps_done": 6, "batch": 4, "photos": 5,
        "images": "embedded", "hours": 0.1}  # fmt: skip


@pytest.fixture
def trained():
    checkpoints.save(build(MODELS["cresmd"], TINY, seed=0), CARD, "step\n")
    checkpoints.save(random_searched("tsnet", seed=1), CARD, "step\n")
    checkpoints.save(random_searched("ta-tsnet", seed=2, shared_points=6), CARD, "step\n")
    return cost.architectures("tiny")


def scores(best=lambda k: k, psnr=30.0):
    """A frame as measure.quality.evaluate makes it, of one image."""
    rows = [
        {"image": "cat", **TASK_LEVELS[k]._asdict(), "input_psnr": 25.0, "psnr": psnr, "ssim": 0.9,
         "niqe": np.nan, "lpips": 0.2, "best_psnr": best(k), "best_niqe": None}
        for k in range(1, 27)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def test_rules_are_scored_by_what_they_gain_and_harm():
    frame = pd.DataFrame({
        "image": ["one", "two", "two"], "kind": ["noise", "noise", "clean photo"],
        "nothing": [20.0, 30, 48.1], "known damage": [25.0, 34, 48.1],
        "suggested": [24.0, 29.8, 48.1], "nearest of 27": [19.0, 30, 40],
    })  # fmt: skip
    table = suggestion.suggestion_table({"tsnet": frame})
    figure = suggestion.draw_suggestions(table)
    told = [text.get_text() for text in figure.axes[0].texts]
    assert told == ["50% worse", "50% worse", "0% worse"]
    table = table.set_index(["kind", "rule"])
    all_, clean = table.loc["all damaged"], table.loc["clean photo"]
    assert all_["gained"].to_dict() == pytest.approx(
        {"known damage": 4.5, "suggested": 1.9, "nearest of 27": -0.5}
    )
    assert all_["harmed"].tolist() == [0, 50, 50] and (all_["inputs"] == 2).all()
    assert all_["worst"].tolist() == pytest.approx([0, 0.2, 1])
    assert all_.loc["suggested", ["low", "high"]].tolist() == pytest.approx([-0.2, 4])
    assert clean["harmed"].tolist() == [0, 0, 100]
    assert table.loc["noise"].equals(all_)


def test_closed_form_meets_every_printed_number():
    table = cost.closed_form()
    assert list(table["image"]) == ["HD", "2K", "4K", "HVGA"]
    assert (table["match"] == "yes").all()
    assert table["counted"][0] == "1124.3" and table["public tail"][0] == "1226.2"


def test_share_does_not_depend_on_the_image(trained):
    costs = cost.cost_table(trained, {"even": (64, 48), "odd": (481, 321)})
    for _, rows in costs.groupby(["model", "effects"]):
        assert np.ptp(rows["share_of_cresmd"]) < 1e-9


def test_cost_table_is_eq_4(trained):
    costs = cost.cost_table(trained, {"small": (32, 32)})
    assert np.allclose(costs["flops"], costs["trunk"] / costs["effects"] + costs["head"])
    assert (costs["flops"] <= costs["searched"]).all()
    assert set(costs["model"]) == {"cresmd", "tsnet", "ta-tsnet"}


def test_views_have_a_row_for_every_model(trained):
    costs = cost.cost_table(trained)
    for view in (cost.cost_view(costs, "tiny", 27), cost.parts_view(costs, "tiny", "HVGA")):
        notes = dict(zip(view["model"], view["note"], strict=True))
        assert notes["TA+TSNet"] == ""
        assert notes["TSNet-m"] == compare.NOT_TRAINED


def test_super_network_can_be_counted_before_anything_is_trained():
    costs = cost.cost_table(cost.architectures("tiny"))
    notes = list(cost.cost_view(costs, "tiny", 1)["note"])
    assert notes == ["", *[compare.NOT_TRAINED] * 4]
    comparison = cost.compare_costs(costs, "tiny", TOLERANCE)
    cresmd = comparison[comparison["method"] == "cresmd"]
    assert cresmd["within tolerance"].all()  # the paper-size network, whatever the profile
    assert (comparison[comparison["method"] != "cresmd"]["note"] == compare.NOT_TRAINED).all()


def test_flops_are_compared_of_cresmd_and_shares_of_what_is_searched(trained):
    found = cost.compare_costs(cost.cost_table(trained), "tiny", TOLERANCE)
    methods = found.groupby("column")["method"].agg(set)
    assert methods["flops"] == {"cresmd"}
    assert methods["share_of_cresmd"] == methods["shared_layers"] == {"tsnet", "ta-tsnet"}


def test_each_miss_gets_a_sentence_and_nothing_else_does(trained):
    comparison = cost.compare_costs(cost.cost_table(trained), "tiny", TOLERANCE)
    sentences = compare.misses(comparison)
    assert len(sentences) == (~comparison["within tolerance"].fillna(True)).sum() > 0
    assert all("the paper's" in sentence for sentence in sentences)


def test_published_growth_goes_through_both_published_points():
    curve = cost.published_growth("ta-tsnet")
    assert curve.per_effect(1) == pytest.approx(52.9)
    assert curve.per_effect(27) == pytest.approx(7.5)
    assert cost.published_growth("ta-tsnet-m") is None


def test_figure_5_pays_the_trunk_with_the_first_effect_alone():
    net = random_searched("ta-tsnet", seed=2, shared_points=6)
    tasks = [(level, 0, 0) for level in (0.25, 0.5, 1)]
    pictures = [np.zeros((8, 8, 3), np.uint8)] * 4
    figure = cost.draw_figure5({"ta-tsnet": net}, (64, 48), {"deblur": pictures},
                               {"deblur": tasks}, {"deblur": Levels(4, 0, None)})  # fmt: skip
    heads, once, saved = figure.axes[1].containers
    assert [len(bars) for bars in (heads, once, saved)] == [3, 1, 2]
    spent = sum(bar.get_height() for bar in (*heads, *once))
    found = cost.costs_as_run({"ta-tsnet": [net.architecture(task) for task in tasks]}, (64, 48))
    assert spent == pytest.approx(3 * found["ta-tsnet"].per_effect(3) / 1e9)
    assert all(bar.get_hatch() and not bar.get_fill() for bar in saved)
    assert f"TA+TSNet {spent:.3g}" in figure.axes[1].get_title(loc="left")


def test_growth_of_a_shared_trunk_falls_to_its_heads():
    costs = {"cresmd": Cost(0.0, (100.0,)), "ta-tsnet": Cost(40.0, (10.0,))}
    (axis,) = cost.draw_cost_growth(costs, most=1000).axes
    line = next(x for x in axis.lines if x.get_label() == "TA+TSNet, ours")
    assert line.get_ydata()[0] == pytest.approx(50)
    assert line.get_ydata()[-1] == pytest.approx(10.04)
    cost.draw_cost_growth({"cresmd": costs["cresmd"]}).canvas.draw()  # before others are trained


def test_degradation_types_of_the_26_inputs():
    kinds = pd.Series([quality.degradation_type(levels) for levels in TASK_LEVELS[1:]])
    assert kinds.value_counts().to_dict() == {
        "two of them": 12, "all three": 8, "blur only": 2, "noise only": 2, "JPEG only": 2,
    }  # fmt: skip


def test_what_the_paper_reads_out_of_table_2_holds_for_its_numbers_and_can_fail():
    value = paper.table("table2").set_index(["method", "column"])["value"]

    def photos(sign: int, *added: float) -> dict[str, pd.DataFrame]:
        """The paper's numbers as those of some photos, TSNet's with something added."""
        return {
            model: pd.DataFrame({
                "image": range(len(added)),
                **{metric: [sign * value[model, metric] + more * (model == "tsnet")
                            for more in added] for metric in ("psnr", "niqe")},
            })
            for model in MODELS
        }  # fmt: skip

    def holds(frames) -> list[str]:
        return quality.check_table2(frames)["holds"].tolist()

    assert holds(photos(1, 0, 0)) == ["yes"] * 6
    assert holds(photos(-1, 0, 0)) == ["no"] * 6
    assert holds({}) == ["not measured"] * 6
    assert holds(photos(1, 0)) == ["undecided"] * 6  # one photo
    torn = ["undecided", "yes", "undecided", "yes", "undecided", "yes"]
    assert holds(photos(1, -9, 9)) == torn
    no_niqe = {model: frame.drop(columns="niqe") for model, frame in photos(1, 0, 0).items()}
    assert holds(no_niqe) == ["yes"] * 4 + ["not measured"] * 2


def test_quality_table_counts_and_marks_what_is_missing():
    table = quality.quality_table({"cresmd": scores()}, crop=64)
    value = table.set_index("metric")["value"]
    assert value["psnr"] == 30
    assert pd.isna(value["niqe"])
    assert (table[["images", "inputs", "effects", "crop"]] == [1, 26, 27, 64]).all(axis=None)


def test_whole_photographs_are_told_of_networks_that_are_there_and_of_the_same_photos(
    trained,
):
    assert quality.whole_photos("tiny") == ({}, {})

    def save(model: str, psnr: float, fingerprint: str = "same", weights: str | None = None):
        weights = weights or checkpoints.digest(checkpoints.load(model, "tiny"))
        facts = {"seed": 0, "crop": None, "fingerprint": fingerprint, "weights": weights,
                 "model": model, "date": f"2031-01-{int(psnr)}"}  # fmt: skip
        provenance.save_csv(scores(psnr=psnr), paths.RESULTS / "tiny" / f"whole_{model}.csv", facts)

    save("cresmd", 30)
    save("tsnet", 29)
    save("ta-tsnet", 28, weights="replaced")
    frames, facts = quality.whole_photos("tiny")
    means = {model: frame["psnr"].mean() for model, frame in frames.items()}
    assert means == {"cresmd": 30, "tsnet": 29}
    assert facts["date"] == "2031-01-30" and facts["fingerprint"] == "same"
    assert "model" not in facts and "weights" not in facts
    save("tsnet", 29, fingerprint="another")
    with pytest.raises(UserError, match="different photographs"):
        quality.whole_photos("tiny")


def test_what_is_lost_is_lost_against_cresmd_and_else_not_known(trained, monkeypatch):
    monkeypatch.setattr(paths, "SHIPPED_RESULTS", paths.RESULTS)

    def save(model: str, psnr: float, fingerprint: str = "same"):
        weights = checkpoints.digest(checkpoints.load(model, "tiny"))
        facts = {"seed": 0, "data": "some", "crop": 8, "images": 1, "psnr": psnr,
                 "fingerprint": fingerprint, "weights": weights}  # fmt: skip
        provenance.save_csv(scores(psnr=psnr), paths.RESULTS / "tiny" / f"own_{model}.csv", facts)

    def lost() -> dict[str, float]:
        table, _ = quality.own_tasks("tiny")
        return dict(zip(table["model"], table["less than CResMD, dB"], strict=True))

    assert lost() == {}
    save("tsnet", 29)
    assert math.isnan(lost()["TSNet"])
    save("cresmd", 30)
    assert lost() == {"CResMD": 0, "TSNet": 1}
    assert quality.own_tasks("tiny")[1] == {"photos": 1, "data": "some", "crop": 8}
    save("tsnet", 29, fingerprint="another")
    with pytest.raises(UserError, match="different photographs"):
        lost()


def test_quality_comparison_names_untrained_models_and_unmeasured_metrics(trained):
    table = quality.quality_table({"cresmd": scores()}, crop=64)
    comparison = quality.compare_quality(
        table, "tiny", {"psnr": 0.25, "ssim": 0.01, "niqe": 0.5, "lpips": 0.02}
    )
    notes = comparison.set_index(["method", "column"])["note"]
    assert notes["cresmd", "psnr"] == ""
    assert notes["cresmd", "niqe"] == "not measured"
    assert notes["tsnet-m", "psnr"] == compare.NOT_TRAINED
    none = quality.compare_quality(quality.quality_table({}, crop=None), "tiny", {"psnr": 0.25})
    assert none["note"].isin((compare.NOT_TRAINED, "not measured")).all()


def test_a_miss_says_whether_it_is_better_or_worse(trained):
    table = quality.quality_table({"cresmd": scores(psnr=20.0)}, crop=64)
    tolerance = {"psnr": 0.25, "ssim": 0.01, "niqe": 0.5, "lpips": 0.02}
    sentences = compare.misses(quality.compare_quality(table, "tiny", tolerance))
    assert "5.9 dB below (worse than) the paper's 25.86 dB" in sentences[0]
    assert "below (better than)" in sentences[2]  # LPIPS: the lower the better


def test_unmeasured_metrics_come_with_the_cure(monkeypatch):
    monkeypatch.setattr(metrics, "computable", lambda: dict.fromkeys(metrics.METRICS, True))
    assert set(quality.unmeasured({"cresmd": scores()}, 64)) == {"niqe"}
    assert "larger `crop`" in quality.unmeasured({"cresmd": scores()}, 64)["niqe"]
    there = {"psnr": True, "ssim": True, "niqe": False, "lpips": False}
    monkeypatch.setattr(metrics, "computable", lambda: there)
    reasons = quality.unmeasured({"cresmd": scores()}, 64)
    assert set(reasons) == {"niqe", "lpips"}
    assert "python -m cirlib data weights" in reasons["lpips"]


def test_gains_are_means_over_the_inputs_of_a_type():
    table = quality.gains({"cresmd": scores(psnr=30.0), "tsnet": scores(psnr=28.0)})
    assert list(table["inputs"]) == [2, 2, 2, 12, 8, 26]
    assert (table["CResMD, gain"] == 5).all()
    assert (table["TSNet, gain"] == 3).all()


def test_best_levels_lie_on_the_diagonal_when_the_true_task_is_best():
    counts = quality.best_levels(scores(best=lambda k: k))
    assert counts.sum() == 3 * 26
    assert all((one == np.diag(np.diag(one))).all() for one in counts)
    off = quality.best_levels(scores(best=lambda k: 0))
    assert off[:, :, 1:].sum() == 0
    quality.draw_best_levels(counts).canvas.draw()


def test_training_view_starts_with_the_paper(trained):
    view = training.training_view("tiny")
    assert view["steps"][0] == "1,000,000"
    assert list(view["model"][1:]) == ["CResMD", "TSNet", "TA+TSNet"]


def test_a_claim_of_a_single_photo_has_no_interval():
    form = "{} against {}, more by {} to {}"
    told = [compare.verdict("a", [0.5, 0.4, 0.1, high], None, 2, form)["our numbers"]
            for high in (0.1, 0.2)]  # fmt: skip
    assert told == ["0.50 against 0.40, more by 0.10 (one photo: no interval)",
                    "0.50 against 0.40, more by 0.10 to 0.20"]  # fmt: skip
