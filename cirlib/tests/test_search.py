"""Section 3.2: Eqs. 5 to 12, each on a case small enough to work out by hand."""

import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from cirlib.cost import split_flops
from cirlib.degradation import TASKS
from cirlib.networks import CResMD, selection_points
from cirlib.profiles import PROFILES
from cirlib.search import (
    Controller,
    accumulate,
    agreement,
    disagreement,
    gate,
    gather_preference,
    resource,
    shared_gate,
    task_agnostic,
)
from cirlib.tests.conftest import TINY, batch, random_searched

N, C = selection_points(TINY.blocks), TINY.channels


def sigmoid_slope(z: float) -> float:
    s = 1 / (1 + math.exp(-z))
    return s * (1 - s)


# Eq. 5


def test_eq5_gate_is_a_step_forward_and_a_sigmoid_backward():
    z = torch.tensor([-2.0, -0.1, 0.0, 0.1, 2.0], requires_grad=True)
    g = gate(z)
    assert g.tolist() == [0, 0, 0, 1, 1]
    g.backward(torch.tensor([1.0, 1.0, 1.0, 1.0, 3.0]))
    wanted = [sigmoid_slope(x) for x in (-2, -0.1, 0, 0.1)] + [3 * sigmoid_slope(2)]
    assert z.grad.tolist() == pytest.approx(wanted, rel=1e-5)
    assert z.grad[2] == 0.25


# Eq. 6


def test_eq6_controller_is_three_layers_with_two_relus(generator):
    controller = Controller(points=5, channels=7)
    t = torch.rand(4, 3, generator=generator)
    linear = [layer for layer in controller.modules() if isinstance(layer, torch.nn.Linear)]
    assert len(linear) == 3
    h = t
    for layer in linear[:2]:
        h = (h @ layer.weight.T + layer.bias).clamp_min(0)
    z = h @ linear[2].weight.T + linear[2].bias
    assert controller(t).shape == (4, 5, 7)
    torch.testing.assert_close(controller(t), z.view(4, 5, 7))


@pytest.mark.parametrize("profile", PROFILES)
def test_search_starts_with_every_channel_of_every_task_on(profile):
    chosen = PROFILES[profile]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        controller = Controller(selection_points(chosen.blocks), chosen.channels)
    assert (controller(torch.from_numpy(TASKS)) > 0).all()


def test_threads_that_ask_at_once_get_the_channels_that_one_gets():
    net = random_searched("tsnet", seed=0)
    tasks = torch.rand(400, 3, generator=torch.Generator().manual_seed(0)).tolist()
    with ThreadPoolExecutor(8) as threads:
        together = list(threads.map(net.architecture, tasks))
    for task, found in zip(tasks, together, strict=True):
        assert np.array_equal(found.gates, net.architecture(task).gates)


def test_preferences_and_flops_are_exact_where_the_network_is_in_bfloat16(generator):
    x, t = batch(generator)
    exact, rounded = (random_searched("ta-tsnet", seed=0, shared_points=5) for _ in range(2))
    preferences, wanted = exact.controller(t), exact.search_step(x, t)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(rounded.controller(t), preferences)
        found = rounded.search_step(x, t)
    assert found.R1 == wanted.R1 and found.R2 == wanted.R2
    assert torch.equal(rounded.z_a, exact.z_a)
    assert not torch.equal(found.output, wanted.output)  # the network was in bfloat16


# Eqs. 7 to 10


def test_eq7_preferences_are_gathered_by_a_moving_average():
    z_a = torch.tensor([[1.0, -1.0]])
    z_s = torch.tensor([[[2.0, 0.0]], [[4.0, -3.0]]], requires_grad=True)  # M = 2
    moved = gather_preference(z_a, z_s, alpha=0.9)
    assert moved.tolist() == [pytest.approx([0.1 * 1 + 0.9 * 3, 0.1 * -1 + 0.9 * -1.5])]
    moved.sum().backward()
    assert z_s.grad.unique().tolist() == pytest.approx([0.45])  # alpha / M


