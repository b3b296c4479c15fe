"""Section 3.1: shared features once, then any effects in any order, each as the whole network's."""

import math
import subprocess
import sys

import numpy as np
import pytest
import torch

from cirlib import checkpoints, compact
from cirlib.base import memory
from cirlib.base.files import UserError
from cirlib.data.datasets import photographs
from cirlib.data.images import centre_crop
from cirlib.degradation import TASK_LEVELS, TASKS, degrade, sample_generator
from cirlib.engine import border, estimation, tiles
from cirlib.engine import modulator as engine
from cirlib.engine.modulator import Modulator, plain_task
from cirlib.measure.metrics import psnr
from cirlib.profiles import MODELS
from cirlib.search import build
from cirlib.tests.conftest import TINY, noise, random_searched
from cirlib.tests.test_engine import gated, residual

N = 3 * TINY.blocks + 3


@pytest.fixture
def modulator() -> Modulator:
    net = random_searched("ta-tsnet", seed=0, shared_points=6)
    modulator = Modulator(net, dtype=torch.float32)
    modulator.load(noise(17, 22))
    return modulator


@pytest.mark.parametrize("model", MODELS)
def test_effects_are_those_of_the_network(model):
    image = noise(17, 22)
    if model == "cresmd":
        net = build(MODELS[model], TINY, seed=0).eval()
    else:
        net = random_searched(model, seed=1, shared_points=7 if MODELS[model].shared else 0)
    modulator = Modulator(net, dtype=torch.float32)
    modulator.load(image)
    for task, effect in zip(TASKS, modulator.effects(TASKS), strict=True):
        assert effect.dtype == np.uint8 and effect.shape == image.shape
        assert effect.flags.c_contiguous
        # rounded, so within half a level of the exact value
        exact = (image + gated(net, image, task).numpy()).clip(0, 255)
        assert abs(effect - exact).max() <= 0.5 + 1e-2
    assert np.array_equal(modulator.effect(TASKS[0]), image)  # nothing asked for, nothing changed


def test_order_of_effects_does_not_matter(modulator):
    in_order = list(modulator.effects(TASKS))
    for k in np.random.default_rng(0).permutation(len(TASKS)):
        assert np.array_equal(modulator.effect(TASKS[k]), in_order[k])


def test_the_network_stays_as_and_where_it_is():
    # "meta" computes shapes only, and refuses to mix its tensors with the CPU's
    net = random_searched("ta-tsnet", seed=0, shared_points=6).train()
    modulator = Modulator(net, "meta", torch.float32)
    modulator.load(noise(17, 22))
    assert net.training and {p.device.type for p in net.parameters()} == {"cpu"}
    assert next(modulator.residuals(TASKS[0]))[2].device.type == "meta"


def test_next_image_replaces_the_last(modulator):
    other, task = noise(9, 12, seed=1), TASKS[20]
    first = modulator.effect(task)
    modulator.load(other)
    assert modulator.effect(task).shape == other.shape
    modulator.load(noise(17, 22))
    assert np.array_equal(modulator.effect(task), first)


def test_any_layout_of_memory_can_be_loaded(modulator):
    image, task = noise(17, 22), TASKS[26]
    modulator.load(np.ascontiguousarray(image[::-1]))
    wanted = modulator.effect(task)
    modulator.load(image[::-1])
    assert np.array_equal(modulator.effect(task), wanted)


def test_trunk_runs_once_an_image(modulator, monkeypatch):
    runs, features = [], modulator.trunk.features
    monkeypatch.setattr(modulator.trunk, "features", lambda *a: runs.append(1) or features(*a))
    for seed in range(2):
        modulator.load(noise(17, 22, seed))
        list(modulator.effects(TASKS[:5]))
    assert len(runs) == 2


def test_numbers_of_any_type_name_the_same_task(modulator):
    wanted = modulator.effect((0.5, 0.0, 1.0))
    for task in (np.array([0.5, 0, 1]), torch.tensor([0.5, 0, 1]), [np.float32(0.5), 0, 1]):
        assert np.array_equal(modulator.effect(task), wanted)
    assert modulator.head.cache_info().currsize == 1


