"""What the README says of the results is what the results say."""

import re

import pandas as pd
import pytest

from cirlib import checkpoints
from cirlib.base import paths, provenance
from cirlib.base.files import UserError
from cirlib.degradation import TASKS
from cirlib.report import index
from cirlib.report.catalogue import ITEMS
from cirlib.report.index import MARKERS, NOT_YET, look, with_status


@pytest.fixture
def committed(monkeypatch):
    """The results in the repository, wherever this run of the tests writes its own."""
    monkeypatch.setattr(paths, "RESULTS", paths.ROOT / "data" / "results")
    monkeypatch.setattr(paths, "FIGURES", paths.ROOT / "figures")
    monkeypatch.setattr(paths, "CHECKPOINTS", paths.SHIPPED)


@pytest.fixture
def empty(monkeypatch, tmp_path):
    for folder in ("RESULTS", "FIGURES", "CHECKPOINTS", "SHIPPED"):
        monkeypatch.setattr(paths, folder, tmp_path)
    return tmp_path


def test_readme_and_index_are_what_the_committed_results_give(committed):
    readme = (paths.ROOT / "README.md").read_text()
    assert with_status(readme) == readme, "run `make index`"
    assert (paths.FIGURES / "index.md").read_text() == index.index(), "run `make index`"


def test_files_that_the_index_links_are_there(committed):
    links = re.findall(r"\]\(([^)]+)\)", index.index())
    assert "../data/results/compact/table2.csv" in links and "compact/table2.md" in links
    assert all((paths.FIGURES / link).is_file() for link in links)


def test_every_item_of_the_article_is_there():
    names = " ".join(item.name for item in ITEMS)
    for number in range(1, 5):
        assert f"Table {number}" in names
    for number in (1, 4, 5, 6, 7, 8):
        assert f"Figure {number}" in names
    drawn = {picture for item in ITEMS for picture in item.pictures}
    assert {f"figure{number}" for number in range(9, 17)} <= drawn
    for item in ITEMS:
        assert (paths.NOTEBOOKS / f"{item.notebook}.ipynb").exists()


def test_what_is_not_there_is_not_yet(empty):
    assert all(look(item).profile is None for item in ITEMS)
    rows = index.status().splitlines()[2:]
    assert len(rows) == len(ITEMS) and all(row.endswith(f"| {NOT_YET} |") for row in rows)
    assert "Not yet. Notebook `21_quality`." in index.index()


def test_numbers_stand_beside_the_papers_with_profile_protocol_and_day(empty):
    frame = pd.DataFrame({"model": ["tsnet"], "metric": ["psnr"], "value": [24.236]})
    facts = {"data": "cbsd68", "photos": 3, "crop": 64, "date": "2031-02-03T04:05:06+00:00"}
    provenance.save_csv(frame, empty / "compact" / "table2.csv", facts)
    (row,) = [row for row in index.status().splitlines() if row.startswith("| Table 2: quality")]
    assert row.endswith(
        "TSNet: PSNR, dB **24.24** (paper 25.76) (`compact`, 3 of cbsd68, crop 64, 2031-02-03) |"
    )
    assert (
        "| TSNet: PSNR, dB | 25.76 | 24.24 |\n| TSNet: SSIM | 0.8184 | not measured |"
        in index.index()
    )
    provenance.save_csv(frame.assign(value=25.5), empty / "paper" / "table2.csv", facts)
    assert "**25.50** (paper 25.76) (`paper`" in index.status()  # the larger networks come first


def test_results_of_networks_that_are_no_longer_there_say_so(empty):
    frame = pd.DataFrame({"model": ["tsnet"], "metric": ["psnr"], "value": [24.236]})
    for weights, told in ((checkpoints.fingerprint("compact"), False), ("0123456789ab", True)):
        provenance.save_csv(frame, empty / "compact" / "table2.csv", {"weights": weights})
        for text in (index.status(), index.index()):
            assert text.count("of networks that have been replaced") == told


def test_what_is_only_drawn_has_its_day(empty):
    picture = paths.FIGURES / "compact" / "figure5.png"
    picture.parent.mkdir(parents=True, exist_ok=True)
    picture.touch()
    provenance.save_facts(picture, {"date": "2031-02-03T04:05:06+00:00"})
    (row,) = [row for row in index.status().splitlines() if row.startswith("| Figure 5")]
    assert row.endswith("| drawn (`compact`, 2031-02-03) |")


