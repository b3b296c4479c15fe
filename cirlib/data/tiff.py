"""TIFF: tifffile reads the samples, and here they become colours.

Pillow scrambles or refuses many layouts of more than 8 bits.
"""

import logging
import math
from collections.abc import Callable
from typing import BinaryIO, NamedTuple

import numpy as np
from PIL import Image

from cirlib.base.files import UserError
from cirlib.data.colour import as_image, scaled
from cirlib.data.limit import MAX_PIXELS, check_size

_PALETTE, _CMYK, _YCBCR, _CFA, _LINEAR_RAW = 3, 5, 6, 32803, 34892
_LAB = {8, 9}  # CIE's, and ICC's
_JPEG = {6, 7}
_PREDICTED = {5, 8, 32946, 34925, 50000}  # compressions that a predictor belongs to: LZW, deflate..
_COLOURS = {0: 1, 1: 1, 2: 3, _PALETTE: 1, 4: 1, _CMYK: 4, _YCBCR: 3, 8: 3, 9: 3}  # channels


class Picture(NamedTuple):
    """samples: as colour.to_srgb takes them, not turned; None where none are asked for.

    about: an image that tells its metadata only. offset: of the page, for its EXIF.
    """

    samples: Image.Image | np.ndarray | None
    alpha: Image.Image | None
    orientation: int
    about: Image.Image
    offset: int


def read(
    file: BinaryIO, name: str, number: int | None, tell: Callable[[str], None], pixels: bool = True
) -> Picture:
    """The page of that number, from 1; None: the first that is no preview, and tells of others.

    Raises UserError, and on damaged bytes errors of many types.
    """
    import tifffile  # not on the path of training

    logging.getLogger("tifffile").addHandler(logging.NullHandler())  # else it writes to stderr
    file.seek(0)
    with tifffile.TiffFile(file, name=name) as tif:
        page, top = _choose(tif, name, number, tell)
        check_size(name, page.imagewidth, page.imagelength)
        about = Image.new("L", (1, 1))
        orientation, icc, xmp = (
            page.tags.valueof(tag, default=top.tags.valueof(tag)) for tag in (274, 34675, 700)
        )
        if icc:  # bytes, but where it is of another type than a profile is
            about.info["icc_profile"] = icc if isinstance(icc, bytes) else None
        about.info |= {"xmp": xmp} if isinstance(xmp, bytes) else {}
        if not pixels:
            return Picture(None, None, orientation or 1, about, page.offset)
        return Picture(*_decode(page, name, tell), orientation or 1, about, page.offset)


def _choose(tif, name: str, number: int | None, tell: Callable[[str], None]):
    """The page, and that of the file below which it is, if not itself."""
    pages = list(tif.pages)
    if number is not None:
        if not 1 <= number <= len(pages):
            raise UserError(f"{name} has no page {number}: there are {len(pages)}")
        return pages[number - 1], pages[number - 1]
    # Of a page with pictures below it (SubIFDs) one may be the picture, and the page its preview.
    nested = [(k, p) for k, top in enumerate(pages, 1) for p in (top, *(top.pages or ()))]
    whole = [(k, p) for k, p in nested if not _is_preview(p)] or nested
    first = whole[0][1]
    k, page = next(((k, p) for k, p in whole if _is_preview_of(first, p)), whole[0])
    if k > 1 or len({k for k, _ in whole}) > 1:
        tell(f"{name} has {len(pages)} pages: only page {k} is read")
    return page, pages[k - 1]


def _is_preview(page) -> bool:
    """Said to be smaller than, or the mask of, another."""
    old = page.tags.get(255)
    return bool(page.subfiletype & 5) or (old is not None and old.value == 2)


def _is_preview_of(small, page) -> bool:
    """Not said, but it has the same sides, and less than half of their pixels."""
    w, h, W, H = small.imagewidth, small.imagelength, page.imagewidth, page.imagelength
    return 2 * w <= W and abs(w * H - W * h) <= max(W, H)


def _decode(
    page, name: str, tell: Callable[[str], None]
) -> tuple[Image.Image | np.ndarray, Image.Image | None]:
    """Its samples, and alpha."""
    from tifffile import TIFF

    kind, bits = int(page.photometric), page.bitspersample
    if 262 not in page.tags:  # not said: as libtiff guesses
        kind = 2 if page.samplesperpixel > 2 else 1
    if kind in (_CFA, _LINEAR_RAW):
        raise UserError(f"{name} is a camera's raw file: develop it to TIFF or JPEG first")
    if page.compression not in TIFF.DECOMPRESSORS:
        packed = getattr(page.compression, "name", page.compression)
        raise UserError(
            f"{name} is compressed in a way that is not read ({packed}): "
            "save it with LZW, or as PNG"
        )
    if not isinstance(bits, int) or bits > 16 or page.sampleformat not in (1, 4):  # 4: not said
        raise UserError(
            f"{name} has {_numbers_said(page)} values of unknown range: "
            "save it with 8 or 16 bits a channel"
        )
    if kind not in _COLOURS or page.samplesperpixel < _COLOURS[kind] or page.imagedepth != 1:
        raise ValueError(f"photometric interpretation {kind}")
    if page.samplesperpixel * page.imagewidth * page.imagelength > 5 * MAX_PIXELS:
        raise UserError(f"{name} has too many channels for its size: leave out what is no colour")
    colours, alphas = _COLOURS[kind], sum(int(extra) in (1, 2) for extra in page.extrasamples)
    if page.samplesperpixel > colours + alphas:
        tell(f"{name} has {page.samplesperpixel} channels, of which {colours + alphas} are read")
    if 0 in page.databytecounts:
        tell(f"{name} has parts without pixels, which are shown black")
    if int(page.compression) in _JPEG and not _ends_well(page):
        tell(f"{name} has pixels that are cut off: parts may be wrong")
    return _image(page, kind, *np.split(_samples(page), [_COLOURS[kind]], axis=2))


