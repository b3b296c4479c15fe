"""Section 7.4: the four measures agree with their definitions and with known answers."""

import math
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from skimage import data

from cirlib.base import paths
from cirlib.base.files import UserError
from cirlib.data import weights
from cirlib.measure import metrics
from cirlib.measure.metrics import LPIPS, METRICS, computable, psnr, ssim, ssim_of, ssims
from cirlib.measure.niqe import NIQE, asymmetric_fit, half_scale, normalised


def needs(name):
    return pytest.mark.skipif(
        not computable([name])[name],
        reason=f"no weights for {name}: run `python -m cirlib data weights` or set CIRLIB_DATA",
    )


@pytest.fixture(scope="module")
def photo():
    return np.ascontiguousarray(data.chelsea()[:192, :288])


@pytest.fixture(scope="module")
def noisy(photo):
    rng = np.random.default_rng(0)
    noise = rng.standard_normal(photo.shape)
    return [np.clip(np.rint(photo + s * noise), 0, 255).astype(np.uint8) for s in (0, 5, 15, 40)]


@pytest.fixture(scope="module")
def niqe():
    return NIQE()


@pytest.fixture(scope="module")
def lpips():
    return LPIPS()


def flat(value, shape=(16, 16, 3)):
    return np.full(shape, value, np.uint8)


# PSNR and SSIM


def test_psnr_by_hand():
    one_off = flat(100)
    one_off[0, 0, 0] = 116  # MSE = 16^2 / (16 * 16 * 3) = 1/3
    assert psnr(one_off, flat(100)) == pytest.approx(10 * math.log10(255**2 * 3))
    assert psnr(flat(101), flat(100)) == pytest.approx(48.1308, abs=1e-4)
    assert psnr(flat(0), flat(255)) == 0  # the largest difference does not wrap around


def test_identical_images_have_infinite_psnr_without_a_warning_and_ssim_one(photo):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert psnr(photo, photo) == math.inf
    assert ssim(photo, photo) == 1


def test_ssims_with_one_reference_have_the_digits_of_scikit_image(photo, noisy):
    assert ssims(noisy, photo) == [ssim_of(image, photo, 255) for image in noisy]


def test_ssim_of_flat_images_is_its_luminance_term():
    c1 = (0.01 * 255) ** 2
    expected = (2 * 100 * 150 + c1) / (100**2 + 150**2 + c1)
    assert ssim(flat(100), flat(150)) == pytest.approx(expected)


@pytest.mark.parametrize("name", METRICS)
def test_more_noise_is_worse(name, photo, noisy, request):
    if not computable([name])[name]:
        pytest.skip(f"no weights for {name}: run `python -m cirlib data weights`")
    if name == "lpips":
        values = request.getfixturevalue("lpips")(noisy, photo)
    elif name == "niqe":
        values = [request.getfixturevalue("niqe")(image) for image in noisy]
    else:
        values = [-getattr(metrics, name)(image, photo) for image in noisy]
    assert values == sorted(values) and len(set(values)) == len(values)


@pytest.mark.parametrize(
    "image",
    [flat(0, (16, 17, 3)), flat(0, (16, 16)), flat(0, (16, 16, 4)), flat(0).astype(np.float32)],
    ids=["other size", "grey", "alpha", "float"],
)
@pytest.mark.parametrize("metric", [psnr, ssim])
def test_unfit_images_are_refused(metric, image):
    with pytest.raises(UserError, match="sizes differ|uint8"):
        metric(image, flat(0))


def test_ssim_refuses_images_smaller_than_its_window():
    assert ssim(flat(0, (11, 11, 3)), flat(0, (11, 11, 3))) == 1
    with pytest.raises(UserError, match="10x30"):
        ssim(flat(0, (10, 30, 3)), flat(0, (10, 30, 3)))


# NIQE


