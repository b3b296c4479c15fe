"""The small networks in several runtimes."""

import shutil

from cirlib import checkpoints, runtimes
from cirlib.tests.conftest import random_searched


def test_all_runtimes_restore_alike(monkeypatch):
    monkeypatch.setattr(checkpoints, "load", lambda *_: random_searched("ta-tsnet", 0, 3))
    monkeypatch.setattr(shutil, "which", lambda _: None)  # compiling takes a minute
    rows = runtimes.compare_runtimes((48, 32), 1, ["cresmd", "ta-tsnet"], "trained", "tiny", 2)
    for model in ("cresmd", "ta-tsnet"):
        names = [(row["runtime"], row["dtype"]) for row in rows if row["model"] == model]
        names = [name for name in names if name[0] != "OpenVINO"]  # where somebody installed it
        assert names[:2] == [("PyTorch", "float32"), ("ours", "float32")]
        assert names[-3:] == [
            ("PyTorch", "float16"),
            ("PyTorch, NCHW", "float32"),
            ("ONNX Runtime", "float32"),
        ]
    for row in rows:
        assert row["seconds"] > 0 and row["first"] > 0
        assert row["off"] < (0.02 if row["dtype"] == "float32" else 1)
