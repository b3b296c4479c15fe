"""The benchmark of training steps trains what it says."""

import pytest
import torch

from cirlib import profiles, step_time
from cirlib.cost import cost, full_architecture
from cirlib.datasets import photographs
from cirlib.degradation import SCHEMES, SEARCH_SCHEMES
from cirlib.files import UserError
from cirlib.patches import Patches, batches
from cirlib.tests.conftest import TINY


def test_step_times_are_relative_to_the_first_model(monkeypatch):
    monkeypatch.setitem(profiles.PROFILES, "tiny", TINY)
    monkeypatch.setattr(step_time, "AT_A_TIME", 2)
    rows = step_time.step_times("tiny", ["cresmd", "ta-tsnet"], rounds=2)
    assert [row["model"] for row in rows] == ["cresmd", "ta-tsnet"]
    assert rows[0]["ratio"] == 1 and rows[1]["ratio"] > 0
    assert all(0 <= row["waiting"] < 1 and row["seconds_per_step"] > 0 for row in rows)
    forward = cost([full_architecture(TINY.blocks, TINY.channels)], (TINY.patch,) * 2).per_effect(1)
    for row in rows:
        done = row["gflops_per_second"] * row["seconds_per_step"]
        assert done == pytest.approx(3 * TINY.batch * forward / 1e9)


def test_searched_models_are_timed_while_layers_become_shared(monkeypatch):
    monkeypatch.setitem(profiles.PROFILES, "tiny", TINY)
    monkeypatch.setattr(step_time.training, "default_workers", lambda: 1)
    seen, update = [], step_time.training.Training.update

    def watched(self, *batch):
        result = update(self, *batch)
        seen.append((self.net.model.name, self.net.sharing, bool(self.net.frozen)))
        return result

    monkeypatch.setattr(step_time.training.Training, "update", watched)
    monkeypatch.setattr(step_time, "AT_A_TIME", 1)
    step_time.step_times("tiny", ["tsnet", "ta-tsnet"], rounds=1)
    assert seen == [("tsnet", False, False), ("ta-tsnet", True, False)] * 2


def test_models_are_timed_on_the_data_that_they_are_trained_on(monkeypatch):
    monkeypatch.setitem(profiles.PROFILES, "tiny", TINY)
    monkeypatch.setattr(step_time, "AT_A_TIME", 2)
    monkeypatch.setattr(step_time.training, "default_workers", lambda: 2)
    models, seen, update = ["cresmd", "tsnet", "tsnet-m"], {}, step_time.training.Training.update

    def watched(self, *batch):
        seen.setdefault(self.net.model.name, []).append([part.cpu().clone() for part in batch])
        return update(self, *batch)

    monkeypatch.setattr(step_time.training.Training, "update", watched)
    step_time.step_times("tiny", models, rounds=1)
    photos = [photo.read() for photo in photographs("embedded")]
    for model, schemes in zip(models, (SCHEMES, SEARCH_SCHEMES, SEARCH_SCHEMES), strict=True):
        relative = model == "tsnet-m"
        patches = Patches(photos, TINY.patch, 0, relative, schemes)
        wanted = batches(patches, range(8 * TINY.batch), TINY.batch, workers=0)
        for found, batch in zip(seen[model], wanted, strict=True):
            for one, other in zip(found, step_time.training.to_device(*batch, "cpu"), strict=True):
                assert torch.equal(one, other)


def test_no_rounds_are_refused():
    with pytest.raises(UserError, match="at least"):
        step_time.step_times("smoke", ["cresmd"], rounds=0)
