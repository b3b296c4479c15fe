"""Section 4.2: of 27 effects the best counts, for each of 26 degraded inputs and each metric."""

import math

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cirlib.base import paths, provenance
from cirlib.base.files import UserError
from cirlib.data.datasets import Photograph
from cirlib.data.images import centre_crop
from cirlib.degradation import TASK_LEVELS, TASKS, degrade, sample_generator
from cirlib.engine import estimation
from cirlib.engine.modulator import Modulator
from cirlib.measure import intervals, metrics, niqe, quality
from cirlib.measure.quality import best_scores, evaluate, summary
from cirlib.measure.suggestion import DAMAGES, UNHARMED, suggestion_scores
from cirlib.tests.conftest import noise, random_searched

SEED = 4


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> list[Photograph]:
    """Two tiny pictures with edges, so that degradations matter."""
    folder, found = tmp_path_factory.mktemp("photos"), []
    for name, size in (("one", (18, 14)), ("two", (13, 19))):
        y, x = np.indices(size)
        image = np.stack([40 + 10 * x, 255 - 9 * y, 200 * ((x + y) % 8 < 4)], -1).astype(np.uint8)
        Image.fromarray(image).save(folder / f"{name}.png")
        found.append(Photograph(name, folder / f"{name}.png"))
    return found


@pytest.fixture(scope="module")
def modulator() -> Modulator:
    return Modulator(random_searched("ta-tsnet", seed=2, shared_points=6))


@pytest.fixture(scope="module")
def frame(modulator, photos) -> pd.DataFrame:
    return best_scores(modulator, photos[:1], seed=SEED, names=("psnr", "ssim"))


def test_one_row_for_each_of_the_26_degradations(frame):
    assert len(frame) == 26 and set(frame["image"]) == {"one"}
    levels = frame[["r", "sigma", "q"]].itertuples(index=False)
    found = [(r, sigma, None if pd.isna(q) else q) for r, sigma, q in levels]
    assert found == [tuple(levels) for levels in TASK_LEVELS[1:]]
    assert list(frame.columns) == [
        "image", "r", "sigma", "q", "input_psnr", "psnr", "best_psnr", "ssim", "best_ssim",
    ]  # fmt: skip


def test_best_score_is_the_best_of_all_27_effects(frame, modulator, photos):
    clean = photos[0].read()
    for k in (1, 9, 26):
        degraded = degrade(clean, TASK_LEVELS[k], sample_generator(SEED, k))
        modulator.load(degraded)
        effects = [modulator.effect(task) for task in TASKS]
        row = frame.iloc[k - 1]
        squares = [np.square(effect - clean.astype(float)).mean() for effect in effects]
        assert row["psnr"] == pytest.approx(10 * math.log10(255**2 / min(squares)))
        assert row["best_psnr"] == np.argmin(squares)
        ssims = [metrics.ssim(effect, clean) for effect in effects]
        assert row["ssim"] == pytest.approx(max(ssims))
        assert row["best_ssim"] == np.argmax(ssims)
        assert row["input_psnr"] == pytest.approx(metrics.psnr(degraded, clean))


def test_the_own_task_alone_is_scored_where_that_is_asked(frame, modulator, photos):
    own = best_scores(modulator, photos[:1], seed=SEED, names=("psnr", "ssim"), own=True)
    assert own["best_psnr"].tolist() == list(range(1, 27)) and (own["psnr"] <= frame["psnr"]).all()
    clean = photos[0].read()
    modulator.load(degrade(clean, TASK_LEVELS[9], sample_generator(SEED, 9)))
    assert own["psnr"][8] == metrics.psnr(modulator.effect(TASKS[9]), clean)


def test_the_best_of_27_is_never_worse_than_the_input(frame):
    # the task (0, 0, 0) gives the input back
    assert (frame["psnr"] >= frame["input_psnr"]).all()
    assert (frame["psnr"] > frame["input_psnr"]).any()


def test_metrics_that_are_better_the_lower_take_the_minimum(modulator, photos, monkeypatch):
    class Darkness:
        """In place of NIQE: the mean grey level."""

        def defined_for(self, height, width):
            return True

        def __call__(self, image):
            return float(image.mean())

    monkeypatch.setattr(niqe, "NIQE", Darkness)
    monkeypatch.setattr(metrics, "computable", lambda names: dict.fromkeys(names, True))
    found = best_scores(modulator, photos[:1], seed=SEED, names=("niqe",))
    modulator.load(degrade(photos[0].read(), TASK_LEVELS[5], sample_generator(SEED, 5)))
    means = [effect.mean() for effect in modulator.effects(TASKS)]
    assert found["niqe"][4] == pytest.approx(min(means))
    assert found["best_niqe"][4] == np.argmin(means)


