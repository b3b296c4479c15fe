"""What was measured beside what is committed, and how the one becomes the other."""

import json

import pandas as pd
import pytest

from cirlib.base import paths
from cirlib.base.files import UserError
from cirlib.base.provenance import load_csv, load_facts, save_csv
from cirlib.profiles import MODELS
from cirlib.report import agreement, publish
from cirlib.report.agreement import AGREES, DIFFERS, UNMEASURED

SCORES = {"profile": "full", "data": "cbsd68", "photos": 2, "crop": 64, "seed": 0,
          "weights": "abc", "commit": "1" * 40,
          "tolerance": {"psnr": 0.01, "niqe": 0.02}}  # fmt: skip
TIMES = {"profile": "full", "data": "random pixels", "weights": "abc", "commit": "1" * 40,
         "tolerance": {"gflops_per_effect": 0, "times_faster": "x 1.5"}}  # fmt: skip


@pytest.fixture(autouse=True)
def places(monkeypatch, tmp_path):
    """Nothing is committed; networks are the shipped ones."""
    for name in ("SHIPPED_RESULTS", "SHIPPED_FIGURES"):
        monkeypatch.setattr(paths, name, tmp_path / name.lower())


def scores(folder, psnr=25.0, name="full", **facts):
    frame = pd.DataFrame({"model": "cresmd", "metric": ["psnr", "niqe", "ssim"],
                          "value": [psnr, None, 0.6], "images": 2})  # fmt: skip
    return save_csv(frame, folder / name / "table2.csv", SCORES | facts)


def times(folder, faster=20.0, device="A", weights="abc", **more):
    row = {"architecture": "published", "size": "1280x720", "threads": 1, "effects": 27,
           "device": device, "runtime": "oneDNN", "dtype": "float32",
           "gflops_per_effect": 45.1, "times_faster": faster, "seconds_per_effect": 1.0,
           "date": "2031-02-03T04:05:06"}  # fmt: skip
    rows = [row | more | {"model": model} for model in ("cresmd", "ta-tsnet")]
    return save_csv(pd.DataFrame(rows), folder / "full" / "latency.csv",
                    TIMES | {"weights": weights})  # fmt: skip


def verdicts(profile="full"):
    found = agreement.agreement(profile)
    return dict(zip(found["quantity"], found["verdict"], strict=True))


@pytest.mark.parametrize("psnr, verdict", [(25.0, AGREES), (25.009, AGREES), (24.98, DIFFERS)])
def test_scores_agree_within_their_tolerance(psnr, verdict, capsys):
    scores(paths.SHIPPED_RESULTS), scores(paths.RESULTS, psnr)
    assert verdicts() == {"psnr": verdict}  # ssim has no tolerance, niqe no number
    assert agreement.report("full") == (verdict == AGREES)
    told = capsys.readouterr().out
    assert f"{psnr:g}" in told and "0.01" in told
    assert told.splitlines()[0] in (paths.OUTPUT / "agreement.md").read_text()
    assert f",{verdict}\n" in (paths.OUTPUT / "agreement.csv").read_text()


@pytest.mark.parametrize("facts, verdict", [
    ({"photos": 1}, "smaller run, not compared"),
    ({"crop": None}, "larger run, not compared"),
    ({"data": "embedded"}, "other photographs, not compared"),
    ({"weights": "def"}, "other networks, not compared"),
])  # fmt: skip
def test_another_protocol_is_not_compared(facts, verdict):
    scores(paths.SHIPPED_RESULTS), scores(paths.RESULTS, 3.0, **facts)
    assert verdicts() == {"psnr": verdict} and agreement.report("full")


def test_what_is_not_measured_says_so_and_what_is_not_committed_is_no_matter():
    assert agreement.report("smoke") and verdicts("smoke") == {}
    scores(paths.SHIPPED_RESULTS)
    assert verdicts() == {"psnr": UNMEASURED} and agreement.report("full")


def test_each_committed_protocol_has_its_own_verdict():
    scores(paths.SHIPPED_RESULTS, photos=68)
    scores(paths.SHIPPED_RESULTS, 30.0, "full-embedded", data="embedded")
    scores(paths.RESULTS, 30.0, data="embedded")
    found = agreement.agreement("full").set_index("result")["verdict"]
    assert found["full/table2"] == "smaller run, not compared"
    assert found["full-embedded/table2"] == AGREES


def test_a_chapter_of_the_papers_own_size_is_compared_with_that_size():
    scores(paths.SHIPPED_RESULTS), scores(paths.RESULTS, 25.1)
    scores(paths.SHIPPED_RESULTS, name="compact", profile="compact")  # which the batch leaves out
    for profile in ("compact", "full"):
        found = agreement.agreement(profile).set_index("result")["verdict"]
        assert dict(found) == {"full/table2": DIFFERS}


@pytest.mark.parametrize("row, expected", [
    ({"faster": 14.0}, {"gflops_per_effect": AGREES, "times_faster": AGREES}),
    ({"faster": 13.0}, {"gflops_per_effect": AGREES, "times_faster": DIFFERS}),
    ({"faster": 31.0}, {"gflops_per_effect": AGREES, "times_faster": DIFFERS}),
    ({"gflops_per_effect": 45.10001}, {"gflops_per_effect": DIFFERS, "times_faster": AGREES}),
    ({"device": "B"}, {"gflops_per_effect": UNMEASURED, "times_faster": UNMEASURED}),
])  # fmt: skip
def test_counts_are_exact_and_ratios_of_one_machine_have_a_range(row, expected):
    times(paths.SHIPPED_RESULTS), times(paths.RESULTS, **row)
    assert verdicts() == expected