def _ends_well(page) -> bool:
    """Whether each strip or tile has the end mark of a JPEG, but for what fills it up."""
    file, ends = page.parent.filehandle, []
    for offset, count in zip(page.dataoffsets, page.databytecounts, strict=False):
        file.seek(offset + max(0, count - 16))
        ends.append(file.read(min(16, count)).rstrip(b"\0"))
    return all(end.endswith(b"\xff\xd9") for end in ends)


def _numbers_said(page) -> str:
    bits = page.bitspersample
    what = {2: " signed", 3: " floating-point"}.get(page.sampleformat, "")
    return f"{bits if isinstance(bits, int) else max(bits)}-bit{what}"


def _samples(page) -> np.ndarray:
    """H x W x S, as the file has them: uint8 of up to 8 bits, else uint16."""
    end, parts = page.parent.filehandle.size, (page.dataoffsets, page.databytecounts)
    if len(page.dataoffsets) < math.prod(page.chunked):
        raise ValueError("strips are missing")
    if any(offset + count > end for offset, count in zip(*parts, strict=False)):
        raise ValueError("the end is missing")
    if int(page.compression) not in _PREDICTED:
        page.predictor = 1
    samples = page.asarray(maxworkers=1)  # H x W, H x W x S or S x H x W
    if page.samplesperpixel == 1:
        samples = samples[..., None]
    elif page.planarconfig == 2:
        samples = np.moveaxis(samples, 0, 2)
    kind = np.uint16 if page.bitspersample > 8 else np.uint8
    return samples.astype(kind, copy=False)


def _image(
    page, kind: int, colours: np.ndarray, extras: np.ndarray
) -> tuple[Image.Image | np.ndarray, Image.Image | None]:
    """Samples of the colours, and of what else there is -> the picture, and alpha."""
    peak = (1 << page.bitspersample) - 1
    kinds = [int(extra) for extra in page.extrasamples][: extras.shape[2]]
    alpha = next((extras[..., k] for k, extra in enumerate(kinds) if extra in (1, 2)), None)
    if kind == 0:
        colours = peak - colours
    if alpha is not None and 1 in kinds and kind != _PALETTE:  # colours come multiplied by alpha
        divisor = np.maximum(alpha, 1)[..., None].astype(np.float32)
        colours = np.minimum(np.rint(colours * (peak / divisor)), peak).astype(colours.dtype)
    if alpha is not None:
        alpha = Image.fromarray(scaled(alpha, peak))
    if kind == _PALETTE:
        palette = np.asarray(page.colormap).T
        palette = palette >> 8 if palette.max() > 255 else palette  # of 8 bits, by some old writers
        return Image.fromarray(palette.astype(np.uint8)[colours[..., 0]]), alpha
    if kind == _YCBCR and int(page.compression) not in _JPEG:  # by whose decoder it is RGB
        return as_image(_rgb_of_ycbcr(page, colours, peak)), alpha
    if kind in _LAB:
        lightness = scaled(colours[..., :1], peak)
        ab = colours[..., 1:]
        if peak == 65535:
            ab = np.minimum((ab.astype(np.uint32) + 128) >> 8, 255) if kind == 9 else (
                np.clip((ab.view(np.int16).astype(np.int32) + 128) >> 8, -128, 127)
            )  # fmt: skip
        ab = ab.astype(np.uint8) ^ (128 if kind == 9 else 0)  # signed, as Pillow wants them
        lab = np.concatenate([lightness, ab], axis=2)
        return Image.frombytes("LAB", lab.shape[1::-1], lab.tobytes(), "raw", "LAB"), alpha
    if peak > 255:
        return scaled(colours, peak, 65535), alpha
    return as_image(scaled(colours, peak)), alpha


def _rgb_of_ycbcr(page, samples: np.ndarray, peak: int) -> np.ndarray:
    """uint8, by TIFF 6's formulas, for its coefficients and its levels of black and white."""

    def said(tag: int, *usual: float) -> np.ndarray:
        parts = np.reshape(page.tags.valueof(tag, default=()), (-1, 2))
        return parts[:, 0] / parts[:, 1] if len(parts) == len(usual) else np.array(usual)

    red, green, blue = said(529, 0.299, 0.587, 0.114)
    middle = (peak + 1) // 2
    black, white = said(532, 0, peak, middle, peak, middle, peak).reshape(3, 2).T
    Y, Cb, Cr = np.moveaxis((samples - black) / (white - black) * (255, 127, 127), 2, 0)
    R, B = Y + Cr * (2 - 2 * red), Y + Cb * (2 - 2 * blue)
    rgb = np.stack([R, (Y - red * R - blue * B) / green, B], axis=2)
    return np.rint(rgb).clip(0, 255).astype(np.uint8)
