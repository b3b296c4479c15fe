"""PNG: what Pillow reads of its chunks, and what not; and its 16 bits."""

import io
import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
from PIL import Image

from cirlib.base.files import Tell
from cirlib.data.metadata import XMP_OF_PNG

_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
# Names of those that Pillow's decoder has for others.
_NO_TEXTS = set(
    "aspect bbox blend chromaticity default_image disposal dpi duration exif gamma icc_profile "
    "interlace loop photoshop srgb transparency xmp".split()
)


# Bytes of those that Pillow refuses when they have others; of transparency by the colour type.
_LENGTHS = {b"pHYs": 9, b"gAMA": 4, b"cHRM": 32, b"sRGB": 1, b"acTL": 8, b"fcTL": 26}
_CLEAR = {0: 2, 2: 6}


def _is_malformed(kind: bytes, body: bytes | memoryview, colours: int) -> bool:
    if kind == b"tRNS":
        return len(body) != _CLEAR.get(colours, max(1, len(body)))
    if kind == b"iCCP":  # a name, 0 for how it is packed, and that
        return bytes(body).partition(b"\0")[2][:1] != b"\0"
    return len(body) != _LENGTHS.get(kind, len(body))


def short_chunks(file: BinaryIO) -> dict[bytes, bytes]:
    """Those before the pixels that are short: sizes, colours, transparency."""
    file.seek(8)
    found = {}
    while len(head := file.read(8)) == 8 and head[4:] != b"IDAT":
        size, kind = struct.unpack(">I4s", head)
        if size <= 1024:
            found[kind] = file.read(size)
            file.seek(4, io.SEEK_CUR)
        else:
            file.seek(size + 4, io.SEEK_CUR)
    return found


def _chunks(content: bytes | memoryview) -> Iterator[tuple[bytes, bytes | memoryview, bool]]:
    """Of a PNG: each one's name, all of it, and whether it does not fit its checksum."""
    at, kind = 8, b""
    while at + 12 <= len(content) and kind != b"IEND":
        end = at + 12 + int.from_bytes(content[at : at + 4])
        kind = bytes(content[at + 4 : at + 8])
        sum_ = zlib.crc32(content[at + 4 : end - 4])
        yield kind, content[at:end], sum_ != int.from_bytes(content[end - 4 : end])
        at = end


def checked(file: BinaryIO, name: str, tell: Tell) -> tuple[BinaryIO, list[str]]:
    """A PNG as Pillow reads it all, and the names of its texts.

    Without what may be lacking and does not fit its checksum, for which Pillow stops: checksums of
    pixels it does not look at, where they can be unpacked. Without texts whose names Pillow has for
    what it decodes. With what it would miss behind the last frame, EXIF and texts, at the front.
    """
    content = memoryview(file.seek(0) or file.read())
    parts, early, wrong, keys = [content[:8]], [], set(), []
    for kind, part, damaged in _chunks(content):
        damaged = damaged or _is_malformed(kind, part[8:-4], content[25])
        if damaged:
            wrong.add(kind)
        left_out = damaged and kind[0] >= ord("a")  # lower case: may be lacking
        if kind in _TEXTS and not damaged:
            keys.append(bytes(part[8:-4]).split(b"\0")[0].decode("latin-1"))
            left_out = keys[-1] in _NO_TEXTS
        if not left_out:
            (early if kind in (*_TEXTS, b"eXIf") else parts).append(part)
    if b"IDAT" in wrong:
        tell(f"{name} has pixels that do not fit its checksum: parts may be wrong")
    elif wrong:
        said = b", ".join(sorted(wrong)).decode("ascii", "replace")
        tell(f"{name} has a damaged {said}, which is left out")
    return io.BytesIO(b"".join([*parts[:2], *early, *parts[2:]])), keys


def ends_early(image: Image.Image, file: BinaryIO) -> bool:
    """Whether the data of a loaded PNG are whole but too few for its rows, which are 0 then."""
    last = np.asarray(image.crop((0, image.height - 1, *image.size)))
    if image.tell() or (last.any() and not image.info.get("interlace")):
        return False
    try:
        import imagecodecs
    except ImportError:  # where only trainings go on: not known
        return False
    content = file.seek(0) or file.read()
    parts = [part for kind, part, _ in _chunks(content) if kind.isupper()]  # no warnings of others
    try:
        imagecodecs.png_decode(content[:8] + b"".join(parts))
    except imagecodecs.PngError as error:
        return "Not enough image data" in str(error)
    return False


def lost_texts(image: Image.Image, names: list[str], file: str) -> Iterator[str]:
    """A line on each text of an open PNG that is not kept."""
    for name in sorted(set(names)):
        if name in _NO_TEXTS:
            yield f"{file} has a text named {name}, which is left out"
        elif names.count(name) > 1:
            yield f"{file} has {names.count(name)} texts named {name}: only the last is kept"
        elif not image.info.get("xmp" if name == XMP_OF_PNG else name):
            yield f"{file} has a text named {name} that is empty or cannot be read"


def deep(image: Image.Image, file: BinaryIO) -> np.ndarray:
    """uint16, H x W x channels, of a PNG of 16 bits, of which Pillow keeps the upper bytes.

    Its decoder is told to take the other bytes, or of grey with alpha all four, for colours.
    """
    if image.mode.startswith("I"):
        return np.asarray(image).astype(np.uint16)[..., None]
    file.seek(0)
    other = Image.open(file, formats=["PNG"])
    other.seek(image.tell())
    grey = other.tile[0].args == "LA;16B"
    names = {"LA;16B": "RGBA", "RGB;16B": "RGB;16L", "RGBA;16B": "RGBA;16L"}
    other.tile = [tile._replace(args=names[tile.args]) for tile in other.tile]
    low = np.asarray(other)
    high, low = (low[..., ::2], low[..., 1::2]) if grey else (np.asarray(image), low)
    return high.astype(np.uint16) << 8 | low
