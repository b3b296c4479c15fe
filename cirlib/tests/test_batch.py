"""The batch: settings that are refused, and every notebook on the smoke profile, for real."""

import hashlib
import os
import re
import subprocess
import sys

import pytest
from PIL import Image

from cirlib.base.files import UserError
from cirlib.base.paths import NOTEBOOKS, ROOT
from cirlib.profiles import MODELS
from cirlib.report import batch as batch_module
from cirlib.report.batch import settings
from cirlib.tests.conftest import noise


@pytest.mark.parametrize("asked, told", [
    ({"limt": 4}, "knows no 'limt': did you mean 'limit'"),
    ({"latency_size": "64x48"}, "did you mean 'latency_sizes'"),
    ({"limit": "four"}, "limit= takes a whole number, not 'four'"),
    ({"limit": True}, "a whole number"), ({"crop": 1.5}, "a whole number"),
    ({"limit": -1}, "1 or more, or 0 for all"), ({"crop": 8}, "32 or more, or 0 for all"),
    ({"rounds": 0}, "rounds=0: it must be 1 or more"), ({"runs": -2}, "1 or more"),
    ({"latency_sizes": "HD"}, "takes sizes as 1280x720"),
    ({"latency_sizes": "64x48,"}, "takes sizes"), ({"latency_sizes": 64}, "takes sizes"),
    ({"images": True}, "takes a data set or a folder"),
    ({"profile": "small"}, "choose one of smoke, compact, full, paper"),
])  # fmt: skip
def test_settings_that_make_no_sense_are_refused(asked, told, tmp_path):
    with pytest.raises(UserError, match=told):
        settings(asked, tmp_path)


def test_settings_are_the_profiles_but_for_what_is_asked(tmp_path):
    (tmp_path / "photos").mkdir()
    found = settings({"profile": "smoke", "crop": 0, "images": "photos"}, tmp_path)
    assert found["images"] == str(tmp_path / "photos") and found["crop"] == 0
    assert found["limit"] == batch_module.DEFAULTS["smoke"]["limit"]
    joined = settings({"images": "bsd432+photos"}, tmp_path)["images"]
    assert joined == f"bsd432+{tmp_path / 'photos'}"
    assert settings({"profile": "smoke"}, tmp_path)["images"] == "embedded"


SMALL = ("profile=smoke", "crop=48", "ablation_crop=32", "latency_sizes=64x48")
ITEM = r"^\[ *\d+/\d+\] .*$"  # the line that tells of a notebook


class Batch:
    """A folder into which the batch writes everything, Snakemake's own files as well."""

    def __init__(self, folder):
        self.folder = folder
        self.environment = os.environ | {"CIRLIB_OUTPUT": str(folder)}

    def run(self, *arguments, snakefile=ROOT / "Snakefile", typed_in=None):
        """Exit status and all that was printed, of the command of `make reproduce`."""
        command = [sys.executable, "-m", "snakemake", *arguments, "--snakefile", snakefile]
        if "--jobs" not in arguments:
            command += ["--cores", "1"]
        command += ["--nolock", "--rerun-incomplete", "--rerun-triggers", "mtime"]
        done = subprocess.run(
            command, cwd=typed_in or self.folder, env=self.environment,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        return done.returncode, done.stdout

    def executed(self, name):
        return self.folder / "executed" / "smoke" / f"{name}.ipynb"


def sources():
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest()
            for path in NOTEBOOKS.glob("*.ipynb")}  # fmt: skip


@pytest.fixture(scope="module")
def batch(tmp_path_factory):
    """The whole batch, run once."""
    before = sources()
    batch = Batch(tmp_path_factory.mktemp("the batch"))
    status, printed = batch.run("--quiet", "all", "--config", *SMALL)  # as make reproduce does
    assert status == 0, printed
    assert sources() == before  # executed copies stand elsewhere
    lines = re.findall(ITEM, printed, re.M)
    assert len(lines) == len(before) and all(re.search(r"\d min +\d+ s$", line) for line in lines)
    return batch


@pytest.mark.slow
def test_batch_trains_and_measures_all_models(batch):
    for path in NOTEBOOKS.glob("*.ipynb"):
        assert batch.executed(path.stem).exists()
    for model in MODELS:
        assert (batch.folder / "checkpoints/smoke" / f"{model}.safetensors").exists()
    table = (batch.folder / "results/smoke/table2.csv").read_text()
    assert all(model in table for model in MODELS)


@pytest.mark.slow
def test_second_run_does_nothing(batch):
    status, printed = batch.run("--config", "profile=smoke")
    assert status == 0 and "Nothing to be done" in printed, printed


@pytest.mark.slow
def test_a_result_is_made_by_its_name_and_is_the_same_again(batch):
    file = batch.folder / "results/smoke/table3.csv"
    first = file.read_bytes()
    file.unlink()
    status, printed = batch.run("results/smoke/table3.csv", "--config", *SMALL)
    assert status == 0 and len(re.findall(ITEM, printed, re.M)) == 1, printed
    assert file.read_bytes() == first


@pytest.mark.slow
def test_full_protocol_is_a_job_for_each_model_and_photo_and_goes_on(batch, tmp_path):
    for name, side in (("a", 32), ("b", 36)):
        Image.fromarray(noise(side, side, side)).save(tmp_path / f"{name}.png")
    options = ("--config", "profile=smoke", f"images={tmp_path}")
    done = "runs/smoke/full_table2/tsnet/b.csv"
    status, printed = batch.run(done, *options)
    assert status == 0 and len((batch.folder / done).read_text().splitlines()) == 1 + 26, printed
    _, printed = batch.run("full_table2", *options, "--dry-run")
    assert re.search(rf"full_scores +{2 * len(MODELS) - 1}\n", printed), printed


@pytest.mark.slow
def test_a_failing_notebook_stops_the_batch_tells_its_log_and_leaves_old_results(batch, tmp_path):
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "a.png").write_bytes(b"no image")
    options = ("--config", "profile=smoke", "images=broken")  # seen from where it is typed
    batch.executed("21_quality").unlink()
    status, printed = batch.run(*options, typed_in=tmp_path)
    assert status != 0 and "not an image that can be read" in printed, printed
    (log,) = re.findall("the whole log: (.*)", printed)
    assert "not an image that can be read" in open(log).read()
    assert (batch.folder / "figures/smoke/table2.md").exists()
    assert not batch.executed("21_quality").exists()  # it is not taken for done


@pytest.mark.slow
def test_misspelt_parameter_is_refused_before_anything_runs(tmp_path):
    text = (ROOT / "Snakefile").read_text()
    assert text.count("seed=0") >= 1
    (tmp_path / "Snakefile").write_text(text.replace("seed=0", "sed=0"))
    status, printed = Batch(tmp_path).run(
        "--config", "profile=smoke", snakefile=tmp_path / "Snakefile"
    )
    assert status != 0 and "has no parameter 'sed'" in printed
    assert not (tmp_path / "executed").exists()


@pytest.mark.slow
def test_what_is_refused_is_told_in_a_line_before_anything_runs(tmp_path):
    status, printed = Batch(tmp_path).run("--config", "limt=4")
    assert status != 0 and printed.startswith("error: --config knows no 'limt'")
    assert len(printed.splitlines()) == 1 and not (tmp_path / "executed").exists()
