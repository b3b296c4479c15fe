"""The book: Sphinx's settings for a site of the README, the notebooks as executed, the results.

    make book    writes data/mine/book/README.html and what can be reached from it

No cell is run: a notebook shows the outputs of the batch (`make reproduce`), if there are any that
are not older than it, else those that it was committed with, a quick look. Formulas, search and
looks need no network, and a link to what is not there is an error.
"""

import json
from pathlib import Path

from cirlib.base import paths
from cirlib.profiles import PROFILES

project, html_title = "cirlib", "Restoration networks, searched"
extensions = ["myst_nb", "sphinx-mathjax-offline"]
root_doc = "README"
include_patterns = ["*.md", "notebooks/*.ipynb", "figures/**.md", "cirlib/**.md"]
include_patterns += ["data/README.md", "data/paper/README.md"]  # no photographs
suppress_warnings = ["toc.not_included"]  # tables are reached from figures/index.md
CONTENTS = """
```{toctree}
:hidden:
:glob:
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

WIDGET = "application/vnd.jupyter.widget-view+json"
nb_execution_mode = "off"
nb_output_stderr = "remove"  # progress
nb_render_markdown_format = "myst"
nb_mime_priority_overrides = [("html", WIDGET, None)]  # their text is shown: there is no kernel
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3

html_theme = "furo"
html_copy_source = html_show_copyright = False


def as_executed(source: Path) -> Path:
    """A notebook's copy that the batch has run, if there is one that is not older."""
    for profile in PROFILES:
        copy = paths.EXECUTED / profile / source.name
        if copy.exists() and copy.stat().st_mtime >= source.stat().st_mtime:
            return copy
    return source


def for_readers(notebook: dict) -> dict:
    """A notebook without the state of widgets, its moving pictures as HTML."""
    notebook["metadata"].pop("widgets", None)
    for output in (output for cell in notebook["cells"] for output in cell.get("outputs", [])):
        data = output.get("data", {})
        if moving := "".join(data.pop("image/webp", "")):  # a format Sphinx does not know
            picture = f"data:image/webp;base64,{moving}"
            data["text/html"] = f'<img alt="moving picture" src="{picture}">'
    return notebook


def read(app, name: str, text: list[str]) -> None:
    """Sphinx's event "source-read": ``text`` has one element, which may be replaced."""
    notebook = Path(app.srcdir, f"{name}.ipynb")
    if name == root_doc:
        text[0] += CONTENTS
    elif notebook.exists():
        shown = json.loads(as_executed(notebook).read_text(encoding="utf-8"))
        text[0] = json.dumps(for_readers(shown))


def setup(app) -> None:
    app.connect("source-read", read)
    # draws formulas without fonts, which some browsers refuse to load from files
    app.config.mathjax_path = "mathjax/tex-svg-full.js"
