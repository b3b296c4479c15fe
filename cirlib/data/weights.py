"""The trained weights that LPIPS and NIQE need, never used without their SHA-256."""

from pathlib import Path

from cirlib.base import paths
from cirlib.base.files import UserError, sha256

WEIGHT_FILES = {  # name under paths.WEIGHTS: SHA-256
    "niqe_modelparameters.mat": "fa2aa4d12dd9595c3fb6bf8b4e1a15c79d5d1469238d0901c88dead195be578d",
    "alexnet_features.safetensors": (
        "9f97fd313f4da83dbe6bbfbe6effca1241de9edfcd7c53386261ed9697286dd9"
    ),
}
NEEDS = {"niqe": "niqe_modelparameters.mat", "lpips": "alexnet_features.safetensors"}


def weight_file(name: str) -> Path:
    """The path of ``name``, a key of WEIGHT_FILES, after its SHA-256 was checked.

    Raises UserError, with how to get the file, when it is missing or not the one expected.
    """
    path = paths.WEIGHTS / name
    cure = (
        "run `python -m cirlib data weights`, "
        f"or set CIRLIB_DATA to a folder that holds weights/{name}"
    )
    try:
        digest = sha256(path)
    except OSError as error:
        raise UserError(f"cannot read {path} ({error.strerror}): {cure}") from error
    if digest != WEIGHT_FILES[name]:
        raise UserError(f"{path} is truncated or another file (its SHA-256 is wrong): {cure}")
    return path
