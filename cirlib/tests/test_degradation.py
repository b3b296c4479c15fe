"""Sections 7.3 and 3.3: the degradations are the paper's, and so is how training samples them."""

import io
from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage, stats

from cirlib.base.files import UserError
from cirlib.data.datasets import photographs
from cirlib.degradation import (
    BLUR_GRID,
    CLEAN,
    NOISE_GRID,
    QUALITY_GRID,
    SCHEMES,
    SEARCH_SCHEMES,
    TASK_LEVELS,
    TASKS,
    Levels,
    blur,
    degrade,
    degrade_pair,
    degrade_with,
    jpeg,
    levels_to_task,
    relative_task,
    sample_generator,
    sample_levels,
    standard_noise,
    task_to_levels,
)
from cirlib.measure import metrics

DRAWS = 4000  # of each scheme, for the statistics


def photograph(height: int = 60, width: int = 48) -> np.ndarray:
    astronaut = photographs("embedded")[0].read()
    return astronaut[100 : 100 + height, 180 : 180 + width].copy()


def grey(value: int, height: int = 128, width: int = 128) -> np.ndarray:
    return np.full((height, width, 3), value, np.uint8)


def as_float(image: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(image).permute(2, 0, 1).float()


# Levels and task vectors


@pytest.mark.parametrize(
    ("levels", "task"),
    [
        (CLEAN, (0, 0, 0)),
        (Levels(2.0, 0.0, None), (0.5, 0, 0)),
        (Levels(0.0, 25.0, None), (0, 0.5, 0)),
        (Levels(0.0, 0.0, 100), (0, 0, 2 / 92)),
        (Levels(0.0, 0.0, 60), (0, 0, 42 / 92)),
        (Levels(4.0, 50.0, 10), (1, 1, 1)),
    ],
)
def test_levels_and_task_vectors_are_two_ways_to_say_the_same(levels, task):
    assert levels_to_task(levels) == pytest.approx(task, abs=1e-12)
    assert task_to_levels(task) == levels


def test_the_27_tasks_are_all_combinations_and_survive_a_round_trip():
    assert TASKS.shape == (27, 3) and TASKS.dtype == np.float32
    assert set(TASK_LEVELS) == {
        Levels(r, sigma, q) for r in (0, 2, 4) for sigma in (0, 25, 50) for q in (None, 60, 10)
    }
    assert TASK_LEVELS[0] == CLEAN and not TASKS[0].any()  # the one that is not evaluated
    for levels, task in zip(TASK_LEVELS, TASKS, strict=True):
        assert task_to_levels(task) == levels


def test_every_level_of_the_training_grids_survives_a_round_trip():
    assert (len(BLUR_GRID), len(NOISE_GRID), len(QUALITY_GRID)) == (41, 51, 47)
    assert QUALITY_GRID[:3] == [None, 100, 98] and QUALITY_GRID[-1] == 10
    for i in range(51):
        levels = Levels(BLUR_GRID[i % 41], NOISE_GRID[i], QUALITY_GRID[i % 47])
        assert task_to_levels(levels_to_task(levels)) == pytest.approx(levels)
    jpeg_levels = [levels_to_task(Levels(0, 0, q))[2] for q in QUALITY_GRID]
    np.testing.assert_allclose(np.diff(jpeg_levels), 2 / 92)  # even steps, none to 100 included
    assert task_to_levels((0, 0, 0.4 / 92)).q is None
    assert task_to_levels((0, 0, 1 / 92)).q == 100  # and never above


@pytest.mark.parametrize(
    "task", [(-0.01, 0, 0), (0, 1.01, 0), (0, 0, float("nan")), (0, 0), (0, 0, 0, 0)]
)
def test_other_than_three_numbers_from_0_to_1_is_refused(task):
    with pytest.raises(ValueError, match="three numbers from 0 to 1"):
        task_to_levels(np.array(task))


# Blur


@pytest.mark.parametrize("size", [(60, 48), (7, 33), (1, 1)])
@pytest.mark.parametrize("r", [0.3, 2.0, 4.0])
def test_blur_is_the_2d_convolution_with_replicated_edges(r, size):
    image = photograph(*size)
    x = np.arange(-10, 11)
    kernel = np.exp(-(x[:, None] ** 2 + x**2) / (2 * r**2))
    kernel /= kernel.sum()
    wanted = [ndimage.convolve(c.astype(float), kernel, mode="nearest") for c in image.T]
    found = blur(as_float(image), r).numpy()
    np.testing.assert_allclose(found, np.transpose(wanted, (0, 2, 1)), atol=1e-3)


# Noise


@pytest.mark.parametrize("sigma", [1.0, 10.0, 25.0])
def test_noise_has_its_sigma_and_is_independent_between_pixels_and_channels(sigma, generator):
    image = degrade(grey(128), Levels(0, sigma, None), generator)
    noise = image - 128.0
    n = noise.size
    assert noise.mean() == pytest.approx(0, abs=4 * sigma / n**0.5)
    # rounding to grey levels adds the variance of a uniform distribution of width 1
    assert noise.var() == pytest.approx(sigma**2 + 1 / 12, rel=4 * (2 / n) ** 0.5)
    neighbours = [(noise[1:], noise[:-1]), (noise[:, 1:], noise[:, :-1]),
                  (noise[..., 1:], noise[..., :-1])]  # fmt: skip
    for a, b in neighbours:
        assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 4 / (n / 2) ** 0.5


def test_noise_is_clipped_at_black_and_white(generator):
    for value in (0, 255):
        image = degrade(grey(value), Levels(0, 50, None), generator)
        assert (image == value).mean() == pytest.approx(0.5, abs=0.02)  # half of it is cut off


# JPEG


@pytest.mark.parametrize("q", [100, 60, 10])
def test_jpeg_is_pillows(q):
    image, file = photograph(), io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=q, subsampling=2)  # 2 is 4:2:0
    with Image.open(file) as reference:
        assert np.array_equal(jpeg(image, q), np.array(reference))


