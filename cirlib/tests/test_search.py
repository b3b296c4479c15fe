"""Section 3.2: Eqs. 5 to 12, each on a case small enough to work out by hand."""

import copy
import math

import numpy as np
import pytest
import torch

from cirlib.cost import split_flops
from cirlib.degradation import TASKS
from cirlib.networks import CResMD, selection_points
from cirlib.profiles import ABLATIONS, MODELS, PROFILES, SHORT, get_model
from cirlib.search import (
    Controller,
    accumulate,
    agreement,
    build,
    disagreement,
    gate,
    gather_preference,
    lambda1_of,
    resource,
    shared_gate,
    task_agnostic,
)
from cirlib.tests.conftest import TINY, random_searched
from cirlib.training import Training

N, C = selection_points(TINY.blocks), TINY.channels


def sigmoid_slope(z: float) -> float:
    s = 1 / (1 + math.exp(-z))
    return s * (1 - s)


def batch(generator, M: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.rand(M, 3, 16, 16, generator=generator), torch.rand(M, 3, generator=generator)


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


# The step


def test_step_updates_the_state_by_eqs_7_to_10(generator):
    net = random_searched("ta-tsnet", seed=0)
    net.sharing = True
    net.s.copy_(torch.linspace(1, 0, N))
    x, t = batch(generator)
    alpha, alpha_s, gamma = TINY.alpha, TINY.alpha_s, TINY.gamma
    z_s = net.controller(torch.from_numpy(TASKS)).detach()
    z_a = (1 - alpha) * net.z_a + alpha * z_s.mean(0)
    g_s, g_a = (z_s > 0).float(), (z_a > 0).float()
    eta = (g_s * g_a).sum((0, 2)) / 27 > gamma * g_a.sum(1)
    s = (1 - alpha_s) * net.s + alpha_s * eta
    assert eta.any() and not eta.all()
    step = net.search_step(x, t)
    torch.testing.assert_close(net.z_a, z_a)
    torch.testing.assert_close(net.s, s)
    first = int((s <= gamma).nonzero()[0])
    assert net.phi.tolist() == [n < first for n in range(N)]
    assert not (net.z_a.requires_grad or net.s.requires_grad)
    # the output is that of the architecture as it now is
    torch.testing.assert_close(step.output, net(x, t))
    wanted = resource(g_s, g_a, net.phi, 27, net.net, TINY.patch)
    torch.testing.assert_close(step.R1.detach(), wanted)
    torch.testing.assert_close(step.R2.detach(), disagreement(g_s, g_a, net.phi) * 64 / 27)


def test_steps_in_full_agreement_share_all_layers(generator):
    net = build(MODELS["ta-tsnet"], TINY, seed=0)
    net.sharing, net.shareable = True, N  # no limit
    counts = []
    for _ in range(3):
        net.search_step(*batch(generator))
        counts.append(int(net.phi.sum()))
    assert counts == [0, N, N]  # s is 0.9, 0.99, 0.999


def test_nothing_is_shared_while_sharing_is_off(generator):
    net = build(MODELS["ta-tsnet"], TINY, seed=0)
    for _ in range(3):
        net.search_step(*batch(generator))
    assert net.s.min() > 0.9 and not net.phi.any()


def test_tsnet_never_shares(generator):
    net = build(MODELS["tsnet"], TINY, seed=0)
    net.sharing = True
    for _ in range(3):
        step = net.search_step(*batch(generator))
    assert not (net.phi.any() or net.s.any() or net.z_a.any())
    wanted = np.mean([split_flops(net.architecture(t), (16, 16))[1] for t in TASKS])
    assert step.R1.item() == pytest.approx(wanted)  # every channel is on


def test_state_of_the_search_does_not_hang_on_the_mini_batch(generator):
    def step(x, t):
        net = random_searched("ta-tsnet", seed=1)
        net.sharing = True
        net.s.copy_(torch.linspace(20, 0, N))  # past agreement that outweighs this step
        return net, net.search_step(x, t)

    (one, first), (other, second) = step(*batch(generator)), step(*batch(generator, M=6))
    assert one.phi.any()
    assert all(torch.equal(a, b) for a, b in zip(one.buffers(), other.buffers(), strict=True))
    assert first.R1 == second.R1 and first.R2 == second.R2


@pytest.mark.parametrize("model", ["tsnet", "ta-tsnet"])
def test_gradients_of_the_parts_of_a_batch_average_to_those_of_the_whole(model, generator):
    x, t = batch(generator, M=6)

    def gradients(part):
        net = random_searched(model, seed=1)
        net.sharing = True
        net.s.copy_(torch.linspace(20, 0, N))
        result = net.search_step(x[part], t[part])
        loss = 255 * result.output.abs().mean() + 1e-6 * result.R1 + 1e-2 * result.R2
        loss.backward()
        return [p.grad for p in net.parameters()]

    halves = gradients(slice(0, 3)), gradients(slice(3, 6))
    for one, other, both in zip(*halves, gradients(slice(None)), strict=True):
        if both is not None:
            torch.testing.assert_close((one + other) / 2, both, rtol=1e-4, atol=1e-5)


def test_eq11_adds_cost_and_disagreement_to_the_distance(generator):
    x, t = batch(generator)
    target = x.flip(0)
    training = Training(get_model("ta-tsnet"), TINY, 1, 0, {}, torch.device("cpu"))
    training.net = random_searched("ta-tsnet", seed=0)
    before = copy.deepcopy(training.net).search_step(x, t)
    loss, L, *_ = training.update(x, target, t)
    price = lambda1_of(TINY, training.net.net) * before.R1.item()
    wanted = price + TINY.lambda2 * before.R2.item()
    assert (loss - L).item() == pytest.approx(wanted, abs=price / 100)
    distance = 255 * (before.output - target).abs().mean().item()  # in bfloat16 where it helps
    assert L.item() == pytest.approx(distance, rel=0.01)


# What a GPU would be waited for


@pytest.mark.parametrize(
    ("model", "sharing", "frozen"),
    [("tsnet", True, False), ("ta-tsnet", False, False), ("ta-tsnet", True, False),
     ("ta-tsnet", True, True)],
)  # fmt: skip
def test_a_step_never_looks_at_the_device(model, sharing, frozen, generator, monkeypatch):
    net, inputs = random_searched(model, seed=0), batch(generator)
    net.sharing = sharing
    if frozen:
        net.freeze()
    net.search_step(*inputs)
    counted = []

    def count(owner, name):
        original = getattr(owner, name)
        monkeypatch.setattr(owner, name, lambda *a, **k: counted.append(name) or original(*a, **k))

    for name in ("tolist", "item", "__bool__", "new_tensor"):
        count(torch.Tensor, name)
    count(torch, "tensor")
    net.search_step(*inputs)
    assert not counted


def test_a_state_that_is_loaded_is_noticed(generator):
    x, t = batch(generator)
    net, other = (random_searched("ta-tsnet", seed=1, shared_points=k) for k in (0, 7))
    other.freeze()
    assert not torch.equal(net(x, t), other(x, t))
    net.load_state_dict(other.state_dict())
    assert net.frozen and torch.equal(net(x, t), other(x, t))
    with torch.inference_mode():
        copied = build(MODELS["ta-tsnet"], TINY, seed=0)
        copied.load_state_dict(other.state_dict())
        assert torch.equal(copied(x, t), other(x, t))


# Freezing


def test_freeze_keeps_what_is_shared_and_takes_the_tasks_mean():
    net = random_searched("ta-tsnet", seed=0, shared_points=5)
    z_s = net.controller(torch.from_numpy(TASKS)).detach()
    net.freeze()
    torch.testing.assert_close(net.z_a, z_s.mean(0))
    assert net.phi.tolist() == [n < 5 for n in range(N)]
    assert len({net.architecture(task).gates[:5].tobytes() for task in TASKS}) == 1


@pytest.mark.parametrize("model", ["tsnet", "ta-tsnet"])
def test_frozen_architecture_stays_while_the_weights_are_tuned(model, generator):
    net = random_searched(model, seed=0)
    net.sharing = True
    net.freeze()
    before = [net.architecture(task) for task in TASKS]
    state = [buffer.clone() for buffer in net.buffers()]
    optimizer = torch.optim.Adam([p for p in net.parameters() if p.requires_grad], lr=1e-2)
    for _ in range(2):
        optimizer.zero_grad()
        step = net.search_step(*batch(generator))
        (step.output.abs().mean() + step.R1 + step.R2).backward()
        optimizer.step()
    assert all(p.grad is None for p in net.controller.parameters())
    assert all(torch.equal(a, b) for a, b in zip(net.buffers(), state, strict=True))
    for old, task in zip(before, TASKS, strict=True):
        new = net.architecture(task)
        assert (new.gates == old.gates).all() and (new.phi == old.phi).all()
    assert net.net.up.weight.grad.abs().max() > 0


# What belongs to a model


def test_super_network_has_every_channel_and_no_controller():
    net = build(MODELS["cresmd"], TINY, seed=0)
    assert not hasattr(net, "controller")
    architecture = net.architecture(TASKS[5])
    assert architecture.gates.shape == (N, C)
    assert architecture.gates.all() and not architecture.phi.any()


def test_architecture_is_what_the_forward_pass_uses(generator):
    net = random_searched("ta-tsnet", seed=3, shared_points=5)
    x, _ = batch(generator)
    for task in TASKS[::4]:
        found = net.architecture(task)
        gates = torch.from_numpy(found.gates)[None].expand(4, -1, -1).float()
        t = torch.from_numpy(task).expand(4, 3)
        torch.testing.assert_close(net(x, t), net.net(x, t, gates, torch.from_numpy(found.phi)))


def test_same_seed_same_weights_and_the_global_random_state_is_left_alone():
    before = torch.get_rng_state()
    one, same, other = (build(MODELS["ta-tsnet"], TINY, seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["net.up.weight"], other["net.up.weight"])
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("tail", ["paper", "public"])
@pytest.mark.parametrize("profile", PROFILES)
def test_pressure_of_lambda1_is_the_same_for_every_preset(profile, tail):
    chosen = PROFILES[profile]
    net = CResMD(chosen.blocks, chosen.channels, tail)
    N, C = selection_points(chosen.blocks), chosen.channels
    phi = torch.zeros(N, dtype=torch.bool)
    R1 = resource(torch.ones(2, N, C), torch.ones(N, C), phi, 1, net, chosen.patch)
    assert lambda1_of(chosen, net) * R1.item() == pytest.approx(0.25, rel=0.01)
    if profile == "paper" and tail == "paper":
        assert lambda1_of(chosen, net) == pytest.approx(5e-11)


# Ablations


def test_fixed_sharing_keeps_all_channels_and_the_first_layers_of_all_tasks(generator):
    net = build(ABLATIONS["ta-tsnet-abl-62"], TINY, seed=0).eval()
    shared = round(0.62 * N)
    architecture = net.architecture(TASKS[7])
    assert architecture.gates.all() and architecture.phi.tolist() == [n < shared for n in range(N)]
    x, t = batch(generator)
    torch.testing.assert_close(net(x, t), net.net(x, t, phi=torch.arange(N) < shared))
    assert not torch.equal(net(x, t), net.net(x, t))  # constant scales in shared blocks
    assert {name.split(".")[0] for name in net.state_dict()} == {"net"}


@pytest.mark.parametrize("name", ABLATIONS)
def test_ablations_are_what_section_5_varies(name):
    model = get_model(name)
    varied = [model.fixed is not None, model.lambda1 != 1, model.lambda2 != 1]
    reference = name in (SHORT, "tsnet-abl-1", "ta-tsnet-l1-d1")
    assert sum(varied) == (0 if reference else 1)
    assert model.fine_tuned and name not in MODELS


def test_a_part_of_the_network_never_becomes_task_agnostic():
    """All tasks agree on everything, and still the last selection points stay task-specific."""
    net = build(MODELS["ta-tsnet"], TINY, seed=0)
    net.sharing = True
    for _ in range(40):
        net.search_step(torch.rand(1, 3, 16, 16), torch.rand(1, 3))
    N = len(net.phi)
    assert net.phi.tolist() == [True] * net.shareable + [False] * (N - net.shareable)
    assert N / 2 < net.shareable == int(MODELS["ta-tsnet"].share_at_most * N) < N
