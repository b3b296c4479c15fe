"""Section 7.3: training resumes bit for bit, splits over processes, and fails without losses."""

import math
import os
import pickle
import re
import shutil
import subprocess
import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cirlib import checkpoints, training
from cirlib.base import paths
from cirlib.base.files import UserError
from cirlib.data.datasets import photographs
from cirlib.degradation import TASK_LEVELS, TASKS, degrade
from cirlib.engine.modulator import Modulator
from cirlib.measure.metrics import psnr
from cirlib.profiles import MODELS, PROFILES
from cirlib.run import loop
from cirlib.search import build
from cirlib.tests.conftest import FAST, assert_same, move_output, state, stop_after, train

# Resuming


@pytest.mark.parametrize("model", ["cresmd", "ta-tsnet"])
def test_a_run_of_single_steps_equals_an_unbroken_one(folder, monkeypatch, model):
    train(folder)
    weights = train(folder, model).read_bytes()
    unbroken = state(model)
    monkeypatch.setattr(paths, "RUNS", folder / "other")
    for step in range(1, unbroken[1] + 1):  # across share_from, freeze_from and every halving
        train(folder, model, max_minutes=0)
        assert state(model)[1] == step
    assert_same(state(model), unbroken)
    assert train(folder, model).read_bytes() == weights


def test_the_search_of_these_tests_moves(folder):
    train(folder)
    train(folder, "ta-tsnet")
    rows = state("ta-tsnet")[2]
    boundary = int(FAST.share_from * FAST.search)
    assert all(row["shared_layers"] == 0 for row in rows[:boundary])
    assert max(row["shared_layers"] for row in rows[boundary:]) > 0
    assert rows[-1]["flops_m1"] < 0.9
    frozen = rows[int(FAST.freeze_from * FAST.search) :]
    assert len({(row["shared_layers"], row["flops_m1"], row["flops_m27"]) for row in frozen}) == 1


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_resumes_on_a_gpu(folder):
    train(folder)
    train(folder, "ta-tsnet", max_minutes=0)
    train(folder, "ta-tsnet")
    assert state("ta-tsnet")[1] == FAST.search


def test_states_keep_their_format(folder):
    """What a long training has written can be resumed by later versions."""
    train(folder)
    tensors, header = checkpoints.read_tensors(paths.RUNS / "tiny/cresmd/state.safetensors")
    assert header.keys() == {"config", "began", "continued", "step", "seconds", "rows"}
    assert header["began"].keys() == {"commit", "date", "device"}
    assert header["config"].keys() == {
        "model", "profile", "name", "blocks", "channels", "steps", "batch", "learning_rate",
        "search_rate", "halve_at", "anneal_from", "warm_up", "grown_from",
        "controller_rate",
        "patch", "freeze_from",
        "alpha", "alpha_s", "gamma", "lambda1", "lambda2", "fixed", "schemes",
        "seed", "images", "photos", "fingerprint", "drawn",
    }  # fmt: skip
    weights = {name for name in tensors if not name.startswith("adam.")}
    assert {f"net.{name}" for name in ("first.weight", "conv1.0.weight", "last.bias")} <= weights
    assert tensors.keys() - weights == {
        f"adam.{key}.{name}" for key in ("step", "exp_avg", "exp_avg_sq") for name in weights
    }


def test_weights_in_float16_cost_less_than_a_hundredth_of_a_decibel(folder):
    photo = photographs(str(folder / "photos"))[0].read()
    degraded = degrade(photo, TASK_LEVELS[13], torch.Generator().manual_seed(0))
    train(folder)
    for model in ("cresmd", "ta-tsnet"):
        train(folder, model)
        weights = {k: v for k, v in state(model)[0].items() if not k.startswith("adam.")}
        exact = build(MODELS[model], FAST, seed=0)
        exact.load_state_dict(weights)
        scores = []
        for net in (exact, checkpoints.load(model, "tiny")):
            modulator = Modulator(net, dtype=torch.float32)
            modulator.load(degraded)
            scores.append(psnr(modulator.effect(TASKS[13]), photo))
        assert scores[0] == pytest.approx(scores[1], abs=0.01)


# One result, however the work is split


