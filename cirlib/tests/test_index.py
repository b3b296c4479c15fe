"""One catalogue: the index, the README's headlines and the notebooks say what it says."""

import json
import re
from pkgutil import resolve_name

import pandas as pd
import pytest

from cirlib import checkpoints
from cirlib.base import paths, provenance
from cirlib.profiles import MODELS
from cirlib.report import catalogue, index
from cirlib.report.catalogue import ITEMS
from cirlib.report.index import first_results, headlines


@pytest.fixture
def empty(monkeypatch, tmp_path):
    for folder in ("SHIPPED_RESULTS", "SHIPPED_FIGURES", "SHIPPED"):
        monkeypatch.setattr(paths, folder, tmp_path)
    return tmp_path


def test_index_is_what_the_committed_results_give():
    assert (paths.SHIPPED_FIGURES / "index.md").read_text() == index.index(), "run `make index`"


def photos(item) -> str:
    """What the README says of the photographs of CBSD68 and of the networks that an item has."""
    profile, files = first_results(item)
    files = [file for file in files if file.suffix == ".csv"]
    facts = provenance.load_facts(files[0]) if files else {}
    told = provenance.protocol(facts) if facts.get("data") == "cbsd68" else "none"
    return told.replace(" of cbsd68", "") + (" (`compact`)" if profile == "compact" else "")


def test_headlines_of_the_readme_are_those_of_the_catalogue():
    readme = (paths.ROOT / "README.md").read_text()
    _, header, rest = readme.partition("| | paper | ours | photographs | notebook |\n")
    if not header:
        pytest.skip("README has no table of headlines")
    told = {
        (line.quantity, line.paper, line.ours, photos(item), item.notebook[:2])
        for item in ITEMS for line in headlines(item, first_results(item)[0])
    }  # fmt: skip
    rows = [tuple(row.strip("| ").split(" | ")) for row in rest.partition("\n\n")[0].splitlines()]
    assert len(rows) > 5 and not set(rows[1:]) - told


def test_chapters_of_the_papers_own_size_show_it_by_default_too():
    for chapter in catalogue.OF_FULL_SIZE:
        cells = json.loads((paths.NOTEBOOKS / f"{chapter}.ipynb").read_text())["cells"]
        given = next(c for c in cells if "parameters" in c["metadata"].get("tags", ()))
        assert 'profile: str = "full"' in "".join(given["source"])
        assert catalogue.size(chapter, "compact") == "full" == catalogue.size(chapter, "full")
        assert catalogue.size(chapter, "smoke") == "smoke"


def test_the_index_embeds_short_tables_and_links_all():
    text = index.index()
    short = "full/table2_claims", "compact/figure7_claims", "compact/table4"
    for name in (*short, "full/table1_latency", "full/table2"):
        table = (paths.SHIPPED_FIGURES / f"{name}.md").read_text()
        assert (table.rstrip() in text) == (name in short)
        assert f"({name}.md)" in text  # also of those that are too long
    assert "(departures.md)" in text


def test_every_item_of_the_article_is_there():
    names = " ".join(item.name for item in ITEMS)
    for number in range(1, 5):
        assert f"Table {number}" in names
    for number in range(1, 9):
        assert f"Figure {number}" in names
    drawn = {name for item in ITEMS for name in item.outputs}
    assert {f"figure{number}.webp" for number in range(9, 17)} <= drawn
    notebooks = sorted(path.stem for path in paths.NOTEBOOKS.glob("*.ipynb"))
    assert notebooks == list(catalogue.CHAPTERS)


def spelt(text: str) -> set[str]:
    """Names of files in back quotes, without folder and suffix; "figure9.webp` to `..." as all."""
    text = re.sub(r"`figure9.webp` to `figure16.webp`",
                  " ".join(f"`figure{n}`" for n in range(9, 17)), text)  # fmt: skip
    return {name.rsplit("/", 1)[-1].split(".")[0] for name in re.findall("`([^`]+)`", text)}


