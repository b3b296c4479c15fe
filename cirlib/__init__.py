"""Companion of "Searching for Controllable Image Restoration Networks" (ICCV 2021).

What a reader needs first, each loaded when it is first asked for:

    import cirlib

    modulator = cirlib.Modulator(cirlib.load("ta-tsnet"))
    modulator.load(cirlib.read_image("photo.jpg"))  # shared features, once
    cirlib.write_image("sharper.png", modulator.effect((0.5, 0, 0)))
"""

from importlib import import_module

_FACE = {
    "degradation": ["TASKS", "Levels", "degrade", "levels_to_task", "sample_generator"],
    "checkpoints": ["load"],
    "base.device": ["pick_device"],
    "base.files": ["UserError"],
    "data.datasets": ["photographs"],
    "data.images": ["centre_crop", "read_image", "write_image"],
    "engine.modulator": ["Modulator"],
    "measure.metrics": ["psnr"],
    "demo.page": ["Demo", "default_network"],
    "demo.photos": ["Pixels"],
}
_HOME = {name: module for module, names in _FACE.items() for name in names}
__all__ = sorted(_HOME)


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