# The whole degradation


def test_order_is_blur_then_noise_then_jpeg():
    image, levels = photograph(), Levels(2.0, 25.0, 60)
    found = degrade(image, levels, sample_generator(0, 1))

    def to_image(x):
        return x.clamp(0, 255).round().to(torch.uint8).permute(1, 2, 0).numpy()

    noise = 25 * standard_noise(60, 48, sample_generator(0, 1))
    x = as_float(image)
    assert np.array_equal(found, jpeg(to_image(blur(x, 2.0) + noise), 60))
    assert not np.array_equal(found, jpeg(to_image(blur(x + noise, 2.0)), 60))
    assert not np.array_equal(found, to_image(blur(as_float(jpeg(image, 60)), 2.0) + noise))


@pytest.mark.parametrize("levels", [CLEAN, Levels(1.0, 10.0, 50)])
def test_any_layout_of_memory_goes_in_and_fresh_memory_comes_out(levels):
    image = photograph()
    before = image.copy()
    image.setflags(write=False)
    for view in (image, image[::-1], image[:, ::-1], image.transpose(1, 0, 2)):
        degraded = degrade(view, levels, sample_generator(0, 0))
        contiguous = degrade(np.ascontiguousarray(view), levels, sample_generator(0, 0))
        assert degraded.dtype == np.uint8 and degraded.shape == view.shape
        assert degraded.flags.c_contiguous and np.array_equal(degraded, contiguous)
        assert not np.shares_memory(degraded, image)
    assert np.array_equal(image, before)


def test_the_clean_task_changes_nothing(generator):
    image = photograph()
    assert torch.equal(blur(as_float(image), 0), as_float(image))
    assert np.array_equal(degrade(image, CLEAN, generator), image)
    assert np.array_equal(degrade_with(image, CLEAN, None, margin=10), image[10:-10, 10:-10])


def test_same_seed_same_bytes_and_the_global_random_state_is_left_alone():
    image, before = photograph(), torch.get_rng_state()
    for levels in TASK_LEVELS:
        once, again = (degrade(image, levels, sample_generator(3, 5)) for _ in range(2))
        assert np.array_equal(once, again)
        other = degrade(image, levels, sample_generator(3, 6))
        assert np.array_equal(once, other) == (levels.sigma == 0)
    assert torch.equal(torch.get_rng_state(), before)


# Sampling


