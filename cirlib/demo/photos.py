"""Photos that the demo can open, and what is wanted of one."""

import io
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import NamedTuple, Protocol

import numpy as np

from cirlib import checkpoints
from cirlib.base.files import UserError
from cirlib.data.images import read_image, read_kept
from cirlib.data.metadata import Kept
from cirlib.degradation import Levels
from cirlib.engine.modulator import Task
from cirlib.profiles import get_model
from cirlib.search import SearchNet

LARGEST = 50_000_000  # pixels of a photo; a browser has to show it


class Photo(Protocol):
    """Where its pixels come from: a File, or one of a data set (datasets.Photograph)."""

    name: str

    def read(self) -> np.ndarray: ...
    def kept(self) -> Kept: ...


@dataclass(frozen=True, eq=False)
class Pixels:
    """A photo in memory, uint8 H x W x 3."""

    name: str
    pixels: np.ndarray

    def read(self) -> np.ndarray:
        return self.pixels

    def kept(self) -> Kept:
        return Kept()


@dataclass(frozen=True, eq=False)
class File:
    """The reader's own photo: the bytes of an image file. words: what reading told."""

    name: str
    data: bytes
    words: list[str] = field(default_factory=list)

    def read(self) -> np.ndarray:
        """Raises UserError when they are no image."""
        file = io.BytesIO(self.data)
        file.name = self.name
        self.words.clear()
        return read_image(file, tell=self.words.append)

    def kept(self) -> Kept:
        return read_kept(io.BytesIO(self.data))


def read(photo: Photo) -> np.ndarray:
    """Pixels as uint8 H x W x 3. Raises UserError when they cannot be read, or are too many."""
    image = photo.read()
    if (pixels := image.shape[0] * image.shape[1]) > LARGEST:
        raise UserError(
            f"{photo.name} has {pixels / 1e6:.0f} megapixels, of {LARGEST / 1e6:.0f} that the "
            "demo takes: scale it down, or use `python -m cirlib restore`"
        )
    return image


def restored_name(photo: Photo) -> str:
    """'IMG_0042 restored.png' of IMG_0042.jpeg."""
    stem = PurePath(photo.name).stem if isinstance(photo, File) else photo.name
    return f"{stem} restored.png"


class Network(NamedTuple):
    """Which trained network makes the versions."""

    model: str
    profile: str

    @property
    def label(self) -> str:
        """'TA+TSNet'"""
        return get_model(self.model).label

    def load(self) -> SearchNet:
        """Raises UserError when it is not trained."""
        return checkpoints.load(self.model, self.profile)


@dataclass(frozen=True)
class Wish:
    """What the page wants. held: a slider is being dragged, so a preview will do.

    suggestion: how often one was asked for.
    """

    photo: Photo
    damage: Levels
    network: Network
    task: Task
    held: bool = False
    suggestion: int = 0

    @property
    def input(self) -> tuple:
        """What the degraded photo depends on."""
        return self.photo, self.damage

    @property
    def prepared(self) -> tuple:
        """What the shared features depend on."""
        return self.photo, self.damage, self.network

    @property
    def effect(self) -> tuple:
        """What the effect depends on."""
        return self.photo, self.damage, self.network, self.task
