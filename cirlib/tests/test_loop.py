"""The training loop: its queue, what stops it, and that nothing is lost then."""

import csv
import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from PIL import Image

from cirlib import checkpoints, training
from cirlib.base import paths
from cirlib.base.files import UserError, atomic
from cirlib.degradation import TASKS
from cirlib.profiles import ABLATIONS, MODELS, PROFILES
from cirlib.run import loop
from cirlib.search import build
from cirlib.tests.conftest import FAST, assert_same, move_output, noise, state, train

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
    longer = replace(FAST, search=FAST.search + 1)
    monkeypatch.setitem(PROFILES, "tiny", longer)
    shutil.rmtree(paths.RUNS / "tiny" / "tsnet")
    assert loop.train_queue("tiny", images, **options) == ["tsnet"]
    assert checkpoints.load_card("tsnet", "tiny")["steps_done"] == longer.search
    # Nor do shipped networks count elsewhere than where they would be written over.
    shipped = paths.CHECKPOINTS
    move_output(monkeypatch, folder / "elsewhere")
    monkeypatch.setattr(paths, "SHIPPED", shipped)
    assert loop.train_queue("tiny", images, **options) == names
    assert loop.train_queue("tiny", images, **options) == []
    fixed = checkpoints.load_card("ta-tsnet-abl-31", "tiny")
    assert fixed["flops_m1"] == 1 > fixed["flops_m27"] and fixed["shared_layers"] > 0.3
    assert fixed["steps"] == FAST.short


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


def test_the_card_tells_the_pressure_of_an_ablation(folder):
    train(folder)
    for model, one, two in (
        ("tsnet", 1, 0),
        ("ta-tsnet-abl-31", 0, 0),
        ("ta-tsnet-short", 1, 1),
        ("ta-tsnet-l10-d1", 10, 1),
        ("ta-tsnet-l1-d0.1", 1, 0.1),
    ):
        train(folder, model)
        card = checkpoints.load_card(model, "tiny")
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


@pytest.mark.parametrize(
    ("interval", "step", "kept"), [(1, 5, 4), (3, 4, 3), (3, 5, 3), (3, 6, 3), (3, 7, 6)]
)
def test_a_loss_that_explodes_at_a_row_or_between_two_is_told_and_not_saved(
    folder, monkeypatch, interval, step, kept
):
    monkeypatch.setattr(loop, "SAVE_EVERY", -1)
    monkeypatch.setattr(loop, "log_interval", lambda steps: interval)
    bad = (step - 1) / FAST.steps
    monkeypatch.setattr(training, "halved", lambda done, _: 1e3 if done == bad else 1)
    message = r"the loss (has exploded|is not finite) at step \d \(samples \d+ to \d+\); .*--fresh"
    with pytest.raises(UserError, match=message):
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


def test_a_full_disk_stops_with_the_previous_state(folder, monkeypatch, small_disk):
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


# Stopping


def test_a_search_that_is_stopped_ships_a_usable_network_of_the_27_tasks(folder):
    train(folder)
    while not (paths.RUNS / "tiny/ta-tsnet").exists() or state("ta-tsnet")[1] < 12:
        weights = train(folder, "ta-tsnet", max_minutes=0)
    assert weights == paths.CHECKPOINTS / "tiny" / "ta-tsnet.safetensors"
    card = checkpoints.load_card("ta-tsnet", "tiny")
    assert (card["steps_done"], card["steps"]) == (12, FAST.search)
    assert len(checkpoints.load_log("ta-tsnet", "tiny")) == 12
    net = checkpoints.load("ta-tsnet", "tiny")
    assert net(torch.rand(1, 3, 9, 8), torch.rand(1, 3)).isfinite().all()
    assert net.frozen and not state("ta-tsnet")[0]["frozen"]  # the training itself goes on
    z_s = net.controller(torch.from_numpy(TASKS))
    torch.testing.assert_close(net.z_a, z_s.mean(0))
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
from cirlib.tests.conftest import FAST
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
    if kills < 5:
        told = os.read(reader, 100)  # it has begun
        time.sleep(random.uniform(0, 0.1))
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
@pytest.mark.parametrize("model, workers", [("cresmd", 0), ("ta-tsnet", 2)])
def test_a_killed_training_loses_an_interval_at_most(folder, monkeypatch, model, workers):
    steps = 120
    if model != "cresmd":  # which it starts from
        train(folder)
        shutil.copytree(folder / "checkpoints", folder / "killed" / "checkpoints")
    arguments = [folder / "killed", folder / "photos", steps, model, workers]
    result = subprocess.run([sys.executable, "-c", KILLED, *map(str, arguments)],
                            capture_output=True, text=True, timeout=900)  # fmt: skip
    assert result.returncode == 0, result.stderr
    kills = [tuple(map(int, line.split())) for line in result.stdout.splitlines()]
    assert len(kills) == 5
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
    own = [run / "state.safetensors", run / "log.csv", shipped / "cresmd.safetensors"]
    writers = [atomic(file) for file in (*own, shipped / "cresmd-m.safetensors")]
    *left, other = [writer.__enter__() for writer in writers]
    train(folder, max_minutes=0)
    assert not any(file.exists() for file in left) and other.exists()


BLOCKED = """
import sys
blocked = {"pandas", "matplotlib", "skimage", "lpips", "tyro", "scipy", "papermill",
           "torchvision", "ipywidgets", "IPython", "psutil", "simplejpeg",
           "imagecodecs", "tifffile"}
sys.modules.update(dict.fromkeys(blocked))  # None: cannot be imported
"""


def test_training_needs_five_packages_only(folder):
    """torch, numpy, Pillow, safetensors and tqdm: GPU machines may lack the others."""
    black_below = noise(70, 80)
    black_below[-8:] = 0
    for name in ("a.jpg", "b.png"):  # where other packages know more of what is damaged
        Image.fromarray(black_below).save(folder / "photos" / name)
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
