"""JPEG: where its data end, what of them is lacking, and which of its pictures is meant.

Pillow fills up what is missing without a word, or refuses what is there.
"""

import io
import re
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
from PIL import Image, JpegImagePlugin

from cirlib.base.files import Tell

_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # marks
_PROGRESSIVE = {0xC2, 0xC6, 0xCA, 0xCE}
_SPACES = {"Gray": "GRAY", "CMYK": "CMYK", "YCCK": "CMYK"}  # in a file -> to be decoded to
_MARK = re.compile(rb"\xff+[^\0\xff\xd0-\xd7]", re.DOTALL)  # but those within pixels


def pictures(file: BinaryIO, image: Image.Image) -> list[memoryview]:
    """Of a file of several, open, each as a file of its own, with what follows.

    What the others say of their colours and sides is not for it.
    """
    content, index = memoryview(file.seek(0) or file.read()), image.mpinfo[0xB002]
    base = JpegImagePlugin.JpegImageFile(io.BytesIO(content)).info["mpoffset"]
    return [content[start:] for start in (0, *(base + other["DataOffset"] for other in index[1:]))]


def without_broken(file: BinaryIO, name: str, tell: Tell) -> BinaryIO:
    """A JPEG that Pillow refuses, without what is kept beside its pixels and is refused alone."""
    content = file.seek(0) or file.read()
    parts, pixels = [], content
    for kind, start, held in _segments(content):
        if kind == 0xDA:
            pixels = content[start:]
            break
        part = bytes([0xFF, kind]) + (len(held) + 2).to_bytes(2) + held
        parts.append((0xE0 <= kind <= 0xFE, part))
    needed = b"".join(part for beside, part in parts if not beside) + pixels
    sound = [part for beside, part in parts if not beside or size_of(b"\xff\xd8" + part + needed)]
    mended = b"\xff\xd8" + b"".join(sound) + pixels
    if len(sound) < len(parts) and size_of(mended):
        tell(f"{name} has damaged data beside its pixels, which are left out")
    return io.BytesIO(mended)


def loaded(image: Image.Image, file: BinaryIO, name: str, tell: Tell) -> Image.Image:
    """An open one with its pixels; what is not whole is told. Raises where there are none."""
    image.decodermaxblock = file.seek(0, io.SEEK_END)  # as _open
    try:
        image.load()
    except OSError:
        return _mended(file, name, tell)
    content = file.seek(0) or file.read()
    end, whole = _end(content)  # Pillow takes what fills up a file that was cut for more of it
    if not whole:
        return _mended(file, name, tell)
    if not is_sound(content[:end] + b"\xff\xd9"):
        tell(f"{name} seems damaged: parts may be wrong")
    elif _lacks_scans(content, len(image.getbands())):
        tell(f"{name} lacks scans: it may have less detail or colour than it had")
    return image


def size_of(content: bytes | memoryview) -> tuple[int, int] | None:
    """None: there is none."""
    try:
        return JpegImagePlugin.JpegImageFile(io.BytesIO(content)).size
    except Exception:  # cut away, or not what the index says
        return None


def _open(content: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(content), formats=["JPEG"])
    image.decodermaxblock = len(content)  # coded by arithmetic, it is decoded at once or not at all
    return image


def is_sound(data: bytes) -> bool:
    """Whether libjpeg, which reads on behind damage, says nothing of a whole JPEG's pixels."""
    try:
        import simplejpeg
    except ImportError:  # where only trainings go on: not known
        return True

    def said(data: bytes) -> str:
        try:
            space = simplejpeg.decode_jpeg_header(data, strict=False)[2]
            simplejpeg.decode_jpeg(data, _SPACES.get(space, "RGB"))
        except ValueError as error:
            return str(error)
        return ""

    first = said(data)
    if "before marker 0xd9" in first:  # some fill up the end; data may end in 0, or in ff 0
        least = len(data[:-2].rstrip(b"\0\xff"))
        first = min((said(data[: least + k] + b"\xff\xd9") for k in range(3)), key=len)
    return "orrupt" not in first or "ICC" in first


def _end(content: bytes) -> tuple[int, bool]:
    """Where a JPEG ends, or goes on with what is none, and whether it has its end mark there."""
    for kind, place, _ in _segments(content):
        if kind == 0xD9 or not (0xC0 <= kind <= 0xFE and kind != 0xD8):
            return place, kind == 0xD9
    return len(content), False


def _segments(content: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Of a JPEG: each one's mark, its place, and what it holds; also of what follows the end."""
    at = 2
    while mark := _MARK.search(content, at):
        at = mark.end() + int.from_bytes(content[mark.end() : mark.end() + 2])
        yield mark[0][-1], mark.start(), content[mark.end() + 2 : at]


def _lacks_scans(content: bytes, channels: int) -> bool:
    """Whether a JPEG has fewer than give all channels, of a progressive one in all bits."""
    lacking, frame = {}, 0xC0  # channel, frequency -> bits
    for kind, _, scan in _segments(content):
        if kind == 0xD9:
            break
        frame = kind if kind in _FRAMES else frame
        if kind == 0xDA and frame not in _PROGRESSIVE:
            lacking |= dict.fromkeys(((c, k) for c in scan[1:-3:2] for k in range(64)), 0)
        elif kind == 0xDA:
            first, last, bits = scan[-3:]
            keys = ((c, k) for c in scan[1:-3:2] for k in range(first, last + 1))
            lacking |= dict.fromkeys(keys, bits & 15)
    return len(lacking) < 64 * channels or any(lacking.values())


def bits(file: BinaryIO) -> int:
    """Of a JPEG a channel, by its first frame; 8 where there is none."""
    content = file.seek(0) or file.read()
    return next((part[0] for kind, _, part in _segments(content) if kind in _FRAMES and part), 8)


def _mended(file: BinaryIO, name: str, tell: Tell) -> Image.Image:
    """A JPEG that lacks its end, as far as it is whole: libjpeg makes the rest grey.

    What is whole does not depend on what is put at its end.
    """
    file.seek(0)
    content = file.read()
    content = content[: _end(content)[0]]
    data = content.rstrip(b"\0")
    if data.endswith(b"\xff"):
        data = data + b"\0" if len(data) < len(content) else data[:-1]
    image, other = (_open(data + end + b"\xff\xd9" * 64) for end in (b"", b"\x5a" * 4096))
    image.load()
    other.load()
    differs = (np.asarray(image) != np.asarray(other)).reshape(image.height, -1).any(axis=1)
    lacking = image.height - int(differs.argmax()) if differs.any() else 0
    if image.info.get("progressive"):
        if data.count(b"\xff\xda") < 2:  # after its first scan it has all of the picture, coarsely
            raise ValueError("its first scan is not whole")
        tell(f"{name} lacks its end: it may have less detail than it had")
    elif lacking == image.height:
        raise ValueError("no row of it is whole")
    elif lacking:
        tell(f"{name} lacks its end: {100 * lacking / image.height:.0f}% of it, below, are missing")
    elif _lacks_scans(content, len(image.getbands())):
        tell(f"{name} lacks its end: it may have less colour than it had")
    else:
        tell(f"{name} lacks its end mark, but the picture is whole")
    return image
