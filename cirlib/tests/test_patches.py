"""Section 7.3: the stream of training patches is reproducible, fair and degraded as images are."""

import numpy as np
import pytest
import torch
from scipy import stats

from cirlib.degradation import RADIUS, Levels, blur, degrade_with, sample_generator
from cirlib.patches import Patches, batches, crop
from cirlib.tests.conftest import noise

P = 8  # patch size


PHOTOS = [noise(20, 30), noise(45, 17, seed=1)]


def inner(window: np.ndarray) -> np.ndarray:
    """The patch within the margin for the blur."""
    return window[RADIUS:-RADIUS, RADIUS:-RADIUS]


def clean_patches(photos: list[np.ndarray], draws: int) -> list[np.ndarray]:
    patches = Patches(photos, P)
    return [inner(patches.clean(sample_generator(0, i))) for i in range(draws)]


def same(one, other) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


# One stream


@pytest.mark.parametrize("relative", [False, True])
def test_stream_is_the_same_for_0_1_and_2_workers(relative):
    patches = Patches(PHOTOS, P, seed=7, relative=relative)
    streams = [list(batches(patches, range(12), 4, workers)) for workers in (0, 1, 2)]
    assert [len(stream) for stream in streams] == [3, 3, 3]
    for stream in streams[1:]:
        assert all(same(one, other) for one, other in zip(streams[0], stream, strict=True))


def test_sample_depends_on_seed_and_number_alone():
    patches = Patches(PHOTOS, P, seed=7)
    in_order = [patches[i] for i in range(6)]
    for i in (5, 0, 3):
        assert same(Patches(PHOTOS, P, seed=7)[i], in_order[i])
        assert not same(Patches(PHOTOS, P, seed=8)[i], in_order[i])
    assert len({sample.tobytes() for sample in clean_patches(PHOTOS, 50)}) > 45


def test_stream_goes_on_in_the_middle():
    patches = Patches(PHOTOS, P)
    whole, rest = batches(patches, range(12), 4, 0), batches(patches, range(4, 12), 4, 0)
    for one, other in zip(list(whole)[1:], rest, strict=True):
        assert same(one, other)


def test_batches_hold_images_as_bytes_and_tasks_as_numbers():
    (x, target, t), *_ = batches(Patches(PHOTOS, P), range(4), 4, 0)
    assert x.dtype == target.dtype == torch.uint8 and x.shape == target.shape == (4, 3, P, P)
    assert t.dtype == torch.float32 and t.shape == (4, 3)


def test_global_random_state_does_not_matter_and_is_left_alone():
    patches = Patches(PHOTOS, P)
    torch.manual_seed(1)
    before, one = torch.get_rng_state(), patches[4]
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert same(one, patches[4])


# What the samples are


def test_the_three_schemes_take_turns():
    tasks = np.array([Patches(PHOTOS, P)[i][2].numpy() for i in range(90)])
    single, binary, uniform = tasks[0::3], tasks[1::3], tasks[2::3]
    assert ((single > 0).sum(1) <= 1).all()
    assert set(binary.ravel()) == {0, 1}
    assert ((uniform > 0) & (uniform < 1)).mean() > 0.9


def test_target_is_the_clean_patch():
    patches, windows = Patches(PHOTOS, P), set()
    for image in [turned for photo in PHOTOS for turned in symmetries(photo)]:
        every = np.lib.stride_tricks.sliding_window_view(image, (P, P, 3)).reshape(-1, P, P, 3)
        windows.update(window.tobytes() for window in every)
    samples = [patches[i] for i in range(24)]
    for x, target, t in samples:
        assert target.permute(1, 2, 0).numpy().tobytes() in windows
        assert t.any() or torch.equal(x, target)
    assert sum(torch.equal(x, target) for x, target, _ in samples) < 6


def test_relative_target_is_a_milder_degradation():
    absolute, relative = Patches(PHOTOS, P), Patches(PHOTOS, P, relative=True)
    tasks = np.array([relative[i][2].numpy() for i in range(60)])
    assert (tasks >= 0).all() and (tasks <= 1).all()
    mean = np.mean([absolute[i][2].numpy() for i in range(60)])
    assert tasks.mean() < 0.8 * mean  # the restoration that is asked for is a smaller one


@pytest.mark.parametrize("corner", [(0, 0), (0, 20), (32, 20), (32, 0), (15, 9)])
def test_blur_of_a_patch_is_that_of_the_whole_photo(corner):
    photo, (top, left) = noise(40, 28), corner
    window = crop(photo, top - RADIUS, left - RADIUS, P + 2 * RADIUS)
    whole = blur(torch.from_numpy(photo).permute(2, 0, 1).float(), 4.0)
    part = blur(torch.from_numpy(window).permute(2, 0, 1).float(), 4.0)
    inside = part[:, RADIUS:-RADIUS, RADIUS:-RADIUS]
    torch.testing.assert_close(inside, whole[:, top : top + P, left : left + P], atol=1e-3, rtol=0)
    degraded = degrade_with(window, Levels(4.0, 0.0, None), None, margin=RADIUS)
    assert np.array_equal(degraded, inside.round().permute(1, 2, 0).numpy().astype(np.uint8))


@pytest.mark.parametrize("size", [(1, 1), (5, 40), (P, P), (40, P - 1)])
def test_photos_smaller_than_a_patch_are_continued_by_their_edges(size):
    photo = noise(*size)
    for window in clean_patches([photo], 8):
        assert window.shape == (P, P, 3)
        assert set(window.reshape(-1, 3).tobytes()) <= set(photo.tobytes())
    x, target, _ = Patches([photo], P)[2]
    assert x.shape == target.shape == (3, P, P)
    assert np.array_equal(crop(photo, -3, -2, 60)[3 : 3 + size[0], 2 : 2 + size[1]], photo)
    assert (crop(photo, -3, -2, 60)[-1, -1] == photo[-1, -1]).all()


# Fairness


def symmetries(image: np.ndarray) -> list[np.ndarray]:
    """The 8 symmetries of a square: 4 rotations, each mirrored or not."""
    turned = [np.rot90(image, k) for k in range(4)]
    return turned + [image[:, ::-1] for image in turned]


def test_patches_are_turned_by_all_8_symmetries_alike():
    photo = noise(P, P)
    counts = dict.fromkeys((image.tobytes() for image in symmetries(photo)), 0)
    for patch in clean_patches([photo], 800):
        counts[patch.tobytes()] += 1
    assert len(counts) == 8 and stats.chisquare(list(counts.values())).pvalue > 1e-3


def test_photos_are_drawn_by_their_area():
    photos = [np.full((10, 20, 3), 0, np.uint8), np.full((30, 20, 3), 1, np.uint8),
              np.full((40, 40, 3), 2, np.uint8)]  # fmt: skip
    counts = np.bincount([patch[0, 0, 0] for patch in clean_patches(photos, 1200)], minlength=3)
    assert stats.chisquare(counts, 1200 * np.array([200, 600, 1600]) / 2400).pvalue > 1e-3


def test_every_position_is_equally_likely_the_last_included():
    photo = np.zeros((P + 3, P + 2, 3), np.uint8)
    photo[..., 0], photo[..., 1] = np.indices((P + 3, P + 2))  # each pixel knows where it is
    corners = [tuple(patch[..., :2].min((0, 1))) for patch in clean_patches([photo], 1200)]
    counts = np.zeros((4, 3))
    for top, left in corners:
        counts[top, left] += 1
    assert stats.chisquare(counts.ravel()).pvalue > 1e-3
