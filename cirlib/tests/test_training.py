"""Section 7.3: training resumes bit for bit, splits over processes, and fails without losses."""

import csv
import errno
import json
import math
import multiprocessing
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import time
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
from cirlib.profiles import ABLATIONS, MODELS, PROFILES
from cirlib.run import loop
from cirlib.search import build
from cirlib.tests.conftest import TINY

# Its search is fast enough for channels to go and layers to become shared within 20 steps.
FAST = replace(
    TINY,
    steps=8,
    search_steps=20,
    controller_rate=0.2,
    lambda1=5e-9,
    ablation_share_from=0.2,
    tsnet_lambda1=0.5,
    balance_lambda1=3,
    balance_lambda2=2,
)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    """Two photographs, an empty place for what is written, and the profile ``tiny``."""
    photos = tmp_path / "photos"
    photos.mkdir()
    random = np.random.default_rng(0)
    for number in range(2):
        coarse = Image.fromarray(random.integers(0, 256, (6, 8, 3), np.uint8))
        coarse.resize((48, 40), Image.Resampling.BICUBIC).save(photos / f"{number}.png")
    monkeypatch.setitem(PROFILES, "tiny", FAST)
    move_output(monkeypatch, tmp_path)
    return tmp_path


def move_output(monkeypatch, folder: Path) -> None:
    monkeypatch.setattr(paths, "RUNS", folder / "runs")
    monkeypatch.setattr(paths, "CHECKPOINTS", folder / "checkpoints")
    monkeypatch.setattr(paths, "SHIPPED", folder / "shipped")


def train(folder: Path, model: str = "cresmd", **options) -> Path:
    options = {"workers": 0} | options
    return loop.train(model, "tiny", str(folder / "photos"), **options)


def state(model: str = "cresmd"):
    """Tensors, step and log rows (without the seconds) of the state on disk."""
    tensors, header = checkpoints.read_tensors(paths.RUNS / "tiny" / model / "state.safetensors")
    rows = [{k: v for k, v in row.items() if k != "seconds"} for row in header["rows"]]
    return {name: tensor.clone() for name, tensor in tensors.items()}, header["step"], rows


def assert_same(one, other) -> None:
    (tensors, step, rows), (tensors2, step2, rows2) = one, other
    assert step == step2 and rows == rows2 and tensors.keys() == tensors2.keys()
    for name, tensor in tensors.items():
        assert torch.equal(tensor, tensors2[name]), name


def stop_after(monkeypatch, steps: int, error: BaseException) -> None:
    """Raise ``error`` in the update after this many more steps."""
    update, left = training.Training.update, iter(range(steps))

    def limited(self, *batch):
        if next(left, None) is None:
            raise error
        return update(self, *batch)

    monkeypatch.setattr(training.Training, "update", limited)


# Resuming


@pytest.mark.parametrize("model", ["cresmd", "ta-tsnet"])
def test_a_run_of_single_steps_equals_an_unbroken_one(folder, monkeypatch, model):
    train(folder)
    weights = train(folder, model).read_bytes()
    unbroken = state(model)
    monkeypatch.setattr(paths, "RUNS", folder / "other")
    for step in range(1, unbroken[1] + 1):  # across share_from, freeze_from and every halving
        train(folder, model, max_minutes=0, ship=False)
        assert state(model)[1] == step
    assert_same(state(model), unbroken)
    assert train(folder, model).read_bytes() == weights


def test_the_search_of_these_tests_moves(folder):
    train(folder)
    train(folder, "ta-tsnet")
    rows = state("ta-tsnet")[2]
    boundary = int(FAST.share_from * FAST.search_steps)
    assert all(row["shared_layers"] == 0 for row in rows[:boundary])
    assert max(row["shared_layers"] for row in rows[boundary:]) > 0
    assert rows[-1]["flops_m1"] < 0.9
    frozen = rows[int(FAST.freeze_from * FAST.search_steps) :]
    assert len({(row["shared_layers"], row["flops_m1"], row["flops_m27"]) for row in frozen}) == 1


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


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_resumes_on_a_gpu(folder):
    train(folder)
    train(folder, "ta-tsnet", max_minutes=0)
    train(folder, "ta-tsnet")
    assert state("ta-tsnet")[1] == FAST.search_steps


