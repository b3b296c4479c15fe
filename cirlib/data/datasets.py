"""Photographs by name.

A data set is a folder under ``paths.DATA``; what belongs in it is known here, file by file, so an
unfinished download is never taken for the whole. ``manifests/*.csv`` hold the SHA-256 of every
photograph of BSD432 and CBSD68, and of those of ``clic`` and ``clic-cid``, which
are no download. ``data/README.md`` tells the terms of each set.
"""

import csv
import hashlib
import importlib.util
import io
import os
import shutil
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

from cirlib.base import paths
from cirlib.base.files import UserError, atomic, expanded, sha256
from cirlib.data.images import list_images, read_image, read_kept
from cirlib.data.metadata import Kept

FOLDERS = {
    "cbsd68": "CBSD68",
    "bsd432": "BSD432",
    "div2k": "DIV2K/DIV2K_train_HR",
    "div2k-valid": "DIV2K/DIV2K_valid_HR",
    "clic": "HR2K",
    "clic-cid": "PHOTOS",
    "graphics": "GRAPHICS",
}
BY_HAND = {"clic": "clic_*.webp", "clic-cid": "*.webp", "graphics": "*.webp"}  # no download has
# Photographs that lie inside scikit-image's wheel: everyday scenes in colour, and some with damage
# of their own (partly out of focus, noisy, compressed).
EMBEDDED = {
    "embedded": (
        "astronaut.png", "chelsea.png", "coffee.png", "motorcycle_left.png", "rocket.jpg"),
    "embedded-real": ("text.png", "hubble_deep_field.jpg", "rocket.jpg"),
}  # fmt: skip

PACK_QUALITY = 85  # of JPEG: BSD432 takes two thirds of its bytes then, CLIC a fourth


@dataclass(frozen=True)
class Photograph:
    name: str  # file name without suffix, as a label
    path: Path

    def read(self) -> np.ndarray:
        """Pixels as uint8, H x W x 3, sRGB. Raises UserError when the file cannot be read."""
        return read_image(self.path)

    def kept(self) -> Kept:
        """What a result keeps of its file."""
        return read_kept(self.path)


def photographs(name: str) -> list[Photograph]:
    """The photographs of a data set or of a folder, in a fixed order, not yet read.

    ``name`` is a key of ``EMBEDDED`` or of ``FOLDERS``, the path of a folder, or several of these
    joined as in ``bsd432+clic``. Where two files of a folder differ in their suffix alone, it
    stays part of the label; where sets that are joined have the same, all but the first get a
    number. So no two photographs are called the same.

    Raises UserError when something is missing: which folder was looked at, and what to do.
    """
    photos: dict[str, Photograph] = {}
    for paths_ in _sets(name):
        stems = Counter(path.stem for path in paths_)
        for path in paths_:
            own = label = path.stem if stems[path.stem] == 1 else path.name
            number = 1
            while label in photos:
                number += 1
                label = f"{own}_{number}"
            photos[label] = Photograph(label, path)
    return list(photos.values())


def _sets(name: str) -> list[list[Path]]:
    """The files of each of the sets that are joined."""
    folder = Path(os.path.expanduser(name))
    if name in EMBEDDED:
        return [_embedded(EMBEDDED[name])]
    if name in BY_HAND:
        folder = paths.DATA / FOLDERS[name]
        found = sorted(folder.glob(BY_HAND[name]))
        if not found:
            raise UserError(
                f"no {BY_HAND[name]} in {folder}: put sharp pictures there, or "
                f"set CIRLIB_DATA to a folder that has {FOLDERS[name]}"
            )
        return [found]
    if name in FOLDERS:
        folder = paths.DATA / FOLDERS[name]
        found = [folder / file for file in expected_files(name)]
        lacking = sum(not path.is_file() for path in found)
        if lacking:
            raise UserError(
                f"{folder} lacks {lacking} of {len(found)} images: "
                f"run `python -m cirlib data {name}` or set CIRLIB_DATA"
            )
        return [found]
    if name and os.path.isdir(folder):  # os.path: an impossible name is none, not an error
        return [list_images(folder)]
    if "+" in name:
        return [found for part in name.split("+") for found in _sets(part)]
    raise UserError(
        f"no data set or folder is called {name!r}: "
        f"give a folder, or one of {', '.join((*EMBEDDED, *FOLDERS))}"
    )