def test_eq8_agreement_is_about_channels_that_z_a_keeps():
    # point 0: of 10 channels kept by z_a, tasks keep 10 and 8: 9 on average, which is not > 9
    # point 1: 10 and 9: 9.5 > 9. point 2: z_a keeps one, both tasks keep it and more
    # point 3: z_a keeps none: 0 > 0 does not hold, even though the tasks agree
    g_a = torch.ones(4, 10)
    g_a[2, 1:], g_a[3] = 0, 0
    g_s = torch.ones(2, 4, 10)
    g_s[1, 0, :2] = 0
    g_s[1, 1, :1] = 0
    g_s[:, 3] = 0
    assert agreement(g_s, g_a, gamma=0.9).tolist() == [False, True, True, False]
    assert agreement(g_s, g_a, gamma=0.89).tolist() == [True, True, True, False]


def test_eq9_agreement_accumulates():
    s = torch.tensor([0.0, 1.0, 0.5])
    s = accumulate(s, torch.tensor([True, False, True]), alpha=0.9)
    assert s.tolist() == pytest.approx([0.9, 0.1, 0.95])


def test_eq10_only_a_run_of_first_points_is_shared():
    s, none = torch.tensor([0.95, 0.99, 0.5, 0.99]), torch.zeros(4, dtype=torch.bool)
    assert task_agnostic(s, 0.9, none).tolist() == [True, True, False, False]
    assert task_agnostic(s, 0.99, none).tolist() == [False] * 4
    assert task_agnostic(s, 0.4, none).tolist() == [True] * 4
    assert task_agnostic(s, 0.95, none).tolist()[0] is False  # not greater


def test_shared_points_stay_until_tasks_disagree_more_than_they_agree():
    s, phi = torch.tensor([0.95, 0.6, 0.6, 0.99]), torch.tensor([True, True, False, False])
    assert task_agnostic(s, 0.9, phi).tolist() == [True, True, False, False]
    s[0] = 0.5
    assert task_agnostic(s, 0.9, phi).tolist() == [False] * 4
    assert task_agnostic(torch.full((4,), 0.35), 0.3, phi).tolist() == [True] * 4


@pytest.mark.parametrize(("alpha", "steps"), [(0.9, 2), (0.05, 45)])
def test_how_long_tasks_must_agree_before_a_point_is_shared(alpha, steps):
    s = torch.zeros(1)
    for step in range(1, steps + 1):  # 1 - (1 - alpha)^steps > 0.9
        s = accumulate(s, torch.tensor([True]), alpha)
        assert task_agnostic(s, 0.9, torch.zeros(1).bool()).item() is (step == steps)


# The gate of a shared point


def test_shared_gate_is_z_a_forward_and_each_tasks_own_backward():
    z_a = torch.tensor([[1.0, -1.0, 1.0]], requires_grad=True)
    z_s = torch.tensor([[[2.0, 2.0, -2.0]], [[-0.5, 0.5, 0.0]]], requires_grad=True)
    g = shared_gate(gate(z_a), gate(z_s))
    assert g.tolist() == [[[1, 0, 1]], [[1, 0, 1]]]
    g.backward(torch.tensor([[[1.0, 1.0, 1.0]], [[2.0, 0.0, 1.0]]]))
    slopes = [sigmoid_slope(z) for z in (2, 2, -2)] + [2 * sigmoid_slope(0.5), 0, 0.25]
    assert z_s.grad.flatten().tolist() == pytest.approx(slopes, rel=1e-5)
    assert z_a.grad is None or not z_a.grad.any()


# R1


def gates_of(net, t):
    z_s = net.controller(t)
    return gate(z_s).detach(), gate(net.z_a)


def test_r1_by_hand():
    # one block, 4 channels, a patch of 4 pixels a side: 4 pixels at half resolution
    net = CResMD(blocks=1, channels=4)
    on_a = torch.tensor([4, 3, 2, 9, 9, 9])  # task-agnostic up to point 2; the rest unused
    on_s = torch.tensor([[9, 9, 9, 1, 2, 3], [9, 9, 9, 3, 4, 1]])

    def gates(numbers):
        return (torch.arange(4) < numbers[..., None]).float()

    phi = torch.arange(6) < 3
    R1 = resource(gates(on_s), gates(on_a), phi, M=2, net=net, patch=4)
    trunk = 3 * 2 * 4  # conv1
    heads = [2 * 1 * 4 + 2 * 4 * 4 + 1 * 3 * 16 + 3 * 3 * 16,  # conv2, up, post, last
             2 * 3 * 4 + 4 * 4 * 4 + 1 * 1 * 16 + 1 * 3 * 16]  # fmt: skip
    assert R1.item() == 18 * (trunk / 2 + sum(heads) / 2)


