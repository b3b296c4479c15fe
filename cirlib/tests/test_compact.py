"""Section 3.1: the small networks are the gated super network, exactly."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from cirlib import compact
from cirlib.cost import split_flops
from cirlib.degradation import TASKS
from cirlib.profiles import MODELS
from cirlib.search import build
from cirlib.tests.conftest import TINY, random_searched

N = 3 * TINY.blocks + 3
# nothing shared, a boundary at every kind of point, everything shared
CUTS = [0, 1, 2, 3, 4, 5, 9, N - 2, N - 1, N]


def compacted(net, x, task):
    plan = compact.plan(net.architecture(task))
    return compact.head(net, plan, task)(compact.trunk(net, plan)(compact.State(x)))


def gated(net, x, task):
    return net(x, torch.as_tensor(task).expand(len(x), -1))


@pytest.mark.parametrize("size", [(16, 24), (17, 23), (1, 1)])
@pytest.mark.parametrize("shared", CUTS)
@torch.no_grad()
def test_compact_equals_gated_for_all_27_tasks(shared, size, generator):
    net = random_searched("ta-tsnet", seed=shared, shared_points=shared)
    x = torch.rand(2, 3, *size, generator=generator)
    for task in TASKS:
        torch.testing.assert_close(compacted(net, x, task), gated(net, x, task), rtol=0, atol=1e-5)


@pytest.mark.parametrize("keep", [0.0, 0.03, 0.1, 0.3, 1.0])
@pytest.mark.parametrize("shared", [0, 2, 6, N - 1])
@torch.no_grad()
def test_compact_equals_gated_when_almost_nothing_is_left(keep, shared, generator):
    x = torch.rand(1, 3, 10, 13, generator=generator)
    for seed in range(5):
        net = random_searched("ta-tsnet", seed, shared, keep)
        for task in TASKS[::4]:
            wanted = gated(net, x, task)
            torch.testing.assert_close(compacted(net, x, task), wanted, rtol=0, atol=1e-5)


@torch.no_grad()
def test_compact_equals_super_network(generator):
    net = build(MODELS["cresmd"], TINY, seed=0)
    x = torch.rand(1, 3, 15, 21, generator=generator)
    for task in TASKS:
        torch.testing.assert_close(compacted(net, x, task), gated(net, x, task), rtol=0, atol=1e-5)


@pytest.mark.parametrize("size", [(24, 16), (23, 17)])
@pytest.mark.parametrize("shared", CUTS)
@torch.no_grad()
def test_closed_form_flops_equal_counted_flops(shared, size):
    width, height = size
    for keep in (0.1, 0.6):
        net = random_searched("ta-tsnet", shared, shared, keep)
        for task in TASKS[::5]:
            plan = compact.plan(net.architecture(task))
            trunk, head = compact.trunk(net, plan), compact.head(net, plan, task)
            with FlopCounterMode(display=False) as counted_trunk:
                state = trunk(compact.State(torch.rand(1, 3, height, width)))
            with FlopCounterMode(display=False) as counted_head:
                head(state)
            counted = counted_trunk.get_total_flops(), counted_head.get_total_flops()
            closed = split_flops(plan.architecture, size, count_first=True)
            assert counted == closed


def test_trunk_does_not_depend_on_the_task():
    net = random_searched("ta-tsnet", seed=1, shared_points=7)
    plans = [compact.plan(net.architecture(task)) for task in TASKS]
    assert len({split_flops(plan.architecture, (64, 64))[0] for plan in plans}) == 1
    first, *others = (compact.trunk(net, plan).state_dict() for plan in plans)
    for other in others:
        torch.testing.assert_close(other, first, rtol=0, atol=0)
