"""The batch: every notebook through Snakefile and papermill, on the smoke profile, for real."""

import hashlib
import os
import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from cirlib.base.paths import NOTEBOOKS, ROOT
from cirlib.profiles import MODELS

pytestmark = pytest.mark.slow


class Batch:
    """A folder into which the batch writes everything, Snakemake's own files as well."""

    def __init__(self, folder):
        self.folder = folder
        self.environment = os.environ | {"CIRLIB_OUTPUT": str(folder)}

    def run(self, *arguments, snakefile=ROOT / "Snakefile"):
        """Exit status and all that was printed, of the command of `make reproduce`."""
        command = [sys.executable, "-m", "snakemake", *arguments, "--snakefile", snakefile]
        command += ["--cores", "1", "--nolock", "--rerun-incomplete", "--rerun-triggers", "mtime"]
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        return done.returncode, done.stdout

    def executed(self, name):
        return self.folder / "data" / "executed" / "smoke" / f"{name}.ipynb"


def sources():
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest()
            for path in NOTEBOOKS.glob("*.ipynb")}  # fmt: skip


@pytest.fixture(scope="module")
def batch(tmp_path_factory):
    """The whole batch, run once."""
    before = sources()
    batch = Batch(tmp_path_factory.mktemp("the batch"))
    status, printed = batch.run("--config", "profile=smoke")
    assert status == 0, printed
    assert sources() == before  # executed copies stand elsewhere
    return batch


def test_batch_trains_and_measures_all_models(batch):
    for path in NOTEBOOKS.glob("*.ipynb"):
        assert batch.executed(path.stem).exists()
    for model in MODELS:
        assert (batch.folder / "data/checkpoints/smoke" / f"{model}.safetensors").exists()
    table = (batch.folder / "data/results/smoke/table2.csv").read_text()
    assert all(model in table for model in MODELS)


def test_second_run_does_nothing(batch):
    status, printed = batch.run("--config", "profile=smoke")
    assert status == 0 and "Nothing to be done" in printed, printed


def test_results_are_made_by_the_name_of_one_and_the_same_again(batch):
    """The second run of a seed writes the same bytes: quality, ablations, modulation."""
    results = batch.folder / "data/results/smoke"
    made = {"table2": 21, "figure7": 30, "table3": 31, "table4": 31, "modulation": 41,
            "modulation_steps": 41, "suggest": 41}  # of which notebook  # fmt: skip
    files = [results / f"{name}.csv" for name in made]
    first = [file.read_bytes() for file in files]
    for file in files:
        file.unlink()
    targets = [f"data/results/smoke/{name}.csv" for name in made]
    status, printed = batch.run(*targets, "--config", "profile=smoke")
    assert status == 0, printed
    assert printed.count("Input Notebook") == len(set(made.values()))
    assert [file.read_bytes() for file in files] == first


def test_full_protocol_is_a_job_for_each_model_and_photo_and_goes_on(batch, tmp_path):
    for name, side in (("a", 32), ("b", 36)):
        pixels = np.random.default_rng(side).integers(0, 256, (side, side, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    options = ("--config", "profile=smoke", f"images={tmp_path}")
    status, printed = batch.run("full_table2", *options, "--dry-run")
    assert status == 0 and re.search(rf"full_scores +{2 * len(MODELS)}\n", printed), printed
    done = "data/runs/smoke/full_table2/tsnet/b.csv"
    status, printed = batch.run(done, *options)
    assert status == 0 and len((batch.folder / done).read_text().splitlines()) == 1 + 26, printed
    _, printed = batch.run("full_table2", *options, "--dry-run")
    assert re.search(rf"full_scores +{2 * len(MODELS) - 1}\n", printed), printed
    assert "full_scores" not in batch.run(*options, "--dry-run")[1]  # it is no part of the batch


def test_failing_notebook_stops_the_batch_tells_why_and_leaves_old_results(batch):
    batch.executed("21_quality").unlink()
    status, printed = batch.run("--config", "profile=smoke", "images=nowhere")
    assert status != 0
    assert "UserError: no data set or folder is called 'nowhere'" in printed
    assert (batch.folder / "figures/smoke/table2.md").exists()
    status, printed = batch.run("--config", "profile=smoke", "--dry-run")
    assert "quality" in printed  # it is not taken for done


def test_misspelt_parameter_is_refused_before_anything_runs(tmp_path):
    text = (ROOT / "Snakefile").read_text()
    assert text.count("seed=0") >= 1
    (tmp_path / "Snakefile").write_text(text.replace("seed=0", "sed=0"))
    status, printed = Batch(tmp_path).run(
        "--config", "profile=smoke", snakefile=tmp_path / "Snakefile"
    )
    assert status != 0 and "has no parameter 'sed'" in printed
    assert not (tmp_path / "data").exists()


def test_unknown_profile_is_refused(tmp_path):
    status, printed = Batch(tmp_path).run("--config", "profile=small")
    assert status != 0 and "choose one of smoke, compact, paper" in printed
