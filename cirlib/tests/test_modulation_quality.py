"""Figure 8 in numbers."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from cirlib.data.datasets import photographs
from cirlib.data.images import centre_crop
from cirlib.measure import metrics
from cirlib.measure import modulation as quality
from cirlib.profiles import MODELS
from cirlib.search import build
from cirlib.tests.conftest import TINY


def test_even_steps_vary_by_nothing_and_one_jump_is_all():
    assert quality.evenness([2.0] * 10) == (0, 1)
    assert quality.evenness([-2.0, 2.0]) == (0, 1)  # the size counts
    assert quality.evenness([0.0] * 9 + [5.0]) == pytest.approx((3, 10))
    assert np.isnan(quality.evenness([0.0] * 10)).all()


def test_gradient_energy():
    flat = np.full((8, 8, 3), 90, np.uint8)
    stripes = flat.copy()
    stripes[:, ::2] += 10  # neighbours in a row differ by 10, in a column not
    assert quality.gradient_energy(flat) == 0
    assert quality.gradient_energy(stripes) == pytest.approx(100)


def test_detail_kept_counts_detail_and_no_noise():
    clean = centre_crop(photographs("embedded")[3].read(), 96)
    noise = np.random.default_rng(0).normal(0, 20, clean.shape)
    noisy = np.clip(clean + noise, 0, 255).astype(np.uint8)
    assert quality.detail_kept(clean, clean) == pytest.approx(100)
    assert quality.detail_kept(np.full_like(clean, 90), clean) == 0
    assert quality.detail_kept(clean // 2, clean) == pytest.approx(50, abs=2)
    assert quality.detail_kept(noisy, clean) == pytest.approx(98, abs=4)  # a little is clipped


def test_smoothing_is_no_sharpening():
    photo = centre_crop(photographs("embedded")[0].read(), 48)
    around = [np.roll(photo, (a, b), (0, 1)) for a in (-1, 0, 1) for b in (-1, 0, 1)]
    smooth = np.mean(around, axis=0).astype(np.uint8)
    sharp = np.clip(2.0 * photo - smooth, 0, 255).astype(np.uint8)
    found = {}
    for name, output in (("smooth", smooth), ("sharp", sharp)):
        fixed = SimpleNamespace(effect=lambda _task, output=output: output)
        rows = quality._unmatched(fixed, photo, photo, (0, 1, 0), "mismatch")
        found[name] = {quantity: value for quantity, _, value in rows}
    assert found["smooth"]["mismatch_octaves"] < 0 == found["smooth"]["mismatch_sharpening"]
    assert found["sharp"]["mismatch_octaves"] == found["sharp"]["mismatch_sharpening"] > 0


def test_pairs_share_their_noise():
    photo = centre_crop(photographs("embedded")[0].read(), 64)
    source, target = (0, 1, 0), (0, 0.5, 0)
    degraded, milder = quality.degraded_pair(photo, source, target, (0, 3))
    alone, clean = quality.degraded_pair(photo, source, (0, 0, 0), (0, 3))
    assert (degraded == alone).all() and (clean == photo).all()
    inside = (photo > 110) & (photo < 145)  # nothing clipped
    noise = [x.astype(float)[inside] - photo[inside] for x in (degraded, milder)]
    assert np.corrcoef(*noise)[0, 1] > 0.99


@pytest.fixture(scope="module")
def untouched() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Scores of a network that changes nothing, and of one that adds something."""
    photos = photographs("embedded")[:2]
    net = build(MODELS["cresmd"], TINY, seed=0).eval()
    changed = quality.modulation_scores(net, photos, 48)
    with torch.no_grad():
        net.net.last.weight.zero_()
        net.net.last.bias.zero_()
    return quality.modulation_scores(net, photos, 48), changed


def _values(frame: pd.DataFrame, quantity: str) -> pd.Series:
    return frame[frame["quantity"] == quantity]["value"]


def test_a_network_that_changes_nothing(untouched):
    frame, _ = untouched
    for kind in ("mismatch", "partial"):
        for what in ("gain", "lost", "moved", "octaves", "sharpening"):
            assert (_values(frame, f"{kind}_{what}") == 0).all()
    assert _values(frame, "step_psnr_cv").isna().all()  # no step at all is neither even nor not
    photo = centre_crop(photographs("embedded")[0].read(), 48)
    degraded, milder = quality.degraded_pair(photo, (1, 0, 0), (0.75, 0, 0), (0, 0))
    first = frame[(frame["quantity"] == "relative_psnr") & (frame["case"] == "blur")].iloc[0]
    assert first["level"] == 0.25 and first["value"] == metrics.psnr(degraded, milder)
    degraded, milder = quality.degraded_pair(photo, (0, 0.5, 0), (0, 0.25, 0), (0, 1))
    half = frame[(frame["quantity"] == "relative_psnr") & (frame["case"] == "noise at 0.5")].iloc[0]
    assert half["level"] == 0.25 and half["value"] == metrics.psnr(degraded, milder)
    cases = quality.relative_cases({"none": frame})
    assert len(cases) == 16 and (cases["none"] == cases["input left as it is"]).all()


def test_every_case_is_measured_once_an_image(untouched):
    _, frame = untouched
    assert len(_values(frame, "step_psnr")) == 2 * len(quality.MATCHED) * quality.STEPS
    pairs = sum(len(tasks) for tasks in quality.RELATIVE.values())
    assert len(_values(frame, "relative_psnr")) == 2 * len(quality.MATCHED) * pairs
    cases = set(frame[frame["quantity"] == "mismatch_gain"]["case"])
    assert len(cases) == 6 and "blur -> blur" not in cases and "blur -> JPEG" in cases
    partial = set(frame[frame["quantity"] == "partial_gain"]["case"])
    assert partial == {f"all three -> {asked}" for asked in quality.TYPES}
    listed = quality.unmatched_cases({"cresmd": frame}, "gain")["needs -> asked"]
    assert set(listed) == cases | partial
    assert not frame.duplicated(["image", "case", "quantity", "level"]).any()


def test_a_rival_is_better_only_beyond_doubt(untouched):
    _, frame = untouched
    table = quality.against({"a": frame, "b": frame}, "a", "b")
    assert set(table["better"]) == {"undecided"}
    shifted = frame.copy()
    shifted.loc[shifted["quantity"].isin(("relative_psnr", "mismatch_moved")), "value"] += 1
    table = quality.against({"a": frame, "b": shifted}, "a", "b").set_index("quantity")["better"]
    assert table["relative_psnr"] == "yes"  # higher is better
    assert table["mismatch_moved"] == "no"  # lower is better
    assert table["mismatch_gain"] == "undecided"
    single = [rows[rows["image"] == frame["image"].iloc[0]] for rows in (frame, shifted)]
    table = quality.against(dict(zip("ab", single, strict=True)), "a", "b")
    assert set(table["better"]) == {"undecided"}  # one image decides nothing


def test_the_table_holds_each_quantity_with_its_interval(untouched):
    _, frame = untouched
    table = quality.modulation_table({"cresmd": frame})
    assert set(table["quantity"]) <= set(quality.QUANTITIES) and (table["images"] == 2).all()
    assert (table["low"] <= table["value"]).all() and (table["value"] <= table["high"]).all()
