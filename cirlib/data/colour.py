"""What a file says of its colours, as an ICC profile, and by that to sRGB."""

import io
import struct
from collections.abc import Sequence
from functools import cache
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageCms

from cirlib.base.files import Tell, UserError
from cirlib.data import png
from cirlib.data.metadata import Exif, raw_profile

Primaries = tuple[float, ...]  # x, y of white, red, green, blue

D65 = (0.3127, 0.3290)
SRGB = (*D65, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
ADOBE_RGB = (*D65, 0.64, 0.33, 0.21, 0.71, 0.15, 0.06)
ADOBE_GAMMA = 563 / 256
UNUSABLE = "its colour profile cannot be used; the colours are read as sRGB"
# Colour primaries by their number in H.273, which cICP of PNG and nclx of AVIF use.
_PRIMARIES = {
    1: SRGB,
    2: SRGB,  # not said
    4: (0.310, 0.316, 0.67, 0.33, 0.21, 0.71, 0.14, 0.08),
    5: (*D65, 0.64, 0.33, 0.29, 0.60, 0.15, 0.06),
    6: (*D65, 0.63, 0.34, 0.31, 0.595, 0.155, 0.07),
    7: (*D65, 0.63, 0.34, 0.31, 0.595, 0.155, 0.07),
    8: (0.310, 0.316, 0.681, 0.319, 0.243, 0.692, 0.145, 0.049),
    9: (*D65, 0.708, 0.292, 0.170, 0.797, 0.131, 0.046),
    11: (0.314, 0.351, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06),
    12: (*D65, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06),
    22: (*D65, 0.63, 0.34, 0.295, 0.605, 0.155, 0.077),
}
# Transfer by its number there -> gamma; None: sRGB's curve, which televisions' are taken for, too.
_GAMMAS = dict.fromkeys((1, 2, 6, 7, 11, 12, 13, 14, 15)) | {4: 2.2, 5: 2.8, 8: 1.0}
_UNKNOWN = b""  # a profile that cannot be used, which to_srgb tells
_HDR = {16: "PQ", 18: "HLG"}


@cache
def profile(primaries: Primaries, gamma: float | None) -> bytes:
    """An ICC profile of light by sample^gamma; None: by the curve of sRGB."""
    import imagecodecs

    v = np.linspace(0, 1, 4096)
    light = v**gamma if gamma else np.where(v <= 0.04045, v / 12.92, ((v + 0.055) / 1.055) ** 2.4)
    xyy = np.insert(np.reshape(primaries, (4, 2)), 2, 1, axis=1)
    curve = np.rint(light * 65535).astype(np.uint16)
    return imagecodecs.cms_profile(
        "rgb", whitepoint=xyy[0], primaries=xyy[1:].ravel(), transferfunction=curve
    )


def said(image: Image.Image, file: BinaryIO, exif: Exif, name: str) -> tuple | bytes | None:
    """The colours of an open image: an ICC profile, (primaries, gamma), or None: sRGB.

    For PNG, cICP is the first to be asked, then the profile, sRGB, and gAMA with cHRM; AVIF says it
    by the same numbers where there is no profile. Then EXIF, which may say Adobe RGB, or primaries.

    Raises UserError for pictures of high dynamic range.
    """
    chunks = png.short_chunks(file) if image.format == "PNG" else {}
    icc = image.info.get("icc_profile") or raw_profile(image, "icc", "icm")
    if image.format == "BMP":
        file.seek(0)
        head = file.read(138)
        if space := _of_bmp(head):
            return space
        if head[70:74] == b"DEBM":  # a profile in the file, of its fifth kind of header
            offset, size = struct.unpack_from("<II", head, 126)
            file.seek(14 + offset)
            icc = file.read(size)
    if len(numbers := chunks.get(b"cICP", b"")) == 4:
        if numbers[3] == 0:
            raise UserError(f"{name} has the narrow range of television: save it in full range")
        if numbers[0] != 2 or _GAMMAS.get(numbers[1], True):  # 2, and sRGB's curve, say too little
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
    value = int.from_bytes(gamma) / 100_000 if len(gamma) == 4 else 0.45455
    # 0.45455 is what the standard has written for sRGB's curve; others are nonsense
    plain = abs(value - 0.45455) < 0.002 or not 0.1 <= value <= 10
    if len(places) == 32 or not plain:
        places = [x / 100_000 for x in struct.unpack(">8I", places)] if len(places) == 32 else SRGB
        return _space(places, None if plain else 1 / value)
    if exif.is_adobe_rgb:
        return ADOBE_RGB, ADOBE_GAMMA
    if exif.is_srgb or (exif.gamma == 2.2 and not exif.primaries):  # as DCF has sRGB's curve
        return None
    return _space(exif.primaries or SRGB, exif.gamma)


def _space(primaries: Sequence[float], gamma: float | None) -> tuple | None:
    if np.abs(np.subtract(primaries, SRGB)).max() < 0.004:  # as rounded to hundredths
        primaries = SRGB
    found = tuple(primaries), gamma
    return None if found == (SRGB, None) else found


def _of_bmp(head: bytes) -> tuple | None:
    """The space of a BMP that has it as XYZ of its primaries and gammas, where they make sense."""
    if len(head) < 122 or head[14] < 108 or head[70:74] != bytes(4):  # Windows' space, or sRGB
        return None
    xyz = np.reshape(struct.unpack_from("<9i", head, 74), (3, 3)) / 2**30
    xyz = np.concatenate([[xyz.sum(axis=0)], xyz])  # white is all three
    gamma = sum(struct.unpack_from("<3I", head, 110)) / 3 / 2**16
    places = xyz[:, :2] / np.maximum(xyz.sum(axis=1, keepdims=True), 1e-9)
    is_white = np.abs(places[0] - (0.33, 0.34)).max() < 0.03 and 0.9 < xyz[0, 1] < 1.1
    return _space(places.ravel(), gamma) if is_white and 0.1 <= gamma <= 10 else None


def _by_numbers(primaries: int, transfer: int, name: str) -> bytes | tuple | None:
    if transfer in _HDR:
        raise UserError(
            f"{name} is a picture of high dynamic range ({_HDR[transfer]}): "
            "save it in sRGB, or another standard range, first"
        )
    if primaries not in _PRIMARIES or transfer not in _GAMMAS:
        return _UNKNOWN
    return _space(_PRIMARIES[primaries], _GAMMAS[transfer])


def split_alpha(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """Any of Pillow's modes of 8 bits -> mode L, RGB, CMYK or LAB, and alpha."""
    if image.has_transparency_data:
        image = image.convert("LA") if image.mode == "La" else image
        whole = image.convert("RGBA")
        grey = image.mode in ("1", "L", "LA", "La")
        return whole.getchannel("R") if grey else whole.convert("RGB"), whole.getchannel("A")
    if image.mode not in ("L", "RGB", "CMYK", "LAB"):  # a copy of a large one is dear
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
    tell: Tell,
) -> Image.Image:
    """Mode L, RGB, CMYK or LAB, or the first three as uint16, H x W x C -> RGB in sRGB.

    colours: as ``said`` gives them. Plainly where a profile is broken or of another kind of pixels,
    which is told.
    """
    deep = isinstance(image, np.ndarray)
    mode = {1: "L", 3: "RGB", 4: "CMYK"}[image.shape[2]] if deep else image.mode
    if mode == "LAB" or isinstance(colours, bytes) or (colours and mode != "CMYK"):
        try:
            return _transformed(image, mode, colours)
        except (ImageCms.PyCMSError, OSError, RuntimeError):
            tell(f"{name}: {UNUSABLE}")
    plain = as_image(scaled(image, 65535)) if deep else image
    return plain if plain.mode == "RGB" else plain.convert("RGB")


def _transformed(image: Image.Image | np.ndarray, mode: str, colours) -> Image.Image:
    """Of a grey image, where its profile is one of RGB, that of its RGB, and the reverse."""
    if mode == "LAB":
        source = ImageCms.createProfile("LAB")
    else:
        icc = profile(*colours) if isinstance(colours, tuple) else colours
        source = ImageCms.ImageCmsProfile(io.BytesIO(icc))
        space = source.profile.xcolor_space.strip().replace("GRAY", "L")
        if (mode, space) == ("RGB", "L") and _is_grey(image):  # AVIF and WebP come as RGB
            mode, image = "L", image.getchannel(0)
        if space != mode and (mode, space) != ("L", "RGB"):
            raise OSError("for other pixels")
        if isinstance(image, np.ndarray):
            import imagecodecs

            if space != mode:
                image = image.repeat(3, axis=2)
            samples = np.ascontiguousarray(image[..., 0] if space == "L" else image)
            return as_image(imagecodecs.cms_transform(
                samples, icc, imagecodecs.cms_profile("srgb"), outcolorspace="rgb",
                colorspace={"L": "gray"}.get(space, space.lower()), outdtype="u1",
                flags=int(imagecodecs.CMS.FLAGS.NOOPTIMIZE),  # else up to 14 levels off
            ))  # fmt: skip
        mode, image = space, image.convert(space)
    # what LittleCMS works out beforehand of a curve of grey is too coarse in the dark
    flags = ImageCms.Flags.NOOPTIMIZE if mode == "L" else 0
    srgb = ImageCms.createProfile("sRGB")
    return ImageCms.applyTransform(
        image, ImageCms.buildTransform(source, srgb, mode, "RGB", flags=flags)
    )


def _is_grey(image: Image.Image | np.ndarray) -> bool:
    return isinstance(image, Image.Image) and len({c.tobytes() for c in image.split()}) == 1


def as_image(levels: np.ndarray) -> Image.Image:
    """Of uint8, H x W x 1, 3 or 4 (CMYK)."""
    mode = {1: "L", 3: "RGB", 4: "CMYK"}[levels.shape[2]]
    return Image.frombytes(mode, levels.shape[1::-1], levels.tobytes())
