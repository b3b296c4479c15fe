"""The site of the executed notebooks: whole, and every link leads somewhere."""

import os
from html.parser import HTMLParser
from urllib.parse import unquote, urlsplit

import pytest

from cirlib.base import paths
from cirlib.base.files import UserError
from cirlib.report import book


class Links(HTMLParser):
    def __init__(self):
        super().__init__()
        self.found, self.ids = [], set()

    def handle_starttag(self, tag, attributes):
        for name, value in attributes:
            if name in ("href", "src"):
                self.found.append(value)
            elif name == "id":
                self.ids.add(value)


def parsed(page):
    links = Links()
    links.feed(page.read_text(encoding="utf-8"))
    return links


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    return book.build(tmp_path_factory.mktemp("book")).parent


def test_every_notebook_has_a_page_that_is_reached_from_the_first(site):
    first = {site / link for link in parsed(site / "index.html").found if ":" not in link}
    for source in paths.NOTEBOOKS.glob("*.ipynb"):
        page = site / "notebooks" / f"{source.stem}.html"
        assert page.exists() and page in first
    assert site / "figures" / "index.html" in first
    shown = (site / "notebooks" / "00_start_here.html").read_text()
    assert "data:image/png;base64," in shown  # with its outputs


def test_every_link_of_every_page_leads_somewhere(site):
    count = 0
    for page in site.rglob("*.html"):
        for link in parsed(page).found:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            assert target.is_file(), f"{page.name}: {link}"
            assert target.is_relative_to(site)  # nothing of this machine outside of the site
            if parts.fragment:
                assert unquote(parts.fragment) in parsed(target).ids, f"{page.name}: {link}"
            count += 1
    assert count > 100


def test_numbers_and_names_in_tables_stay_on_one_line(site):
    """Else a table with many columns becomes a word wide in each."""
    page = (site / "figures" / "index.html").read_text()
    assert "<td>TSNet: training steps after CResMD" in page
    assert '<td class="short">20,000</td>' in page
    assert ".short { white-space: nowrap; }" in (site / "style.css").read_text()


def test_a_link_to_nothing_is_refused():
    readme = paths.ROOT / "README.md"
    assert book.targets(readme, '<a href="LICENSE">') == [paths.ROOT / "LICENSE"]
    assert book.targets(readme, '<a href="https://arxiv.org"> <a href="#speed">') == []
    for link in ("LICENCE", "../elsewhere.md", "notebooks"):
        with pytest.raises(UserError, match="which is not there"):
            book.targets(readme, f'<a href="{link}">')


def test_moving_pictures_of_notebooks_are_shown(tmp_path):
    from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output, writes

    moving = new_output("display_data", {"image/webp": "UklGRg==", "text/plain": "<Image>"})
    cells = [new_markdown_cell("# A title\n\ntext"), new_code_cell("x", outputs=[moving])]
    (tmp_path / "one.ipynb").write_text(writes(new_notebook(cells=cells)))
    title, body = book.read(tmp_path / "one.ipynb")
    assert title == "A title" and 'src="data:image/webp;base64,UklGRg=="' in body


def test_outputs_of_the_batch_are_shown_while_they_are_fresh(tmp_path, monkeypatch):
    source = tmp_path / "notebooks" / "a.ipynb"
    copy = tmp_path / "data" / "executed" / "compact" / "a.ipynb"
    for path in (source, copy):
        path.parent.mkdir(parents=True)
        path.touch()
    monkeypatch.setattr(book.paths, "OUTPUT", tmp_path)
    os.utime(source, (100, 100))
    os.utime(copy, (200, 200))
    assert book.as_executed(source) == copy
    os.utime(source, (300, 300))
    assert book.as_executed(source) == source
