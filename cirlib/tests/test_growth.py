"""A grown super network computes what it grew from, and all of it learns."""

import pytest
import torch

from cirlib import checkpoints
from cirlib.base.files import UserError
from cirlib.networks import CResMD
from cirlib.profiles import PROFILES, get_model
from cirlib.run.growth import grow, start
from cirlib.training import Training


def trained(blocks: int, channels: int) -> CResMD:
    """A network in which every parameter matters."""
    net = CResMD(blocks, channels)
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return net


@pytest.mark.parametrize("size", [(2, 8), (4, 8), (2, 16), (6, 24)])
@torch.no_grad()
def test_a_grown_network_computes_the_same(size, generator):
    small, large = trained(2, 8), CResMD(*size)
    grow(small, large)
    x, t = (torch.rand(shape, generator=generator) for shape in ((2, 3, 9, 12), (2, 3)))
    torch.testing.assert_close(large(x, t), small(x, t))


def test_every_weight_of_a_grown_network_learns(generator):
    large = CResMD(4, 16)
    grow(trained(2, 8), large)
    before = {name: value.clone() for name, value in large.state_dict().items()}
    steps = torch.optim.Adam(large.parameters(), 1e-3)
    for _ in range(4):  # the 0s first, then what stands behind them
        x, t = (torch.rand(shape, generator=generator) for shape in ((2, 3, 12, 12), (2, 3)))
        steps.zero_grad()
        (large(x, t) - torch.rand(x.shape, generator=generator)).abs().mean().backward()
        steps.step()
    for name, value in large.state_dict().items():
        assert (value != before[name]).float().mean() > 0.8, name  # a ReLU may be shut


@pytest.mark.parametrize("size", [(3, 8), (1, 8), (2, 12)])
def test_what_is_no_multiple_cannot_be_grown(size):
    with pytest.raises(UserError, match="take a multiple of both"):
        grow(CResMD(2, 8), CResMD(*size))


def test_the_papers_network_begins_as_the_compact_one():
    began = Training(get_model("cresmd"), PROFILES["full"], 1, 0, {}, torch.device("cpu"))
    start(began)
    compact = checkpoints.load("cresmd", "compact")
    assert began.began["started_from"] == checkpoints.digest(compact)
    x, t = torch.rand(1, 3, 16, 16), torch.tensor([[0.2, 0.5, 1.0]])
    with torch.no_grad():
        torch.testing.assert_close(began.net(x, t), compact(x, t))
