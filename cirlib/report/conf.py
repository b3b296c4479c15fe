"""The book: Sphinx's settings for a site of the README, the notebooks as executed, the results.

    make book    writes data/mine/book/README.html and what can be reached from it

No cell is run: a notebook shows the outputs of the batch (`make reproduce`), if there are any that
are not older than it, else those that it was committed with, a quick look. Formulas, search and
looks need no network, and a link to what is not there is an error.
"""

import html
import json
import re
from pathlib import Path

from cirlib.base import paths
from cirlib.profiles import PROFILES
from cirlib.report.blended import CREDIT, widget

project, html_title = "cirlib", "Restoration networks, searched"
extensions = ["myst_nb", "sphinx-mathjax-offline"]
root_doc = "README"
include_patterns = ["*.md", "notebooks/*.ipynb", "figures/**.md", "cirlib/**.md"]
include_patterns += [f"data/{of}README.md" for of in ("", "paper/", "checkpoints/")]
suppress_warnings = ["toc.not_included"]  # tables are reached from figures/index.md
CONTENTS = """
```{toctree}
:hidden:
:glob:
cirlib/report/blended
notebooks/0*
notebooks/1[0-2]*
notebooks/2*
notebooks/30*
notebooks/13*
notebooks/41*
notebooks/31*
notebooks/40*
notebooks/5*
figures/index
```
"""

FOLDED = 12  # lines of a cell, from which on its code is folded
WIDGET = "application/vnd.jupyter.widget-view+json"
WITHOUT_KERNEL = (
    "*These need Python. Versions made beforehand: [three sliders](../cirlib/report/blended.md).*"
)
nb_execution_mode = "off"
nb_output_stderr = "remove"  # progress
nb_render_markdown_format = "myst"
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3

html_theme = "furo"
html_static_path, html_css_files = ["book.css"], ["book.css"]
html_theme_options = {"light_css_variables": {"code-font-size": "0.72rem"}}  # 100 letters a line
html_copy_source = html_show_copyright = False
html_show_search_summary = False  # needs a server


def as_executed(source: Path) -> Path:
    """A notebook's copy that the batch has run, if there is one that is not older."""
    for profile in reversed(PROFILES):  # the larger networks first
        copy = paths.EXECUTED / profile / source.name
        if copy.exists() and copy.stat().st_mtime >= source.stat().st_mtime:
            return copy
    return source


def for_readers(notebook: dict) -> dict:
    """A notebook for the book: no widgets' state, moving pictures as HTML, long code folded.

    A picture is told by the heading that it stands below.
    """
    notebook["metadata"].pop("widgets", None)
    heading = ""
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] != "code":
            heading = "".join(re.findall(r"^#+ (.*)", source, re.M)[-1:]) or heading
            continue
        if source.startswith(("import ", "from ")) or source.count("\n") >= FOLDED:
            cell["metadata"]["tags"] = [*cell["metadata"].get("tags", []), "hide-input"]
        alt = html.escape(re.sub(r"[`*$]", "", heading))
        cell["metadata"]["mystnb"] = {"image": {"alt": f"Figure: {alt}"}}
        for data in (output.get("data", {}) for output in cell["outputs"]):
            if data.pop(WIDGET, None):
                data["text/markdown"] = WITHOUT_KERNEL
            if moving := "".join(data.pop("image/webp", "")):  # a format Sphinx does not know
                picture = f"data:image/webp;base64,{moving}"
                data["text/html"] = f'<img alt="Moving picture: {alt}" src="{picture}">'
    return notebook


def with_pictures(index: str) -> str:
    """figures/index.md with the pictures that a section names at its end."""
    sections = re.split(r"^(?=## )", index, flags=re.M)
    for k, section in enumerate(sections):
        title = section.partition("\n")[0].lstrip("# ")
        for name, path in re.findall(r"\[(\S+)\]\((\S+\.(?:png|jpg|webp))\)", section):
            sections[k] += f"![{title}: {name}]({path})\n\n"
    return "".join(sections)


def read(app, name: str, text: list[str]) -> None:
    """Sphinx's event "source-read": ``text`` has one element, which may be replaced."""
    notebook = Path(app.srcdir, f"{name}.ipynb")
    if name == root_doc:
        text[0] += CONTENTS
    elif name == "cirlib/report/blended":
        text[0] += f"\n```{{raw}} html\n{widget()}\n```\n\n{CREDIT}"
    elif name == "figures/index":
        text[0] = with_pictures(text[0])
    elif text[0].startswith("|"):  # a table of figures/index.md
        text[0] = f"# {Path(name).name}, {Path(name).parent.name}\n\n{text[0]}"
    elif notebook.exists():
        shown = json.loads(as_executed(notebook).read_text(encoding="utf-8"))
        text[0] = json.dumps(for_readers(shown))


def setup(app) -> None:
    app.connect("source-read", read)
    # draws formulas without fonts, which some browsers refuse to load from files
    app.config.mathjax_path = "mathjax/tex-svg-full.js"