def test_same_seed_same_scores_whatever_else_is_evaluated(frame, modulator, photos):
    both = best_scores(modulator, photos, seed=SEED, names=("psnr",))
    assert list(both["image"]) == ["one"] * 26 + ["two"] * 26
    columns = ["image", "r", "sigma", "q", "input_psnr", "psnr", "best_psnr"]
    pd.testing.assert_frame_equal(both[:26][columns], frame[columns])
    other = best_scores(modulator, photos[:1], seed=SEED + 1, names=("psnr",))
    noisy = frame["sigma"] > 0
    assert (other["input_psnr"] == frame["input_psnr"])[~noisy].all()
    assert (other["input_psnr"] != frame["input_psnr"])[noisy].all()


def test_metric_without_weights_is_left_out(modulator, photos, monkeypatch, tmp_path):
    monkeypatch.setattr(paths, "WEIGHTS", tmp_path)
    found = best_scores(modulator, photos[:1], seed=SEED)
    assert not {"niqe", "lpips"} & set(found)
    means = {name: pytest.approx(found[name].mean()) for name in ("psnr", "ssim")}
    assert summary(found) == means | {"niqe": None, "lpips": None}


def test_metric_that_is_not_defined_for_an_image_has_no_mean(modulator, photos):
    if not metrics.computable(["niqe"])["niqe"]:
        pytest.skip("NIQE's model is not there: run `python -m cirlib data weights`")
    found = best_scores(modulator, photos[:1], seed=SEED, names=("niqe",))  # under 96 x 96 pixels
    assert found["niqe"].isna().all() and found["best_niqe"].isna().all()
    assert summary(found) == dict.fromkeys(("psnr", "ssim", "niqe", "lpips"))


def test_a_photo_too_small_for_some_metrics_has_the_others(modulator, tmp_path):
    Image.fromarray(noise(8, 8, 0)).save(tmp_path / "small.png")
    small = [Photograph("small", tmp_path / "small.png")]
    names = [name for name, there in metrics.computable().items() if there]
    found = best_scores(modulator, small, seed=SEED, names=names)
    assert found["psnr"].notna().all()
    assert all(found[name].isna().all() for name in names if name != "psnr")


def test_a_mean_over_some_of_the_inputs_is_no_mean():
    frame = pd.DataFrame({"psnr": [20.0, 30.0], "ssim": [0.5, math.nan]})
    assert summary(frame) == {"psnr": 25.0, "ssim": None, "niqe": None, "lpips": None}


def test_suggestions_are_scored_on_damages_between_the_levels(modulator, photos, monkeypatch):
    monkeypatch.setattr(estimation, "estimate", lambda *_: (0.0, 0.0, 0.0))
    found = suggestion_scores(modulator, photos[:1], seed=SEED)
    assert list(found["kind"]) == [*UNHARMED, *DAMAGES, "camera", "camera"]
    assert (found["suggested"] == found["nothing"]).all()  # who asks for nothing changes nothing
    assert (found["nearest of 27"] == found["nothing"]).all()
    known = found["known damage"] != found["nothing"]
    assert not known[:2].any() and known[3:8].all()  # that blur is too weak to count
    assert (found["known damage"][8:] >= found["nothing"][8:]).all()  # the best place, or 0
    assert found.equals(suggestion_scores(modulator, photos[:1], seed=SEED))


@pytest.mark.parametrize(
    ("size", "crop", "wanted"),
    [((7, 9), None, (7, 9)), ((7, 9), 4, (4, 4)), ((7, 9), 8, (7, 8)), ((7, 9), 20, (7, 9))],
)
def test_central_crop(size, crop, wanted):
    image = np.zeros((*size, 3), np.uint8)
    image[..., 0], image[..., 1] = np.indices(size)
    found = centre_crop(image, crop)
    assert found.shape == (*wanted, 3)
    for axis in (0, 1):  # as much is cut off on either side, up to one pixel
        before = found[..., axis].min()
        after = size[axis] - 1 - found[..., axis].max()
        assert 0 <= after - before <= 1


def test_crop_is_what_is_scored(modulator, photos):
    found = best_scores(modulator, photos[:1], crop=12, seed=SEED, names=("psnr",))
    clean = centre_crop(photos[0].read(), 12)
    degraded = degrade(clean, TASK_LEVELS[26], sample_generator(SEED, 26))
    assert found["input_psnr"][25] == pytest.approx(metrics.psnr(degraded, clean))


def test_nothing_to_evaluate_is_the_users_error(photos, tmp_path):
    with pytest.raises(UserError, match="no photographs"):
        evaluate(random_searched("tsnet", seed=0), [])
    with pytest.raises(UserError, match="share 3/3 of 2 photographs is empty"):
        evaluate(random_searched("tsnet", seed=0), photos, keep=tmp_path, share=(3, 3))


# Runs that are kept photo by photo


@pytest.fixture
def measured(monkeypatch):
    """The photos that were really read and computed, in order."""
    names, read = [], Photograph.read
    monkeypatch.setattr(Photograph, "read", lambda photo: names.append(photo.name) or read(photo))
    return names


def as_csv(frame, path) -> bytes:
    return provenance.save_csv(frame, path, {}).read_bytes()


