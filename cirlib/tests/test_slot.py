"""A lent GPU's minutes, rehearsed on a CPU: training goes on, measuring is not done twice."""

import sys

import pandas as pd
from PIL import Image

from cirlib import checkpoints
from cirlib.base import paths
from cirlib.cli import slot
from cirlib.run import loop
from cirlib.tests.conftest import noise


def test_a_slot_trains_the_queue_and_the_next_measures_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(loop, "QUEUE", models := ("cresmd", "ta-tsnet"))
    monkeypatch.setattr(paths, "WEIGHTS", tmp_path)  # no NIQE or LPIPS, which take long
    (tmp_path / "photos").mkdir()
    Image.fromarray(noise(24, 32)).save(tmp_path / "photos" / "photo.png")

    def call(*arguments: object) -> int:
        monkeypatch.setattr(sys, "argv", ["slot", *map(str, arguments)])
        return slot.main()

    train = ("train", "tiny", tmp_path / "photos", "--batch", 2, "--minutes")
    assert call(*train, 0) == 0  # no time at all
    assert not checkpoints.available("tiny")
    assert call(*train, 5) == 0
    assert checkpoints.available("tiny") == list(models)
    card = checkpoints.load_card("cresmd", "tiny")
    assert card["batch"] == 2
    assert call(*train, 5, "--steps", card["steps"] + 2) == 0  # more of what is there
    card, more = checkpoints.load_card("cresmd", "tiny"), card["steps"]
    assert card["steps_done"] == more + 2 and card["continued"][-1]["step"] == more
    measure = ("measure", "tiny", tmp_path / "photos", "--sizes", "16x12", "--minutes")
    assert call(*measure, 5) == 0
    rows = pd.read_csv(paths.RESULTS / "tiny" / "latency_slot.csv")
    assert set(rows["architecture"]) == {"published", "trained"}
    scores = sorted((paths.RESULTS / "tiny").rglob("photo.csv"))
    before = [path.stat().st_mtime_ns for path in scores]
    assert len(scores) == len(models) and call(*measure, 5) == 0
    assert [path.stat().st_mtime_ns for path in scores] == before
    assert call("train", "nothing", tmp_path, "--minutes", 1) == 1
    assert "error: no profile 'nothing'" in capsys.readouterr().err
