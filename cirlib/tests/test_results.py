"""Committed results have their form, and claims that are made of them hold within their range."""

import re
import subprocess

import numpy as np
import pandas as pd
import pytest

from cirlib import checkpoints
from cirlib.base import paths
from cirlib.base.provenance import load_facts
from cirlib.profiles import SHORT
from cirlib.report import ablations, agreement
from cirlib.report.batch import DEFAULTS
from cirlib.report.catalogue import ITEMS
from cirlib.report.index import first_results
from cirlib.report.latency import committed_races, ratios
from cirlib.report.quality import further_by_damage, further_steps, sizes_table
from cirlib.report.tables import to_markdown

COMPACT, FULL = (paths.SHIPPED_RESULTS / profile for profile in ("compact", "full"))
TABLES = sorted(paths.SHIPPED_RESULTS.glob("*/*.csv"))


@pytest.mark.parametrize("path", TABLES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_each_result_says_where_it_comes_from(path):
    facts = load_facts(path)
    assert {"commit", "date", "profile", "device"} <= facts.keys()
    assert not facts["commit"].endswith("-dirty") and facts["commit"] != "unknown"


def test_what_notebooks_measure_states_how_far_another_run_may_be_off():
    for item in ITEMS:
        for name in item.outputs[:1]:
            if name.endswith(".csv"):
                path = paths.SHIPPED_RESULTS / first_results(item)[0] / name
                facts = load_facts(path)
                numbers = list(agreement.numbers(path, facts["tolerance"]))
                assert numbers and len(dict(numbers)) == len(numbers), name


def test_what_was_measured_quickly_without_any_download_is_there_to_agree_with():
    quick = DEFAULTS["compact"]
    crops = {"table2": quick["crop"], "table3": quick["ablation_crop"],
             "table4": quick["ablation_crop"], "modulation": 64, "suggest": 192}  # fmt: skip
    for name, crop in crops.items():
        size = "compact" if name in ("table3", "table4") else "full"
        facts = load_facts(paths.SHIPPED_RESULTS / f"{size}-embedded" / f"{name}.csv")
        assert (facts["photos"], facts["crop"]) == (quick["limit"], crop)
        assert facts["data"] == "embedded" and "tolerance" in facts


def test_page_tells_the_saving_before_it_is_there():
    told = (paths.ROOT / "cirlib/demo/web/voila/templates/cirlib/spinner.macro.html.j2").read_text()
    shown = checkpoints.load_card("ta-tsnet", "compact")
    assert "27 of them cost about a tenth" in told and shown["flops_m27"] == pytest.approx(0.1, 0.1)


@pytest.mark.parametrize("profile", ["compact", "full"])
def test_each_experiment_can_be_repeated_at_its_commit(profile):
    rows = pd.read_csv(paths.SHIPPED_RESULTS / profile / "experiments.csv", dtype=str)
    assert rows["commit"].str.fullmatch("[0-9a-f]{7,40}").all()
    if (paths.ROOT / ".git").exists():
        shallow = subprocess.run(["git", "rev-parse", "--is-shallow-repository"], cwd=paths.ROOT,
                                 capture_output=True, text=True).stdout.strip()  # fmt: skip
        if shallow != "true":
            asked = "\n".join(rows["commit"].unique())
            found = subprocess.run(["git", "cat-file", "--batch-check"], cwd=paths.ROOT,
                                   input=asked, capture_output=True, text=True)  # fmt: skip
            assert "missing" not in found.stdout


def test_searched_networks_save_what_was_aimed_at():
    """Of TA+TSNet 90% for 27 effects and 60% for one; of TSNet 65%."""
    both = checkpoints.load_card("ta-tsnet", "compact")
    assert both["flops_m27"] <= 0.10 and both["flops_m1"] <= 0.40
    assert checkpoints.load_card("tsnet", "compact")["flops_m27"] <= 0.35


@pytest.mark.parametrize("name", ["full/table2", "compact/table2", "compact/table2_whole"])
def test_searched_networks_lose_no_more_than_was_aimed_at(name):
    path = paths.SHIPPED_RESULTS / f"{name}.csv"
    assert load_facts(path)["photos"] >= 34
    table = pd.read_csv(path).set_index(["model", "metric"])["value"]
    drop = {
        model: table["cresmd", "psnr"] - table[model, "psnr"] for model in ("tsnet", "ta-tsnet")
    }
    assert drop["ta-tsnet"] <= 0.25 and drop["tsnet"] <= 0.20


@pytest.mark.parametrize("name", ["figure7", "table3", "table4"])
def test_ablations_are_measured_on_all_of_cbsd68(name):
    facts = load_facts(COMPACT / f"{name}.csv")
    assert (facts["data"], facts["photos"]) == ("cbsd68", 68)


def test_shared_layers_and_costs_of_table_4_stand_in_the_papers_order():
    table = pd.read_csv(COMPACT / "table4.csv")
    assert len(table) == 5 and table.notna().all(axis=None)
    for title in (ablations.OURS[name] for name in ("shared_layers", "share_m1", "share_m27")):
        assert ablations.ordered(table[f"{title} (paper)"].tolist(), table[title].tolist())


def test_more_layers_shared_by_decree_cost_less_and_lose_more():
    table = pd.read_csv(COMPACT / "table3.csv")
    fixed = table[table["model"].str.startswith("TA+TSNet-Abl")]
    assert len(fixed) == 5 and fixed.notna().all(axis=None)
    for title in (ablations.OURS[name] for name in ("psnr", "share_m27")):
        assert ablations.falling(fixed[title].tolist())


def test_pressed_to_its_flops_tsnet_loses_clearly_more_than_ta_tsnet():
    table = pd.read_csv(COMPACT / "figure7.csv")
    curve = ablations.pressed(table).sort_values("share_m27")
    both = table.set_index("model").loc[SHORT]
    assert np.interp(both["share_m27"], curve["share_m27"], curve["drop"]) - both["drop"] > 0.1


@pytest.mark.parametrize("folder", [COMPACT, FULL], ids=lambda folder: folder.name)
def test_models_m_keep_what_they_are_not_asked_to_remove(folder):
    """Eq. 13: at t on an input of a higher level, the distance to what is degraded by the rest."""
    table = pd.read_csv(folder / "modulation.csv").set_index(["quantity", "model"])
    whole = table.loc["relative_psnr", "cresmd"]
    for model in ("tsnet-m", "ta-tsnet-m"):
        assert table.loc[("relative_psnr", model), "low"] > whole["high"]


def test_the_table_of_sizes_says_what_the_same_test_gave_each_network():
    table, about = sizes_table()
    assert table["network"].str.endswith("compact").any()
    text = (paths.SHIPPED_FIGURES / "full" / "sizes.md").read_text()
    assert text.startswith(to_markdown(table)) and str(about["crop"]) in text


@pytest.fixture
def latencies() -> pd.DataFrame:
    rows = committed_races()
    assert set(rows["size"]) >= {"1280x720", "2048x1080", "3840x2160"}
    return rows


def test_times_are_medians_within_the_range_of_their_rounds(latencies):
    known = latencies.dropna(subset=["seconds_low", "seconds_high"])
    assert (known["seconds_low"] <= known["seconds_per_effect"]).all()
    assert (known["seconds_per_effect"] <= known["seconds_high"]).all()
    assert (latencies["runs"] >= 1).all() and (known["rounds"] >= known["runs"]).all()
    # What was measured before ranges were kept has a spread, and no range is made up for it.
    assert latencies.loc[latencies["seconds_low"].isna(), "iqr"].notna().all()


def test_times_faster_are_those_of_the_race(latencies):
    keys = ["architecture", "size", "threads", "effects", "device"]
    for _, race in latencies.groupby(keys):
        (full,) = race[(race["model"] == "cresmd") & (race["runtime"] != "eager")].to_dict(
            "records"
        )
        ratios = full["seconds_per_effect"] / race["seconds_per_effect"]
        np.testing.assert_allclose(race["times_faster"], ratios, rtol=1e-6)


def test_each_machine_and_network_has_a_row_of_how_many_times_faster_it_is(latencies):
    table = ratios(latencies).set_index(["processor", "network"])
    assert table.index.is_unique and len(table) <= 15
    for _, row in table.iterrows():
        ends = [[float(end) for end in row[name].split(" to ")] for name in table.columns[1:]]
        assert 1 < max(ends[0]) < min(ends[1])  # no faster than its FLOPs are fewer


def test_the_stated_speeds_are_those_that_were_measured():
    """README, Speed: seconds an effect and times faster on one thread, for every processor."""
    readme = (paths.ROOT / "README.md").read_text()
    row = r"\| ([\d.]+) to ([\d.]+) \| ([\d.]+) to ([\d.]+) \| ([\d.]+) x \|"
    stated = sorted(tuple(map(float, found)) for found in re.findall(row, readme))
    rows = pd.read_csv(FULL / "latency.csv").query(
        "architecture == 'published' and size == '1280x720' and threads == 1 "
        "and runtime == 'oneDNN'"
    )
    measured = []
    for _, race in rows.set_index("model").groupby("device"):
        full, fast = race.loc["cresmd"], race.loc["ta-tsnet"]
        ends = (one[end] for one in (full, fast) for end in ("seconds_low", "seconds_high"))
        measured.append((*(float(f"{end:.3g}") for end in ends), round(fast["times_faster"], 1)))
    assert stated == sorted(measured)


def test_cresmd_is_no_slower_than_in_plain_pytorch(latencies):
    rows = latencies[latencies["architecture"] == "published"]
    assert (rows[rows["runtime"] == "eager"]["times_faster"] <= 1).all()


def test_what_further_steps_brought_is_the_same_by_damage_and_in_all():
    table, _ = further_steps("full")
    for model, rows in table.groupby("model"):
        by_damage = further_by_damage("full", model).set_index("lost, dB")
        assert list(by_damage) == [f"{steps:,} steps" for steps in rows["steps"]]
        assert by_damage.loc["all"].tolist() == pytest.approx(rows["lost"].tolist(), abs=0.01)