@pytest.mark.parametrize("patch", [16, 15])
@pytest.mark.parametrize("shared", range(N + 1))
def test_r1_is_equation_4_of_the_cost_model(shared, patch):
    net = random_searched("ta-tsnet", seed=shared, shared_points=shared)
    for M in (1, 27):
        R1 = resource(*gates_of(net, torch.from_numpy(TASKS)), net.phi, M, net.net, patch)
        splits = [split_flops(net.architecture(task), (patch, patch)) for task in TASKS]
        wanted = splits[0][0] / M + np.mean([head for _, head in splits])
        assert R1.item() == pytest.approx(wanted, rel=1e-6)


def test_gradient_of_r1_is_what_one_channel_more_costs(generator):
    net = random_searched("ta-tsnet", seed=0, shared_points=5)
    t = torch.rand(3, 3, generator=generator)
    g_s, g_a = (g.double().requires_grad_() for g in gates_of(net, t))
    slopes = torch.autograd.grad(resource(g_s, g_a, net.phi, 3, net.net, 16), (g_s, g_a))
    for n in range(1, N):  # the first convolution is not counted, so point 0 costs nothing
        for gates, slope, place in ((g_s, slopes[0], (1, n, 2)), (g_a, slopes[1], (n, 2))):
            values = []
            for value in (0.0, 1.0):  # R1 is linear in each single gate
                changed = gates.detach().clone()
                changed[place] = value
                pair = (changed, g_a) if gates is g_s else (g_s, changed)
                values.append(resource(*pair, net.phi, 3, net.net, 16).item())
            assert slope[place].item() == pytest.approx(values[1] - values[0], abs=1e-6)
            # shared points cost through z_a, the others through each task's own gates
            assert (slope[place] == 0) == (bool(net.phi[n]) == (gates is g_s))


@pytest.mark.parametrize("sharing", [False, True])
def test_r1_reaches_the_controller_in_shared_and_in_specific_layers(sharing, generator):
    net = random_searched("ta-tsnet", seed=0)
    net.sharing, net.shareable = sharing, N  # no limit
    if sharing:  # all tasks want the same, so every point becomes shared
        with torch.no_grad():
            net.controller.layers[-1].weight.mul_(1e-3)
            net.controller.layers[-1].bias.fill_(0.5)
            net.s.fill_(1)
    step = net.search_step(*batch(generator))
    assert net.phi.sum() == sharing * N
    step.R1.backward()
    assert all(p.grad.abs().max() > 0 for p in net.controller.parameters())
    assert (net.controller.layers[-1].bias.grad > 0).view(N, C)[1:].all()  # fewer channels, please


def test_restoration_loss_reaches_the_controller_through_shared_gates(generator):
    net = random_searched("ta-tsnet", seed=0, shared_points=N)
    net.frozen.fill_(True)  # keeps phi
    net.search_step(*batch(generator)).output.square().mean().backward()
    slope = net.controller.layers[-1].bias.grad.view(N, C)
    assert (slope.abs().sum(1) > 0).all()


# R2


def test_eq12_disagreement_by_hand():
    # M = 2 tasks, N = 3 points, C = 2 channels; they differ in 1, 2 and 1 gates
    g_a = torch.tensor([[1.0, 1.0], [1.0, 0.0], [0.0, 0.0]])
    g_s = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]], [[1.0, 1.0], [1.0, 0.0], [1.0, 0.0]]])

    def R2(*phi):
        return disagreement(g_s, g_a, torch.tensor(phi)).item()

    assert R2(False, False, False) == 1  # phi_0 = 1: the first point always counts
    assert R2(True, False, False) == 1 + 2
    assert R2(True, True, False) == R2(True, True, True) == 1 + 2 + 1  # the last phi is never asked


def test_gradient_of_r2_pulls_tasks_and_consensus_together():
    z_a = torch.tensor([[1.0, -1.0]], requires_grad=True)
    z_s = torch.tensor([[[-0.5, -2.0]], [[1.0, 0.5]]], requires_grad=True)
    disagreement(gate(z_s), gate(z_a), torch.tensor([False])).backward()
    # descent raises the task's z where only z_a is on, lowers it where only the task is on
    assert z_s.grad.sign().flatten().tolist() == [-1, 0, 0, 1]
    assert z_a.grad.sign().flatten().tolist() == [1, -1]