@torch.no_grad()
@pytest.mark.parametrize("shared", [0, 2, 6, 12])
def test_small_networks_move_to_another_device_as_a_whole(shared):
    # "meta" computes shapes only, and refuses to mix its tensors with the CPU's
    net = random_searched("ta-tsnet", seed=0, shared_points=shared)
    plan = compact.plan(net.architecture(TASKS[26]))
    trunk, head = (part.to("meta") for part in
                   (compact.trunk(net, plan), compact.head(net, plan, TASKS[26])))  # fmt: skip
    image = torch.empty(1, 3, 9, 12, device="meta")
    restored = head(trunk(compact.State(image)))
    assert restored.device.type == "meta" and restored.shape == image.shape


@pytest.mark.parametrize("task", [
    (1.1, 0, 0), (0, -0.1, 0), (0, 0, float("nan")), (0, 0), ("a", 0, 0), None, 0.5,
])  # fmt: skip
def test_task_that_does_not_exist_is_the_users_error(task, modulator):
    with pytest.raises(UserError, match="three numbers from 0 to 1"):
        modulator.effect(task)
    assert not modulator.head.cache_info().currsize


def test_suggestion_is_the_estimate_on_the_scale_of_the_sliders(modulator, monkeypatch):
    monkeypatch.setattr(estimation, "estimate", lambda image, device: (0.104, 0.9461, 0.0149))
    assert modulator.suggest() == (0.1, 0.95, 0)


def test_suggestion_needs_an_image():
    with pytest.raises(RuntimeError, match="load an image first"):
        Modulator(random_searched("ta-tsnet", seed=0)).suggest()


def test_suggested_effects_help_damaged_photos_and_spare_clean_ones():
    modulator = Modulator(checkpoints.load("ta-tsnet", "compact"))
    for i, photo in enumerate(photographs("embedded")):
        clean = centre_crop(photo.read(), 192)
        for k in (6, 8, 18, 26):  # strong noise, that with JPEG, strong blur, all three
            degraded = degrade(clean, TASK_LEVELS[k], sample_generator(i, k))
            modulator.load(degraded)
            effect = modulator.effect(modulator.suggest())
            assert psnr(effect, clean) > psnr(degraded, clean) + 0.2, (photo.name, k)
        modulator.load(clean)
        assert psnr(modulator.effect(modulator.suggest()), clean) > 30


def test_flat_sides_are_continued_and_others_are_not():
    net = random_searched("ta-tsnet", seed=0)
    image = noise(50, 41)
    image[:20], image[:, -20:] = (255, 0, 255), (0, 0, 255)
    whole, inner = Modulator(net, dtype=torch.float32), Modulator(net, dtype=torch.float32)
    inner.load(image)
    assert border.margins(image) == ((16, 0), (0, 16))
    edge = np.pad(image, ((16, 0), (0, 17), (0, 0)), mode="edge")
    whole.load(edge)
    assert np.array_equal(inner.effect(TASKS[13]), whole.effect(TASKS[13])[16:, :41])


def test_the_border_of_flat_colours_is_as_their_middle():
    modulator = Modulator(checkpoints.load("ta-tsnet", "compact"))
    for colour in [(255, 0, 255), (0, 0, 255), (0, 255, 0), (255, 255, 0), (250, 246, 235)]:
        modulator.load(np.full((48, 48, 3), colour, np.uint8))
        effect = modulator.effect((0.5, 0.5, 0)).astype(int)
        assert np.abs(effect - effect[24, 24]).max() <= 3, colour


def test_effect_needs_an_image():
    modulator = Modulator(random_searched("ta-tsnet", seed=0))
    with pytest.raises(RuntimeError, match="load an image first"):
        modulator.effect(TASKS[1])


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("shared", [0, 2, 6, N - 2, N])
@pytest.mark.parametrize("height, width", [(90, 131), (64, 200), (1, 129)])
def test_tiles_are_seamless(monkeypatch, height, width, shared, keep):
    net = random_searched("ta-tsnet", seed=2, shared_points=shared)
    image = noise(height, width)
    whole = Modulator(net, dtype=torch.float32)
    tiled = Modulator(net, dtype=torch.float32, work=32 * 32 * 3 * TINY.channels)
    whole.load(image)
    monkeypatch.setattr(engine, "FEATURES_KEPT", 1e9 if keep else 0)
    monkeypatch.setattr(engine, "free_memory", lambda _: 0)
    tiled.load(image)
    even = height + height % 2, width + width % 2
    assert len(tiled.tiles) > 1 and tiled.tiles == list(tiles.tiles(*even, 32))
    assert (tiled.shared is None) == (not keep and shared > 0)
    for task in TASKS[1::5]:
        found, wanted = residual(tiled, task), residual(whole, task)
        torch.testing.assert_close(found, wanted, rtol=0, atol=255e-5)


