"""Trained networks on disk: whole or absent, without pickle, and errors that say what to do."""

import errno
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from cirlib import checkpoints
from cirlib.base import paths
from cirlib.base.files import UserError
from cirlib.tests.conftest import random_searched


@pytest.fixture
def saved():
    """A trained TA+TSNet and the files that hold it."""
    net = random_searched("ta-tsnet", seed=3, shared_points=4)
    checkpoints.save(net, {"seed": 3, "steps_done": 6}, "step,L\n3,2.5\n6,1.25\n")
    return net, checkpoints.files("ta-tsnet", "tiny")


def test_what_was_saved_is_loaded(saved):
    net, place = saved
    again = checkpoints.load("ta-tsnet", "tiny")
    stored, _ = checkpoints.read_tensors(place["weights"])
    loaded = again.state_dict()
    assert not again.training and loaded.keys() == stored.keys()
    for name, tensor in net.state_dict().items():
        assert loaded[name].dtype == tensor.dtype
        if name.startswith("net."):  # in half the bytes; what decides on channels in full
            assert stored[name].dtype == torch.float16
            torch.testing.assert_close(loaded[name], tensor, rtol=2**-11, atol=2**-25)
        else:
            assert stored[name].dtype == tensor.dtype and torch.equal(loaded[name], tensor)
    card = {"seed": 3, "steps_done": 6, "stored": "float16"}
    assert checkpoints.load_card("ta-tsnet", "tiny") == card
    assert checkpoints.load_log("ta-tsnet", "tiny")["L"].tolist() == [2.5, 1.25]
    assert sorted(file.name for file in place["weights"].parent.iterdir()) == [
        "ta-tsnet.csv",
        "ta-tsnet.json",
        "ta-tsnet.safetensors",
    ]


def test_what_was_loaded_is_saved_again_alike(saved):
    """Shipped checkpoints, whatever the format they were stored in, can be written anew."""
    net, place = saved
    before = {what: path.read_bytes() for what, path in place.items()}
    again, card = checkpoints.load("ta-tsnet", "tiny"), checkpoints.load_card("ta-tsnet", "tiny")
    checkpoints.save(again, card, place["log"].read_text())
    assert {what: path.read_bytes() for what, path in place.items()} == before
    checkpoints.write_tensors(place["weights"], net.state_dict(), {"model": "ta-tsnet"})
    full = checkpoints.load("ta-tsnet", "tiny")  # as earlier versions stored it
    assert torch.equal(full.net.first.weight, net.net.first.weight)


@pytest.mark.parametrize("call", [1, 2, 3])
def test_a_full_disk_leaves_the_three_files_that_were_there(saved, monkeypatch, call):
    place = saved[1]
    before = {what: path.read_bytes() for what, path in place.items()}
    calls = iter(range(1, 4))

    def full(write):
        def limited(self, content, *rest):
            if next(calls) < call:
                return write(self, content, *rest)
            write(self, content[: len(content) // 2], *rest)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        return limited

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", full(Path.write_text))
        patch.setattr(Path, "write_bytes", full(Path.write_bytes))
        with pytest.raises(UserError, match="no space left on disk for .*ta-tsnet"):
            checkpoints.save(random_searched("ta-tsnet", seed=5), {"seed": 5}, "step\n")
    assert {what: path.read_bytes() for what, path in place.items()} == before
    assert len(list(place["weights"].parent.iterdir())) == 3


def test_own_checkpoint_wins_over_the_shipped_one(saved, monkeypatch):
    monkeypatch.setattr(paths, "SHIPPED", paths.CHECKPOINTS)
    monkeypatch.setattr(paths, "CHECKPOINTS", paths.CHECKPOINTS.parent / "mine")
    assert checkpoints.load_card("ta-tsnet", "tiny")["seed"] == 3
    assert checkpoints.available("tiny") == ["ta-tsnet"]
    checkpoints.save(random_searched("ta-tsnet", seed=5), {"seed": 5}, "step\n")
    assert checkpoints.load_card("ta-tsnet", "tiny")["seed"] == 5


def test_missing_checkpoint_names_the_command(saved):
    with pytest.raises(UserError, match="there: ta-tsnet.*train --model cresmd --profile tiny"):
        checkpoints.load("cresmd", "tiny")
    with pytest.raises(UserError, match="no profile 'nano'"):
        checkpoints.load("cresmd", "nano")
    with pytest.raises(UserError, match="no model 'resnet'"):
        checkpoints.load("resnet", "tiny")


@pytest.mark.parametrize("model, size", [("ta-tsnet", "full"), ("ta-tsnet-abl-0", "compact")])
def test_by_default_the_largest_network_is_loaded(model, size):
    assert checkpoints.load(model).profile.name == size


def test_an_unfinished_network_is_no_default(saved, monkeypatch):
    monkeypatch.setattr(checkpoints, "SIZES", ("tiny", "compact"))
    for done, size in ((3, "compact"), (5, "tiny")):
        card = {"steps": 5, "steps_done": done}
        checkpoints.save(random_searched("ta-tsnet", seed=3), card, "step\n")
        assert checkpoints.largest("ta-tsnet") == size


@pytest.mark.parametrize("content", [b"", b"{}", b"\x80\x04" * 50, None], ids=repr)
def test_damaged_weights_are_a_user_error(saved, content):
    path = saved[1]["weights"]
    path.write_bytes(path.read_bytes()[:-100] if content is None else content)
    with pytest.raises(UserError, match=r"ta-tsnet.safetensors is damaged .*delete it"):
        checkpoints.load("ta-tsnet", "tiny")


def test_weights_of_another_architecture_are_a_user_error(saved):
    save_file({"net.first.weight": torch.zeros(3)}, saved[1]["weights"])
    with pytest.raises(UserError, match="does not fit profile tiny"):
        checkpoints.load("ta-tsnet", "tiny")


@pytest.mark.parametrize(
    ("what", "load", "content"),
    [("card", checkpoints.load_card, "{"), ("log", checkpoints.load_log, "")],
)
def test_damaged_or_missing_card_and_log_are_user_errors(saved, what, load, content):
    path = saved[1][what]
    path.write_text(content)
    with pytest.raises(UserError, match="damaged: run `python -m cirlib train --model ta-tsnet"):
        load("ta-tsnet", "tiny")
    path.unlink()
    with pytest.raises(UserError, match="missing: run"):
        load("ta-tsnet", "tiny")