@pytest.mark.parametrize("world", [1, 2, 4])
def test_processes_share_out_the_samples(world):
    first, last, batch = 3, 9, 8
    shares = [list(loop._sample_numbers(first, last, batch, r, world)) for r in range(world)]
    steps = np.stack([np.reshape(share, (last - first, batch // world)) for share in shares], 1)
    assert steps.reshape(-1).tolist() == list(range(first * batch, last * batch))


DISTRIBUTED = """
import os, sys
from contextlib import nullcontext
from pathlib import Path
from dataclasses import replace
from cirlib import training
from cirlib.base import paths
from cirlib.base.files import UserError
from cirlib.run import loop
from cirlib.profiles import PROFILES
from cirlib.tests.conftest import FAST

PROFILES["tiny"] = FAST
training.autocast = lambda device: nullcontext()  # what remains is float32 rounding
folder = Path(sys.argv[1])
paths.RUNS, paths.CHECKPOINTS = folder / "runs", folder / "checkpoints"
begin, finish = {"max_minutes": 0}, {}
todo = {"4": [("cresmd", begin), ("cresmd", finish), ("ta-tsnet", begin)],
        "2": [("ta-tsnet", finish)]}
for model, options in todo[os.environ["WORLD_SIZE"]]:
    loop.train(model, "tiny", sys.argv[2], workers=0, **options)
try:
    PROFILES["tiny"] = replace(FAST, batch=3)
    loop.train("cresmd", "tiny", sys.argv[2], workers=0, fresh=True)
except UserError as error:
    print(error)
"""


@pytest.mark.slow
def test_four_processes_and_then_two_train_the_same_weights(folder, monkeypatch):
    monkeypatch.setattr(training, "autocast", lambda device: nullcontext())
    train(folder)
    train(folder, "ta-tsnet")
    (folder / "script.py").write_text(DISTRIBUTED)
    for world in (4, 2):  # the second goes on with what the first has begun
        result = subprocess.run(
            [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(world),
             "--standalone", str(folder / "script.py"), str(folder / "two"),
             str(folder / "photos")],
            capture_output=True, text=True, timeout=900, env=os.environ | {"OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        assert result.returncode == 0, result.stderr
        told = f"a batch of 3 cannot be split over {world} processes"
        assert result.stdout.count(told) == world
    one = {model: state(model) for model in ("cresmd", "ta-tsnet")}
    move_output(monkeypatch, folder / "two")
    for model, (tensors, steps, rows) in one.items():
        tensors2, steps2, rows2 = state(model)
        assert steps == steps2 and tensors.keys() == tensors2.keys()
        assert checkpoints.load_card(model, "tiny")["processes"] == {"cresmd": 4}.get(model, 2)
        for name, tensor in tensors.items():
            # What rounding moves grows with the learning rate; a wrong gradient moves 100 times it.
            # Of the search only what it says counts (below): at this rate preferences are in the
            # hundreds, where gates have next to no gradient and Adam follows the rounding.
            if not name.startswith(("adam.", "controller.", "z_a")):
                atol = 0.1 * FAST.learning_rate
                torch.testing.assert_close(tensors2[name], tensor, rtol=0, atol=atol, msg=name)
        for row, row2 in zip(rows, rows2, strict=True):
            assert row2 == pytest.approx(row, rel=1e-3)
    said = [preferences(tensors) for tensors in (one["ta-tsnet"][0], state("ta-tsnet")[0])]
    assert torch.equal(said[0] > 0, said[1] > 0)
    torch.testing.assert_close(*said, rtol=0.02, atol=0)


def preferences(tensors: dict[str, torch.Tensor]) -> torch.Tensor:
    """z_s of the 27 tasks, as the controller in a state gives them."""
    net = build(MODELS["ta-tsnet"], FAST, seed=0)
    net.load_state_dict({k: v for k, v in tensors.items() if not k.startswith("adam.")})
    return net.controller(net.tasks).detach()


def test_other_settings_are_refused_and_named(folder, monkeypatch):
    train(folder, max_minutes=0)
    before = state()
    with pytest.raises(UserError, match=r"\(seed 0 there, 1 here\).*--fresh"):
        train(folder, seed=1)
    Image.new("RGB", (20, 20)).save(folder / "photos" / "new.png")
    with pytest.raises(UserError, match=r"photos 2 there, 3 here, fingerprint \w+ there, \w+ here"):
        train(folder)
    monkeypatch.setitem(PROFILES, "tiny", replace(FAST, learning_rate=2e-3, halve_at=(0.1, 0.2)))
    with pytest.raises(UserError, match=r"learning_rate 0.001 there, 0.002 here, halve_at \[0.5\]"):
        train(folder)
    assert_same(state(), before)
    train(folder, fresh=True)
    assert state()[1] == FAST.steps


def test_how_many_steps_may_change_until_something_hangs_on_it(folder):
    for step in range(1, 5):  # of 8, the rate is halved after 4
        train(folder, max_minutes=0, steps=8 + step % 2)
        assert state()[1] == step
    train(folder, max_minutes=0)
    with pytest.raises(UserError, match=r"steps 8 there, 9 here"):
        train(folder, steps=9)


@pytest.mark.parametrize("model", ["cresmd", "ta-tsnet"])
def test_without_a_state_an_unfinished_training_goes_on_from_its_checkpoint(folder, model):
    if model != "cresmd":
        train(folder)
    for _ in range(3):
        train(folder, model, max_minutes=0)
    before = state(model)
    shutil.rmtree(paths.RUNS)
    train(folder, model, max_minutes=0)
    tensors, step, rows = state(model)
    assert step == 4 and rows[:3] == before[2]
    assert float(tensors["adam.step.net.last.bias"]) == 1  # moments are not shipped
    weights = tensors["net.first.weight"], before[0]["net.first.weight"]
    torch.testing.assert_close(*weights, atol=2e-3, rtol=0)  # a step of Adam apart
    card = checkpoints.load_card(model, "tiny")
    assert [stretch["step"] for stretch in card["continued"]] == [3] and card["steps_done"] == 4
    assert card["continued"][0]["until_then"]["images"] == str(folder / "photos")
    assert not tensors.get("frozen", torch.tensor(False))  # though what was shipped is
    train(folder, model)
    assert state(model)[1] == checkpoints.load_card(model, "tiny")["steps"]


def test_shipped_weights_may_go_on_with_other_photographs_batches_and_steps(folder):
    train(folder, max_minutes=0)
    shutil.rmtree(paths.RUNS)
    Image.new("RGB", (20, 20)).save(folder / "photos" / "new.png")
    train(folder, steps=12, batch=2)
    card = checkpoints.load_card("cresmd", "tiny")
    assert (card["steps_done"], card["batch"], card["photos"]) == (12, 2, 3)
    former = card["continued"][0]["until_then"]
    assert (former["steps"], former["batch"], former["photos"]) == (8, 4, 2)


@pytest.mark.parametrize("model", ["cresmd", "ta-tsnet"])
@pytest.mark.parametrize("state_there", [True, False])
def test_a_finished_network_may_get_further_steps(folder, model, state_there):
    train(folder)
    if model != "cresmd":
        train(folder, model)
    done = state(model)[1]
    before = checkpoints.load(model, "tiny")
    if not state_there:
        shutil.rmtree(paths.RUNS)
    with pytest.raises(UserError, match=f"has had {done} steps already: ask for more"):
        train(folder, model, further=True)
    train(folder, model, further=True, steps=done + 4, max_minutes=0)
    train(folder, model, steps=done + 4)
    tensors, step, rows = state(model)
    card = checkpoints.load_card(model, "tiny")
    assert step == card["steps_done"] == done + 4 and rows[-1]["step"] == step
    assert [stretch["step"] for stretch in card["continued"]] == [done]
    after = checkpoints.load(model, "tiny")
    assert not torch.equal(after.net.last.weight, before.net.last.weight)
    if model != "cresmd":  # its architecture stays
        assert all((after.architecture(t).gates == before.architecture(t).gates).all()
                   for t in TASKS)  # fmt: skip


@pytest.mark.parametrize("killed", [True, False])
def test_a_finished_search_may_be_opened_once_more(folder, killed):
    train(folder)
    train(folder, "ta-tsnet")
    done = state("ta-tsnet")[1]
    with pytest.raises(UserError, match="cresmd has no search"):
        train(folder, further=True, steps=12, again=4)
    with pytest.raises(UserError, match="for 4 of 3 steps: ask for more"):
        train(folder, "ta-tsnet", further=True, steps=done + 3, again=4)
    options = {"further": True, "steps": done + 6, "again": 4, "press": 20}
    train(folder, "ta-tsnet", max_minutes=0, **options)
    assert not state("ta-tsnet")[0]["frozen"]
    if killed:  # and goes on from the checkpoint, without what only the state has
        shutil.rmtree(paths.RUNS)
    train(folder, "ta-tsnet", **options)
    tensors, step, _ = state("ta-tsnet")
    assert step == done + 6 and tensors["frozen"]
    card = checkpoints.load_card("ta-tsnet", "tiny")
    assert training.reopened(card["continued"]) == (done, done + 4)
    former = card["continued"][0]["until_then"]["lambda1"]
    assert card["lambda1"] == pytest.approx(20 * former) == pytest.approx(20 * FAST.lambda1)
    train(folder, "ta-tsnet", further=True, steps=done + 8)  # what pressed before is no matter
    assert state("ta-tsnet")[1] == done + 8 and state("ta-tsnet")[0]["frozen"]


@pytest.mark.parametrize("model", ["cresmd", "tsnet-m"])
def test_data_may_be_made_where_the_network_is(folder, model):
    if model != "cresmd":
        train(folder)
    train(folder, model, on_device=True)
    unbroken = state(model)
    shutil.rmtree(paths.RUNS / "tiny" / model)
    for _ in range(3):
        train(folder, model, on_device=True, max_minutes=0)
    train(folder, model, on_device=True)
    assert_same(state(model), unbroken)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_graph_learns_what_single_kernels_learn(folder, monkeypatch):
    train(folder)
    train(folder, "ta-tsnet")
    graphed = state("ta-tsnet")
    monkeypatch.setattr(loop, "GraphedUpdate", lambda training: training.update)
    train(folder, "ta-tsnet", fresh=True)
    for name, tensor in state("ta-tsnet")[0].items():
        torch.testing.assert_close(graphed[0][name], tensor, atol=1e-3, rtol=1e-2)


def test_a_checkpoint_of_other_settings_is_refused_and_named(folder):
    train(folder, max_minutes=0)
    shutil.rmtree(paths.RUNS)
    with pytest.raises(UserError, match=r"cresmd.safetensors holds .*\(seed 0 there, 1 here\)"):
        train(folder, seed=1)
    train(folder, seed=1, fresh=True)


def test_a_rate_is_warmed_up_at_the_start_and_where_moments_begin_anew(folder, monkeypatch):
    monkeypatch.setitem(PROFILES, "tiny", replace(FAST, warm_up=2, halve_at=(), anneal_from=0.5))
    train(folder, max_minutes=0)
    shutil.rmtree(paths.RUNS)
    train(folder)
    rates = [row["learning_rate"] / FAST.learning_rate for row in state()[2]]
    cosine = [(1 + math.cos(math.pi * k / 4)) / 2 for k in range(4)]
    assert rates == pytest.approx([0.5, 0.5, 1, 1, *cosine], abs=1e-5)


def test_fewer_steps_than_are_done_are_refused(folder):
    train(folder)
    with pytest.raises(UserError, match="done 8 of 8 steps, more than the 5 asked for"):
        train(folder, steps=5)
    with pytest.raises(UserError, match="0 steps"):
        train(folder, steps=0)
    train(folder, steps=5, fresh=True)
    assert state()[1] == 5


def test_a_fresh_run_leaves_no_older_state_behind(folder, monkeypatch):
    train(folder)
    monkeypatch.setattr(training.Training, "update", None)
    with pytest.raises(TypeError):
        train(folder, fresh=True)
    assert not list((paths.RUNS / "tiny" / "cresmd").iterdir())


def test_a_fresh_run_that_cannot_begin_keeps_the_state(folder):
    train(folder)
    train(folder, "tsnet")
    before = state("tsnet")
    for file in paths.CHECKPOINTS.rglob("cresmd.*"):
        file.unlink()
    with pytest.raises(UserError, match="train --model cresmd --profile tiny"):
        train(folder, "tsnet", fresh=True)
    assert_same(state("tsnet"), before)


@pytest.mark.parametrize("damage", ["cut", "garbage", "foreign", "older", "moments"])
def test_a_damaged_state_is_a_user_error(folder, damage):
    train(folder, max_minutes=0)
    path = paths.RUNS / "tiny" / "cresmd" / "state.safetensors"
    tensors, header = checkpoints.read_tensors(path)
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-8])
    elif damage == "garbage":
        path.write_bytes(b"\0" * 100)
    elif damage == "foreign":
        checkpoints.write_tensors(path, tensors, {"other": 1})
    elif damage == "older":
        checkpoints.write_tensors(path, {"net.old": torch.zeros(1)}, header)
    else:
        del tensors["adam.exp_avg.net.first.weight"]
        checkpoints.write_tensors(path, tensors, header)
    with pytest.raises(UserError, match="state.safetensors is (damaged|of another version)"):
        train(folder)
    train(folder, fresh=True)


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="needs tar and split")
def test_slots_of_the_readme_go_on_where_the_last_ended(folder):
    """Each on a machine of its own, with the code, the photographs and what the last has left."""
    readme = (paths.ROOT / "cirlib" / "run" / "README.md").read_text()
    (recipe,) = re.findall("```\n([^`]*slot train[^`]*)```", readme)
    small = {" full ": " smoke ", "batch 64": "batch 8", "minutes 8": "minutes 0.05",
             "15m": "100k", "60000": "600"}  # fmt: skip
    for ours, theirs in small.items():
        assert recipe.count(ours) == 1
        recipe = recipe.replace(ours, theirs)
    python = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    rows = []
    for slot in ("one", "two"):
        there = folder / slot
        shutil.copytree(paths.ROOT / "cirlib", there / "cirlib")
        shutil.copytree(folder / "photos", there / "pack")
        if rows:
            shutil.copytree(folder / "one" / "parts", there / "parts")
        result = subprocess.run(["bash", "-e", "-o", "pipefail", "-c", recipe], cwd=there,
                                env=os.environ | {"PATH": python}, capture_output=True, text=True,
                                timeout=300)  # fmt: skip
        assert result.returncode == 0, result.stderr
        sizes = [part.stat().st_size for part in (there / "parts").iterdir()]
        assert len(sizes) > 1 and max(sizes) <= 100 * 1024
        state = there / "out/runs/smoke/cresmd/state.safetensors"
        rows.append(checkpoints.read_tensors(state)[1]["rows"])
    one, two = rows
    assert 0 < len(one) < len(two) and two[: len(one)] == one


def test_nothing_is_pickled(folder, monkeypatch):
    def forbidden(*_, **__):
        raise AssertionError("pickle")

    for module, name in [(torch, "save"), (torch, "load"), (pickle, "dump"), (pickle, "dumps"),
                         (pickle, "load"), (pickle, "loads")]:  # fmt: skip
        monkeypatch.setattr(module, name, forbidden)
    train(folder, max_minutes=0)
    train(folder)
    train(folder, "ta-tsnet")
    checkpoints.load("ta-tsnet", "tiny")
    written = [file for place in (paths.RUNS, paths.CHECKPOINTS) for file in place.rglob("*.*")]
    assert {file.suffix for file in written} == {".safetensors", ".json", ".csv"}


@pytest.mark.parametrize(
    ("steps", "crash"),  # before, between and after the boundaries
    [(5, RuntimeError("crash")), (10, KeyboardInterrupt()), (16, RuntimeError("crash"))],
)
def test_a_crashed_run_resumes_from_the_last_row(folder, monkeypatch, steps, crash):
    monkeypatch.setattr(loop, "log_interval", lambda steps: 3)
    monkeypatch.setattr(loop, "SAVE_EVERY", -1)
    train(folder)
    train(folder, "ta-tsnet")
    unbroken = state("ta-tsnet")
    with monkeypatch.context() as patch:
        stop_after(patch, steps, crash)
        with pytest.raises(type(crash)):
            train(folder, "ta-tsnet", fresh=True)
    assert state("ta-tsnet")[1] == steps // 3 * 3  # less than an interval is lost
    train(folder, "ta-tsnet")
    assert_same(state("ta-tsnet"), unbroken)


def test_missing_things_are_user_errors(folder):
    with pytest.raises(UserError, match="no trained cresmd.*train --model cresmd --profile tiny"):
        train(folder, "tsnet")
    with pytest.raises(UserError, match="no data set or folder"):
        loop.train("cresmd", "tiny", "nowhere")
    with pytest.raises(UserError, match="no model"):
        train(folder, "resnet")
    assert not paths.RUNS.exists()