@pytest.mark.parametrize("notebook", catalogue.CHAPTERS)
def test_first_cells_name_what_the_catalogue_says_that_notebooks_write(notebook):
    cells = json.loads((paths.NOTEBOOKS / f"{notebook}.ipynb").read_text())["cells"]
    first = "".join(cells[0]["source"]).replace("\n", " ")
    (row,) = re.findall(r"Outputs(?: \||\*\*) (.*?)(?: \||\*\*)", first)
    wanted = {name.split(".")[0].replace("{model}", "<model>") for item in ITEMS
              if item.notebook == notebook for name in item.outputs}  # fmt: skip
    rows = {f"figure6_{row}" for row in catalogue.FIGURE6}  # told as one, figure6_<row>
    extra = {"best_effect", "figure6_<row>", "", *MODELS}  # best_effect shows other people's photos
    assert wanted - rows <= spelt(row) and spelt(row) <= wanted | extra


@pytest.mark.parametrize("item", ITEMS, ids=lambda item: f"{item.notebook}-{item.title}")
def test_the_code_of_an_item_is_there_and_its_notebook_calls_it(item):
    notebook = (paths.NOTEBOOKS / f"{item.notebook}.ipynb").read_text()
    for name in item.code.split():
        assert callable(resolve_name(f"cirlib.{name}"))
        assert re.search(rf"\b{name.rpartition('.')[2]}\(", notebook)


def test_what_is_not_there_is_not_yet(empty):
    assert all(first_results(item) == (None, []) for item in ITEMS)
    assert "Not yet. Notebook `21_quality`." in index.index()


def write(empty, profile="compact", psnr=24.236, **facts):
    frame = pd.DataFrame({"model": ["cresmd"], "metric": ["psnr"], "value": [psnr]})
    provenance.save_csv(frame, empty / profile / "table2.csv", facts)


def test_numbers_stand_beside_the_papers_with_protocol_day_and_command(empty):
    facts = {"data": "cbsd68", "photos": 3, "crop": 64, "date": "2031-02-03T04:05:06+00:00"}
    write(empty, "full", **facts)
    text = index.index()
    assert "| CResMD, best of 27 effects, PSNR | 25.86 dB | 24.24 dB |" in text
    assert "profile `full`, 3 of cbsd68, crop 64, 2031-02-03, notebook `21_quality`" in text
    assert "results/full/table2.csv --config images=cbsd68 limit=3 crop=64`" in text
    assert "| TA+TSNet loses | 0.11 dB | not measured |" in text
    write(empty, "paper", 25.5, **facts)
    assert "| 25.86 dB | 25.50 dB |" in (text := index.index())  # the larger networks come first
    assert "results/paper/table2.csv --config profile=paper images=cbsd68" in text


def test_results_of_networks_that_are_no_longer_there_say_so(empty):
    own = checkpoints.weights_fingerprint("compact")
    for weights, told in ((own, False), ("0123456789ab", True)):
        write(empty, weights=weights)
        assert index.index().count("of networks that have been replaced") == told


def test_the_command_of_table_1_measures_all_of_its_sizes():
    told = "latency.csv --config latency_sizes="
    (line,) = [line for line in index.index().splitlines() if told in line]
    assert {"1280x720", "2048x1080", "3840x2160"} <= set(re.split("[=,` ]", line))


def test_a_stated_speed_is_the_range_of_all_machines(empty):
    rows = [
        {"architecture": kind, "runtime": "oneDNN", "size": "1280x720", "device": device,
         "threads": threads, "model": "ta-tsnet", "times_faster": faster}
        for kind, device, threads, faster in (
            ("published", "A", 1, 20.04), ("published", "B", 1, 17.9), ("published", "A", 2, 19.0),
            ("trained", "A", 1, 6.5),
        )
    ]  # fmt: skip
    provenance.save_csv(pd.DataFrame(rows), empty / "compact" / "latency.csv", {})
    found = catalogue.latency("compact", empty / "compact")
    assert [(line.paper, line.ours) for line in found] == [
        ("4.1", "17.9 to 20.0"), ("4.1", "6.5"), ("3.0", "19.0"), ("3.0", "not measured"),
    ]  # fmt: skip