def default_test_set() -> str:
    """``cbsd68``, the paper's, where it is on this machine, else ``embedded``."""
    try:
        photographs("cbsd68")
    except UserError:
        return "embedded"
    return "cbsd68"


def spread(photos: list[Photograph], limit: int | None) -> list[Photograph]:
    """``limit`` of the photographs, evenly spaced in their order; None or 0: all of them."""
    count = len(photos)
    if not limit or limit >= count:
        return photos
    return [photos[i * count // limit] for i in range(limit)]


def fingerprint(photos: Iterable[Photograph]) -> str:
    """Twelve hexadecimal digits of the SHA-256 over labels and file contents, for provenance."""
    digest = hashlib.sha256()
    for photo in photos:
        line = f"{photo.name} {sha256(photo.path)}\n"
        digest.update(line.encode(errors="surrogateescape"))  # a file's name may be any bytes
    return digest.hexdigest()[:12]


def pack(images: str, folder: Path | str, megabytes: float) -> Path:
    """Copy photographs into a new folder of ``megabytes`` (10^6 bytes) at most; returns it.

    images: as for photographs. Files are copied as they are; where they take too much, the largest
    become JPEG (quality PACK_QUALITY, upright, sRGB) one after the other, until all fit. The same
    photographs give the same bytes, with the same Pillow. The folder is whole or absent.

    Raises UserError when it is there already, two photographs have one name, or JPEG is too large.
    """
    folder, photos = expanded(folder), photographs(images)
    if os.path.lexists(folder):
        raise UserError(f"{folder} is there already: name a new folder, or delete it")
    sizes = {photo: photo.path.stat().st_size for photo in photos}
    smaller: dict[Photograph, bytes] = {}
    for photo in sorted(photos, key=lambda photo: (-sizes[photo], photo.name)):
        if sum(sizes.values()) <= megabytes * 1e6:
            break
        content = _encode_jpeg(photo.read())
        if len(content) < sizes[photo]:
            smaller[photo], sizes[photo] = content, len(content)
    if (total := sum(sizes.values()) / 1e6) > megabytes:
        raise UserError(
            f"{images} takes {total:.3g} MB as JPEG, more than {megabytes:g}: "
            "allow more, or give fewer photographs"
        )
    names = [f"{photo.name}.jpg" if photo in smaller else photo.path.name for photo in photos]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise UserError(f"{images} has two photographs called {twice[0]}: rename one")
    unfinished = folder.with_name(f".{folder.name}-unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)  # a killed run left it
    try:
        for photo, name in zip(photos, names, strict=True):
            with atomic(unfinished / name) as temporary:
                temporary.write_bytes(smaller.get(photo) or photo.path.read_bytes())
        unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return folder


def _encode_jpeg(image: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=PACK_QUALITY, subsampling="4:4:4")
    return file.getvalue()


def _embedded(names: Iterable[str]) -> list[Path]:
    spec = importlib.util.find_spec("skimage")  # found, not imported: that takes a second
    if spec is None:
        raise UserError("the embedded photographs are scikit-image's: pip install scikit-image")
    found = [Path(spec.submodule_search_locations[0], "data", file) for file in names]
    for path in found:
        if not path.is_file():
            raise UserError(f"there is no {path}: install scikit-image from its wheel")
    return found


@cache
def _manifest(name: str) -> dict[str, str]:
    """File name -> SHA-256 of what ``bsd432`` or ``cbsd68`` consists of."""
    with open(Path(__file__).parent / "manifests" / f"{name}.csv", newline="") as file:
        return {row["file"]: row["sha256"] for row in csv.DictReader(file)}


def expected_files(name: str) -> dict[str, str | None]:
    """File name -> SHA-256, None where only the archive has one."""
    if name == "div2k":
        return {f"{number:04d}.png": None for number in range(1, 801)}
    if name == "div2k-valid":
        return {f"{number:04d}.png": None for number in range(801, 901)}
    return _manifest(name)
