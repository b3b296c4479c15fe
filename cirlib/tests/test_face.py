"""What `import cirlib` hands on: what a reader needs first, each loaded when it is asked for."""

import json
import re
import subprocess
import sys

import pytest

import cirlib
from cirlib.base.paths import NOTEBOOKS, ROOT
from cirlib.tests.conftest import noise


def test_every_name_is_there_and_listed():
    for name in cirlib.__all__:
        assert getattr(cirlib, name).__doc__ and name in dir(cirlib)
    with pytest.raises(AttributeError, match="has no attribute 'restoration'"):
        _ = cirlib.restoration
    from cirlib import networks  # modules are found beside the names

    assert networks.__name__ == "cirlib.networks"


def test_importing_it_loads_nothing_yet():
    code = "import sys; there = set(sys.modules); import cirlib; print(set(sys.modules) - there)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "{'cirlib'}\n"


def test_the_first_notebook_needs_few_imports():
    cells = json.loads((NOTEBOOKS / "00_start_here.ipynb").read_text())["cells"]
    code = "".join("".join(cell["source"]) + "\n" for cell in cells if cell["cell_type"] == "code")
    imports = re.findall(r"^(?:from|import) cirlib.*", code, re.M)
    assert 1 <= len(imports) <= 5 and not any(line.endswith("(") for line in imports)


def test_lines_in_the_readme_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cirlib.write_image(tmp_path / "photo.jpg", noise(48, 64))
    blocks = re.findall(r"```python\n(.+?)```", (ROOT / "README.md").read_text(), re.S)
    names = {}
    for block in blocks:
        exec(block, names)
    assert any(isinstance(value, cirlib.Modulator) for value in names.values())
