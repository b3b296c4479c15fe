"""What a file says of its colours, as an ICC profile, and by that to sRGB."""

import io
import struct
from collections.abc import Callable, Sequence
from functools import cache
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageCms

from cirlib.base.files import UserError
from cirlib.data.metadata import Exif, raw_profile

Primaries = tuple[float, ...]  # x, y of white, red, green, blue

D65 = (0.3127, 0.3290)
SRGB = (*D65, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
ADOBE_RGB = (*D65, 0.64, 0.33, 0.21, 0.71, 0.15, 0.06)
ADOBE_GAMMA = 563 / 256
# Colour primaries by their number in H.273, which cICP of PNG and nclx of AVIF use.
_PRIMARIES = {
    1: SRGB,
    4: (0.310, 0.316, 0.67, 0.33, 0.21, 0.71, 0.14, 0.08),
    5: (*D65, 0.64, 0.33, 0.29, 0.60, 0.15, 0.06),
    6: (*D65, 0.63, 0.34, 0.31, 0.595, 0.155, 0.07),
    7: (*D65, 0.63, 0.34, 0.31, 0.595, 0.155, 0.07),
    9: (*D65, 0.708, 0.292, 0.170, 0.797, 0.131, 0.046),
    11: (0.314, 0.351, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06),
    12: (*D65, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06),
}
# Transfer by its number there -> gamma; None: sRGB's curve, which televisions' are taken for, too.
_GAMMAS = {1: None, 2: None, 4: 2.2, 5: 2.8, 6: None, 8: 1.0, 13: None, 14: None, 15: None}
_HDR = {16: "PQ", 18: "HLG"}


@cache
def profile(primaries: Primaries, gamma: float | None) -> bytes:
    """An ICC profile of light by sample^gamma; None: by the curve of sRGB."""
    v = np.linspace(0, 1, 4096)
    light = v**gamma if gamma else np.where(v <= 0.04045, v / 12.92, ((v + 0.055) / 1.055) ** 2.4)
    curve = b"curv" + struct.pack(">II", 0, 4096) + np.rint(light * 65535).astype(">u2").tobytes()

    def xyz(column: np.ndarray) -> bytes:
        return b"XYZ \0\0\0\0" + np.rint(column * 65536).astype(">i4").tobytes()

    white = np.array([0.9642, 1.0, 0.8249])  # D50, of every profile
    matrix = _to_d50(primaries, white)
    tags = {b"wtpt": xyz(white)} | dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve)
    tags |= {name + b"XYZ": xyz(matrix[:, k]) for k, name in enumerate((b"r", b"g", b"b"))}
    offset = 128 + 4 + 12 * len(tags)
    table, body = struct.pack(">I", len(tags)), b""
    for name, content in tags.items():
        table += struct.pack(">4sII", name, offset + len(body), len(content))
        body += content
    head = struct.pack(">I4xI4s4s4s12x4s", offset + len(body), 0x02100000, b"mntr",
                       b"RGB ", b"XYZ ", b"acsp").ljust(68, b"\0")  # fmt: skip
    return (head + xyz(white)[8:]).ljust(128, b"\0") + table + body


def _to_d50(primaries: Primaries, d50: np.ndarray) -> np.ndarray:
    """The matrix from linear RGB to XYZ, with its white adapted (Bradford)."""
    xy = np.array(primaries).reshape(4, 2)
    white, *rgb = np.column_stack([xy, 1 - xy.sum(1)]) / xy[:, 1:]
    rgb = np.transpose(rgb)
    rgb = rgb * np.linalg.solve(rgb, white)
    cones = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367],
                      [0.0389, -0.0685, 1.0296]])  # fmt: skip
    return np.linalg.solve(cones, np.diag(cones @ d50 / (cones @ white)) @ cones @ rgb)


def png_chunks(file: BinaryIO) -> dict[bytes, bytes]:
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


def said(image: Image.Image, file: BinaryIO, exif: Exif, name: str) -> tuple | bytes | None:
    """The colours of an open image: an ICC profile, (primaries, gamma), or None: sRGB.

    For PNG, cICP is the first to be asked, then the profile, sRGB, and gAMA with cHRM; AVIF says it
    by the same numbers where there is no profile. Then EXIF, which may say Adobe RGB, or primaries.

    Raises UserError for pictures of high dynamic range.
    """
    chunks = png_chunks(file) if image.format == "PNG" else {}
    icc = image.info.get("icc_profile") or raw_profile(image, "icc", "icm")
    if len(numbers := chunks.get(b"cICP", b"")) == 4 and numbers[0] != 2:  # 2: not said
        if numbers[3] == 0:
            raise UserError(f"{name} has the narrow range of television: save it in full range")
        return _by_numbers(*numbers[:2], name)
    if icc:
        return icc
    if image.format in ("AVIF", "HEIF"):
        file.seek(0)
        head = file.read(1 << 16)
        place = head.find(b"colrnclx") + 8
        if 8 <= place <= len(head) - 4:
            return _by_numbers(*struct.unpack_from(">HH", head, place), name)
    if b"sRGB" in chunks:
        return None
    gamma, places = chunks.get(b"gAMA", b""), chunks.get(b"cHRM", b"")
    if len(gamma) == 4 or len(places) == 32:
        value = int.from_bytes(gamma) / 100_000 if len(gamma) == 4 else 0.45455
        places = [x / 100_000 for x in struct.unpack(">8I", places)] if len(places) == 32 else SRGB
        # 0.45455 is what the standard has written for sRGB's curve; others are nonsense
        plain = abs(value - 0.45455) < 0.002 or not 0.1 <= value <= 10
        return _space(places, None if plain else 1 / value)
    if exif.is_adobe_rgb:
        return ADOBE_RGB, ADOBE_GAMMA
    return _space(exif.primaries, exif.gamma) if exif.primaries else None


