"""Batches of patches made on a device are those that workers would make, up to JPEG's rounding."""

import numpy as np
import pytest
import torch

from cirlib import degradation
from cirlib.data.datasets import photographs
from cirlib.degradation import RELATIVE_SCHEMES, SCHEMES, SEARCH_SCHEMES, Levels, degrade_with
from cirlib.run.device_patches import DevicePatches, jpeg


@pytest.fixture(scope="module")
def photos() -> list[np.ndarray]:
    return [photo.read() for photo in photographs("embedded")]


def tensor(image: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(image).permute(2, 0, 1).float()


@pytest.mark.parametrize("q", [10, 60, 90])
def test_jpeg_is_pillows_within_half_a_grey_level(photos, q):
    crops = [np.ascontiguousarray(photo[k : k + 64, k : k + 64]) for photo in photos
             for k in (0, 37, 101, 202)]  # fmt: skip
    ours = jpeg(torch.stack([tensor(crop) for crop in crops]), torch.full((len(crops),), float(q)))
    theirs = torch.stack([tensor(degradation.jpeg(crop, q)) for crop in crops])
    assert (ours - theirs).abs().mean() < 0.5
    assert (ours == ours.round()).all() and 0 <= ours.min() and ours.max() <= 255


@pytest.mark.parametrize(
    ("indices", "levels"),
    [((0, 0, 0), Levels(0, 0, None)), ((7, 0, 0), Levels(0.7, 0, None)),
     ((40, 12, 0), Levels(4, 12, None)), ((20, 25, 21), Levels(2, 25, 60))],
)  # fmt: skip
def test_a_degraded_patch_is_the_same_as_for_workers(photos, indices, levels, generator):
    window = np.ascontiguousarray(photos[1][30:114, 30:114])
    noise = torch.randn(3, 64, 64, generator=generator)
    patches = DevicePatches(photos, 64, 1)
    ours = patches._degraded(tensor(window)[None], torch.tensor([indices]), noise[None])[0]
    theirs = tensor(degrade_with(window, levels, noise, margin=10))
    allowed = 0.5 if levels.q else 0.01  # a sum in another order may round another way
    assert (ours.float() - theirs).abs().mean() < allowed


def test_batches_hang_on_their_number_alone_and_differ(photos):
    one, two = (DevicePatches(photos, 16, 4, seed=3) for _ in range(2))
    first = [one[number] for number in range(5, 8)]
    for number, batch in zip(range(5, 8), first, strict=True):
        for a, b in zip(batch, two[number], strict=True):
            assert torch.equal(a, b)
    assert not torch.equal(first[0][0], first[1][0])
    assert not torch.equal(first[0][0], DevicePatches(photos, 16, 4, seed=4)[5][0])


@pytest.mark.parametrize("schemes", [SCHEMES, SEARCH_SCHEMES, RELATIVE_SCHEMES])
@pytest.mark.parametrize("relative", [False, True])
def test_tasks_are_drawn_as_for_workers(schemes, relative):
    flat = [np.full((40, 40, 3), 99, np.uint8)]
    patches = DevicePatches(flat, 16, 300, relative=relative, schemes=schemes)
    x, target, t = patches[0]
    assert x.dtype == target.dtype == torch.uint8 and x.shape == target.shape == (300, 3, 16, 16)
    single, grid, uniform = (t[k :: len(schemes)] for k in range(3))  # the schemes in turns
    if "whole" in schemes:
        assert (target[3::4] == 99).all()
    assert ((single > 0).sum(1) <= 1).all() and (single > 0).any(0).all()
    values = {round(v, 3) for v in grid.flatten().tolist()}
    known = {0, 0.5, 1, 0.457, 0.543} if "ternary" in schemes else {0, 1}
    assert values <= known and len(values) >= (3 if "ternary" in schemes else 2)
    assert len({round(v, 2) for v in uniform[:, 0].tolist()}) > 20
    assert 0 <= t.min() and t.max() <= 1
    if relative:
        restored = (t == 0).all(1)  # nothing is asked for: input and target are the same
        assert torch.equal(x[restored], target[restored])
    else:
        assert (target == 99).all()  # the clean patch


def test_small_photos_are_widened_by_their_edge():
    ramp = np.repeat(np.arange(24, dtype=np.uint8)[:, None, None], 3, 2) * np.ones((1, 20, 1), int)
    clean = DevicePatches([ramp.astype(np.uint8)], 32, 8).clean(torch.Generator().manual_seed(0))
    assert clean.shape == (8, 3, 52, 52) and clean.min() == 0 and clean.max() == 23