def test_large_features_are_kept_from_the_second_effect_on(monkeypatch):
    net = random_searched("ta-tsnet", seed=2, shared_points=6)
    modulator = Modulator(net, dtype=torch.float32, work=32 * 32 * 3 * TINY.channels)
    monkeypatch.setattr(engine, "FEATURES_KEPT", 0)
    for _ in range(2):  # the next image begins anew
        modulator.load(noise(90, 131))
        effects, shares = [], []
        for kept in (False, True, True):
            effects.append(modulator.effect(TASKS[26], shares.append))
            assert (modulator.shared is not None) == kept
            assert shares == sorted(shares) and 0 <= shares[0] and shares[-1] == 1
            shares.clear()
        assert np.array_equal(effects[0], effects[1]) and np.array_equal(effects[0], effects[2])


def test_tiles_are_as_large_as_free_memory_allows(monkeypatch):
    net, cpu = random_searched("ta-tsnet", seed=2), torch.device("cpu")
    image = noise(90, 131)
    effects = []
    monkeypatch.setattr(tiles, "LEAST", 0)
    for free, tiled in ((1e12, False), (4 * 32 * 32 * 3 * TINY.channels, True)):
        monkeypatch.setattr(tiles, "free_memory", lambda _, free=free: free)
        modulator = Modulator(net, cpu, dtype=torch.float32)
        modulator.load(image)
        assert (len(modulator.tiles) > 1) == tiled
        effects.append(modulator.effect(TASKS[26]))
    assert np.array_equal(*effects)
    monkeypatch.setattr(tiles, "free_memory", lambda _: 10e9)
    assert tiles.tile_memory(cpu) == tiles.WORK
    assert tiles.tile_memory(torch.device("cuda", 0)) == 2.5e9
    monkeypatch.undo()
    monkeypatch.setattr(tiles, "free_memory", lambda _: 0)
    assert tiles.tile_memory(cpu) == tiles.LEAST


def test_work_tells_its_progress_and_ends_by_what_that_raises():
    net = random_searched("ta-tsnet", seed=2, shared_points=6)
    modulator = Modulator(net, dtype=torch.float32, work=32 * 32 * 3 * TINY.channels)
    loading, shares = [], []
    modulator.load(noise(90, 131), loading.append)
    effect = modulator.effect(TASKS[26], shares.append)
    for told in (loading, shares):
        assert told == sorted(told) and 0 <= told[0] and told[-1] == 1
        assert len(told) > 3 * len(modulator.tiles)  # after each convolution
        assert max(np.diff(told)) < 0.6 / len(modulator.tiles)  # the last: a whole tail

    def stop(share):
        raise TimeoutError

    with pytest.raises(TimeoutError):
        modulator.effect(TASKS[1], stop)
    assert np.array_equal(modulator.effect(TASKS[26]), effect)  # goes on as before
    with pytest.raises(TimeoutError):
        modulator.load(noise(90, 131, seed=1), stop)
    with pytest.raises(RuntimeError, match="load an image first"):
        modulator.effect(TASKS[26])


@pytest.mark.parametrize(
    "height, width, most", [(1, 1, 2), (21, 34, 8), (99, 100, 34), (40, 2, 40)]
)
def test_tiles_cover_each_pixel_once(height, width, most):
    times, found = np.zeros((height, width), int), list(tiles.tiles(height, width, most))
    for rows, columns in found:
        assert rows.start % 2 == columns.start % 2 == 0
        assert rows.stop - rows.start <= most and columns.stop - columns.start <= most
        times[rows, columns] += 1
    assert (times == 1).all()
    assert len(found) == math.ceil(height / most) * math.ceil(width / most)


def test_tiles_are_alike_in_size():
    (_, left), (_, right) = tiles.tiles(2160, 3840, 2886)
    assert left == slice(0, 1920) and right == slice(1920, 3840)