# Publishing


def test_a_larger_run_replaces_a_smaller_one_and_a_smaller_one_goes_beside_it():
    scores(paths.RESULTS, 25.0)
    (told,) = publish.publish("full")
    assert told.endswith("table2.csv (2 of cbsd68, crop 64) replaces nothing")
    scores(paths.RESULTS, 26.0, photos=68)
    (told,) = publish.publish("full")
    assert "(68 of cbsd68, crop 64) replaces 2 of cbsd68, crop 64" in told
    scores(paths.RESULTS, 25.0)
    (paths.FIGURES / "full").mkdir(parents=True)
    (paths.FIGURES / "full" / "table2.md").touch()  # of the smaller run: nowhere
    publish.publish("full")
    values = {folder.name: load_csv(folder / "table2.csv")["value"][0]
              for folder in paths.SHIPPED_RESULTS.iterdir()}  # fmt: skip
    assert values == {"full": 26.0, "full-cbsd68": 25.0}
    assert not list(paths.SHIPPED_FIGURES.glob("**/*"))


def test_results_of_ones_own_photographs_stay_ones_own():
    scores(paths.RESULTS, data="holidays")
    assert publish.publish("full") == []


@pytest.mark.parametrize("commit", ["unknown", "1" * 40 + "-dirty"])
def test_what_no_commit_can_repeat_is_not_published(commit):
    scores(paths.RESULTS, commit=commit)
    with pytest.raises(UserError, match="code that is not committed"):
        publish.publish("full")
    assert not paths.SHIPPED_RESULTS.exists()


def test_rows_of_another_machine_stay_and_stand_in_the_table():
    times(paths.SHIPPED_RESULTS, device="A"), times(paths.RESULTS, device="B")
    (told,) = publish.publish("full")
    assert told.endswith("2 rows replace 0 of 2")
    times(paths.RESULTS, 21.0, device="B")
    publish.publish("full")
    rows = load_csv(paths.SHIPPED_RESULTS / "full" / "latency.csv")
    assert dict(zip(rows["device"], rows["times_faster"], strict=True)) == {"A": 20, "B": 21}


@pytest.mark.parametrize("weights, gflops, stay", [
    ("abc", 50, True), ("def", 45.1, True), ("def", 50, False),
])  # fmt: skip
def test_times_of_replaced_networks_stay_if_their_channels_do(weights, gflops, stay):
    times(paths.SHIPPED_RESULTS, architecture="trained")
    times(paths.RESULTS, device="B", weights=weights, architecture="trained",
          gflops_per_effect=gflops)  # fmt: skip
    publish.publish("full")
    rows = load_csv(paths.SHIPPED_RESULTS / "full" / "latency.csv")
    assert ("A" in set(rows["device"])) == stay


def test_times_of_small_images_are_not_published():
    times(paths.SHIPPED_RESULTS), times(paths.RESULTS, device="B", size="64x48")
    assert publish.publish("full") == []
    assert set(load_csv(paths.SHIPPED_RESULTS / "full" / "latency.csv")["device"]) == {"A"}


def test_a_table_stays_where_the_numbers_of_its_name_stay():
    for folder, size in ((paths.SHIPPED_RESULTS, "1280x720"), (paths.RESULTS, "256x144")):
        times(folder)
        frame = pd.DataFrame({"instead": ["tiles"], "share of the time": [1.5]})
        save_csv(frame, folder / "full" / "alternatives.csv", TIMES | {"size": size})
    (paths.FIGURES / "full").mkdir(parents=True)
    (paths.FIGURES / "full" / "alternatives.md").touch()
    assert len(publish.publish("full")) == 1  # the races
    assert not (paths.SHIPPED_FIGURES / "full" / "alternatives.md").exists()


def test_a_network_of_as_many_steps_is_published_with_its_card_and_log(monkeypatch, tmp_path):
    monkeypatch.setattr(paths, "SHIPPED", tmp_path / "shipped")
    for folder, steps in ((paths.CHECKPOINTS, 5), (paths.SHIPPED, 6)):
        (folder / "full").mkdir(parents=True)
        for suffix in ("safetensors", "csv"):
            (folder / "full" / f"tsnet.{suffix}").write_text(str(steps))
        card = {"steps_done": steps, "commit": "1" * 40}
        (folder / "full" / "tsnet.json").write_text(json.dumps(card))
    assert publish.publish("full") == []  # fewer
    (paths.CHECKPOINTS / "full" / "tsnet.json").write_text(json.dumps(card | {"steps_done": 7}))
    assert publish.publish("full") == ["network tsnet of full"]
    assert load_facts(paths.SHIPPED / "full" / "tsnet.json")["steps_done"] == 7
    assert (paths.SHIPPED / "full" / "tsnet.csv").read_text() == "5"
    assert "tsnet" in MODELS


def test_smoke_is_not_published():
    with pytest.raises(UserError, match="made anew by everybody"):
        publish.publish("smoke")
