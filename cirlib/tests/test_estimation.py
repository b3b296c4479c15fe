"""A photo's degradation, estimated from the photo alone."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.fft import dctn

from cirlib.base import paths
from cirlib.base.files import UserError
from cirlib.data.datasets import photographs
from cirlib.data.images import centre_crop
from cirlib.degradation import CLEAN, TASK_LEVELS, Levels, degrade, levels_to_task, sample_generator
from cirlib.engine import estimation
from cirlib.engine.estimation import WINDOW, estimate, fresh_estimator, statistics, windows
from cirlib.run import estimator


@pytest.fixture(scope="module")
def photos() -> list[np.ndarray]:
    """None of them was seen in the fit."""
    return [centre_crop(photo.read(), 256) for photo in photographs("embedded")]


@pytest.fixture(scope="module")
def estimates(photos) -> np.ndarray:
    """Photos x 27 degradations x 3."""
    return np.array([
        [estimate(degrade(photo, levels, sample_generator(i, k)))
         for k, levels in enumerate(TASK_LEVELS)]
        for i, photo in enumerate(photos)
    ])  # fmt: skip


def test_estimates_are_tasks(estimates):
    assert np.isfinite(estimates).all() and (0 <= estimates).all() and (estimates <= 1).all()


def test_estimates_come_nearer_the_truth_than_any_constant(estimates):
    truth = np.array([levels_to_task(levels) for levels in TASK_LEVELS])
    errors = np.square(estimates - truth).mean((0, 1))
    assert (errors < truth.var(0) / 3).all()  # the variance: the error of the best constant


@pytest.mark.parametrize("kind", range(3))
def test_more_of_a_degradation_gives_a_higher_estimate(photos, kind):
    steps = [[Levels(r, 0, None) for r in (0, 1, 2, 4)],
             [Levels(0, sigma, None) for sigma in (0, 12, 25, 50)],
             [Levels(0, 0, q) for q in (None, 60, 30, 10)]][kind]  # fmt: skip
    for photo in photos:
        found = [estimate(degrade(photo, levels, sample_generator(0, 0)))[kind] for levels in steps]
        assert found == sorted(found)


def test_clean_photos_are_seen_as_little_degraded(photos):
    for photo in photos:
        assert max(estimate(degrade(photo, CLEAN, None))) < 0.25


def test_windows_keep_the_grid_of_jpeg_and_reach_the_corners():
    image = np.indices((1111, 3000)).sum(0).astype(np.uint16)[..., None].repeat(3, 2)
    found = windows(image)
    assert found.shape == (3 * 3, WINDOW, WINDOW, 3)
    starts = sorted({int(window[0, 0, 0]) for window in found})
    assert starts[0] == 0 and all(start % 8 == 0 for start in starts)
    assert image.max() - found.max() < 2 * 8  # so little is left at the far corner
    small = image[:300, :WINDOW]
    assert np.array_equal(windows(small), small[None])


@pytest.mark.parametrize("size", [(1, 1), (5, 700), (2000, 3)])
def test_any_size_can_be_estimated(size):
    image = np.full((*size, 3), 100, np.uint8)
    assert len(estimate(image)) == 3


def test_fitting_repeats_itself_and_writes_what_load_reads(monkeypatch, tmp_path):
    (tmp_path / "photos").mkdir()
    y, x = np.indices((130, 130))
    pixels = np.stack([x, y, 100 + (x + y) % 50], -1).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photos" / "photo.png")
    weights = []
    for name in ("a", "b"):
        monkeypatch.setattr(paths, "CHECKPOINTS", tmp_path / name)
        estimator.fit(str(tmp_path / "photos"), samples=24, steps=3)
        weights.append((tmp_path / name / estimation.FILE).read_bytes())
        card = json.loads((tmp_path / name / estimation.FILE).with_suffix(".json").read_text())
        assert card["samples"] == 24 and card["rms_error_held_out"].keys() == {
            "blur",
            "noise",
            "jpeg",
        }
    assert weights[0] == weights[1]
    net = estimation.load_estimator.__wrapped__(torch.device("cpu"))
    assert torch.isfinite(net(torch.zeros(1, 128))).all()


def test_lacking_weights_are_the_users_error(monkeypatch, tmp_path):
    monkeypatch.setattr(paths, "CHECKPOINTS", tmp_path)
    monkeypatch.setattr(paths, "SHIPPED", tmp_path)
    with pytest.raises(UserError, match="python -m cirlib.run.estimator"):
        estimation.load_estimator.__wrapped__(torch.device("cpu"))


def test_fresh_weights_leave_the_random_state_alone():
    before = torch.get_rng_state()
    one, two, other = fresh_estimator(0), fresh_estimator(0), fresh_estimator(1)
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(one.out.weight, two.out.weight)
    assert not torch.equal(one.out.weight, other.out.weight)


def test_statistics_are_those_of_the_cosine_transform(generator):
    image = torch.randint(256, (2, 3, 21, 30), generator=generator, dtype=torch.uint8)
    y = np.tensordot((0.299, 0.587, 0.114), image.numpy(), (0, 1))
    for start, found in zip((0, 4), statistics(image).split(64, 1), strict=True):
        blocks = [
            [dctn(one[i : i + 8, j : j + 8], norm="ortho")
             for i in range(start, 21 - 7, 8) for j in range(start, 30 - 7, 8)]
            for one in y
        ]  # fmt: skip
        wanted = np.log(np.abs(blocks).mean(1) + 0.1).reshape(2, 64)
        assert np.allclose(found.numpy(), wanted, atol=1e-4)
