"""A photo's degradation, estimated from the photo alone."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.fft import dctn

from cirlib.base import paths
from cirlib.base.files import UserError
from cirlib.data.camera import Camera, photograph
from cirlib.data.datasets import photographs
from cirlib.data.drawings import SIDE, drawing, drawings
from cirlib.data.images import centre_crop
from cirlib.degradation import (
    RADIUS,
    TASK_LEVELS,
    Levels,
    degrade,
    degrade_with,
    levels_to_task,
    sample_generator,
)
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


def test_clean_pictures_of_any_kind_ask_for_next_to_nothing(photos):
    drawings = [drawing(192, sample_generator(7, k)) for k in range(12)]
    for picture in [*photos, *drawings]:
        assert max(estimate(picture)) < 0.1
    assert estimate(np.full((96, 96, 3), (255, 0, 255), np.uint8)) == (0, 0, 0)


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
    y, x = np.indices((150, 150))
    pixels = np.stack([x, y, 100 + (x + y) % 50], -1).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photos" / "photo.png")
    weights, photos = [], str(tmp_path / "photos")
    for name in ("a", "b"):
        monkeypatch.setattr(paths, "CHECKPOINTS", tmp_path / name)
        estimator.fit(photos, photos, count=20, steps=3)
        weights.append((tmp_path / name / estimation.FILE).read_bytes())
        card = json.loads((tmp_path / name / estimation.FILE).with_suffix(".json").read_text())
        assert card["samples"] == 20 and len(card["rms_error_held_out_blur_noise_jpeg"]) == 5
    assert weights[0] == weights[1]
    net = estimation.load_estimator.__wrapped__(torch.device("cpu"))
    assert torch.isfinite(net(torch.zeros(1, 448))).all()


def test_damage_without_a_trace_asks_for_nothing():
    side = estimator.PATCH + 2 * RADIUS
    flat, levels = np.full((side, side, 3), (200, 30, 90), np.uint8), Levels(3.0, 0.0, 90)
    noise = torch.zeros(3, estimator.PATCH, estimator.PATCH)
    degraded = degrade_with(flat, levels, noise, RADIUS)
    assert estimator.asked(flat, levels, noise, degraded)[0] == 0
    checks = flat.copy()
    checks[::2, ::2] = 255
    degraded = degrade_with(checks, levels, noise, RADIUS)
    assert estimator.asked(checks, levels, noise, degraded)[0] == 3 / 4


def test_noise_of_a_camera_is_stronger_in_the_light_and_alike_in_neighbours():
    camera = Camera(4.0, 1.0, 1.0, 1.0, 0.5, 98, True)
    grey = np.full((96, 96, 3), 128, np.uint8)
    noise = photograph(grey, camera, sample_generator(0, 0)).astype(float) - grey
    assert np.corrcoef(noise[:, :-1].ravel(), noise[:, 1:].ravel())[0, 1] > 0.4
    linear = [np.ptp(np.sort((photograph(np.full_like(grey, v), camera, sample_generator(0, 0))
                              / 255.0) ** 2.2, None)[500:-500]) for v in (60, 200)]  # fmt: skip
    assert linear[1] > 2 * linear[0]


def test_lacking_weights_are_the_users_error(monkeypatch, tmp_path):
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
    images = torch.randint(256, (2, 3, 21, 30), generator=generator, dtype=torch.uint8)
    ycc = np.einsum("kc,nchw->knhw", estimation.YCC.numpy(), images.numpy())

    def strengths(shift, *planes):
        rows, columns = range(shift, 21 - 7, 8), range(shift, 30 - 7, 8)
        return np.abs([dctn(y[i : i + 8, j : j + 8], norm="ortho").ravel()
                       for image in planes for y in image
                       for i in rows for j in columns])  # fmt: skip

    wanted = []
    for shift in (0, 4):
        luma = strengths(shift, ycc[0])
        wanted += [luma.mean(0), *(np.quantile(luma, q, 0, method="lower") for q in (0.1, 0.5))]
    wanted.append(strengths(0, ycc[1], ycc[2]).mean(0))
    assert np.allclose(statistics(images), np.log(np.concatenate(wanted) + 0.1), atol=1e-3)


def test_drawings_for_training_fill_their_share_with_flat_and_saturated_colours():
    made = drawings(pixels=64 * SIDE**2, seed=0)
    assert sum(picture[..., 0].size for picture in made) == 64 * SIDE**2
    assert all(map(np.array_equal, made, drawings(64 * SIDE**2, seed=0)))
    corners = np.array([picture[:8, :8] for picture in made]).reshape(64, 64, 3)
    flat = corners[(corners == corners[:, :1]).all((1, 2)), 0]
    saturated = ((flat == 0) | (flat == 255)).all(1) & (flat != flat[:, :1]).any(1)
    assert len(flat) > 16 and saturated.sum() > 4