@needs("niqe")
@pytest.mark.parametrize(
    "name, colour, grey", [("chelsea", 2.6255, 2.5721), ("coffee", 4.1153, 4.0585)]
)
def test_niqe_known_answers(niqe, name, colour, grey):
    image = getattr(data, name)()
    assert niqe(image) == pytest.approx(colour, abs=2e-4)
    # MATLAB's rgb2gray, the first row of the inverse NTSC matrix, rounded
    weights = [0.298936021293776, 0.587043074451121, 0.114020904255103]
    assert niqe.of_luma(np.rint(image @ np.array(weights))) == pytest.approx(grey, abs=2e-4)


@needs("niqe")
def test_niqe_sees_whole_patches_only(niqe, photo):
    larger = np.pad(photo, ((0, 95), (0, 95), (0, 0)))
    assert niqe(larger) == niqe(photo)


@needs("niqe")
def test_niqe_is_defined_from_two_patches_on(niqe, photo):
    sizes = [(96, 192), (192, 96), (191, 191), (95, 1000), (96, 191)]
    assert [niqe.defined_for(*size) for size in sizes] == [True, True, False, False, False]
    assert math.isfinite(niqe(photo[:96, :192]))
    with pytest.raises(UserError, match="96x191"):
        niqe(photo[:96, :191])


@needs("niqe")
def test_niqe_without_detail_is_nan_and_flat_patches_are_left_out(niqe, photo):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert math.isnan(niqe(flat(128, (192, 192, 3))))
        partly = photo.copy()
        partly[:96, :96] = 128
        assert math.isfinite(niqe(partly))


def test_luma_is_studio_range():
    red, white, black = [255, 0, 0], [255, 255, 255], [0, 0, 0]
    image = np.array([[red, white, black]], np.uint8)
    assert metrics.luma(image).tolist() == [[81, 235, 16]]


def test_half_scale_keeps_constants_and_ramps_and_removes_the_finest_stripes():
    assert half_scale(np.full((8, 12), 7.0)) == pytest.approx(np.full((4, 6), 7.0))
    ramp = np.add.outer(np.arange(16.0), 2 * np.arange(20.0))
    centres = np.add.outer(np.arange(0.5, 16, 2), 2 * np.arange(0.5, 20, 2))
    assert half_scale(ramp)[2:-2, 2:-2] == pytest.approx(centres[2:-2, 2:-2])
    stripes = np.tile([0.0, 1.0], (16, 8))
    assert half_scale(stripes)[:, 2:-2] == pytest.approx(0.5)


def test_normalised_flat_area_is_exactly_zero():
    assert not normalised(np.full((96, 96), 100.3)).any()


def test_asymmetric_fit_recovers_known_densities():
    rng = np.random.default_rng(0)
    gaussian = 3 * rng.standard_normal((4, 300, 300))
    laplace = rng.laplace(scale=2, size=(4, 300, 300))
    alpha, mean, left, right = asymmetric_fit(np.concatenate([gaussian, laplace]))
    assert alpha == pytest.approx([2] * 4 + [1] * 4, rel=0.03)
    assert left == pytest.approx([3 * math.sqrt(2)] * 4 + [2] * 4, rel=0.04)
    assert mean == pytest.approx([0] * 8, abs=0.05)
    # Left half twice as wide: with its probability in proportion, the density stays continuous.
    wide = rng.random(laplace.shape) < 2 / 3
    skewed = np.where(wide, -2, 1) * np.abs(rng.laplace(size=laplace.shape))
    alpha, mean, left, right = asymmetric_fit(skewed)
    assert alpha == pytest.approx([1] * 4, rel=0.03)
    assert left == pytest.approx([2] * 4, rel=0.04)
    assert right == pytest.approx([1] * 4, rel=0.04)
    assert mean == pytest.approx(skewed.mean(axis=(1, 2)), abs=0.05)


# LPIPS


def scaled(images):
    """B x 3 x H x W in [-1, 1]."""
    return torch.tensor(np.stack(images)).permute(0, 3, 1, 2) / 127.5 - 1


