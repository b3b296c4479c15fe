"""Numbers are reproducible byte for byte; what differs between runs stands beside them."""

import json
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from cirlib.base import paths
from cirlib.base.device import device_name
from cirlib.base.files import UserError
from cirlib.base.provenance import load_csv, load_facts, provenance, save_csv

needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


@pytest.fixture
def frame():
    return pd.DataFrame(
        {
            "method": ["tsnet", "ta-tsnet", "None"],
            "psnr": [25.123456789012, 1 / 3, np.nan],
            "flops": [10_119_200_000_001, 5, 7],
            "lambda1": [5e-11, 5e-12, 1e-2],
        }
    )


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A small repository that stands for ours, with one commit."""
    (tmp_path / "cirlib").mkdir()
    (tmp_path / "cirlib" / "code.py").write_text("x = 1\n")

    def git(*arguments):
        command = ["git", "-c", "user.name=t", "-c", "user.email=t@t", *arguments]
        return subprocess.run(
            command, cwd=tmp_path, check=True, capture_output=True, text=True
        ).stdout.strip()

    git("init", "-q")
    git("add", ".")
    git("commit", "-q", "-m", "first", "--no-gpg-sign")
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    return tmp_path, git("rev-parse", "HEAD")


def test_provenance_states_machine_moment_and_facts():
    facts = provenance(profile="smoke", seed=3)
    for key in ("commit", "date", "python", "torch", "numpy", "pillow", "device", "threads"):
        assert facts[key], key
    assert (facts["profile"], facts["seed"]) == ("smoke", 3)
    age = datetime.now(UTC) - datetime.fromisoformat(facts["date"])
    assert 0 <= age.total_seconds() < 60


def test_provenance_passed_in_again_is_unchanged():
    facts = provenance(seed=3, device="cpu")
    facts["date"] = "2021-10-11T00:00:00+00:00"
    assert facts["device"] != "cpu"  # the processor's name
    assert provenance(**facts) == facts


@needs_git
def test_commit_is_marked_dirty_by_code_but_not_by_results(repository, monkeypatch):
    root, commit = repository
    assert provenance()["commit"] == commit
    (root / "data" / "results").mkdir(parents=True)
    (root / "data" / "results" / "quality.csv").write_text("1\n")
    assert provenance()["commit"] == commit
    (root / "cirlib" / "new.py").write_text("y = 2\n")
    assert provenance()["commit"] == f"{commit}-dirty"
    monkeypatch.setattr(paths, "ROOT", root / "cirlib")  # a repository around is not ours
    assert provenance()["commit"] == "unknown"


def test_commit_is_unknown_outside_git(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    assert provenance()["commit"] == "unknown"
    monkeypatch.setenv("PATH", str(tmp_path))  # not even git itself
    assert provenance()["commit"] == "unknown"


def test_csv_round_trip(frame, tmp_path):
    path = save_csv(frame, tmp_path / "smoke" / "quality.csv", {"seed": 1})
    back = load_csv(path)
    assert list(back) == list(frame)
    assert back["method"].tolist() == frame["method"].tolist()  # "None" is a word here
    assert back["flops"].tolist() == frame["flops"].tolist()
    np.testing.assert_allclose(back["psnr"], frame["psnr"], rtol=1e-8)
    assert back["lambda1"].tolist() == frame["lambda1"].tolist()


def test_equal_runs_give_equal_bytes(frame, tmp_path):
    facts = provenance(seed=1, date="2021-10-11")
    first = save_csv(frame, tmp_path / "a.csv", facts)
    noisy = frame.assign(psnr=frame["psnr"] * (1 + 1e-13))  # another order of summation
    second = save_csv(noisy, tmp_path / "b.csv", {**facts, "date": "2022-10-11"})
    assert first.read_bytes() == second.read_bytes()
    assert b"\r" not in first.read_bytes()
    assert b"2021" not in first.read_bytes()


def test_facts_stand_beside_the_csv(frame, tmp_path):
    given = {"seed": np.int64(1), "rate": np.float64(0.5), "data": Path("some") / "folder"}
    path = save_csv(frame, tmp_path / "a.csv", {**given, "device": "cpu"})
    facts = load_facts(path)
    assert (facts["seed"], facts["rate"], facts["data"]) == (1, 0.5, str(given["data"]))
    assert {"commit", "date", "torch"} <= facts.keys()
    assert json.loads((tmp_path / "a.json").read_text()) == facts
    assert load_facts(tmp_path / "none.csv") == {}


def test_missing_csv_names_the_command(tmp_path):
    path = tmp_path / "data" / "results" / "smoke" / "quality.csv"
    with pytest.raises(UserError, match="missing: make it with `make reproduce PROFILE=smoke`"):
        load_csv(path)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"")
    with pytest.raises(UserError, match="damaged"):
        load_csv(path)


def test_stating_facts_needs_neither_pandas_nor_matplotlib():
    code = (
        "import sys; sys.modules['pandas'] = sys.modules['matplotlib'] = None\n"
        "from cirlib.base.provenance import provenance; provenance(seed=1)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=paths.ROOT, check=True)


@pytest.mark.parametrize("name, flags, shown", [
    ("AMD EPYC 9654", "avx2 avx512f avx512_bf16", "AMD EPYC 9654, AVX512-BF16"),
    ("AMD EPYC", "fma avx2", "AMD EPYC (25/17), AVX2"),  # a cloud hides which
    ("Xeon 6150", "avx2 avx512f avx512vl", "Xeon 6150, AVX512"),
    ("Xeon 8481C", "avx2 avx512f avx512_bf16 amx_bf16 avx512_fp16 amx_tile amx_int8",
     "Xeon 8481C, AMX (bf16, int8)"),
    ("Cortex 1", "asimd", f"Cortex 1, {torch.backends.cpu.get_cpu_capability()}"),
])  # fmt: skip
def test_a_processor_is_told_by_name_and_widest_instructions(monkeypatch, name, flags, shown):
    told = f"processor: 0\ncpu family\t: 25\nmodel\t\t: 17\nmodel name\t: {name}\nflags : {flags}\n"
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: told + told.replace("25", "9"))
    assert device_name("cpu") == shown
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"GPU of {device}")
    assert device_name("cuda:1") == "GPU of cuda:1"
