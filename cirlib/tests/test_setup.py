"""Every way to set the project up gives the same versions; documented commands exist."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path
from pkgutil import resolve_name

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from cirlib.base.paths import ROOT

TOML = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT, BUILD = TOML["project"], TOML["build-system"]["requires"]
DIRECT = [
    Requirement(line)
    for line in PROJECT["dependencies"] + PROJECT["optional-dependencies"]["dev"]
]  # fmt: skip
README = (ROOT / "README.md").read_text()
MAKEFILE = (ROOT / "Makefile").read_text()
TEXTS = ("README.md", "CONTRIBUTING.md", "data/README.md", "data/paper/README.md",
         "data/checkpoints/README.md", "cirlib/run/README.md", "figures/index.md",
         "figures/departures.md", "Snakefile", "Makefile")  # fmt: skip

needs_make = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


def locked() -> list[tuple[Requirement, int]]:
    """(requirement, how many hashes it has), for each entry of the lock."""
    text = (ROOT / "requirements.lock").read_text().replace("\\\n", "")
    lines = [line for line in text.splitlines() if line and not line.lstrip().startswith("#")]
    return [(Requirement(line.split("--hash")[0]), line.count("--hash=sha256:")) for line in lines]


def test_direct_dependencies_are_pinned_and_the_lock_has_the_same_versions():
    lock = {requirement.name: requirement for requirement, _ in locked()}
    for requirement in DIRECT:
        assert re.fullmatch(r"==[\d.]+", str(requirement.specifier)), requirement
        assert lock[requirement.name].specifier == requirement.specifier
        assert lock[requirement.name].marker is None  # on every platform
    # What builds the package, too: the Makefile installs it without build isolation.
    for requirement in map(Requirement, BUILD):
        assert str(lock[requirement.name].specifier)[2:] in requirement.specifier


def test_lock_is_exact_and_names_no_server():
    assert all(hashes and re.fullmatch(r"==[^*,]+", str(requirement.specifier))
               for requirement, hashes in locked())  # fmt: skip
    text = (ROOT / "requirements.lock").read_text()
    assert "://" not in text and not re.search(r"^\s*-(-index|-extra|-find|i |f )", text, re.M)


def test_conda_environment_has_the_same_versions():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    *conda, pip = environment["dependencies"]
    assert environment["channels"] == ["conda-forge"]
    *by_pip, package = pip["pip"]
    assert package == "-e ."
    versions = dict(item.split("=", 1) for item in conda if "=" in item)
    versions |= dict(item.split("==") for item in by_pip)
    versions["torch"] = versions.pop("pytorch")
    python = versions.pop("python")
    assert python in Requirement(f"python{PROJECT['requires-python']}").specifier
    assert versions == {item.name: str(item.specifier)[2:] for item in DIRECT}


def imported(path: Path) -> set[str]:
    """Top-level packages that a module or a notebook imports, in functions, too."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".ipynb":
        code = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
        text = "\n".join("".join(cell["source"]) for cell in code)
    modules = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            modules.add(node.module)
    return {module.partition(".")[0] for module in modules} - sys.stdlib_module_names - {"cirlib"}


def test_what_is_imported_is_declared():
    tools = {requirement.name for requirement in DIRECT}
    optional = PROJECT["optional-dependencies"]["heic"]  # asked for where it is missing
    package = {Requirement(line).name for line in [*PROJECT["dependencies"], *optional]}
    origin = packages_distributions()
    for path in [*ROOT.glob("cirlib/**/*.py"), *ROOT.glob("notebooks/*.ipynb")]:
        declared = tools if "tests" in path.parts else package
        for name in imported(path):
            assert declared & set(map(canonicalize_name, origin.get(name, [name]))), (
                f"{path}: {name}"
            )


# Documentation


def test_make_targets_in_the_texts_exist():
    texts = README + (ROOT / "CONTRIBUTING.md").read_text()
    for target in re.findall(r"(?:^|`|&& |  )make ([a-z]+)", texts, re.M):
        assert re.search(rf"^{target}:.* ## ", MAKEFILE, re.M), target


def test_subcommands_and_options_in_the_readme_exist(run):
    used = {}
    for line in re.findall(r"-m cirlib ([a-z].*)", README):
        words = line.split("#")[0].replace("`", "").split()
        used.setdefault(" ".join(words[: 2 if words[0] == "bench" else 1]), []).append(line)
    for command, lines in used.items():
        status, shown, _ = run(*command.split(), "--help")
        assert status == 0, command
        for option in re.findall(r"(?<!\S)--?[a-z][a-z-]*", " ".join(lines)):
            assert re.search(rf"{option}\b", shown), f"{command} {option}"