def lpips_by_definition(image, reference):
    """Equation 1 of Zhang et al. with torch's own operations: no network class, no package."""
    import lpips
    from safetensors.torch import load_file

    features = load_file(paths.WEIGHTS / "alexnet_features.safetensors")
    trained = Path(lpips.__file__).parent / "weights" / "v0.1" / "alex.pth"
    linear = torch.load(trained, map_location="cpu", weights_only=True)
    shift, scale = torch.tensor([[-0.030, -0.088, -0.188], [0.458, 0.448, 0.450]]).view(2, 3, 1, 1)
    x = (scaled([image, reference]) - shift) / scale
    distance = 0.0
    for level, (layer, stride, padding) in enumerate(
        [(0, 4, 2), (3, 1, 2), (6, 1, 1), (8, 1, 1), (10, 1, 1)]
    ):
        weight, bias = features[f"features.{layer}.weight"], features[f"features.{layer}.bias"]
        x = F.conv2d(x, weight, bias, stride, padding).relu()
        difference = torch.diff(F.normalize(x, dim=1, eps=1e-10), dim=0) ** 2
        assert (linear[f"lin{level}.model.1.weight"] >= 0).all()  # trained: random ones are not
        distance += (linear[f"lin{level}.model.1.weight"] * difference).sum(1).mean().item()
        x = F.max_pool2d(x, 3, 2) if level < 2 else x
    return distance


@needs("lpips")
def test_lpips_is_the_published_definition_with_the_trained_weights(lpips, photo, noisy):
    expected = [lpips_by_definition(image, photo) for image in noisy]
    assert lpips(noisy, photo) == pytest.approx(expected, abs=1e-5)
    assert expected[-1] > 0.5


@needs("lpips")
def test_lpips_of_identical_images_is_zero(lpips, photo):
    assert lpips([photo, photo], photo) == [0, 0]


@needs("lpips")
def test_lpips_batch_equals_one_by_one(lpips, photo, noisy, monkeypatch):
    batched = lpips(noisy, photo)
    assert batched == pytest.approx([lpips([image], photo)[0] for image in noisy], abs=1e-6)
    monkeypatch.setattr(LPIPS, "PIXELS", 3 * photo.shape[0] * photo.shape[1])  # 3 + 1 images
    assert lpips(noisy, photo) == pytest.approx(batched, abs=1e-6)
    assert lpips([], photo) == []


@needs("lpips")
def test_lpips_is_silent_and_leaves_the_random_numbers_alone(capfd):
    before = torch.random.get_rng_state()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        LPIPS()
    assert torch.equal(torch.random.get_rng_state(), before)
    assert capfd.readouterr() == ("", "")


@needs("lpips")
def test_lpips_refuses_small_and_unequal_images(lpips, photo):
    assert lpips([photo[:31, :31]], photo[:31, :31]) == [0]
    with pytest.raises(UserError, match="30x40"):
        lpips([photo[:30, :40]], photo[:30, :40])
    with pytest.raises(UserError, match="sizes differ"):
        lpips([photo, photo[1:]], photo)


# weights


@pytest.mark.parametrize("metric", [NIQE, LPIPS])
def test_missing_or_wrong_weights_name_the_cure(metric, tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "WEIGHTS", tmp_path)
    assert computable() == {"psnr": True, "ssim": True, "niqe": False, "lpips": False}
    with pytest.raises(UserError, match="python -m cirlib data weights.*CIRLIB_DATA"):
        metric()
    for name in weights.WEIGHT_FILES:
        (tmp_path / name).write_bytes(b"truncated")
    assert not any(computable(["niqe", "lpips"]).values())
    with pytest.raises(UserError, match="SHA-256.*python -m cirlib data weights"):
        metric()


def test_without_its_package_lpips_names_the_cure(tmp_path, monkeypatch):
    monkeypatch.setattr(metrics, "weight_file", lambda _: tmp_path)  # there
    assert computable(["lpips"]) == {"lpips": True}
    monkeypatch.setitem(sys.modules, "lpips", None)  # cannot be imported
    assert computable(["lpips"]) == {"lpips": False}
    with pytest.raises(UserError, match="pip install lpips"):
        LPIPS()
