"""Committed notebooks: run once from top to bottom, in a form that is the same for everybody."""

import ast
import re
import statistics
import subprocess
import sys

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from papermill import inspect_notebook

from cirlib.base.paths import NOTEBOOKS, ROOT

KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
MAX_BYTES = 3_000_000  # of a committed notebook: show smaller figures
WIDGET = "application/vnd.jupyter.widget-view+json"
CLEAN = [sys.executable, "-m", "nbconvert", "--inplace", "--log-level=ERROR",
         "--config", str(ROOT / "cirlib" / "report" / "nbconvert_config.py")]  # fmt: skip
PATHS = sorted(NOTEBOOKS.glob("*.ipynb"))
ABSOLUTE = re.compile(
    rf"{re.escape(str(ROOT))}/|(?<![\w./])/(home|Users|root|tmp|mnt|opt|usr|var|private)/|[A-Z]:\\\\"
)
SHOWN = r"(?s)`(cirlib/\S+\.py)`\n\n```python\n(.*?)\n```"  # of equations.show_source
MOMENT = re.compile(r"\b20\d\d-\d\d-\d\d[T ]\d\d:\d\d")


@pytest.fixture(params=PATHS, ids=lambda path: path.stem)
def path(request):
    return request.param


@pytest.fixture
def notebook(path):
    return nbformat.read(path, as_version=4)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_ran_once_from_top_to_bottom_without_error(notebook):
    cells = code_cells(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert not [o for cell in cells for o in cell.outputs if o.output_type == "error"]


def test_is_clean_and_small(path, notebook):
    # else, what CLEAN says: python -m nbconvert --inplace --config ...
    assert path.read_text(encoding="utf-8") == nbformat.writes(notebook) + "\n"
    assert path.stat().st_size <= MAX_BYTES
    assert notebook.metadata == {"kernelspec": KERNEL, "language_info": {"name": "python"}}
    for cell in notebook.cells:
        assert cell.id and cell.metadata.keys() <= {"tags"}
        streams = [o for o in cell.get("outputs", []) if o.output_type == "stream"]
        assert all(stream.name == "stdout" for stream in streams)
        assert not [o for o in cell.get("outputs", []) if WIDGET in o.get("data", {})]


def test_names_no_place_or_moment_of_its_run(notebook):
    for cell in notebook.cells:
        texts = [cell.source]
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            texts += [output.get("text", "")]
            texts += [data[kind] for kind in data if kind.startswith("text/")]
        for text in texts:
            assert not ABSOLUTE.search(text) and not MOMENT.search(text), text[:500]


def test_begins_with_what_it_reproduces_and_how_long_it_takes(notebook):
    first = notebook.cells[0]
    assert first.cell_type == "markdown"
    for words in (r"(reproduces|shows)\b", r"Time\b.*2 CPU cores", r"GPU"):
        assert re.search(words, first.source), words


def test_source_beside_an_equation_is_the_one_that_runs(notebook):
    def flush_left(text: str) -> str:
        return "\n".join(line.strip() for line in text.splitlines())

    outputs = [output for cell in code_cells(notebook) for output in cell.outputs]
    for output in outputs:
        for file, sources in re.findall(SHOWN, output.get("data", {}).get("text/markdown", "")):
            text = flush_left((ROOT / file).read_text(encoding="utf-8"))
            for source in sources.strip().split("\n\n\n"):
                assert flush_left(source) in text, f"{file} has changed: run the notebook anew"


def test_tables_fit_a_page_and_have_names_for_people(notebook):
    texts = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    texts += [output.get("data", {}).get("text/markdown", "")
              for cell in code_cells(notebook) for output in cell.outputs]  # fmt: skip
    for table in re.findall(r"(?:^\|.*\|$\n?)+", "\n\n".join(texts), re.M):
        head, _, *rows = table.strip().splitlines()
        assert len(rows) <= 15 and head.count("|") <= 10, f"draw it instead: {head}"
        assert not re.search(r"\b[a-z]+_[a-z_]+\b", head), head


def test_parameters_are_typed_explained_and_known_to_papermill(path, notebook):
    second = notebook.cells[1]
    assert second.metadata.get("tags") == ["parameters"]
    statements = ast.parse(second.source).body
    assert all(isinstance(statement, ast.AnnAssign) for statement in statements)
    known = inspect_notebook(str(path))
    # papermill misses a line that it cannot parse, such as one with "=" in its comment
    assert list(known) == [statement.target.id for statement in statements]
    for name, parameter in known.items():
        assert parameter["help"], f"{name} has no comment"


def test_cells_are_short(notebook):
    lengths = [len(cell.source.splitlines()) for cell in code_cells(notebook)]
    assert max(lengths) <= 25
    assert statistics.median(lengths) <= 10


# The tools behind them


def write(path, *cells):
    metadata = {"kernelspec": KERNEL, "language_info": {"name": "python", "version": "3.11"}}
    nbformat.write(new_notebook(cells=list(cells), metadata=metadata), path)
    return path


@pytest.fixture
def example(tmp_path):
    tagged = new_code_cell('kind: str = "x"  # a word', metadata={"tags": ["parameters"], "a": 1})
    return write(tmp_path / "example.ipynb", new_markdown_cell("# Title"), tagged)


def test_cleaning_keeps_tags_outputs_and_ids_and_drops_the_rest(example):
    notebook = nbformat.read(example, as_version=4)
    notebook.metadata["widgets"] = {"application/vnd.jupyter.widget-state+json": {"state": {}}}
    cell = notebook.cells[1]
    cell.outputs = [
        new_output("display_data", {"text/plain": "a slider", WIDGET: {}}),
        new_output("stream", name="stderr", text="  0%\r 50%"),
        new_output("stream", name="stderr", text="\r100%\ndone\n"),
        new_output("stream", name="stdout", text="shown"),
    ]
    nbformat.write(notebook, example)
    subprocess.run([*CLEAN, example], check=True)
    tidy = nbformat.read(example, as_version=4)
    assert tidy.metadata == {"kernelspec": KERNEL, "language_info": {"name": "python"}}
    assert tidy.cells[1].metadata == {"tags": ["parameters"]}
    assert [c.id for c in tidy.cells] == [c.id for c in notebook.cells]
    picture, shown = tidy.cells[1].outputs
    assert picture.data == {"text/plain": "a slider"} and shown.text == "shown"


def test_execution_is_written_clean_and_a_failed_one_not_at_all(tmp_path):
    place = new_code_cell("from pathlib import Path\n\nPath('here').touch()\n1 + 1")
    good = write(tmp_path / "good.ipynb", place, new_code_cell("print('a')"))
    subprocess.run([*CLEAN, "--execute", good], check=True)
    assert (tmp_path / "here").exists()  # it ran in its folder
    notebook = nbformat.read(good, as_version=4)
    assert notebook.metadata == {"kernelspec": KERNEL, "language_info": {"name": "python"}}
    assert [cell.execution_count for cell in notebook.cells] == [1, 2]
    assert notebook.cells[0].outputs[0].data == {"text/plain": "2"}
    assert notebook.cells[1].metadata == {}

    bad = write(tmp_path / "bad.ipynb", new_code_cell("1 / 0"))
    before = bad.read_bytes()
    failed = subprocess.run([*CLEAN, "--execute", bad], capture_output=True, text=True)
    assert failed.returncode != 0 and "ZeroDivisionError" in failed.stderr
    assert bad.read_bytes() == before