@torch.no_grad()
@pytest.mark.parametrize("shared", [0, 4, N])
def test_radius_covers_all_that_an_output_pixel_sees(shared):
    modulator = Modulator(random_searched("ta-tsnet", 0, shared, keep=1), dtype=torch.float32)
    radius = modulator.trunk.radius + modulator.head(plain_task(TASKS[26])).radius
    middle = radius + 5
    image = noise(2 * middle, 2 * middle)
    inside = slice(middle - radius, middle + radius + 1)
    other = noise(2 * middle, 2 * middle, seed=1)
    other[inside, inside] = image[inside, inside]
    seen = []
    for picture in (image, other):
        modulator.load(picture)
        seen.append(residual(modulator, TASKS[26])[middle, middle])
    assert torch.equal(*seen)


@pytest.mark.parametrize("image", [np.zeros((4, 4, 3)), np.zeros((4, 4), np.uint8)])
def test_other_arrays_are_refused(image):
    with pytest.raises(UserError, match="read_image"):
        Modulator(random_searched("tsnet", seed=0)).load(image)


PEAK = """
import sys
import numpy as np
from cirlib.architecture import Architecture
from cirlib.base import memory
from cirlib.engine.modulator import Modulator
from cirlib.measure.latency import Untrained

memory.keep_large_blocks()
blocks, channels, shared = 4, 64, np.arange(15) < int(sys.argv[1])  # less deep than the paper's
widths = np.where(shared, 41, 16) if shared.any() else np.full(15, channels)  # but as wide
gates = np.arange(channels) < widths[:, None]
modulator = Modulator(Untrained(Architecture(blocks, channels, gates, shared)))
modulator.load(np.zeros((2160, 3840, 3), np.uint8))
modulator.effect((1, 1, 1))
print(memory.peak_bytes() / 1e9)
"""


@pytest.mark.slow
@pytest.mark.parametrize("shared", [0, 9])
def test_effect_of_a_4k_image_takes_less_than_one_and_a_half_gigabytes(shared):
    done = subprocess.run(
        [sys.executable, "-c", PEAK, str(shared)], capture_output=True, text=True, check=True
    )
    assert float(done.stdout) < 1.5


LARGEST = """
import numpy as np
import torch
from cirlib.base import memory
from cirlib.engine.modulator import Modulator
from cirlib.tests.conftest import random_searched

memory.keep_large_blocks()
modulator = Modulator(random_searched("ta-tsnet", seed=2, shared_points=6), dtype=torch.float32)
image = np.random.default_rng(0).integers(0, 256, (1, 10_000, 3), np.uint8).repeat(10_000, axis=0)
image[::3] //= 2
modulator.load(image)
restored = modulator.effect((1, 1, 1))
print(memory.peak_bytes() / 1e9)
end = modulator.tiles[0][0].stop  # where four tiles meet
around, middle = slice(end - 100, end + 100), slice(50, 150)
modulator.load(image[around, around])
alone = modulator.effect((1, 1, 1))[middle, middle].astype(int)
print(np.abs(restored[around, around][middle, middle] - alone).max())
print(np.abs(image[around, around][middle, middle] - alone).max())
"""


@pytest.mark.slow
def test_a_hundred_megapixels_are_worked_on_in_bounded_memory_without_seams():
    done = subprocess.run(
        [sys.executable, "-c", LARGEST], capture_output=True, text=True, check=True
    )
    peak, seam, change = map(float, done.stdout.split())
    image_size = 3 * 10_000**2  # bytes: as given, padded, restored
    parts = [3 * image_size, tiles.WORK, engine.FEATURES_KEPT, 0.5e9]  # last: PyTorch
    assert peak < sum(parts) / 1e9
    assert seam <= 1 < change  # grey levels: rounding


def test_memory_goes_back_to_the_system_only_for_an_image_of_another_size(monkeypatch):
    modulator, given = Modulator(random_searched("ta-tsnet", 0, 4)), []
    monkeypatch.setattr(memory, "give_back", lambda: given.append(1))
    for height, times in (20, 1), (20, 1), (18, 2), (20, 3):
        modulator.load(np.zeros((height, 24, 3), np.uint8))
        assert len(given) == times