def _space(primaries: Sequence[float], gamma: float | None) -> tuple | None:
    if np.abs(np.subtract(primaries, SRGB)).max() < 0.004:  # as rounded to hundredths
        primaries = SRGB
    found = tuple(primaries), gamma
    return None if found == (SRGB, None) else found


def _by_numbers(primaries: int, transfer: int, name: str) -> tuple | None:
    if transfer in _HDR:
        raise UserError(
            f"{name} is a picture of high dynamic range ({_HDR[transfer]}): "
            "save it in sRGB, or another standard range, first"
        )
    return _space(_PRIMARIES.get(primaries, SRGB), _GAMMAS.get(transfer))


def split_alpha(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """Any of Pillow's modes of 8 bits -> mode L, RGB, CMYK or LAB, and alpha."""
    if image.has_transparency_data:
        whole = image.convert("RGBA")
        grey = image.mode in ("1", "L", "LA", "La")
        return whole.getchannel("R") if grey else whole.convert("RGB"), whole.getchannel("A")
    if image.mode not in ("L", "CMYK", "LAB"):
        image = image.convert("L" if image.mode == "1" else "RGB")
    return image, None


def scaled(samples: np.ndarray, peak: int, most: int = 255) -> np.ndarray:
    """0 to peak -> 0 to most, rounded: uint8, or uint16 where most is more."""
    if peak == most:
        return samples
    kind = np.uint8 if most == 255 else np.uint16
    return ((np.arange(peak + 1) * most + peak // 2) // peak).astype(kind)[samples]


def to_srgb(
    image: Image.Image | np.ndarray,
    colours: tuple | bytes | None,
    name: str,
    tell: Callable[[str], None],
) -> Image.Image:
    """Mode L, RGB, CMYK or LAB, or the first three as uint16, H x W x C -> RGB in sRGB.

    colours: as ``said`` gives them. Plainly where a profile is broken or of another kind of pixels,
    which is told.
    """
    deep = isinstance(image, np.ndarray)
    mode = {1: "L", 3: "RGB", 4: "CMYK"}[image.shape[2]] if deep else image.mode
    transform = None
    if mode == "LAB" or isinstance(colours, bytes) or (colours and mode != "CMYK"):
        try:
            transform = _transform(mode, colours)
        except (ImageCms.PyCMSError, OSError):
            tell(f"{name}: its colour profile cannot be used; the colours are read as sRGB")

    def convert(part: Image.Image) -> Image.Image:
        if transform is None:
            return part.convert("RGB")
        part = part if part.mode == transform.input_mode else part.convert(transform.input_mode)
        return ImageCms.applyTransform(part, transform)

    if not deep:
        return convert(image)
    if transform is None:
        return convert(as_image(scaled(image, 65535)))
    out = np.empty((*image.shape[:2], 3), np.uint8)
    for top in range(0, len(out), 64):  # rows
        out[top : top + 64] = _between(image[top : top + 64], convert)
    return Image.fromarray(out)


def _transform(mode: str, colours: tuple | bytes) -> ImageCms.ImageCmsTransform:
    """Of a grey image, where its profile is one of RGB, that of its RGB."""
    if mode == "LAB":
        source = ImageCms.createProfile("LAB")
    else:
        icc = profile(*colours) if isinstance(colours, tuple) else colours
        source = ImageCms.ImageCmsProfile(io.BytesIO(icc))
        space = source.profile.xcolor_space.strip().replace("GRAY", "L")
        if space != mode and (mode, space) != ("L", "RGB"):
            raise OSError("for other pixels")
        mode = space
    # what LittleCMS works out beforehand of a curve of grey is too coarse in the dark
    flags = ImageCms.Flags.NOOPTIMIZE if mode == "L" else 0
    return ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB", flags=flags)


def as_image(levels: np.ndarray) -> Image.Image:
    """Of uint8, H x W x 1, 3 or 4 (CMYK)."""
    mode = {1: "L", 3: "RGB", 4: "CMYK"}[levels.shape[2]]
    return Image.frombytes(mode, levels.shape[1::-1], levels.tobytes())


def _between(deep: np.ndarray, convert: Callable[[Image.Image], Image.Image]) -> np.ndarray:
    """Samples of 16 bits by a conversion of 8, which is all that Pillow has of LittleCMS.

    From one level to the next, in each channel, what comes out is taken to go straight.
    """

    def at(levels: np.ndarray) -> np.ndarray:
        return np.asarray(convert(as_image(levels.astype(np.uint8))), np.float32)

    level, rest = np.divmod(deep, 257)
    found = here = at(level)
    for c in range(deep.shape[2]):
        above = level.copy()
        above[..., c] += rest[..., c] > 0
        found = found + (at(above) - here) * (rest[..., c : c + 1] / np.float32(257))
    return np.rint(found).clip(0, 255).astype(np.uint8)