def test_shares_merged_are_the_whole_run(photos, tmp_path, measured):
    net, options = random_searched("tsnet", seed=0), {"seed": SEED, "names": ("psnr", "niqe")}
    whole = evaluate(net, photos, **options)
    for k in (2, 1):
        part = evaluate(net, photos, keep=tmp_path / "kept", share=(k, 2), **options)
        assert list(part["image"].unique()) == [photos[k - 1].name]
    merged = evaluate(net, photos, keep=tmp_path / "kept", **options)
    assert measured == ["one", "two", "two", "one"]  # nothing twice, and nothing in the merging run
    assert as_csv(merged, tmp_path / "merged.csv") == as_csv(whole, tmp_path / "whole.csv")
    assert summary(merged) == pytest.approx(summary(whole))


def test_killed_run_keeps_finished_photos_and_goes_on(photos, tmp_path, measured):
    class Killer(Photograph):
        def read(self):
            raise KeyboardInterrupt

    net, options = random_searched("tsnet", seed=0), {"seed": SEED, "names": ("psnr",)}
    with pytest.raises(KeyboardInterrupt):
        evaluate(net, [photos[0], Killer("two", photos[1].path)], keep=tmp_path, **options)
    assert [path.name for path in tmp_path.glob("*.csv")] == ["one.csv"]
    found = evaluate(net, photos, keep=tmp_path, **options)
    assert measured == ["one", "two"] and list(found["image"].unique()) == ["one", "two"]
    (tmp_path / "two.json").unlink()  # killed between the two files: not finished
    evaluate(net, photos, keep=tmp_path, **options)
    assert measured == ["one", "two", "two"]


@pytest.mark.parametrize("kept", [False, True])
def test_photo_that_cannot_be_read_costs_its_own_scores_alone(photos, tmp_path, kept):
    options = {"seed": SEED, "names": ("psnr",), "keep": tmp_path / "kept" if kept else None}
    (tmp_path / "broken.png").write_bytes(photos[1].path.read_bytes()[:60])
    broken, net = Photograph("broken", tmp_path / "broken.png"), random_searched("tsnet", seed=0)
    problems = []
    found = evaluate(net, [photos[0], broken, photos[1]], problems=problems, **options)
    assert list(found["image"].unique()) == ["one", "two"] and len(found) == 52
    assert len(problems) == 1 and "broken.png" in problems[0]
    for problems, cause in ((None, "broken.png"), ([], "no photograph could be read:\n.*broken")):
        with pytest.raises(UserError, match=cause):
            evaluate(net, [broken], problems=problems, **options)


def test_scores_that_cannot_be_kept_are_told_before_the_work(photos, tmp_path, monkeypatch):
    monkeypatch.setattr(quality, "best_scores", lambda *_: pytest.fail("worked in vain"))
    long, problems = Photograph("x" * 252, photos[0].path), []  # with .csv 256 bytes
    with pytest.raises(UserError, match="File name too long"):
        evaluate(
            random_searched("tsnet", seed=0),
            [long],
            None,
            0,
            ("psnr",),
            keep=tmp_path,
            problems=problems,
        )
    assert len(problems) == 1


def test_scores_of_other_settings_are_not_mixed_in(photos, tmp_path):
    options = {"keep": tmp_path, "names": ("psnr",)}
    evaluate(random_searched("tsnet", seed=0), photos[:1], crop=8, **options)
    with pytest.raises(UserError, match=r"one\.csv.*crop 8 there, 9 here"):
        evaluate(random_searched("tsnet", seed=0), photos[:1], crop=9, **options)
    with pytest.raises(UserError, match="weights"):
        evaluate(random_searched("tsnet", seed=1), photos[:1], crop=8, **options)
    with pytest.raises(UserError, match="photo 0 there, 1 here"):  # its noise would differ
        evaluate(random_searched("tsnet", seed=0), photos[::-1], crop=8, **options)


def test_bootstrap_interval_covers_the_mean_as_often_as_it_says():
    generator = np.random.default_rng(0)
    hits = 0
    for k in range(200):
        low, high = intervals.bootstrap(generator.normal(3, 1, 40), k, 400)
        hits += low <= 3 <= high
    assert 0.88 < hits / 200 < 0.99
    assert intervals.bootstrap(np.full(5, 2.0)) == (2, 2)


def test_ssim_variants_measure_each_input_once_and_differ_by_definition(modulator, photos):
    frame = quality.ssim_variants(modulator, photos[:1], seed=SEED)
    assert len(frame) == 26 and (frame.abs() <= 1).all(axis=None)
    modulator.load(degrade(photos[0].read(), TASK_LEVELS[1], sample_generator(SEED, 1)))
    effect = modulator.effect(TASKS[1])
    assert frame["as in Table 2"].iloc[0] == metrics.ssim(effect, photos[0].read())
    # Larger constants hide more of what they are added to.
    assert (frame["range of 2"] > frame["as in Table 2"]).mean() > 0.9
