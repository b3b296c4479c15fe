"""What it costs to ship weights in float16: against the float32 weights that training left."""

from collections.abc import Sequence

import torch

from cirlib import checkpoints, evaluation, paths
from cirlib.datasets import Photograph
from cirlib.files import UserError
from cirlib.search import SearchNet


def unrounded(model: str, profile: str) -> SearchNet:
    """The network of checkpoints.load before its weights were rounded, from the training's state.

    Raises UserError when that state is not there any more, or is not what was rounded.
    """
    net = checkpoints.load(model, profile)
    state = paths.RUNS / profile / model / "state.safetensors"
    if not state.exists():
        raise UserError(
            f"no {state}: the float32 weights of {model} are there only where it was trained, "
            f"`python -m cirlib train --model {model} --profile {profile}`"
        )
    tensors, _ = checkpoints.read_tensors(state)
    own = {name: tensor for name, tensor in tensors.items() if not name.startswith("adam.")}
    shipped = net.state_dict()
    rounded = checkpoints.rounded(own)
    if own.keys() != shipped.keys() or any(
        not torch.equal(rounded[name].to(shipped[name].dtype), shipped[name]) for name in shipped
    ):
        raise UserError(
            f"{state} is of another training than {checkpoints.find(model, profile)['weights']}: "
            "finish it, or put the folder of that one there"
        )
    net.load_state_dict(own)
    return net


def rounding(
    model: str,
    profile: str,
    photos: Sequence[Photograph],
    crop: int | None = None,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> dict:
    """The best PSNR (evaluation.best_scores) of the shipped weights and of the unrounded ones.

    Keys: model, weights (checkpoints.digest of the shipped ones), inputs, float32 and float16
    (means over the inputs, dB), difference (of the means), largest (difference of a single input,
    without its sign), same_best (share of the inputs, 0..1, whose best effect is that of the same
    task).
    """
    nets = {"float32": unrounded(model, profile), "float16": checkpoints.load(model, profile)}
    frames = {
        name: evaluation.evaluate(net, photos, crop, seed, ["psnr"], device)
        for name, net in nets.items()
    }
    change = frames["float16"]["psnr"] - frames["float32"]["psnr"]
    same = frames["float16"]["best_psnr"] == frames["float32"]["best_psnr"]
    return {
        "model": model,
        "weights": checkpoints.digest(nets["float16"]),
        "inputs": len(change),
        **{name: float(frame["psnr"].mean()) for name, frame in frames.items()},
        "difference": float(change.mean()),
        "largest": float(change.abs().max()),
        "same_best": float(same.mean()),
    }
