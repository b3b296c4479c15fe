"""The fast form of the small networks computes what the gated super network does."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from cirlib.degradation import TASKS
from cirlib.engine import convolution, program
from cirlib.engine.modulator import Modulator
from cirlib.tests.conftest import TINY, noise, random_searched
from cirlib.tests.test_compact import CUTS

N = 3 * TINY.blocks + 3


@torch.no_grad()
def gated(net, image: np.ndarray, task) -> torch.Tensor:
    """What the super network adds to the image, in grey levels, H x W x 3."""
    x = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
    return 255 * (net(x, torch.as_tensor(task)[None]) - x)[0].permute(1, 2, 0)


@torch.inference_mode()
def residual(modulator: Modulator, task) -> torch.Tensor:
    """What a task adds to the loaded image, in grey levels."""
    change = torch.full(modulator.pixels.shape, torch.nan)
    for rows, columns, piece in modulator.residuals(task):
        assert change[rows, columns].isnan().all()  # each pixel once
        change[rows, columns] = piece.float()
    assert not change.isnan().any()
    return change


def residuals(net, image: np.ndarray, tasks, dtype=torch.float32) -> Iterator[torch.Tensor]:
    """What each task adds to the image by the engine, in grey levels, H x W x 3."""
    modulator = Modulator(net, dtype=dtype)
    modulator.load(image)
    for task in tasks:
        yield residual(modulator, task)[: image.shape[0], : image.shape[1]]


def assert_equals_gated(net, image: np.ndarray, tasks) -> None:
    for found, task in zip(residuals(net, image, tasks), tasks, strict=True):
        torch.testing.assert_close(found, gated(net, image, task), rtol=0, atol=255e-5)


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("size", [(16, 24), (17, 23), (10, 14), (1, 1)])
@pytest.mark.parametrize("shared", CUTS)
def test_engine_equals_gated_for_all_27_tasks(shared, size, packed, monkeypatch):
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: packed)
    monkeypatch.setattr(program, "STRIP", 3)
    net = random_searched("ta-tsnet", seed=shared, shared_points=shared)
    assert_equals_gated(net, noise(*size), TASKS)


@pytest.mark.parametrize("keep", [0.0, 0.03, 0.1, 0.3, 1.0])
@pytest.mark.parametrize("shared", [0, 2, 6, N - 1])
def test_engine_equals_gated_when_almost_nothing_is_left(keep, shared, monkeypatch):
    monkeypatch.setattr(program, "STRIP", 1)  # with rows above and below that do not matter
    image = noise(14, 13)
    for seed in range(3):
        net = random_searched("ta-tsnet", seed, shared, keep)
        assert_equals_gated(net, image, TASKS[::4])


def test_bfloat16_is_near_float32():
    net, image = random_searched("ta-tsnet", seed=0, shared_points=5), noise(40, 52)
    (found,) = residuals(net, image, TASKS[25:26], torch.bfloat16)
    wanted = gated(net, image, TASKS[25])
    error = (found - wanted).square().mean().sqrt()
    assert 0 < error < 0.02 * wanted.square().mean().sqrt()


def test_running_a_head_leaves_the_shared_features_alone():
    for shared in CUTS:
        modulator = Modulator(random_searched("ta-tsnet", 1, shared), dtype=torch.float32)
        modulator.load(noise(12, 18))
        before = [None if x is None else x.clone() for x in modulator.shared]
        for task in TASKS[::3]:
            modulator.effect(task)
        for x, y in zip(modulator.shared, before, strict=True):
            assert (x is None and y is None) or torch.equal(x, y)


def test_the_task_of_nothing_returns_the_image_and_runs_no_network():
    modulator, image = Modulator(random_searched("ta-tsnet", seed=0)), noise(13, 18)
    modulator.load(image)
    effect, _ = modulator.effects([(0, 0, 0), (0, 0, 0)])
    assert np.array_equal(effect, image) and not modulator.head.cache_info().currsize
    assert np.array_equal(modulator.run((0, 0, 0)), image)  # as the network has it


def test_shuffle_is_pixel_shuffle_of_reordered_channels(generator):
    x = torch.rand(1, 24, 5, 7, generator=generator).to(memory_format=torch.channels_last)
    reordered = convolution._phases_first(x[0])[None].to(memory_format=torch.channels_last)
    assert torch.equal(convolution.shuffle(reordered), F.pixel_shuffle(x, 2))


def test_weights_that_read_nothing_are_a_constant():
    conv = convolution.FusedConv(
        torch.zeros(3, 0, 3, 3), torch.tensor([1.0, -2.0, 0.0]), torch.float32
    )
    x = torch.zeros(1, 0, 4, 6)
    assert conv(x).shape == (1, 3, 4, 6) and conv(x)[0, :, 0, 0].tolist() == [1, -2, 0]
    assert conv(x, relu=True)[0, :, 3, 5].tolist() == [1, 0, 0]
    assert conv.plus(x, torch.ones(1, 3, 4, 6), in_place=False)[0, :, 1, 1].tolist() == [2, -1, 1]


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="needs oneDNN")
@pytest.mark.parametrize("width", [16, 32, 64])
def test_weights_are_laid_out_for_a_width_once(width, capfd):
    conv = convolution.FusedConv(torch.randn(64, 64, 3, 3), torch.randn(64), torch.float32)
    for previous in (64, width):
        x = torch.randn(1, 64, 8, previous).contiguous(memory_format=torch.channels_last)
        conv(x)
    capfd.readouterr()
    with torch.backends.mkldnn.verbose(torch.backends.mkldnn.VERBOSE_ON):
        conv(x)
        conv.plus(x, x, in_place=False)
    told = capfd.readouterr().out
    assert told.count("exec,cpu,convolution") == 2 and "exec,cpu,reorder" not in told


@pytest.mark.parametrize("outputs", [8, 0])
@pytest.mark.parametrize("inputs", [8, 0])
@pytest.mark.parametrize("packed", [True, False])
def test_inside_leaves_out_the_rows_that_lack_a_neighbour(inputs, outputs, packed, monkeypatch):
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: packed)
    weight, bias = torch.randn(outputs, inputs, 3, 3), torch.randn(outputs)
    conv = convolution.FusedConv(weight, bias, torch.float32)
    x = torch.randn(2, inputs, 6, 5).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        torch.testing.assert_close(conv(x, True, inside=True), conv(x, True)[:, :, 1:-1])