def test_states_keep_their_format(folder):
    """What a long training has written can be resumed by later versions."""
    train(folder)
    tensors, header = checkpoints.read_tensors(paths.RUNS / "tiny/cresmd/state.safetensors")
    assert header.keys() == {"config", "began", "continued", "step", "seconds", "rows"}
    assert header["began"].keys() == {"commit", "date", "device"}
    assert header["config"].keys() == {
        "model", "profile", "name", "blocks", "channels", "steps", "search_steps",
        "ablation_steps", "batch", "learning_rate", "search_rate", "halve_at", "anneal_from",
        "warm_up", "block_scale", "controller_rate", "patch", "share_from", "freeze_from",
        "alpha", "alpha_s", "gamma", "lambda1", "lambda2", "share_at_most", "fixed", "schemes",
        "seed", "images", "photos", "fingerprint",
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


def test_workers_do_not_change_the_result(folder, monkeypatch):
    results = []
    for workers in (0, 1, 2):
        move_output(monkeypatch, folder / str(workers))
        train(folder, workers=workers)
        results.append(state())
        assert not multiprocessing.active_children()
    assert_same(results[0], results[1])
    assert_same(results[0], results[2])


@pytest.mark.parametrize("world", [1, 2, 4])
def test_processes_share_out_the_samples(world):
    first, last, batch = 3, 9, 8
    shares = [list(loop._sample_numbers(first, last, batch, r, world)) for r in range(world)]
    steps = np.stack([np.reshape(share, (last - first, batch // world)) for share in shares], 1)
    assert steps.reshape(-1).tolist() == list(range(first * batch, last * batch))


DISTRIBUTED = """
import sys
from contextlib import nullcontext
from pathlib import Path
from dataclasses import replace
from cirlib import training
from cirlib.base import paths
from cirlib.base.files import UserError
from cirlib.run import loop
from cirlib.profiles import ABLATIONS, MODELS, PROFILES
from cirlib.tests.test_training import FAST

PROFILES["tiny"] = FAST
training.autocast = lambda device: nullcontext()  # what remains is float32 rounding
folder = Path(sys.argv[1])
paths.RUNS, paths.CHECKPOINTS = folder / "runs", folder / "checkpoints"
for model in ("cresmd", "ta-tsnet"):
    for options in ({"max_minutes": 0}, {}):
        loop.train(model, "tiny", sys.argv[2], workers=0, **options)
try:
    PROFILES["tiny"] = replace(FAST, batch=3)
    loop.train("cresmd", "tiny", sys.argv[2], workers=0, fresh=True)
except UserError as error:
    print(error)
"""


@pytest.mark.slow
def test_two_processes_train_the_same_weights(folder, monkeypatch):
    monkeypatch.setattr(training, "autocast", lambda device: nullcontext())
    train(folder)
    train(folder, "ta-tsnet")
    (folder / "script.py").write_text(DISTRIBUTED)
    result = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone",
         str(folder / "script.py"), str(folder / "two"), str(folder / "photos")],
        capture_output=True, text=True, timeout=900, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("a batch of 3 cannot be split over 2 processes") == 2
    one = {model: state(model) for model in ("cresmd", "ta-tsnet")}
    move_output(monkeypatch, folder / "two")
    for model, (tensors, steps, rows) in one.items():
        tensors2, steps2, rows2 = state(model)
        assert steps == steps2 and tensors.keys() == tensors2.keys()
        assert checkpoints.load_card(model, "tiny")["processes"] == 2
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


# The schedule


def test_the_super_networks_rate_is_halved_at_the_given_fractions():
    factors = [training.halved(step / 20, (0.5, 0.7, 0.9)) for step in range(20)]
    assert factors == [1] * 10 + [0.5] * 4 + [0.25] * 4 + [0.125] * 2


def test_a_fine_tuned_models_rate_falls_to_zero_by_a_cosine():
    factors = [training.annealed(step / 8, 0.5) for step in range(8)]
    assert factors[:5] == [1] * 5
    assert factors[5:] == pytest.approx([0.5 + 0.5**1.5, 0.5, 0.5 - 0.5**1.5])
    assert (
        training.annealed(0.99, 1) == training.annealed(0, 0) == 1
        and training.annealed(1, 0.5) == 0
    )


def test_all_learning_rates_follow_the_schedule(folder, monkeypatch):
    rates, update = [], training.Training.update

    def watched(self, *batch):
        result = update(self, *batch)
        rates.append([group["lr"] for group in self.optimizer.param_groups])
        return result

    monkeypatch.setattr(training.Training, "update", watched)
    train(folder)
    assert rates == [[FAST.learning_rate * f] for f in [1] * (FAST.steps // 2)
                     + [0.5] * (FAST.steps // 2)]  # fmt: skip
    rates.clear()
    train(folder, "tsnet")
    full = [FAST.search_rate, FAST.controller_rate]
    first = math.ceil(FAST.freeze_from * FAST.search_steps)
    assert rates[: first + 1] == [full] * (first + 1)
    falling = [rate for rate, _ in rates[first:]]
    assert falling == sorted(falling, reverse=True) and 0 < falling[-1] < falling[0] / 4
    assert [row["learning_rate"] for row in state("tsnet")[2]] == pytest.approx(
        [rate for rate, _ in rates], rel=1e-5
    )


def test_a_controller_settles_while_layers_come_to_be_shared(folder, monkeypatch):
    rates, set_phase = [], training.Training.set_phase

    def watched(self):
        set_phase(self)
        rates.append([group["lr"] for group in self.optimizer.param_groups])

    monkeypatch.setattr(training.Training, "set_phase", watched)
    train(folder)
    rates.clear()
    train(folder, "ta-tsnet-l1-d1", steps=20)
    weights, controller = zip(*rates, strict=True)
    assert weights[:15] == (FAST.search_rate,) * 15
    assert controller[:5] == (FAST.controller_rate,) * 5  # up to share_from
    assert list(controller) == sorted(controller, reverse=True)
    assert controller[9] == pytest.approx(FAST.controller_rate / 2)  # midway to freeze_from
    assert controller[13] < FAST.controller_rate / 10 and controller[14:] == (0,) * 6


@pytest.mark.parametrize(
    ("model", "met"), [("cresmd", False), ("tsnet", True), ("ta-tsnet-abl-31", True)]
)
def test_models_that_start_from_cresmd_meet_the_tasks_of_the_evaluation(
    folder, monkeypatch, model, met
):
    tasks, update = set(), training.Training.update

    def watched(self, x, target, t):
        tasks.update(map(tuple, t.tolist()))
        return update(self, x, target, t)

    train(folder)
    monkeypatch.setattr(training.Training, "update", watched)
    train(folder, model, fresh=True, steps=40)
    combined = {tuple(t) for t in TASKS.tolist() if 0.4 < max(t) and 0 in t and sum(t) > max(t)}
    halves = {t for t in combined if set(t) - {0, 1}}
    assert len(halves) == 9 and bool(halves & tasks) == met


# The queue


def test_queue_goes_on_where_it_stopped(folder, monkeypatch):
    names = ["cresmd", "tsnet", "ta-tsnet-abl-31"]
    monkeypatch.setattr(loop, "QUEUE", names)
    options = {"workers": 0, "seed": 0}
    images = str(folder / "photos")
    assert loop.train_queue("tiny", images, max_minutes=0, **options) == []
    train(folder, max_minutes=0)
    assert checkpoints.load_card("cresmd", "tiny")["steps_done"] < FAST.steps
    assert loop.train_queue("tiny", images, **options) == names
    assert loop.train_queue("tiny", images, **options) == []
    # Not with longer ones: a network that was trained more briefly than its profile says is none.
    longer = replace(FAST, search_steps=FAST.search_steps + 1)
    monkeypatch.setitem(PROFILES, "tiny", longer)
    shutil.rmtree(paths.RUNS / "tiny" / "tsnet")
    assert loop.train_queue("tiny", images, **options) == ["tsnet"]
    assert checkpoints.load_card("tsnet", "tiny")["steps_done"] == longer.search_steps
    # Nor do shipped networks count elsewhere than where they would be written over.
    shipped = paths.CHECKPOINTS
    move_output(monkeypatch, folder / "elsewhere")
    monkeypatch.setattr(paths, "SHIPPED", shipped)
    assert loop.train_queue("tiny", images, **options) == names
    assert loop.train_queue("tiny", images, **options) == []
    fixed = checkpoints.load_card("ta-tsnet-abl-31", "tiny")
    assert fixed["flops_m1"] == 1 > fixed["flops_m27"] and fixed["shared_layers"] > 0.3
    assert fixed["steps"] == FAST.ablation_steps


def test_queue_has_every_model_after_the_one_that_it_starts_from():
    assert loop.QUEUE[0] == "cresmd"
    assert sorted(loop.QUEUE) == sorted(MODELS | ABLATIONS)


def test_queue_trains_for_other_steps_than_the_profiles(folder, monkeypatch):
    names = ["cresmd", "ta-tsnet"]
    monkeypatch.setattr(loop, "QUEUE", names)
    images = str(folder / "photos")
    train(folder, steps=5, max_minutes=0)
    assert loop.train_queue("tiny", images, steps=5, workers=0) == names
    for model in names:
        card = checkpoints.load_card(model, "tiny")
        assert (card["steps_done"], card["steps"]) == (5, 5)
    assert loop.train_queue("tiny", images, steps=5, workers=0) == []
    with pytest.raises(UserError, match="0 steps"):
        loop.train_queue("tiny", images, steps=0, workers=0)


def test_the_card_tells_the_pressure_of_an_ablation(folder):
    train(folder)
    for model, one, two in (
        ("tsnet", 0.5, 0),
        ("ta-tsnet-abl-31", 0, 0),
        ("ta-tsnet-short", 1, 1),
        ("ta-tsnet-l10-d1", 30, 2),
        ("ta-tsnet-l1-d0.1", 3, 0.2),
    ):
        train(folder, model)
        card = checkpoints.load_card(model, "tiny")
        assert card["share_from"] == (0.3 if model == "tsnet" else FAST.ablation_share_from)
        pressure = card["lambda1"] / FAST.lambda1, card["lambda2"] / FAST.lambda2
        assert pressure == pytest.approx((one, two))


# Failures


def test_a_loss_that_is_not_finite_stops_with_the_last_state(folder, monkeypatch):
    monkeypatch.setattr(loop, "SAVE_EVERY", -1)
    update = training.Training.update

    def poisoned(self, x, *rest):
        return update(self, x * float("nan") if self.step == 4 else x, *rest)

    monkeypatch.setattr(training.Training, "update", poisoned)
    message = r"the loss is not finite at step 5 \(samples 16 to 19\); .*--fresh"
    with pytest.raises(UserError, match=message):
        train(folder)
    tensors, step, rows = state()
    assert step == 4 and len(rows) == 4
    assert all(tensor.isfinite().all() for tensor in tensors.values())
    assert list(loop._sample_numbers(4, 5, FAST.batch, 0, 1)) == [16, 17, 18, 19]


def test_a_loss_that_explodes_stops_with_the_last_state(folder, monkeypatch):
    monkeypatch.setattr(loop, "SAVE_EVERY", -1)
    monkeypatch.setattr(training, "halved", lambda done, _: 1e3 if done == 4 / FAST.steps else 1)
    message = r"the loss has exploded at step 5 \(samples 16 to 19\); .*--fresh"
    with pytest.raises(UserError, match=message):
        train(folder)
    assert_usable(state(), step=4)


def test_a_last_step_that_explodes_is_neither_saved_nor_shipped(folder, monkeypatch):
    train(folder, max_minutes=0)
    before = checkpoints.files("cresmd", "tiny")["weights"].read_bytes()
    monkeypatch.setattr(loop, "log_interval", lambda steps: steps)
    last = 1 - 1 / FAST.steps
    monkeypatch.setattr(training, "halved", lambda done, _: 1e3 if done == last else 1)
    with pytest.raises(UserError, match="the loss has exploded at step 8 "):
        train(folder)
    assert_usable(state(), step=1)
    assert checkpoints.files("cresmd", "tiny")["weights"].read_bytes() == before


@pytest.mark.parametrize(("step", "kept"), [(4, 3), (5, 3), (6, 3), (7, 6)])
def test_a_loss_that_explodes_between_two_rows_is_told_and_not_saved(
    folder, monkeypatch, step, kept
):
    monkeypatch.setattr(loop, "SAVE_EVERY", -1)
    monkeypatch.setattr(loop, "log_interval", lambda steps: 3)
    bad = (step - 1) / FAST.steps
    monkeypatch.setattr(training, "halved", lambda done, _: 1e3 if done == bad else 1)
    with pytest.raises(UserError, match=r"the loss (has exploded|is not finite) at step"):
        train(folder)
    assert_usable(state(), step=kept)


def assert_usable(found, step: int) -> None:
    """The state is of that step, and its network restores."""
    tensors, saved, rows = found
    assert saved == step == rows[-1]["step"]
    net = build(MODELS["cresmd"], FAST, seed=0)
    net.load_state_dict({k: v for k, v in tensors.items() if not k.startswith("adam.")})
    image = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    assert 0 < 255 * (net(image, torch.ones(4, 3)) - image).abs().mean() < 255


def test_weights_that_are_not_finite_are_never_saved(folder, monkeypatch):
    monkeypatch.setattr(loop, "SAVE_EVERY", -1)
    update = training.Training.update

    def poisoned(self, *batch):
        result = update(self, *batch)
        if self.step == 5:
            torch.nn.init.constant_(self.net.net.last.bias, float("inf"))
        return result

    monkeypatch.setattr(training.Training, "update", poisoned)
    with pytest.raises(UserError, match=r"the weights are not finite at step 5 \(samples 16"):
        train(folder)
    assert state()[1] == 4


def test_a_full_disk_stops_with_the_previous_state(folder, monkeypatch):
    monkeypatch.setattr(loop, "SAVE_EVERY", -1)
    train(folder)
    unbroken = state()
    run = paths.RUNS / "tiny" / "cresmd"
    train(folder, fresh=True, max_minutes=0)
    write = Path.write_bytes

    def full(self, data):
        if len(json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])) and not room.pop():
            write(self, data[: len(data) // 2])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(self, data)

    room = [False, True, True]
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(UserError, match="no space left on disk for .*state.safetensors"):
            train(folder)
    assert state()[1] == 3
    assert sorted(file.name for file in run.iterdir()) == ["log.csv", "state.safetensors"]
    train(folder)
    assert_same(state(), unbroken)


def test_a_really_full_disk_stops_with_the_previous_state(folder, monkeypatch, small_disk):
    monkeypatch.setattr(loop, "SAVE_EVERY", -1)
    train(folder)
    unbroken = state()
    monkeypatch.setattr(paths, "RUNS", small_disk)
    train(folder, max_minutes=0)
    run = small_disk / "tiny" / "cresmd"
    before = (run / "state.safetensors").read_bytes()
    free = shutil.disk_usage(small_disk).free
    (small_disk / "filler").write_bytes(b"\0" * (free - len(before) // 2))
    with pytest.raises(UserError, match="no space left on disk for .*state.safetensors: free some"):
        train(folder)
    assert (run / "state.safetensors").read_bytes() == before
    assert sorted(file.name for file in run.iterdir()) == ["log.csv", "state.safetensors"]
    (small_disk / "filler").unlink()
    train(folder)
    assert_same(state(), unbroken)


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
    assert not tensors.get("frozen", torch.tensor(False))  # though what was shipped is
    train(folder, model)
    assert state(model)[1] == checkpoints.load_card(model, "tiny")["steps"]


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
    stop_after(monkeypatch, 2, RuntimeError("crash"))
    with pytest.raises(RuntimeError):
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


@pytest.mark.parametrize("damage", ["cut", "garbage", "foreign", "older"])
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
    else:
        checkpoints.write_tensors(path, {"net.old": torch.zeros(1)}, header)
    with pytest.raises(UserError, match="state.safetensors is (damaged|of another version)"):
        train(folder)
    train(folder, fresh=True)


def test_missing_things_are_user_errors(folder):
    with pytest.raises(UserError, match="no trained cresmd.*train --model cresmd --profile tiny"):
        train(folder, "tsnet")
    with pytest.raises(UserError, match="no data set or folder"):
        loop.train("cresmd", "tiny", "nowhere")
    with pytest.raises(UserError, match="no model"):
        train(folder, "resnet")
    assert not paths.RUNS.exists()


# Stopping


def test_max_minutes_writes_a_usable_checkpoint(folder):
    train(folder)
    weights = train(folder, "ta-tsnet", max_minutes=0)
    assert weights == paths.CHECKPOINTS / "tiny" / "ta-tsnet.safetensors"
    card = checkpoints.load_card("ta-tsnet", "tiny")
    assert (card["steps_done"], card["steps"]) == (1, FAST.search_steps)
    assert card["shared_layers"] == 0
    output = checkpoints.load("ta-tsnet", "tiny")(torch.rand(1, 3, 9, 8), torch.rand(1, 3))
    assert output.isfinite().all()
    assert len(checkpoints.load_log("ta-tsnet", "tiny")) == 1


def test_a_search_that_is_stopped_ships_the_architecture_of_the_27_tasks(folder):
    train(folder)
    while not (paths.RUNS / "tiny/ta-tsnet").exists() or state("ta-tsnet")[1] < 12:
        train(folder, "ta-tsnet", max_minutes=0)
    net = checkpoints.load("ta-tsnet", "tiny")
    assert net.frozen and not state("ta-tsnet")[0]["frozen"]  # the training itself goes on
    z_s = net.controller(torch.from_numpy(TASKS))
    torch.testing.assert_close(net.z_a, z_s.mean(0))
    card = checkpoints.load_card("ta-tsnet", "tiny")
    assert card["shared_layers"] == pytest.approx(float(net.phi.float().mean()), abs=1e-4)


def test_a_finished_training_is_written_anew_without_training(folder, monkeypatch, capsys):
    weights = train(folder)
    before = weights.read_bytes()
    for file in weights.parent.iterdir():
        file.unlink()
    monkeypatch.setattr(training.Training, "update", None)
    assert train(folder) == weights and weights.read_bytes() == before
    assert checkpoints.load_card("cresmd", "tiny")["steps_done"] == FAST.steps
    assert len(checkpoints.load_log("cresmd", "tiny")) == FAST.steps
    assert "all 8 steps are done already" in capsys.readouterr().err


def test_without_a_terminal_one_line_tells_the_end(folder, capsys):
    train(folder)
    out, err = capsys.readouterr()
    assert not out and err.count("\n") == 1 and "\r" not in err
    assert err.startswith("tiny cresmd: step 8 of 8, ")


def test_seconds_add_up_over_resumed_runs(folder, monkeypatch):
    for _ in range(3):
        train(folder, max_minutes=0)
    with open(paths.RUNS / "tiny" / "cresmd" / "log.csv") as file:
        seconds = [float(row["seconds"]) for row in csv.DictReader(file)]
    assert len(seconds) == 3 and 0 < seconds[0] < seconds[1] < seconds[2] < 60


# In processes of their own

CHILD = """
import signal, sys, time
from pathlib import Path
from cirlib import training
from cirlib.base import paths
from cirlib.base.files import UserError
from cirlib.run import loop
from cirlib.profiles import ABLATIONS, MODELS, PROFILES
from cirlib.tests.test_training import FAST
from dataclasses import replace

PROFILES["tiny"] = replace(FAST, steps=int(sys.argv[3]))
folder = Path(sys.argv[1])
paths.RUNS, paths.CHECKPOINTS = folder / "runs", folder / "checkpoints"
loop.SAVE_EVERY = -1
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where a script runs tests with &
"""

INTERRUPTED = (
    CHILD
    + """
import multiprocessing
loop.log_interval = lambda steps: 7
update = training.Training.update
def told(self, *batch):
    result = update(self, *batch)
    print(self.step, flush=True)
    return result
training.Training.update = told
try:
    loop.train("cresmd", "tiny", sys.argv[2], workers=2)
except KeyboardInterrupt as error:
    kept = error  # as a notebook does with the last error
    time.sleep(0.5)
    print("message", error)
    print("workers", len(multiprocessing.active_children()), flush=True)
"""
)


@pytest.mark.skipif(os.name != "posix", reason="process groups")
def test_ctrl_c_says_what_is_saved_and_leaves_no_workers(folder, monkeypatch):
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, str(folder), str(folder / "photos"), "100000"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    lines = []
    while "20\n" not in lines:
        lines.append(process.stdout.readline())
        assert process.poll() is None, process.stderr.read()
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: the workers get it too
    rest, err = process.communicate(timeout=600)
    assert process.returncode == 0, err
    out = "".join(lines) + rest
    message = re.search(
        r"message stopped at step (\d+) of 100000; step (\d+) is saved: train again, not fresh, to "
        r"go on from there\nworkers 0\n$",
        out,
    )
    assert message, out
    stopped, saved = map(int, message.groups())
    assert saved == state()[1] and stopped - saved <= 7  # one interval of the log at most is lost


def test_ctrl_c_just_after_a_state_was_written_names_that_state(folder, monkeypatch):
    write = checkpoints.write_tensors

    def interrupted(*arguments):
        write(*arguments)
        if state()[1] == 6:
            raise KeyboardInterrupt

    monkeypatch.setattr(loop, "SAVE_EVERY", -1)
    monkeypatch.setattr(loop, "log_interval", lambda steps: 3)
    monkeypatch.setattr(checkpoints, "write_tensors", interrupted)
    with pytest.raises(KeyboardInterrupt, match="stopped at step 6 of 8; step 6 is saved"):
        train(folder)


KILLED = (
    CHILD
    + """
import os, random, signal
from cirlib import checkpoints
random.seed(0)
model, workers = sys.argv[4], int(sys.argv[5])
state = paths.RUNS / "tiny" / model / "state.safetensors"
kills = 0
while True:
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        update = training.Training.update
        def told(self, *batch):
            result = update(self, *batch)
            os.write(writer, b"%d\\n" % self.step)
            return result
        training.Training.update = told
        loop.train(model, "tiny", sys.argv[2], steps=int(sys.argv[3]), workers=workers)
        os._exit(0)
    os.close(writer)
    if kills < 10:
        told = os.read(reader, 100)  # it has begun
        time.sleep(random.uniform(0, 0.3))
        os.kill(child, signal.SIGKILL)
        kills += 1
    else:
        told = b""
    with os.fdopen(reader, "rb") as file:
        told += file.read()  # ends when its data workers have ended, too
    _, status = os.waitpid(child, 0)
    if os.waitstatus_to_exitcode(status) == 0:
        break
    saved = checkpoints.read_tensors(state)[1]["step"] if state.exists() else 0
    print(told.split()[-1].decode(), saved, len(list(folder.rglob(".*"))), flush=True)
"""
)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("model, workers", [("cresmd", 0), ("ta-tsnet", 0), ("ta-tsnet", 2)])
def test_a_killed_training_loses_an_interval_at_most(folder, monkeypatch, model, workers):
    steps = 300
    if model != "cresmd":  # which it starts from
        train(folder)
        shutil.copytree(folder / "checkpoints", folder / "killed" / "checkpoints")
    arguments = [folder / "killed", folder / "photos", steps, model, workers]
    result = subprocess.run([sys.executable, "-c", KILLED, *map(str, arguments)],
                            capture_output=True, text=True, timeout=900)  # fmt: skip
    assert result.returncode == 0, result.stderr
    kills = [tuple(map(int, line.split())) for line in result.stdout.splitlines()]
    assert len(kills) == 10
    for done, saved, temporary in kills:
        assert saved >= done - loop.log_interval(steps)
        assert temporary <= 1  # what an earlier kill left has been swept away
    assert not list((folder / "killed").rglob(".*"))
    weights = train(folder, model, steps=steps).read_bytes()
    unbroken = state(model)
    move_output(monkeypatch, folder / "killed")
    assert_same(state(model), unbroken)
    assert checkpoints.files(model, "tiny")["weights"].read_bytes() == weights


def test_what_killed_runs_left_is_swept_away(folder):
    run, shipped = paths.RUNS / "tiny" / "cresmd", paths.CHECKPOINTS / "tiny"
    left = [run / ".state-0a1b2c3_.safetensors", run / ".log-abcdefgh.csv",
            shipped / ".cresmd-abcdefgh.safetensors"]  # fmt: skip
    others = [shipped / ".cresmd-m-abcdefgh.json", run / "notes.txt"]
    for file in left + others:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("half")
    train(folder, max_minutes=0)
    assert not any(file.exists() for file in left) and all(file.exists() for file in others)


BLOCKED = """
import sys
blocked = {"pandas", "matplotlib", "skimage", "lpips", "pooch", "tyro", "scipy", "papermill",
           "torchvision", "ipywidgets", "IPython", "psutil"}
sys.modules.update(dict.fromkeys(blocked))  # None: cannot be imported
"""


def test_training_needs_five_packages_only(folder):
    """torch, numpy, Pillow, safetensors and tqdm: GPU machines may lack the others."""
    script = BLOCKED + CHILD + """
for model in ("cresmd", "ta-tsnet"):
    loop.train(model, "tiny", sys.argv[2], workers=1)
assert not any(map(sys.modules.get, blocked))
"""  # fmt: skip
    result = subprocess.run(
        [sys.executable, "-c", script, str(folder), str(folder / "photos"), "4"],
        capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert checkpoints.available("tiny") == ["cresmd", "ta-tsnet"]


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="needs tar and split")
def test_the_readmes_slots_go_on_where_the_last_ended(folder):
    """Each on a machine of its own, with the code, the photographs and what the last has left."""
    readme = (paths.ROOT / "README.md").read_text()
    (recipe,) = re.findall("```\n([^`]*train_queue[^`]*)```", readme)
    for ours, theirs in {'"paper"': '"smoke"', "8)": "0.05)", "15m": "100k", "_000": "00"}.items():
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


def test_checkpoints_take_part_in_no_clock(folder, monkeypatch):
    """Two equal trainings give equal weights and, but for the seconds, equal logs."""
    first = train(folder).read_bytes()
    time.sleep(0.01)
    assert train(folder, fresh=True).read_bytes() == first
