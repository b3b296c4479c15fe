"""The cost of float16 is measured between the weights that are shipped and those they were."""

import numpy as np
import pytest
import torch
from PIL import Image

from cirlib import checkpoints, evaluation, paths, training
from cirlib.datasets import photographs
from cirlib.degradation import TASKS
from cirlib.files import UserError
from cirlib.profiles import PROFILES
from cirlib.rounding import rounding, unrounded
from cirlib.tests.conftest import TINY


@pytest.fixture(autouse=True)
def photos(monkeypatch, tmp_path) -> list:
    """A photograph, and a TA+TSNet that was trained on it."""
    monkeypatch.setitem(PROFILES, "tiny", TINY)
    for name in ("RUNS", "CHECKPOINTS", "SHIPPED"):
        monkeypatch.setattr(paths, name, tmp_path / name)
    (tmp_path / "photos").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photos" / "photo.png")
    for model in ("cresmd", "ta-tsnet"):
        training.train(model, "tiny", str(tmp_path / "photos"), workers=0)
    return photographs(str(tmp_path / "photos"))


def test_the_state_of_the_training_is_what_was_rounded():
    state, shipped = unrounded("ta-tsnet", "tiny"), checkpoints.load("ta-tsnet", "tiny")
    theirs, ours = shipped.state_dict(), state.state_dict()
    assert theirs.keys() == ours.keys()
    changed = [name for name in ours if not torch.equal(ours[name], theirs[name])]
    assert "net.first.weight" in changed and all(name.startswith("net.") for name in changed)
    assert all(torch.equal(ours[name].half().float(), theirs[name]) for name in changed)


def test_both_are_evaluated_alike(photos, monkeypatch, tmp_path):
    # So coarse that it shows; and without the task that changes nothing, the best of 6 steps.
    monkeypatch.setattr(evaluation, "TASKS", TASKS[1:])
    monkeypatch.setattr(torch.Tensor, "half", lambda tensor: (tensor * 8).round() / 8)
    training.train("ta-tsnet", "tiny", str(tmp_path / "photos"), workers=0)  # ships it anew
    row = rounding("ta-tsnet", "tiny", photos, crop=32)
    found = {
        name: evaluation.evaluate(net, photos, 32, 0, ["psnr"])["psnr"]
        for name, net in (("float32", unrounded("ta-tsnet", "tiny")),
                          ("float16", checkpoints.load("ta-tsnet", "tiny")))
    }  # fmt: skip
    change = found["float16"] - found["float32"]
    assert row["model"] == "ta-tsnet" and row["inputs"] == 26
    assert row["weights"] == checkpoints.digest(checkpoints.load("ta-tsnet", "tiny"))
    assert row["float32"] == found["float32"].mean() and row["float16"] == found["float16"].mean()
    assert row["difference"] == change.mean()
    assert row["largest"] == change.abs().max() > 0  # the two are not one network
    assert 0 <= row["same_best"] <= 1


def test_another_training_is_not_compared(photos):
    net = checkpoints.load("ta-tsnet", "tiny")
    with torch.no_grad():
        net.net.last.bias += 0.1
    checkpoints.save(net, {}, "step\n")
    with pytest.raises(UserError, match="of another training"):
        rounding("ta-tsnet", "tiny", photos)


def test_where_it_was_not_trained_the_cure_is_named(photos):
    (paths.RUNS / "tiny" / "ta-tsnet" / "state.safetensors").unlink()
    with pytest.raises(UserError, match="train --model ta-tsnet --profile tiny"):
        rounding("ta-tsnet", "tiny", photos)
