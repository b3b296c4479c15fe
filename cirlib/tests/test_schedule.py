"""Section 7.3: rates that fall as they should, and the tasks that a training meets."""

import math

import pytest

from cirlib import training
from cirlib.degradation import TASKS
from cirlib.tests.conftest import FAST, state, train

# The schedule


def test_the_super_networks_rate_is_halved_at_the_given_fractions():
    factors = [training.halved(step / 20, (0.5, 0.7, 0.9)) for step in range(20)]
    assert factors == [1] * 10 + [0.5] * 4 + [0.25] * 4 + [0.125] * 2


def test_a_fine_tuned_models_rate_falls_to_zero_by_a_cosine():
    factors = [training.annealed(step / 8, 0.5) for step in range(8)]
    assert factors[:5] == [1] * 5
    assert factors[5:] == pytest.approx([0.5 + 0.5**1.5, 0.5, 0.5 - 0.5**1.5])
    assert (
        training.annealed(0.99, 1) == training.annealed(0, 0) == 1
        and training.annealed(1, 0.5) == 0
    )


@pytest.fixture
def rates(monkeypatch) -> list:
    """Those of each step that is trained, a list of the super network's and the controller's."""
    rates, update = [], training.Training.update

    def watched(self, *batch):
        result = update(self, *batch)
        rates.append([group["lr"] for group in self.optimizer.param_groups])
        return result

    monkeypatch.setattr(training.Training, "update", watched)
    return rates


def test_all_learning_rates_follow_the_schedule(folder, rates):
    train(folder)
    assert rates == [[FAST.learning_rate * f] for f in [1] * (FAST.steps // 2)
                     + [0.5] * (FAST.steps // 2)]  # fmt: skip
    rates.clear()
    train(folder, "tsnet")
    first = math.ceil(FAST.freeze_from * FAST.search)
    rates, controller = zip(*rates, strict=True)
    assert rates[: first + 1] == (FAST.search_rate,) * (first + 1)
    falling = list(rates[first:])
    assert falling == sorted(falling, reverse=True) and 0 < falling[-1] < falling[0] / 4
    assert [row["learning_rate"] for row in state("tsnet")[2]] == pytest.approx(
        list(rates), rel=1e-5
    )
    assert controller[:5] == (FAST.controller_rate,) * 5  # up to share_from
    assert list(controller) == sorted(controller, reverse=True)  # midway to freeze_from:
    assert controller[9] == pytest.approx(FAST.controller_rate / 2, rel=0.05)
    assert controller[13] < FAST.controller_rate / 10 and controller[14:] == (0,) * 6


def test_a_finished_search_stays_closed_unless_it_is_opened_again(folder, rates):
    train(folder)
    train(folder, "tsnet")
    rates.clear()
    train(folder, "tsnet", further=True, steps=60)  # step 20 is before freeze_from of so many
    assert len(rates) == 40 and not any(controller for _, controller in rates)
    rates.clear()
    train(folder, "tsnet", further=True, steps=66, again=4)
    falling = [1, 0.5 + 0.5**1.5, 0.5, 0.5 - 0.5**1.5, 0, 0]
    wanted = [training.REOPENED * FAST.controller_rate * factor for factor in falling]
    assert [controller for _, controller in rates] == pytest.approx(wanted)
    assert all(weights > 0 for weights, _ in rates)


@pytest.mark.parametrize(
    ("model", "met"), [("cresmd", False), ("tsnet", True), ("ta-tsnet-abl-31", True)]
)
def test_models_that_start_from_cresmd_meet_the_tasks_of_the_evaluation(
    folder, monkeypatch, model, met
):
    tasks, update = set(), training.Training.update

    def watched(self, x, target, t):
        tasks.update(map(tuple, t.tolist()))
        return update(self, x, target, t)

    train(folder)
    monkeypatch.setattr(training.Training, "update", watched)
    train(folder, model, fresh=True, steps=40)
    combined = {tuple(t) for t in TASKS.tolist() if 0.4 < max(t) and 0 in t and sum(t) > max(t)}
    halves = {t for t in combined if set(t) - {0, 1}}
    assert len(halves) == 9 and bool(halves & tasks) == met
