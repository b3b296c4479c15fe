"""Section 7.3: the super network has the paper's form, and its selection points select."""

import pytest
import torch

from cirlib.networks import CResMD, conv_chain, pad_even, selection_points

B, C = 2, 8
N = selection_points(B)


@pytest.fixture
def net(generator) -> CResMD:
    """A small network in which every parameter matters."""
    net = CResMD(B, C)
    for parameter in net.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.3
    return net.eval().requires_grad_(False)


def some_input(generator, size=(10, 12), batch=2):
    return torch.rand(batch, 3, *size, generator=generator), torch.rand(
        batch, 3, generator=generator
    )


@pytest.mark.parametrize("size", [(10, 12), (9, 12), (10, 13), (7, 5), (1, 1)])
@torch.no_grad()
def test_output_has_the_size_of_the_input(size, generator):
    x, t = some_input(generator, size)
    net = CResMD(B, C)
    y = net(x, t)
    assert y.shape == x.shape and y.isfinite().all()
    # an odd image is restored as the even one that repeats its last row or column
    height, width = size
    torch.testing.assert_close(y, net(pad_even(x), t)[..., :height, :width])


def test_odd_sizes_are_padded_by_the_edge():
    x = torch.arange(6.0).view(1, 1, 2, 3)
    assert pad_even(x).tolist() == [[[[0, 1, 2, 2], [3, 4, 5, 5]]]]
    assert pad_even(x.transpose(2, 3))[0, 0, 3].tolist() == [2, 5]
    even = torch.rand(1, 3, 4, 6)
    assert pad_even(even) is even


def test_task_0_returns_the_image_bit_for_bit(net, generator):
    x, _ = some_input(generator, (9, 11))
    assert torch.equal(net(x, torch.zeros(2, 3)), x)


def test_global_skip_and_its_scale_are_the_images(net, generator):
    # with constant scales in the blocks, t enters by the global scale alone, and that is linear
    x, t = some_input(generator)
    phi = torch.ones(N, dtype=torch.bool)
    effect = [net(x, factor * t, phi=phi) - x for factor in (1.0, 0.5)]
    torch.testing.assert_close(effect[0], 2 * effect[1])


def test_all_gates_on_is_no_gates(net, generator):
    x, t = some_input(generator)
    torch.testing.assert_close(net(x, t, torch.ones(2, N, C)), net(x, t))


def test_each_image_of_a_batch_has_its_own_gates_and_task(net, generator):
    x, t = some_input(generator)
    gates = (torch.rand(2, N, C, generator=generator) > 0.4).float()
    for i in range(2):
        alone = net(x[i : i + 1], t[i : i + 1], gates[i : i + 1])
        torch.testing.assert_close(net(x, t, gates)[i : i + 1], alone)


def around(net: CResMD, n: int) -> list[torch.Tensor]:
    """For each channel, the parameters that only it uses: who writes and who reads point n."""
    b, role = divmod(n - 1, 3)
    if n == 0:
        return [net.first.weight, net.first.bias]
    if n == 3 * B + 1:
        return [net.up.weight.transpose(0, 1)]
    if n == 3 * B + 2:
        return [net.post.weight, net.post.bias, net.last.weight.transpose(0, 1)]
    if role == 0:
        return [net.conv1[b].weight.transpose(0, 1)]
    if role == 1:
        return [net.conv1[b].weight, net.conv1[b].bias, net.conv2[b].weight.transpose(0, 1)]
    return [net.conv2[b].weight, net.conv2[b].bias, net.scale[b].weight, net.scale[b].bias]


@pytest.mark.parametrize("n", range(N))
def test_channel_gated_off_has_no_influence(n, net, generator):
    x, t = some_input(generator)
    c = 3
    off, on = torch.ones(2, 2, N, C)
    off[:, n, c] = 0
    before_off, before_on = net(x, t, off), net(x, t, on)
    assert (before_off - before_on).abs().max() > 1e-4
    for parameter in around(net, n):
        parameter[c] += 1
    torch.testing.assert_close(net(x, t, off), before_off)
    assert (net(x, t, on) - before_on).abs().max() > 1e-4


@pytest.mark.parametrize("n", [0, *range(3, 3 * B + 1, 3)])
def test_who_does_not_write_a_channel_of_the_stream_leaves_it_to_the_others(n, net, generator):
    x, t = some_input(generator)
    c, gates = 3, torch.ones(2, N, C)
    gates[:, n, c] = 0
    gates[:, 1 : 3 * B : 3, c] = 0  # no block reads it: it must come through to the end
    writers = {0: net.first} | {3 * b + 3: net.conv2[b] for b in range(B)}
    for point in writers.keys() - {n}:
        before = net(x, t, gates)
        writers[point].bias[c] += 1
        assert (net(x, t, gates) - before).abs().max() > 1e-4


@pytest.mark.parametrize("b", range(B))
def test_task_agnostic_block_has_the_scale_of_the_middle_task(b, net, generator):
    x, t = some_input(generator)
    shared = torch.arange(N) <= 3 * b + 3  # up to what this block writes
    not_yet = torch.arange(N) <= 3 * b + 2
    gates, middle = torch.ones(2, N, C), torch.full((2, 3), 0.5)
    torch.testing.assert_close(net(x, middle, gates, shared), net(x, middle, gates, not_yet))
    assert (net(x, t, gates, shared) - net(x, t, gates, not_yet)).abs().max() > 1e-4
    before = net(x, t, gates, shared)
    net.scale[b].weight[:, 0] += 1  # another slope, and the same scale at the middle task
    net.scale[b].bias -= 0.5
    torch.testing.assert_close(net(x, t, gates, shared), before)
    net.scale[b].bias += 1
    assert (net(x, t, gates, shared) - before).abs().max() > 1e-4


def test_conv_chain_describes_the_modules():
    net, chain = CResMD(B, C), conv_chain(B, C)
    assert len(chain) == 2 * B + 4
    assert sum(isinstance(module, torch.nn.Conv2d) for module in net.modules()) == len(chain)
    ran = []
    for conv in chain:
        module = net.module(conv)
        assert (module.in_channels, module.out_channels) == (conv.inputs, conv.outputs)
        assert module.kernel_size == (3, 3)
        module.register_forward_hook(lambda m, _, y, conv=conv: ran.append((conv, y.shape)))
    net(torch.rand(1, 3, 8, 12), torch.rand(1, 3))
    assert [conv for conv, _ in ran] == chain  # in this order
    for conv, shape in ran:
        assert shape == (1, conv.outputs, *((4, 6) if conv.half else (8, 12)))


def test_every_selection_point_is_written_or_read():
    chain = conv_chain(B, C)
    points = {conv.reads for conv in chain} | {conv.writes for conv in chain}
    assert points == {None, *range(N)}
    assert chain[0].reads is None and chain[-1].writes is None  # the images
    assert chain[-3].writes is None and chain[-2].reads is None  # PixelShuffle


def test_gradients_reach_every_parameter(generator):
    net = CResMD(B, C)
    x, t = some_input(generator)
    (net(x, t) - x).square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in net.parameters())
