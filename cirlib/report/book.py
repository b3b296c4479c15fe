"""The notebooks as they were executed, as a static site for those who only read.

    python -m cirlib.report.book    writes data/book/index.html and what can be reached from it

The README is the first page; notebooks and markdown files become pages of the same path. Of a
notebook that the batch has run (`make reproduce`) its outputs are shown, else those that it was
committed with, a quick look. Files that pages link to are copied, and nothing else. No cell is run.
"""

import html
import os
import posixpath
import re
import shutil
import sys
from pathlib import Path
from urllib.parse import unquote

import nbformat
from nbconvert import HTMLExporter
from nbconvert.filters import markdown2html
from pygments.formatters import HtmlFormatter

from cirlib.base import paths
from cirlib.base.files import UserError, atomic
from cirlib.report.index import PROFILES
from cirlib.report.notebooks import cleaned

FOLDER = paths.OUTPUT / "data" / "book"
STYLE = Path(__file__).with_name("book.css")
SHORT_CELL = re.compile(r"<td(?=[^>]*>[^<]{0,24}</td>)")
LINK = re.compile(r'(?<= )(href|src)="(?!#|\w+:|//)([^"#]+)')  # within the site
PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="stylesheet" href="{root}style.css">
<script>window.MathJax = {{tex2jax: {{inlineMath: [["$", "$"]], processEscapes: true}}}}</script>
<script async src="{mathjax}"></script>
</head>
<body>
<nav aria-label="pages">{nav}</nav>
<main>
{body}
<footer>{around}</footer>
</main>
</body>
</html>
"""


def place(source: Path) -> str:
    """Where in the site a file of the repository stands, as a path with slashes."""
    path = source.relative_to(paths.ROOT)
    if source.suffix in (".md", ".ipynb"):
        path = Path("index.html") if path == Path("README.md") else path.with_suffix(".html")
    return path.as_posix()


def as_executed(source: Path) -> Path:
    """The copy of a notebook that the batch has run, if there is one that is not too old."""
    for profile in PROFILES:
        copy = paths.OUTPUT / "data" / "executed" / profile / source.name
        if copy.exists() and copy.stat().st_mtime >= source.stat().st_mtime:
            return copy
    return source


def read(source: Path) -> tuple[str, str]:
    """Title ("": none) and HTML of a markdown file or of a notebook with its outputs."""
    if source.suffix == ".md":
        text = source.read_text(encoding="utf-8")
        title = re.search(r"^# (.+)", text, re.M)
        return title[1] if title else "", markdown2html(text)
    notebook = cleaned(nbformat.read(as_executed(source), as_version=4))
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if "image/webp" in data:  # nbconvert would show its name only
                source = f"data:image/webp;base64,{data['image/webp']}"
                data["text/html"] = f'<img alt="" src="{source}">'
    title = notebook.cells[0].source.partition("\n")[0].lstrip("# ")
    return title, HTMLExporter(template_name="basic").from_notebook_node(notebook)[0]


def pages() -> dict[Path, tuple[str, str]]:
    """Source -> (title, HTML) of all pages: the fixed ones, then those that they link to.

    Raises UserError for a link to a file that is not there.
    """
    notebooks = sorted(paths.NOTEBOOKS.glob("*.ipynb"))
    queue, found = [paths.ROOT / "README.md", *notebooks, paths.ROOT / "figures" / "index.md"], {}
    for source in queue:  # grows while it is walked
        found[source] = read(source)
        for target in targets(source, found[source][1]):
            if target.suffix in (".md", ".ipynb") and target not in queue:
                queue.append(target)
    return found


def targets(source: Path, body: str) -> list[Path]:
    """The files of the repository that a page links to. Raises UserError if one is not there."""
    linked = []
    for _, link in LINK.findall(body):
        target = (source.parent / unquote(html.unescape(link))).resolve()
        if not target.is_file() or not target.is_relative_to(paths.ROOT):
            raise UserError(f"{source} links to {link}, which is not there: mend the link")
        linked.append(target)
    return linked


def build(folder: Path = FOLDER) -> Path:
    """Write the site, over what is in the folder; returns its first page."""
    found = pages()
    for source, (title, body) in found.items():
        here = place(source)

        def relative(target: Path, here: str = here) -> str:
            return posixpath.relpath(place(target), posixpath.dirname(here) or ".")

        def moved(link: re.Match, source: Path = source, relative=relative) -> str:
            target = (source.parent / unquote(html.unescape(link[2]))).resolve()
            return f'{link[1]}="{relative(target)}'

        for target in targets(source, body):
            if target not in found:
                copy(target, folder / place(target))
        text = PAGE.format(
            title=html.escape(title or source.stem), root="../" * here.count("/"),
            nav=menu(found, source, relative),
            body=LINK.sub(moved, SHORT_CELL.sub('<td class="short"', body)),
            around=neighbours(found, source, relative), mathjax=HTMLExporter().mathjax_url,
        )  # fmt: skip
        with atomic(folder / here) as temporary:
            temporary.write_text(text, encoding="utf-8", newline="\n")
    with atomic(folder / "style.css") as temporary:
        code = HtmlFormatter().get_style_defs(".highlight")
        temporary.write_text(f"{STYLE.read_text()}\n{code}\n", encoding="utf-8", newline="\n")
    return folder / "index.html"


def menu(found: dict, source: Path, relative) -> str:
    """Links to all pages that have a title, the present one marked."""
    items = []
    for other, (title, _) in found.items():
        name = "Overview" if other == paths.ROOT / "README.md" else title
        mark = ' aria-current="page"' if other == source else ""
        if name:
            items.append(f'<li><a href="{relative(other)}"{mark}>{html.escape(name)}</a></li>')
    return f"<ol>{''.join(items)}</ol>"


def neighbours(found: dict, source: Path, relative) -> str:
    """Links to the page before and the page after."""
    order, links = [other for other in found if found[other][0] or other == source], []
    k = order.index(source)
    for step, arrow in ((-1, "&larr; {}"), (1, "{} &rarr;")):
        if 0 <= k + step < len(order):
            other = order[k + step]
            name = arrow.format(html.escape(found[other][0]))
            links.append(f'<a href="{relative(other)}">{name}</a>')
    return " ".join(links)


def copy(source: Path, target: Path) -> None:
    with atomic(target) as temporary:
        shutil.copyfile(source, temporary)


if __name__ == "__main__":
    try:
        print(f"written: {os.path.relpath(build())}", file=sys.stderr)
    except UserError as error:
        sys.exit(f"error: {error}")
