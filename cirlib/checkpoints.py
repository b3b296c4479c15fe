"""Weights on disk: safetensors, never pickle; written whole or not at all.

A trained network is three files: ``<model>.safetensors`` (weights), ``<model>.json`` (its card:
how it was made) and ``<model>.csv`` (its training log). The super network's weights are stored in
float16. What decides on channels (controller, z_a) stays in float32, so that preferences near 0
open the same gates.
"""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialize
from torch import Tensor

from cirlib.base import paths
from cirlib.base.files import UserError, atomic, atomic_set
from cirlib.profiles import MODELS, get_model, get_profile
from cirlib.search import SearchNet, build

SIZES = "full", "compact"  # profiles whose networks are for users, the largest first


def write_tensors(path: Path, tensors: dict[str, Tensor], header: dict) -> None:
    """Write tensors with a JSON header, atomically. Raises UserError when the disk is full."""
    with atomic(path) as temporary:
        # Through bytes: save_file would wrap the system's errors and has a temporary file too.
        temporary.write_bytes(_packed(tensors, header))


def _packed(tensors: dict[str, Tensor], header: dict) -> bytes:
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    return serialize(tensors, {"cirlib": json.dumps(header)})


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict]:
    """Tensors and header of a file of write_tensors. Raises UserError when it is damaged."""
    try:
        with safe_open(path, "pt") as file:
            header = json.loads((file.metadata() or {}).get("cirlib", "{}"))
            return {name: file.get_tensor(name) for name in file.keys()}, header
    except FileNotFoundError:
        raise
    except OSError as error:
        raise UserError(f"cannot read {path}: {error}") from error
    except (SafetensorError, ValueError) as error:
        raise UserError(f"{path} is damaged ({error}): delete it and rerun") from error


def digest(net: torch.nn.Module) -> str:
    """Twelve hexadecimal digits of the SHA-256 of a network's weights, for provenance."""
    tensors = {name: tensor.cpu().contiguous() for name, tensor in net.state_dict().items()}
    return hashlib.sha256(serialize(tensors)).hexdigest()[:12]


def weights_fingerprint(profile: str, models: Iterable[str] = MODELS) -> str:
    """Twelve hexadecimal digits of the SHA-256 of the weights' files of those that are trained."""
    found = hashlib.sha256()
    for model in available(profile, models):
        found.update(model.encode() + find(model, profile)["weights"].read_bytes())
    return found.hexdigest()[:12]


def files(model: str, profile: str, folder: Path | None = None) -> dict[str, Path]:
    """The three files of a trained network, "weights", "card" and "log", for writing them."""
    folder = (folder or paths.CHECKPOINTS) / profile
    suffixes = {"weights": "safetensors", "card": "json", "log": "csv"}
    return {what: folder / f"{model}.{suffix}" for what, suffix in suffixes.items()}


def find(model: str, profile: str) -> dict[str, Path]:
    """The three files of a trained network for reading: the user's own, else the shipped ones.

    Raises UserError when there are none, or for a wrong name.
    """
    get_model(model), get_profile(profile)
    if place := _place(model, profile):
        return place
    there = ", ".join(available(profile)) or "none"
    raise UserError(
        f"no trained {model} for profile {profile} (there: {there}): "
        f"run `python -m cirlib train --model {model} --profile {profile}`"
    )


def exists(model: str, profile: str) -> bool:
    """Whether a network is trained, here or in the repository."""
    return _place(model, profile) is not None


def _place(model: str, profile: str) -> dict[str, Path] | None:
    places = (files(model, profile, folder) for folder in (paths.CHECKPOINTS, paths.SHIPPED))
    return next((place for place in places if place["weights"].exists()), None)


def available(profile: str, models: Iterable[str] = MODELS) -> list[str]:
    """Which of the models are trained for the profile, in their order (that of Table 2)."""
    return [model for model in models if exists(model, profile)]


def finished(model: str, profile: str) -> bool:
    """Whether a network has had all the steps of its training."""
    card = load_card(model, profile) if exists(model, profile) else {}
    return "steps" in card and card["steps_done"] >= card["steps"]


def largest(model: str) -> str:
    """The profile of the largest network that there is of a model, of those for users."""
    return next((size for size in SIZES if finished(model, size)), SIZES[-1])


def save(net: SearchNet, card: dict, log: str) -> Path:
    """Write a trained network with its card and its log; returns the path of the weights.

    The card is told in which format the super network is ``stored``. Raises UserError when the
    disk is full; the three files that were there then stay.
    """
    place = files(net.model.name, net.profile.name)
    with atomic_set(place["log"], place["weights"], place["card"]) as (text, weights, last):
        text.write_text(log)
        # the super network, ``net.``, in float16
        tensors = {k: v.half() if k[:4] == "net." else v for k, v in net.state_dict().items()}
        weights.write_bytes(_packed(tensors, {"model": net.model.name}))
        last.write_text(json.dumps(card | {"stored": "float16"}, indent=2) + "\n")
    return place["weights"]


def load(model: str, profile: str | None = None) -> SearchNet:
    """A trained network in float32, in evaluation mode; by default the largest.

    Raises UserError when it is not there or does not fit its profile.
    """
    profile = profile or largest(model)
    path = find(model, profile)["weights"]
    net = build(get_model(model), get_profile(profile), seed=0)
    tensors, _ = read_tensors(path)
    try:
        net.load_state_dict(tensors)
    except RuntimeError as error:
        raise UserError(
            f"{path} does not fit profile {profile}: another version made it; train it anew"
        ) from error
    return net.eval()


def load_card(model: str, profile: str) -> dict:
    """How a trained network was made. Raises UserError when it is not there or damaged."""
    path = find(model, profile)["card"]
    try:
        return json.loads(path.read_text())
    except (FileNotFoundError, ValueError) as error:
        raise _damaged(path) from error


def load_log(model: str, profile: str):
    """The training log as a DataFrame. Raises UserError when it is not there or damaged."""
    import pandas as pd  # not needed for training

    path = find(model, profile)["log"]
    try:
        return pd.read_csv(path)
    except (FileNotFoundError, ValueError) as error:  # pandas' parser errors are ValueErrors
        raise _damaged(path) from error


def _damaged(path: Path) -> UserError:
    cause = "damaged" if path.exists() else "missing"
    return UserError(
        f"{path} is {cause}: run `python -m cirlib train --model {path.stem} "
        f"--profile {path.parent.name}`, which writes it anew"
    )
