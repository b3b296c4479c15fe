"""What the committed results of the profile ``compact`` have reached stays reached."""

import pandas as pd
import pytest

from cirlib import checkpoints, paths
from cirlib.provenance import load_facts

COMPACT = paths.ROOT / "data" / "results" / "compact"
TABLES = sorted(COMPACT.glob("*.csv"))


@pytest.fixture(autouse=True)
def shipped_ones(tmp_path, monkeypatch) -> None:
    """No networks of the user's own in the way."""
    monkeypatch.setattr(paths, "CHECKPOINTS", tmp_path)


@pytest.mark.parametrize("path", TABLES, ids=lambda path: path.stem)
def test_each_result_says_where_it_comes_from(path):
    assert {"commit", "date", "profile", "device"} <= load_facts(path).keys()


def test_searched_networks_save_what_was_aimed_at():
    """Of TA+TSNet 90% for 27 effects and 60% for one; of TSNet 65%."""
    both = checkpoints.load_card("ta-tsnet", "compact")
    assert both["flops_m27"] <= 0.10 and both["flops_m1"] <= 0.40
    assert checkpoints.load_card("tsnet", "compact")["flops_m27"] <= 0.35


def test_searched_networks_lose_no_more_than_was_aimed_at():
    table = pd.read_csv(COMPACT / "table2.csv").set_index(["model", "metric"])["value"]
    drop = {
        model: table["cresmd", "psnr"] - table[model, "psnr"] for model in ("tsnet", "ta-tsnet")
    }
    assert drop["ta-tsnet"] <= 0.25 and drop["tsnet"] <= 0.20


def test_speed_reaches_its_goals_with_bfloat16():
    """16 times faster on all threads; CResMD no slower than plain PyTorch's.

    The other goal, 20 times on one thread, is met on some machines of one kind and not on others.
    """
    rows = pd.read_csv(COMPACT / "latency.csv")
    rows = rows[(rows["architecture"] == "published") & (rows["dtype"] == "bfloat16")]
    groups = rows.groupby(["device", "size", "threads"])
    assert {size for _, size, _ in groups.groups} >= {"1280x720", "2048x1080", "3840x2160"}
    for (_, _, threads), here in groups:
        best = here[here["runtime"] != "eager"].set_index("model")["seconds_per_effect"]
        plain = here[here["runtime"] == "eager"]["seconds_per_effect"].iloc[0]
        assert threads == 1 or best["cresmd"] / best["ta-tsnet"] >= 16
        assert best["cresmd"] <= plain


def test_a_step_of_the_search_is_little_longer_and_data_are_no_bottleneck():
    rows = pd.read_csv(COMPACT / "step_time.csv").set_index("model")
    assert len(rows) == 5 and rows["ratio"]["ta-tsnet"] <= 1.3 and rows["waiting"].max() < 0.1