@pytest.mark.parametrize(
    "name, frame",
    [
        ("table3", {"model": ["TSNet"], "steps": [4000],
                    "PSNR drop, dB (paper)": [0.1], "PSNR drop, dB": [0.4],
                    "shared layers, % (paper)": [None], "shared layers, %": [0],
                    "FLOPs at M = 1, % of CResMD (paper)": [20.9],
                    "FLOPs at M = 1, % of CResMD": [32.6],
                    "FLOPs at M = 27, % of CResMD (paper)": [20.9],
                    "FLOPs at M = 27, % of CResMD": [32.6]}),
        ("table2_whole", {"model": ["tsnet"], "metric": ["psnr"], "value": [20.4]}),
        ("figure7", {"model": ["tsnet-abl-4"], "label": ["TSNet-Abl 4x"],
                     "method": ["tsnet-abl"], "steps": [4000], "drop": [0.4], "share_m27": [20]}),
        ("modulation", {"quantity": ["step_lpips_cv"], "model": ["cresmd"], "value": [0.4],
                        "low": [0.3], "high": [0.5]}),
        ("suggest", {"model": ["ta-tsnet"], "rule": ["suggested"], "lost": [0.4],
                     "inputs": [len(TASKS)]}),
    ],
)  # fmt: skip
def test_each_kind_of_result_is_read(empty, name, frame):
    provenance.save_csv(pd.DataFrame(frame), empty / "compact" / f"{name}.csv", {})
    (item,) = [item for item in ITEMS if item.csv == name]
    assert "0.4" in look(item).lines[0].ours
    assert look(item).lines[0].headline
    if "steps" in frame:  # not to be taken for the models of Table 2
        assert ", 4,000 steps: PSNR drop, dB" in look(item).lines[0].quantity


def test_what_of_table_1_no_machine_has_measured_stands_in_the_index_alone(empty):
    frame = pd.DataFrame([
        {"architecture": "published", "runtime": "oneDNN", "size": "1280x720", "device": "A, AVX2",
         "threads": 1, "model": model, "seconds_per_effect": taken}
        for model, taken in (("cresmd", 9.0), ("ta-tsnet", 0.5))
    ])  # fmt: skip
    provenance.save_csv(frame, empty / "compact" / "latency.csv", {})
    text, short = index.index(), index.status()
    assert "| TA+TSNet at HD, CPU, one thread (A, AVX2), times faster | 4.1 | 18.0 |" in text
    for image, ratio in (("HD", 2.1), ("2K", 2.8), ("4K", 3.7)):
        assert f"| TA+TSNet at {image}, GPU, times faster | {ratio} | not measured |" in text
    assert "TA+TSNet at HD, CPU, one thread" in short and "GPU" not in short


def test_the_papers_two_numbers_for_the_flops_of_tsnet_name_their_tables(committed):
    text = index.index()
    one, three = text.split("## Table 1: FLOPs")[1], text.split("## Table 1: FLOPs")[0]
    assert "| TSNet: FLOPs at M = 27, % of CResMD (Table 3) | 20.9 |" in three
    assert "| TSNet, M = 27, % of CResMD | 24.4 |" in one


def test_the_command_of_table_1_measures_all_of_its_sizes(empty):
    row = {"architecture": "published", "runtime": "oneDNN", "size": "1280x720", "device": "A",
           "threads": 1, "model": "cresmd", "seconds_per_effect": 9.0}  # fmt: skip
    provenance.save_csv(pd.DataFrame([row]), empty / "compact" / "latency.csv", {})
    told = "latency.csv --config latency_sizes=1280x720,2048x1080,3840x2160`"
    assert told in index.index()


def test_of_suggestions_the_readme_shows_those_of_the_model_that_restores_by_default(empty):
    frame = {"model": ["ta-tsnet", "ta-tsnet-m"], "rule": "suggested", "lost": [0.4, 0.6]}
    provenance.save_csv(pd.DataFrame(frame), empty / "compact" / "suggest.csv", {})
    assert "TA+TSNet-m, suggested: dB below the best of 27 | none | 0.60" in index.index()
    assert "TA+TSNet, suggested" in index.status() and "TA+TSNet-m, sug" not in index.status()


def test_text_around_the_markers_stays():
    begin, end = MARKERS
    text = with_status(f"before\n{begin}\nold\n{end}\nafter\n")
    assert text.startswith(f"before\n{begin}\n\n| paper |") and text.endswith(f"{end}\nafter\n")
    assert "old" not in text and with_status(text) == text
    with pytest.raises(UserError, match="put them back"):
        with_status(f"no end\n{begin}\n")
