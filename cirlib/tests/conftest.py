"""Small networks, short trainings and a small disk, for several test files."""

import hashlib
import io
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from xdist.scheduler import LoadFileScheduling

from cirlib import checkpoints, training
from cirlib.base import paths
from cirlib.data import datasets
from cirlib.profiles import PROFILES, Profile, get_model
from cirlib.run import loop
from cirlib.search import SearchNet, build

TINY = Profile("tiny", blocks=3, channels=8, steps=6, search=6, short=4,
               batch=4, learning_rate=1e-3, search_rate=1e-3, halve_at=(0.5,), controller_rate=1e-2,
               patch=16, alpha_s=0.9)  # fmt: skip

# Its search is fast enough for channels to go and layers to become shared within 20 steps.
FAST = replace(
    TINY,
    steps=8,
    search=20,
    share_from=0.2,
    controller_rate=0.2,
    lambda1=5e-9,
)


# What nbval runs is smaller than what a reader sees. The smoke batch trains in full.
BRIEF = ("from dataclasses import replace; from cirlib.profiles import PROFILES; "
         "PROFILES['smoke'] = replace(PROFILES['smoke'], batch=4, patch=32)")  # fmt: skip
SMALLER = {
    "01_data_synthesis": "samples = 1000",
    "10_train_cresmd": BRIEF,
    "11_train_tsnet": BRIEF,
    "12_train_ta_tsnet": BRIEF,
    "13_train_relative": BRIEF,
    "20_cost_and_latency": "latency_sizes = '64x48'",
    "21_quality": "crop = 48",
    "30_ablation_pressure": "crop = 32",
    "31_ablation_sharing": "crop = 32",
    "40_modulation_figures": "side = 48",
    "41_modulation_quality": "limit, crop = 1, 48",
}
LONG = ("test_batch", "test_cluster", "_train_", "20_cost", "test_browser", "41_", "21_", "40_")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first, so that in the end no worker waits for another."""
    for item in items:
        cell = getattr(item, "cell", None)
        if cell is not None and "parameters" in cell.metadata.get("tags", ()):
            cell.source += "\n" + SMALLER.get(item.path.stem, "")

    def place(item: pytest.Item) -> int:
        return min((k for k, name in enumerate(LONG) if name in item.path.name), default=len(LONG))

    items.sort(key=place)


class FilesButTrainingsTogether(LoadFileScheduling):
    """A file to a worker; the training notebooks to one, since each needs those before it."""

    def _split_scope(self, nodeid: str) -> str:
        file = super()._split_scope(nodeid)
        return "training" if "_train_" in file else file


@pytest.hookimpl(optionalhook=True)  # there without xdist's plugin, too
def pytest_xdist_make_scheduler(config: pytest.Config, log) -> LoadFileScheduling | None:
    asked = config.getoption("dist") == "loadfile"  # as `make test` does
    return FilesButTrainingsTogether(config, log) if asked else None


def random_searched(model: str, seed: int, shared_points: int = 0, keep: float = 0.6) -> SearchNet:
    """A searched network whose gates differ at random between tasks.

    shared_points: how many selection points, from the first on, are task-agnostic.
    keep: the expected share of channels that are on.
    """
    net = build(get_model(model), TINY, seed)
    generator = torch.Generator().manual_seed(seed)
    N, C = net.z_a.shape
    with torch.no_grad():
        # preferences that depend strongly on the task, around a threshold that keeps `keep`
        last = net.controller.layers[-1]
        last.weight.copy_(torch.randn(last.weight.shape, generator=generator))
        threshold = float(np.quantile(net.controller(torch.rand(64, 3, generator=generator))
                                      .numpy(), 1 - keep))  # fmt: skip
        last.bias.sub_(threshold)
        net.z_a.copy_(torch.rand(N, C, generator=generator) - (1 - keep))
        net.phi[:shared_points] = True
        for module in net.net.modules():  # biases that matter
            if isinstance(module, torch.nn.Conv2d):
                module.bias.copy_(torch.randn(module.bias.shape, generator=generator) * 0.1)
    return net.eval()


def batch(generator: torch.Generator, M: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    """Images M x 3 x 16 x 16 and tasks M x 3, at random."""
    return torch.rand(M, 3, 16, 16, generator=generator), torch.rand(M, 3, generator=generator)


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    """An image of random pixels, uint8 height x width x 3."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def move_output(monkeypatch, folder: Path) -> None:
    """Have what is written written below a folder."""
    monkeypatch.setattr(paths, "OUTPUT", folder)
    for name in ("CHECKPOINTS", "RESULTS", "FIGURES", "RUNS", "EXECUTED"):
        monkeypatch.setattr(paths, name, folder / name.lower())


@pytest.fixture(autouse=True)
def own_place(tmp_path, monkeypatch) -> Iterator[None]:
    """Each test writes below a folder of its own, with nothing of the user's in its way, knows the
    profile ``tiny``, of which nothing is shipped, and leaves no figure open."""
    monkeypatch.setitem(PROFILES, "tiny", TINY)
    move_output(monkeypatch, tmp_path)
    yield
    if pyplot := sys.modules.get("matplotlib.pyplot"):
        pyplot.close("all")


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    """A disk of 256 kB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("may not mount a small disk here")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


@pytest.fixture
def run(monkeypatch, capsys):
    """What runs a command in this process: exit status, stdout and stderr."""
    from cirlib import __main__ as cli  # needs more than the trainings of these tests do

    def run(*arguments) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["cirlib", *map(str, arguments)])
        try:
            status = cli.main()
        except SystemExit as stop:
            status = stop.code
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


# Data sets


def png(value: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (5, 4), (value, 0, 0)).save(file, "PNG")
    return file.getvalue()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


IMAGES = {f"{number:04d}.png": png(number) for number in range(3)}


@pytest.fixture
def data(tmp_path, monkeypatch):
    """An empty data folder, and data sets that consist of the three images above."""
    monkeypatch.setattr(paths, "DATA", tmp_path)
    monkeypatch.setattr(paths, "WEIGHTS", tmp_path / "weights")
    monkeypatch.setattr(
        datasets, "_manifest", lambda name: {file: sha256(IMAGES[file]) for file in IMAGES}
    )
    monkeypatch.setenv("NO_PROXY", "*")
    return tmp_path


# Trainings


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """Two photographs, and a profile ``tiny`` whose search moves."""
    photos = tmp_path / "photos"
    photos.mkdir()
    random = np.random.default_rng(0)
    for number in range(2):
        coarse = Image.fromarray(random.integers(0, 256, (6, 8, 3), np.uint8))
        coarse.resize((48, 40), Image.Resampling.BICUBIC).save(photos / f"{number}.png")
    monkeypatch.setitem(PROFILES, "tiny", FAST)
    return tmp_path


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
