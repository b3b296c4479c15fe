"""Notebooks as files: their parameters, and the form in which they are committed.

    python -m cirlib.report.notebooks execute notebooks/*.ipynb    fresh kernel, then clean
    python -m cirlib.report.notebooks clean notebooks/*.ipynb      keep the outputs, drop the rest

Papermill runs the batch (Snakefile); what it writes elsewhere needs no cleaning.
"""

import sys
from collections.abc import Iterable
from pathlib import Path

import nbformat
from nbconvert.preprocessors.coalescestreams import CoalesceStreamsPreprocessor
from nbformat import NotebookNode

from cirlib.base.files import UserError, atomic

KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
MAX_BYTES = 3_000_000  # of a committed notebook
CELL_TIMEOUT = 12 * 3600  # seconds; all of CBSD68 on a CPU is one cell
_WIDGET = "application/vnd.jupyter.widget-view+json"


def parameters(notebook: Path | str) -> dict[str, dict]:
    """Name -> what papermill knows of a parameter: "inferred_type_name", "default", "help".

    Raises UserError when there is no such notebook.
    """
    from papermill import inspect_notebook  # here: it takes a second

    if not Path(notebook).is_file():
        raise UserError(f"there is no notebook {notebook}")
    return inspect_notebook(str(notebook))


def check(notebook: Path | str, names: Iterable[str]) -> None:
    """Raises UserError for a name that is no parameter: papermill would only warn, and run."""
    known = parameters(notebook)
    for name in names:
        if name not in known:
            raise UserError(
                f"{Path(notebook).name} has no parameter {name!r}: "
                f"choose from {', '.join(known) or 'none'}"
            )


def cleaned(notebook: NotebookNode) -> NotebookNode:
    """A copy as it is committed: sources, outputs and tags, the same from every editor.

    Other metadata and the views of widgets go; text that came in pieces is one output, and a
    progress bar keeps its last state.
    """
    tidy = nbformat.from_dict(notebook)
    tidy.nbformat_minor = 5  # the first with cell ids
    tidy.metadata = nbformat.from_dict(
        {"kernelspec": KERNEL, "language_info": {"name": KERNEL["language"]}}
    )
    for number, cell in enumerate(tidy.cells):
        cell.setdefault("id", f"cell-{number}")
        tags = cell.metadata.get("tags")
        cell.metadata = nbformat.from_dict({"tags": tags} if tags else {})
        CoalesceStreamsPreprocessor().preprocess_cell(cell, {}, number)
        for output in cell.get("outputs", []):
            if output.output_type not in ("stream", "error"):
                output.metadata = NotebookNode()
                output.data.pop(_WIDGET, None)  # without the widget's state it shows an error
        if "outputs" in cell:  # a progress bar that cleared itself leaves nothing
            cell.outputs = [o for o in cell.outputs if o.get("text", "-").strip()]
    return tidy


def clean(path: Path) -> None:
    """Write a notebook in its committed form. Raises UserError if it is larger than MAX_BYTES."""
    _write(cleaned(_read(path)), path)


def execute(path: Path) -> None:
    """Run a notebook in a fresh kernel, in its own folder, and write it in its committed form.

    Raises CellExecutionError when a cell fails; the file then stays as it was.
    """
    from nbclient import NotebookClient

    notebook = _read(path)
    place = {"metadata": {"path": str(path.resolve().parent)}}
    NotebookClient(
        notebook, timeout=CELL_TIMEOUT, kernel_name=KERNEL["name"], resources=place,
        coalesce_streams=True,
    ).execute()  # fmt: skip
    _write(cleaned(notebook), path)


def _read(path: Path) -> NotebookNode:
    if not path.is_file():
        raise UserError(f"there is no notebook {path}")
    return nbformat.read(path, as_version=4)


def _write(notebook: NotebookNode, path: Path) -> None:
    text = nbformat.writes(notebook) + "\n"
    if len(text.encode()) > MAX_BYTES:
        raise UserError(
            f"{path} would have {len(text.encode()) / 1e6:.1f} MB, of {MAX_BYTES / 1e6:.0f} "
            "allowed: show smaller figures"
        )
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def main(action: str, *paths: str) -> None:
    """Do "clean" or "execute" to each notebook."""
    do = {"clean": clean, "execute": execute}.get(action)
    if do is None or not paths:
        raise UserError("usage: python -m cirlib.report.notebooks clean|execute NOTEBOOK...")
    for path in paths:
        print(f"{action} {path}", file=sys.stderr)
        do(Path(path))


if __name__ == "__main__":
    try:
        main(*(sys.argv[1:] or [""]))
    except UserError as error:
        sys.exit(f"error: {error}")
