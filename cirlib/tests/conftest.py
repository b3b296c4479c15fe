"""Small networks with known or random gates, and a small disk, for several test files."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from xdist.scheduler import LoadFileScheduling

from cirlib.profiles import Profile, Schedule, get_model
from cirlib.search import SearchNet, build

TINY = Profile("tiny", blocks=3, channels=8, steps=6, search=Schedule(6), short=Schedule(4),
               batch=4, learning_rate=1e-3, search_rate=1e-3, halve_at=(0.5,), controller_rate=1e-2,
               patch=16, alpha_s=0.9)  # fmt: skip


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


def same_for_all_tasks(net: SearchNet) -> SearchNet:
    """A searched network after its controller has become deaf to the task."""
    with torch.no_grad():
        net.controller.layers[0].weight.zero_()
    return net


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


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