def test_files_modules_and_notebooks_named_in_texts_exist():
    """What links lead to, the book is told by Sphinx (test_book.py)."""
    for place in [*ROOT.glob("notebooks/*.ipynb"), *map(ROOT.joinpath, TEXTS)]:
        text = place.read_text(encoding="utf-8")
        for name in re.findall(r"\bcirlib/[\w./-]*\w", text):
            assert (ROOT / name).exists(), f"{place.name}: {name}"
        for name in re.findall(r"`((?:data|figures|notebooks)/[\w./-]+\w)`", text):
            assert (ROOT / name).exists() or name.startswith("data/mine"), f"{place.name}: {name}"
        for name in re.findall(r"(?<!/)\bcirlib(?:\.\w+)+", text):
            assert resolve_name(name), f"{place.name}: {name}"
        for name in re.findall(r"`(\d\d_\w+)`", text):
            assert (ROOT / "notebooks" / f"{name}.ipynb").exists(), f"{place.name}: {name}"


def test_equations_of_the_readme_lead_to_code_and_to_a_test():
    _, _, table = README.partition("| Eq. | code in")
    rows = re.findall(r"`(\w+)\.py`: `([\w.]+)`.*? \| `(\w+)\.py -k \"?([\w ]+)", table)
    assert len(rows) == 11
    for module, function, tests, words in rows:
        assert resolve_name(f"cirlib.{module}:{function}")
        names = re.findall(r"def (test_\w+)", (ROOT / "cirlib/tests" / f"{tests}.py").read_text())
        assert all(any(word in name for name in names) for word in words.split(" or ")), words


# Makefile


@pytest.fixture
def clone(tmp_path):
    """A folder with a space in its name, in which make finds what it needs for .venv."""
    folder = tmp_path / "a clone"
    folder.mkdir()
    for name in ("Makefile", "requirements.lock", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)
    return folder


def script(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def make(folder, *arguments):
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS"))}
    return subprocess.run(
        ["make", *arguments], cwd=folder, env=environment, capture_output=True, text=True
    )


@needs_make
def test_make_alone_lists_the_targets():
    shown = make(ROOT).stdout
    for target in re.findall(r"^([a-z]+):", MAKEFILE, re.M):
        assert f"make {target} " in shown


def test_ci_runs_the_tests_and_hooks_fetch_nothing():
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    assert (ROOT / ".ci" / "run").read_text().endswith("\nmake test\n")
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "test.yml").read_text())
    assert workflow["jobs"]["test"]["steps"][-1] == {"run": "make test"}
    # and the hooks before a commit what is in the environment
    (source,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert source["repo"] == "local"
    for hook in source["hooks"]:
        assert hook["language"] == "system" and hook["entry"].startswith(".venv/bin/")


def test_citation_is_of_this_version_and_of_the_paper():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == PROJECT["version"] and citation["license"] == PROJECT["license"]
    paper = citation["preferred-citation"]
    for author in paper["authors"]:
        assert f"{author['family-names']}, {author['given-names']}" in README
    assert paper["title"] in README


def test_top_level_is_the_users_folders_and_what_tools_look_for_there():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode != 0:
        pytest.skip("no clone, so it is not known what is committed")
    top = {line.partition("/")[0] for line in listed.stdout.splitlines() if line[0] != "."}
    assert top == {
        "notebooks", "cirlib", "data", "figures", "environment.yml", "README.md", "LICENSE",
        "CITATION.cff", "CONTRIBUTING.md", "CHANGELOG.md", "Makefile", "Snakefile",
        "pyproject.toml", "requirements.lock",
    }  # fmt: skip


@needs_make
def test_old_python_is_refused_in_a_sentence(clone, tmp_path):
    old = script(
        tmp_path / "python3.9",
        f'{sys.executable} -c "import sys; sys.version_info = (3, 9); exec(sys.argv[1])" "$2"',
    )
    result = make(clone, ".venv/.installed", f"PYTHON={old}")
    assert result.returncode != 0
    assert "is Python 3.9, and cirlib needs 3.11 or newer" in result.stderr
    assert not (clone / ".venv").exists()


@needs_make
def test_interrupted_setup_is_done_anew_and_a_finished_one_not_again(clone, tmp_path):
    pip = script(tmp_path / "pip", f'echo "$*" >> "{tmp_path}/log"; test ! -e "{tmp_path}/broken"')
    python = script(
        tmp_path / "python",
        'case "$*" in *venv*) rm -rf .venv && mkdir -p .venv/bin && '
        f'cp "{pip}" .venv/bin/python && echo "$*" >> "{tmp_path}/log";; esac',
    )

    def setup():
        (tmp_path / "log").write_text("")
        result = make(clone, ".venv/.installed", f"PYTHON={python}")
        return result.returncode, (tmp_path / "log").read_text().splitlines()

    (tmp_path / "broken").touch()
    code, steps = setup()
    assert code != 0 and len(steps) == 2
    (tmp_path / "broken").unlink()
    code, (venv, dependencies, package) = setup()
    assert code == 0 and "--clear" in venv
    assert "--require-hashes -r requirements.lock" in dependencies and "-e ." in package
    assert setup() == (0, [])
    os.utime(clone / "requirements.lock", (2e9, 2e9))  # another lock: brought up to date in place
    assert ["venv" in step for step in setup()[1]] == [False, False]
