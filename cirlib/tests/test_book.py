"""The site of the executed notebooks: whole without network, and every link leads somewhere."""

import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from cirlib.base.paths import EXECUTED, NOTEBOOKS, OUTPUT, ROOT

WEBP = "UklGRg=="


class Links(HTMLParser):
    def __init__(self):
        super().__init__()
        self.links, self.loads, self.ids, self.told = [], [], set(), {}

    def handle_starttag(self, tag, attributes):
        if tag == "img":
            self.told[dict(attributes)["src"]] = dict(attributes).get("alt", "")
        for name, value in attributes:
            if name in ("href", "src"):
                (self.links if tag == "a" else self.loads).append(value)
            elif name == "id":
                self.ids.add(value)


def parsed(page):
    found = Links()
    found.feed(page.read_text(encoding="utf-8"))
    return found


def build(source: Path, folder: Path, **environment) -> subprocess.CompletedProcess:
    """What `make book` does."""
    options = ["-q", "-E", "-W", "--keep-going", "-c", str(ROOT / "cirlib" / "report")]
    return subprocess.run(
        [sys.executable, "-m", "sphinx", *options, str(source), str(folder)],
        env=os.environ | environment, capture_output=True, text=True,
    )  # fmt: skip


def executed(name: str, text: str, moment: float, folder: Path, profile="compact") -> None:
    """As if the batch had run a notebook: a cell shows a text, a moving picture and a widget."""
    notebook = json.loads((NOTEBOOKS / f"{name}.ipynb").read_text())
    view = {"model_id": "1", "version_major": 2, "version_minor": 0}
    data = [{"text/plain": text},
            {"text/plain": "sliders of a kernel", "application/vnd.jupyter.widget-view+json": view},
            {"text/plain": "<Image>", "image/webp": WEBP}]  # fmt: skip
    shown = [{"output_type": "display_data", "metadata": {}, "data": one} for one in data]
    notebook["cells"][1]["outputs"] = shown
    state = {"state": {"1": {"model_name": "Slider", "state": {}}}}
    notebook["metadata"]["widgets"] = {"application/vnd.jupyter.widget-state+json": state}
    copy = folder / EXECUTED.relative_to(OUTPUT) / profile / f"{name}.ipynb"
    copy.parent.mkdir(parents=True, exist_ok=True)
    copy.write_text(json.dumps(notebook))
    os.utime(copy, (moment, moment))


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    output, folder = tmp_path_factory.mktemp("mine"), tmp_path_factory.mktemp("book")
    executed("00_start_here", "run anew", 2e9, output)
    executed("00_start_here", "run on small networks", 2e9, output, "smoke")
    executed("01_data_synthesis", "run long ago", 1e9, output)
    done = build(ROOT, folder, CIRLIB_OUTPUT=str(output))
    assert done.returncode == 0, done.stderr
    return folder


def test_every_notebook_has_a_page_with_outputs_that_is_reached_from_the_first(site):
    first = {site / link for link in parsed(site / "README.html").links if ":" not in link}
    for source in NOTEBOOKS.glob("*.ipynb"):
        page = site / "notebooks" / f"{source.stem}.html"
        assert page.exists() and page in first
        assert 'class="cell_output' in page.read_text()
    assert site / "figures" / "index.html" in first


def test_every_link_of_every_page_leads_somewhere(site):
    pages = {page: parsed(page) for page in site.rglob("*.html")}
    count = 0
    for page, found in pages.items():
        for link in found.links + found.loads:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            assert target.is_file(), f"{page.name}: {link}"
            assert target.is_relative_to(site)  # nothing of this machine outside of the site
            if parts.fragment and target in pages:
                assert unquote(parts.fragment) in pages[target].ids, f"{page.name}: {link}"
            count += 1
    assert count > 100


def test_nothing_is_loaded_from_the_network(site):
    for page in site.rglob("*.html"):
        for link in parsed(page).loads:
            assert urlsplit(link).scheme in ("", "data") and not urlsplit(link).netloc, link
    for style in site.rglob("*.css"):
        assert not re.search(r"(@import|url\()\s*[\"']?(https?:)?//", style.read_text()), style


def test_formulas_are_drawn_by_what_is_in_the_site(site):
    page = (site / "notebooks" / "12_train_ta_tsnet.html").read_text()
    assert 'class="math' in page
    (script,) = re.findall(r'src="\.\./(_static/mathjax/[\w-]+\.js)', page)
    assert (site / script).stat().st_size > 1e6  # with its letters


def test_outputs_of_the_batch_are_shown_while_they_are_fresh(site):
    assert "run anew" in (site / "notebooks" / "00_start_here.html").read_text()
    assert "run long ago" not in (site / "notebooks" / "01_data_synthesis.html").read_text()


def test_moving_pictures_are_shown_and_widgets_are_told_in_words(site):
    page = (site / "notebooks" / "00_start_here.html").read_text()
    assert f'src="data:image/webp;base64,{WEBP}"' in page
    assert "vnd.jupyter.widget" not in page and "sliders of a kernel" not in page
    assert re.search(r"Versions made beforehand: <a [^>]*href=.../cirlib/report/blended.html", page)


def test_every_picture_is_told_in_words_and_the_index_shows_the_figures(site):
    pages = {page: parsed(page).told for page in site.rglob("*.html")}
    for page, told in pages.items():
        for source, alt in told.items():
            assert alt and not alt.startswith(("/", "..")), f"{page.name}: {source[:80]}"
    index = site / "figures" / "index.html"
    named = re.findall(r">([\w.]+\.(?:png|jpg|webp))<", index.read_text())
    assert len(named) > 20 and {Path(source).name for source in pages[index]} == set(named)


def test_code_can_be_folded_and_sliders_move_without_python(site):
    assert "<details" in (site / "notebooks" / "12_train_ta_tsnet.html").read_text()
    page = (site / "cirlib" / "report" / "blended.html").read_text()
    assert page.count("data:image/webp") == 2 * 28 and "PHOTOS*/" not in page


def test_a_link_to_nothing_is_refused(tmp_path):
    (tmp_path / "README.md").write_text("# A\n[b](LICENCE) [c](data/there.md) [d](#nowhere)")
    done = build(tmp_path, tmp_path / "book")
    assert done.returncode != 0
    for missing in ("LICENCE", "data/there.md", "nowhere"):
        assert f"target not found: '{missing}'" in done.stderr
