"""Section 3.2: a step of the search, freezing, and what belongs to a model."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from cirlib.cost import split_flops
from cirlib.degradation import TASKS
from cirlib.networks import CResMD, selection_points
from cirlib.profiles import ABLATIONS, MODELS, PROFILES, SHORT, get_model
from cirlib.search import (
    build,
    disagreement,
    gate,
    lambda1_of,
    resource,
)
from cirlib.tests.conftest import TINY, batch, random_searched
from cirlib.training import Training

N, C = selection_points(TINY.blocks), TINY.channels


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
    own = gate(net.controller(t)).detach()  # of the mini-batch: half of R1 and R2 are theirs
    wanted = sum(resource(g, g_a, net.phi, 27, net.net, TINY.patch) for g in (g_s, own)) / 2
    torch.testing.assert_close(step.R1.detach(), wanted)
    wanted = sum(disagreement(g, g_a, net.phi) * 64 / len(g) for g in (g_s, own)) / 2
    torch.testing.assert_close(step.R2.detach(), wanted)


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


@pytest.mark.parametrize("model, profile, own", [
    ("ta-tsnet", "compact", 8), ("ta-tsnet", "full", 10), ("ta-tsnet", "tiny", 2),
    (SHORT, "tiny", 1),
])  # fmt: skip
def test_a_task_keeps_the_last_points_of_a_long_search_for_itself(model, profile, own):
    chosen = PROFILES[profile]
    net = build(get_model(model), chosen, seed=0)
    net.sharing = True
    net.s.fill_(1)
    for _ in range(3):  # all tasks agree on everything at first
        net.search_step(*batch(torch.Generator().manual_seed(0)))
    points = selection_points(chosen.blocks)
    assert net.phi.tolist() == [n < points - own for n in range(points)]


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
        net.search_step(x, t)
        return net

    one, other = step(*batch(generator)), step(*batch(generator, M=6))
    assert one.phi.any()
    assert all(torch.equal(a, b) for a, b in zip(one.buffers(), other.buffers(), strict=True))


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
    price = lambda1_of(TINY.lambda1, training.net.net) * before.R1.item()
    wanted = price + TINY.lambda2 * before.R2.item()
    assert (loss - L).item() == pytest.approx(wanted, abs=price / 100)
    distance = 255 * (before.output - target).abs().mean().item()  # in bfloat16 where it helps
    assert L.item() == pytest.approx(distance, rel=0.01)


@pytest.mark.parametrize("again", [True, False])
def test_what_is_shared_ends_in_dispute_but_not_where_a_search_is_opened_again(generator, again):
    profile = replace(TINY, alpha_s=PROFILES["full"].alpha_s, steps=200, search=200)
    training = Training(MODELS["ta-tsnet"], profile, 200, 0, {}, torch.device("cpu"))
    disputed = random_searched("ta-tsnet", seed=0, shared_points=5)
    training.net.load_state_dict(disputed.state_dict())
    training.step = 100
    stretch = {"step": 100, "until_then": {"steps": 400}} | ({"again": 50} if again else {})
    training.continued = [stretch]
    for _ in range(30):
        x, t = batch(generator)
        training.update(x, x, t)
    assert bool(training.net.phi[:5].all()) == again


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
        net.narrow = None  # as on a GPU
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


@pytest.mark.parametrize("shared_points", [0, 3, 4, 9, N - 1])
def test_a_frozen_network_gives_the_outputs_and_gradients_of_the_gated_one(
    shared_points, generator
):
    net = random_searched("ta-tsnet", seed=0, shared_points=shared_points)
    with torch.no_grad():  # a block of which nothing is left between its convolutions
        net.controller.layers[-1].bias.view(N, -1)[2] = -100
    net.freeze()
    assert net.narrow.shared == max(0, (shared_points - 1) // 3)
    inputs, found = batch(generator), []
    for narrow in (None, net.narrow):
        net.narrow = narrow
        net.zero_grad()
        net.search_step(*inputs).output.square().mean().backward()
        output = net.search_step(*inputs).output
        grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in net.net.parameters()]
        found.append([output.detach(), *grads])
    for gated, narrow in zip(*found, strict=True):
        torch.testing.assert_close(narrow, gated, rtol=1e-4, atol=1e-6)


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


def test_a_preference_that_float32_rounds_to_0_opens_its_gate_on_every_processor():
    net = build(get_model("tsnet"), TINY, seed=0)
    for layer in net.controller.layers[::2]:
        torch.nn.init.zeros_(layer.weight), torch.nn.init.ones_(layer.bias)
    net.controller.layers[-1].weight.data[0, :2] = torch.tensor([-1, 1e-9])  # z = 1 - 1 + 1e-9
    assert net.controller(torch.zeros(1, 3))[0, 0, 0] == 0
    assert net.architecture((0, 0, 0)).gates[0, 0]
    net.controller.layers[-1].weight.data[0, 1] *= -1
    assert not net.architecture((0, 0, 0)).gates[0, 0]


def test_same_seed_same_weights_and_the_global_random_state_is_left_alone():
    before = torch.get_rng_state()
    one, same, other = (build(MODELS["ta-tsnet"], TINY, seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["net.up.weight"], other["net.up.weight"])
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("profile", PROFILES)
def test_pressure_of_lambda1_is_the_same_for_every_preset(profile):
    chosen = PROFILES[profile]
    net = CResMD(chosen.blocks, chosen.channels)
    N, C = selection_points(chosen.blocks), chosen.channels
    phi = torch.zeros(N, dtype=torch.bool)
    R1 = resource(torch.ones(2, N, C), torch.ones(N, C), phi, 1, net, chosen.patch)
    assert lambda1_of(chosen.lambda1, net) * R1.item() == pytest.approx(0.25, rel=0.01)
    if profile == "paper":
        assert lambda1_of(chosen.lambda1, net) == pytest.approx(5e-11)


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