def draws(scheme: str, relative: bool, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """DRAWS task vectors of the input and of the target."""
    generator = torch.Generator().manual_seed(seed)
    pairs = [sample_levels(scheme, generator, relative) for _ in range(DRAWS)]
    return tuple(np.array([levels_to_task(pair[k]) for pair in pairs]) for k in (0, 1))


def is_uniform(values: np.ndarray, levels: int) -> bool:
    """Chi-square test that values in [0, 1] are uniform over so many evenly spaced levels."""
    counts = np.bincount((values * (levels - 1)).round().astype(int), minlength=levels)
    return len(counts) == levels and stats.chisquare(counts).pvalue > 1e-3


GRID_SIZES = (41, 51, 47)


def test_single_scheme_degrades_one_type_uniformly():
    source, target = draws("single", relative=False)
    assert ((source > 0).sum(1) <= 1).all()
    assert not target.any()
    share = (source > 0).mean(0)
    for d, size in enumerate(GRID_SIZES):
        # each type a third of the time, at one of size levels of which the first is none
        assert share[d] == pytest.approx((1 - 1 / size) / 3, abs=4 * (2 / 9 / DRAWS) ** 0.5)
        chosen = source[source[:, d] > 0, d]
        assert is_uniform((chosen * (size - 1) - 1) / (size - 2), size - 1)


def test_binary_scheme_knows_extremes_only():
    source, target = draws("binary", relative=False)
    assert set(source.ravel()) == {0.0, 1.0}
    assert not target.any()
    counts = Counter(map(tuple, source))
    assert len(counts) == 8 and stats.chisquare(list(counts.values())).pvalue > 1e-3


def test_ternary_scheme_draws_the_27_tasks_of_the_evaluation():
    source, target = draws("ternary", relative=False)
    assert not target.any()
    counts = Counter(map(tuple, source.astype(np.float32)))
    assert counts.keys() == set(map(tuple, TASKS))
    assert stats.chisquare(list(counts.values())).pvalue > 1e-3


def test_uniform_scheme_is_uniform_in_all_types_at_once():
    source, target = draws("uniform", relative=False)
    assert not target.any()
    for d, size in enumerate(GRID_SIZES):
        assert is_uniform(source[:, d], size)
    off_diagonal = np.corrcoef(source.T)[np.triu_indices(3, 1)]
    assert (abs(off_diagonal) < 4 / DRAWS**0.5).all()


def test_whole_scheme_asks_for_the_27_tasks_and_leaves_no_damage():
    source, target = draws("whole", relative=True)
    assert not target.any() and set(map(tuple, source.astype(np.float32))) == set(map(tuple, TASKS))


@pytest.mark.parametrize("scheme", sorted({*SCHEMES, *SEARCH_SCHEMES}))
def test_relative_target_is_never_stronger_than_the_input(scheme):
    source, target = draws(scheme, relative=True)
    assert (source >= target).all() and target.any()
    t = source - target
    assert t.min() >= 0 and t.max() <= 1
    if scheme == "single":  # input and target share the type
        assert ((source > 0).sum(1) <= 1).all()
    if scheme == "binary":  # the higher and the lower of two fair coins
        assert source.mean(0) == pytest.approx(0.75, abs=0.03)
        assert target.mean(0) == pytest.approx(0.25, abs=0.03)
    if scheme == "ternary":  # of 9 pairs of levels 5 have the full one as the higher, 3 the half
        half = np.array([0.5, 0.5, 42 / 92])
        assert source.mean(0) == pytest.approx((5 + 3 * half) / 9, abs=0.03)
        assert target.mean(0) == pytest.approx((1 + 3 * half) / 9, abs=0.03)
    if scheme == "uniform":  # the higher and the lower of two uniform numbers
        assert source.mean(0) == pytest.approx(2 / 3, abs=0.02)
        assert target.mean(0) == pytest.approx(1 / 3, abs=0.02)


def test_restoration_asked_for_is_the_difference_of_levels():
    t = relative_task(Levels(4.0, 50.0, 10), Levels(2.0, 0.0, 60))
    assert t == pytest.approx((0.5, 1.0, 50 / 92))
    assert relative_task(Levels(1.0, 5.0, None), CLEAN) == pytest.approx((0.25, 0.1, 0))


def test_unknown_scheme_is_refused(generator):
    message = "'unifrom': choose one of binary, single, ternary, uniform, whole"
    with pytest.raises(ValueError, match=message):
        sample_levels("unifrom", generator)


def test_input_and_relative_target_share_the_noise_sample(generator):
    source, target = Levels(0, 30, None), Levels(0, 10, None)
    noisy, wanted = degrade_pair(grey(128), source, target, generator)
    strong, weak = noisy - 128.0, wanted - 128.0
    unclipped = (noisy > 0) & (noisy < 255)
    assert abs(strong - 3 * weak)[unclipped].max() <= 2  # both are rounded
    assert np.corrcoef(strong.ravel(), weak.ravel())[0, 1] > 0.999


def test_margin_of_a_pair_is_cut_off_both(generator):
    image, blurred = photograph(), Levels(3.0, 0.0, None)
    pair = degrade_pair(image, blurred, CLEAN, generator, margin=10)
    assert np.array_equal(pair[0], degrade(image, blurred, generator)[10:-10, 10:-10])
    assert np.array_equal(pair[1], image[10:-10, 10:-10])


# Known answers on the paper's test set

SANITY = {
    Levels(2.0, 0.0, None): 24.02,
    Levels(0.0, 25.0, None): 20.58,
    Levels(0.0, 50.0, None): 15.01,
    Levels(0.0, 0.0, 60): 31.61,
    Levels(0.0, 0.0, 10): 25.45,
    Levels(2.0, 25.0, 60): 20.72,
    Levels(4.0, 50.0, 10): 18.38,
}


@pytest.fixture(scope="module")
def every_third() -> list[np.ndarray]:
    """Of the images of CBSD68."""
    try:
        return [photo.read() for photo in photographs("cbsd68")[::3]]
    except UserError as error:
        pytest.skip(str(error))  # it names the cure


def mean_psnr(images: list[np.ndarray], levels: Levels) -> float:
    return np.mean([
        metrics.psnr(degrade(image, levels, sample_generator(0, i)), image)
        for i, image in enumerate(images)
    ])  # fmt: skip


@pytest.mark.slow
def test_degraded_cbsd68_has_the_known_psnr(every_third):
    found = {levels: mean_psnr(every_third, levels) for levels in {*TASK_LEVELS[1:], *SANITY}}
    assert {levels: found[levels] for levels in SANITY} == pytest.approx(SANITY, abs=0.02)
    assert np.mean([found[levels] for levels in TASK_LEVELS[1:]]) == pytest.approx(20.41, abs=0.02)
