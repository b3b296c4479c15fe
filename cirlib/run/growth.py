"""Not in the paper: a larger super network that begins as a smaller, trained one (Net2Net).

A new network of 32 blocks takes nights on a CPU until it is as good as a small one is already.
Here it takes over that one's weights so that it computes the same at first (Chen, Goodfellow,
Shlens, ICLR 2016). What is new starts from its own fresh weights:

    channels  what is there reads nothing of the new ones: these weights are 0
    blocks    a new one adds nothing: its task scale is 0

Both 0s learn from the first step on, and then what stands behind them does.
"""

import torch
from torch import Tensor

from cirlib import checkpoints
from cirlib.base.files import UserError
from cirlib.networks import CResMD
from cirlib.training import Training


def start(training: Training) -> None:
    """Take over theta: of the trained CResMD, or for CResMD of the one that it grows from."""
    profile = training.profile
    name = profile.name if training.net.model.fine_tuned else profile.grown_from
    if name is not None:
        trained = checkpoints.load("cresmd", name)
        grow(trained.net, training.net.net)
        training.began["started_from"] = checkpoints.digest(trained)


@torch.no_grad()
def grow(small: CResMD, large: CResMD) -> None:
    """Make ``large`` compute what ``small`` does, for every image and task.

    Block b of B becomes the first of the L / B blocks that stand in its place.
    Raises UserError unless ``large`` has as many blocks and channels as ``small`` or a multiple.
    """
    times, rest = divmod(large.blocks, small.blocks)
    if rest or not times or large.channels % small.channels:
        raise UserError(
            f"{large.blocks} blocks of {large.channels} channels cannot grow from "
            f"{small.blocks} of {small.channels}: take a multiple of both"
        )
    for scale in large.scale:
        torch.nn.init.zeros_(scale.weight)
        torch.nn.init.zeros_(scale.bias)
    theirs = large.state_dict()
    for name, values in small.state_dict().items():
        module, *position = name.split(".")
        if position and position[0].isdigit():
            position[0] = str(times * int(position[0]))
        _take_over(theirs[".".join([module, *position])], values)


def _take_over(large: Tensor, small: Tensor) -> None:
    """Copy small, outputs first, then inputs, into the first rows and columns of large.

    These rows read nothing of the other columns.
    """
    rows = large[: len(small)]
    rows.zero_()
    rows[tuple(slice(n) for n in small.shape)] = small
