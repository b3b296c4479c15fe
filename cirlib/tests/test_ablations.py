"""Tables 3 and 4 and Figure 7."""

import numpy as np
import pandas as pd
import pytest

from cirlib.data import paper
from cirlib.measure import ablations
from cirlib.profiles import ABLATIONS, SHORT
from cirlib.report import ablations as ablations_report


@pytest.fixture
def published() -> pd.DataFrame:
    """The paper's numbers in the form of ours, with a Figure 7 of its shape."""
    three, four = paper.table("table3"), paper.table("table4")
    rows = {}
    for name, model in ABLATIONS.items():
        if model.fixed is not None:
            percent = three["shared_layers"] == round(100 * model.fixed)
            rows[name] = three[percent & (three["method"] == "ta-tsnet-abl")]
    for experiment, name in ((1, "l1-d0.1"), (2, "l1-d1"), (3, "l1-d10"), (4, "l0.1-d1"),
                             (6, "l10-d1")):  # fmt: skip
        rows[f"ta-tsnet-{name}"] = four[four["experiment"] == experiment]
    rows[SHORT] = three[three["method"] == "ta-tsnet"]
    found = []
    for name, own in rows.items():
        value = {(row["column"], row["effects"] if pd.notna(row["effects"]) else None): row["value"]
                 for _, row in own.iterrows()}  # fmt: skip
        found.append({
            "model": name, "method": ablations.family(name), "steps": 1,
            "shared_layers": value["shared_layers", None], "psnr": value["psnr", None],
            "drop": 25.86 - value["psnr", None], "share_m1": value["flops", 1] / 1.891,
            "share_m27": value["flops", 27] / 1.891,
        })  # fmt: skip
    for factor, share, drop in ((1, 21, 0.1), (2, 14, 0.3), (4, 9, 0.5), (8, 5, 0.8), (16, 3, 1)):
        found.append({"model": f"tsnet-abl-{factor}", "method": "tsnet-abl", "steps": 1,
                      "share_m27": share, "drop": drop})  # fmt: skip
    return pd.DataFrame(found).reindex(columns=list(ablations.COLUMNS))


def photo_by_photo(frame: pd.DataFrame, *added: float) -> pd.DataFrame:
    """The drops of some photos: those of the frame, and TA+TSNet's with something added."""
    drops = frame.set_index("model")["drop"]
    ours = drops.index == SHORT
    return pd.DataFrame([drops + more * ours for more in added])


def checked(frame: pd.DataFrame, *added: float) -> list[pd.DataFrame]:
    drops = photo_by_photo(frame, *(added or (0, 0, 0)))
    return [ablations_report.check_table3(frame, drops), ablations_report.check_table4(frame),
            ablations_report.check_figure7(frame, drops)]  # fmt: skip


def test_the_papers_conclusions_hold_for_the_papers_numbers(published):
    for claims in checked(published):
        assert set(claims["holds"]) == {"yes"}


def test_conclusions_can_fail(published):
    wrong = published.assign(psnr=-published["psnr"], share_m1=130 - published["share_m1"],
                             shared_layers=100 - published["shared_layers"],
                             share_m27=130 - published["share_m27"],
                             drop=-published["drop"])  # fmt: skip
    for claims in checked(wrong)[:2]:
        assert set(claims["holds"]) == {"no"}
    better = published.assign(drop=-published["drop"])
    assert set(checked(better)[2]["holds"]) == {"no"}


def test_where_photos_disagree_a_comparison_at_equal_flops_is_undecided(published):
    for added, word in (((-0.1, 0, 0.1), "yes"), ((-2, 0, 2), "undecided"), ((0,), "undecided")):
        three, _, seven = checked(published, *added)
        assert three["holds"].iloc[-1] == seven["holds"].iloc[-1] == word


def test_networks_of_unequal_training_are_not_compared_at_equal_flops(published):
    longer = published.assign(steps=published["steps"] + published["model"].eq("tsnet-abl-2"))
    three, _, seven = checked(longer)
    assert three["holds"].iloc[-1] == "yes" and seven["holds"].iloc[-1] == "not measured"


def test_where_photos_disagree_an_order_is_undecided():
    drops = pd.DataFrame({"a": [0, 0, 0], "b": [0.1, 0.2, 0.3], "c": [0.4, 0.1, 0.5]})
    assert ablations_report.growing(drops, ["a", "b"]) is True
    assert ablations_report.growing(drops, ["b", "a"]) is False
    assert ablations_report.growing(drops, ["a", "b", "c"]) is None
    assert ablations_report.growing(drops, ["c", "b", "a"]) is False
    assert ablations_report.growing(drops[:1], ["a", "b"]) is None
    assert ablations_report.growing(drops, ["a", "d"]) is None


def test_what_is_not_trained_is_not_measured(published):
    none = published.iloc[:0]
    for claims in checked(none):
        assert set(claims["holds"]) == {"not measured"}
    few = published[published["model"] != "tsnet-abl-16"]
    assert set(checked(few)[2]["holds"]) == {"not measured"}
    assert ablations_report.table3(none)["PSNR drop, dB"].isna().all()
    assert ablations_report.draw_figure7(none)
    assert ablations_report.draw_table3(ablations_report.table3(none))


def test_tables_lay_ours_beside_the_same_row_of_the_paper(published):
    for table in (ablations_report.table3(published), ablations_report.table4(published)):
        measured = table[table["model"] != "TSNet"].dropna(subset="PSNR drop, dB")
        for title in ablations_report.OURS.values():
            assert np.allclose(measured[title], measured[f"{title} (paper)"], atol=0.011)
    four = ablations_report.table4(published)
    assert four["model"].iloc[0] == "1 x lambda1, 0.1 x lambda2" and len(four) == 5
    assert four["lambda1 (paper)"].tolist() == pytest.approx([5e-11] * 3 + [5e-12, 5e-10])
    assert four["lambda2 (paper)"].tolist() == pytest.approx([1e-3, 1e-2, 1e-1, 1e-2, 1e-2])


def test_what_is_task_specific_follows_from_the_flops_of_one_and_of_many_effects(published):
    table = ablations_report.table4(published)
    parts = ablations_report.task_specific(table, "tiny")  # where nothing is trained
    title = "task-specific FLOPs, % of CResMD"
    assert np.allclose(parts[title], parts[f"{title} (paper)"], atol=0.01)
    assert parts["channels at the first point not shared"].isna().all()
    U = parts[title]
    S = table["FLOPs at M = 1, % of CResMD"] - U
    assert np.allclose(S / 27 + U, table["FLOPs at M = 27, % of CResMD"])
    assert U.iloc[-1] < 1  # ten times lambda1 leaves next to nothing


def test_every_ablation_is_measured_somewhere():
    assert set(ABLATIONS) <= {*ablations.FIGURE7, *ablations.TABLES_3_4}
