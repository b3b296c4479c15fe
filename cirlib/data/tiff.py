"""TIFF: tifffile reads how the pixels lie, libtiff (Pillow's) unpacks them, here they are laid out.

Pillow alone scrambles or refuses many layouts of more than 8 bits. What is itself a coded picture
inside of a TIFF (JPEG, fax) stays Pillow's. imagecodecs would spare most of this, but on damaged
LZW it ends the process, and it refuses strips that are padded, and chroma that is subsampled.
"""

import ctypes
import io
import logging
import re
import struct
import zlib
from collections import defaultdict
from contextlib import suppress
from typing import BinaryIO, NamedTuple

import numpy as np
from PIL import Image

from cirlib.base.files import Tell, UserError
from cirlib.data import jpeg
from cirlib.data.colour import as_image, scaled, split_alpha
from cirlib.data.limit import MAX_PIXELS, check_size
from cirlib.data.metadata import orientation_of_xmp

ANOTHER = "; restore --page N takes page N"  # of several
IS_RAW = "is a camera's raw file: develop it to TIFF or JPEG first"
_UNPACKED = {5, 8, 32773, 32946, 34925, 50000}  # by libtiff: LZW, deflate, PackBits, LZMA, Zstd
_CODED = {2, 3, 4, 6, 7, 32771}  # fax and JPEG
_DEFLATE = {8, 32946}
_PALETTE, _CMYK, _YCBCR = 3, 5, 6
_RAW = {32803, 34892}  # of a colour filter, and linear
_LAB = {8, 9}  # CIE's, and ICC's
_COLOURS = {0: 1, 1: 1, 2: 3, _PALETTE: 1, 4: 1, _CMYK: 4, _YCBCR: 3, 8: 3, 9: 3}  # channels
_PREDICTED = _UNPACKED - {32773}  # with these a predictor counts
_CURVES = {291, 301}  # GrayResponseCurve, TransferFunction
_FLOATS = {3, 34894, 34895, 34896}  # predictors of floats
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
# Tags that say how the pixels lie; without one of them, or by what is usual, they are scrambled.
_LAYOUT = {*range(256, 267), 273, *range(277, 280), 284, 292, 293, 317, *range(320, 326), 332, 336,
           338, 339, 347, 529, 530, 532}  # fmt: skip
_FAX = {2: "tiff_ccitt", 3: "group3", 4: "group4"}  # Pillow's names

with suppress(AttributeError, OSError):  # else libtiff writes to stderr what Pillow raises, too
    ctypes.CDLL(Image.core.__file__).TIFFSetErrorHandler(None)


class Picture(NamedTuple):
    """samples: as colour.to_srgb takes them, not turned; None where none are asked for.

    about: an image that tells its metadata only. offset: of the page, for its EXIF.
    """

    samples: Image.Image | np.ndarray | None
    alpha: Image.Image | None
    orientation: int
    about: Image.Image
    offset: int


def read(file: BinaryIO, name: str, number: int | None, tell: Tell, pixels: bool = True) -> Picture:
    """The page of that number, from 1; None: the first that is no preview, and tells of others.

    Raises UserError, and on damaged bytes errors of many types.
    """
    import tifffile  # not on the path of training

    logging.getLogger("tifffile").addHandler(logging.NullHandler())  # else it writes to stderr
    file.seek(0)
    with tifffile.TiffFile(file, name=name) as tif:
        page, top = _choose(tif, name, number, tell)
        check_size(name, page.imagewidth, page.imagelength)
        # tifffile passes over those it cannot read, and takes what is usual for them
        if lost := {tag for tag in _directory(page, file)[0] if tag not in page.tags}:
            if lost & _LAYOUT:
                raise ValueError(f"its tag {min(lost & _LAYOUT)} cannot be read")
            tell(f"{name} has damaged tags, which are left out: {', '.join(map(str, lost))}")
        about = Image.new("L", (1, 1))
        orientation, icc, xmp = (
            page.tags.valueof(tag, default=top.tags.valueof(tag)) for tag in (274, 34675, 700)
        )
        if icc:  # bytes, but where it is of another type than a profile is
            about.info["icc_profile"] = icc if isinstance(icc, bytes) else None
        elif any(tag in page.tags for tag in _CURVES):
            tell(f"{name} has its own curve from values to light, which is not applied")
        about.info |= {"xmp": xmp} if isinstance(xmp, bytes) else {}
        orientation = orientation or orientation_of_xmp(xmp if isinstance(xmp, bytes) else b"")
        if not pixels:
            return Picture(None, None, orientation, about, page.offset)
        if _is_coded(page, name):
            if int(page.compression) in (6, 7) and not _ends_well(page, file):
                tell(f"{name} has pixels that are cut off or damaged: parts may be wrong")
            image = _by_pillow(page, file)
            if int(page.compression) in _FAX and not all(_fax_is_sound(page, file, image)):
                tell(f"{name} has pixels that are no sound fax code: parts may be wrong")
            return Picture(*split_alpha(image), orientation, about, page.offset)
        return Picture(*_decode(page, file, name, tell), orientation, about, page.offset)


def _choose(tif, name: str, number: int | None, tell: Tell):
    """The page, and that of the file below which it is, if not itself."""
    pages = _pages(tif, name, tell)
    if number is not None:
        if not 1 <= number <= len(pages):
            raise UserError(f"{name} has no page {number}, only {len(pages)}")
        return pages[number - 1], pages[number - 1]
    # Of a page with pictures below it (SubIFDs) one may be the picture, and the page its preview.
    nested = [(k, p) for k, top in enumerate(pages, 1) for p in (top, *(top.pages or ()))]
    if any(int(p.photometric) in _RAW for _, p in nested) or _is_cr2(tif.filehandle):
        raise UserError(f"{name} {IS_RAW}")  # all else there is are its previews
    whole = [(k, p) for k, p in nested if not _is_preview(p)] or nested
    first = whole[0][1]
    k, page = next(((k, p) for k, p in whole if _is_preview_of(first, p)), whole[0])
    if k > 1 or len({k for k, _ in whole}) > 1:
        tell(f"{name} has {len(pages)} pages: only page {k} is read{ANOTHER}")
    return page, pages[k - 1]


def _pages(tif, name: str, tell: Tell) -> list:
    """Those that are there; tells when the file ends before the last one."""
    pages, whole = [], True
    try:
        for page in tif.pages:
            if page.offset in [other.offset for other in pages]:
                break  # a circle
            pages.append(page)
    except Exception:  # of one that is cut
        if not pages:
            raise
        whole = False
    if not whole or _directory(pages[-1], tif.filehandle)[1] >= tif.filehandle.size:
        tell(f"{name} is cut off: what comes behind page {len(pages)} is missing")
    return pages


def _directory(page, file: BinaryIO) -> tuple[set[int], int]:
    """The tags that a page names, and where the next one is; 0: nowhere."""
    form = page.parent.tiff
    file.seek(page.offset)
    (count,) = struct.unpack(form.tagnoformat, file.read(form.tagnosize))
    tags = struct.iter_unpack(
        f"{form.byteorder}H{form.tagsize - 2}x", file.read(form.tagsize * count)
    )
    return {tag for (tag,) in tags}, struct.unpack(form.offsetformat, file.read(form.offsetsize))[0]


def _is_cr2(file) -> bool:
    """Canon's raw file: its pages do not say that they are raw."""
    file.seek(8)
    return file.read(4) == b"CR\2\0"


def _is_preview(page) -> bool:
    """Said to be smaller than, or the mask of, another."""
    old = page.tags.get(255)
    return bool(page.subfiletype & 5) or (old is not None and old.value == 2)


def _is_preview_of(small, page) -> bool:
    """Not said, but both its sides are a half or less."""
    return 2 * small.imagewidth <= page.imagewidth and 2 * small.imagelength <= page.imagelength


def _is_coded(page, name: str) -> bool:
    """Whether its strips are pictures of their own kind, which Pillow has to read."""
    kind, packed = int(page.photometric), int(page.compression)
    if kind in _RAW:
        raise UserError(f"{name} {IS_RAW}")
    if packed not in (1, *_UNPACKED, *_CODED):
        raise UserError(
            f"{name} is compressed in a way that is not read "
            f"({getattr(page.compression, 'name', packed)}): save it with LZW, or as PNG"
        )
    if packed in (6, 7) and np.max(page.bitspersample) > 8:  # Pillow takes it for 8
        raise UserError(f"{name} is a JPEG of {_numbers_said(page)} values: save it with LZW")
    return packed in _CODED or kind == _YCBCR and page.is_subsampled and packed != 1


def _ends_well(page, file: BinaryIO) -> bool:
    """Whether each strip or tile is a sound JPEG, with its end mark, but for what fills it up."""
    tables = page.tags.valueof(347, default=b"")[:-2] or b"\xff\xd8"
    for offset, count in zip(page.dataoffsets, page.databytecounts, strict=False):
        file.seek(offset)
        coded = file.read(count).rstrip(b"\0")
        if not coded.endswith(b"\xff\xd9") or not jpeg.is_sound(tables + coded[2:]):
            return False
    return True


def _decode(
    page, file: BinaryIO, name: str, tell: Tell
) -> tuple[Image.Image | np.ndarray, Image.Image | None]:
    """Its samples, and alpha."""
    kind, bits = int(page.photometric), page.bitspersample
    if 262 not in page.tags:  # not said: as libtiff guesses
        kind = 2 if page.samplesperpixel > 2 else 1
    if not isinstance(bits, int) or bits > 16 or page.sampleformat not in (1, 4):  # 4: not said
        raise UserError(
            f"{name} has {_numbers_said(page)} values of unknown range: "
            "save it with 8 or 16 bits a channel"
        )
    if kind not in _COLOURS or page.samplesperpixel < _COLOURS[kind] or page.imagedepth != 1:
        raise ValueError(f"photometric interpretation {kind}")
    if kind == _CMYK and page.tags.valueof(332) == 2:
        raise UserError(f"{name} has inks other than those of CMYK: save it in RGB or CMYK")
    if page.planarconfig not in (1, 2):
        raise ValueError(f"planar configuration {page.planarconfig}")
    if int(page.predictor) in _FLOATS and int(page.compression) in _PREDICTED:
        raise ValueError("a predictor of floats")
    if page.samplesperpixel * page.imagewidth * page.imagelength > 5 * MAX_PIXELS:
        raise UserError(f"{name} has too many channels for its size: leave out what is no colour")
    colours, alphas = _COLOURS[kind], sum(int(extra) in (1, 2) for extra in page.extrasamples)
    if page.samplesperpixel > colours + alphas:
        tell(f"{name} has {page.samplesperpixel} channels, of which {colours + alphas} are read")
    if any(_is_missing(page, i) for i in range(len(page.dataoffsets))):
        tell(f"{name} has parts without pixels, which are shown black")
    return _image(page, kind, *np.split(_samples(page, file), [colours], axis=2))


def _is_missing(page, i: int) -> bool:
    """Whether a strip or tile is left out, as of a sparse file."""
    return page.databytecounts[i] == 0 and (page.dataoffsets[i] == 0 or len(page.dataoffsets) > 1)


def _numbers_said(page) -> str:
    bits = page.bitspersample
    what = {2: " signed", 3: " floating-point"}.get(page.sampleformat, "")
    return f"{bits if isinstance(bits, int) else max(bits)}-bit{what}"


def _by_pillow(page, file: BinaryIO) -> Image.Image:
    """The page, not turned, as the first of the file: Pillow counts no nested pages."""
    file.seek(0)
    content = bytearray(file.read())
    order = "<" if content[:2] == b"II" else ">"
    if 43 in content[2:4]:
        content[8:16] = struct.pack(order + "Q", page.offset)
    else:
        content[4:8] = struct.pack(order + "I", page.offset)
    # the order of bits means nothing to a JPEG, and some to Pillow
    for number in (274, 266) if int(page.compression) in (6, 7) else (274,):
        if tag := page.tags.get(number):
            struct.pack_into(order + {4: "I"}.get(tag.dtype, "H"), content, tag.valueoffset, 1)
    image = Image.open(io.BytesIO(content), formats=["TIFF"])
    image.load()
    return image


def _fax_is_sound(page, file: BinaryIO, image: Image.Image):
    """Of each strip whether its picture, coded anew, gives it again: libtiff guesses the rest."""
    if image.mode != "1" or page.is_tiled:
        return
    black = np.asarray(image) ^ (page.photometric == 0)
    options = {292: page.tags.valueof(292, default=0)}
    for i, (place, size) in enumerate(zip(page.dataoffsets, page.databytecounts, strict=False)):
        file.seek(place)
        said = _fax_code(file.read(size), int(page.fillorder))
        rows = Image.fromarray(black[i * page.rowsperstrip :][: page.rowsperstrip])
        for dots in (72, 300):  # by which libtiff chooses how many lines refer to that above
            again = io.BytesIO()
            rows.save(again, "TIFF", compression=_FAX[int(page.compression)], dpi=(dots, dots),
                      tiffinfo=options, strip_size=1 << 30)  # fmt: skip
            tags = Image.open(again).tag_v2
            code = again.getvalue()[tags[273][0] :][: tags[279][0]]
            if said == _fax_code(code, 1):
                break
        yield said == _fax_code(code, 1)


def _fax_code(strip: bytes, order: int) -> bytes:
    """Its bits, without what fills up or ends lines, which one may leave out."""
    bits = np.unpackbits(np.frombuffer(strip, np.uint8), bitorder=("big", "little")[order - 1])
    return re.sub(b"0{11,}1", b"|", (bits + 48).tobytes().rstrip(b"0")).strip(b"|1")


def _samples(page, file: BinaryIO) -> np.ndarray:
    """H x W x S, as the file has them: uint8 of up to 8 bits, else uint16."""
    H, W, S, bits = page.imagelength, page.imagewidth, page.samplesperpixel, page.bitspersample
    planes = S if page.planarconfig == 2 else 1
    C = S // planes
    rows, columns = (page.tilelength, page.tilewidth) if page.is_tiled else (page.rowsperstrip, W)
    rows = rows if page.is_tiled else min(rows, H)
    if page.is_subsampled and int(page.photometric) == _YCBCR:
        return _subsampled(page, file, rows, columns)
    row_bytes = -(-columns * C * bits // 8)
    places, sizes = [], []
    for plane in range(planes):
        for top in range(0, H, rows):
            for left in range(0, W, columns):
                places.append((plane * C, top, left))
                sizes.append((rows if page.is_tiled else min(rows, H - top)) * row_bytes)
    out = np.zeros((H, W, S), np.uint16 if bits > 8 else np.uint8)
    order = page.parent.byteorder
    for i, content in _segments(page, file, sizes, row_bytes):
        first, top, left = places[i]
        numbers = _numbers(content.reshape(-1, row_bytes), bits, order)
        tile = numbers[:, : columns * C].reshape(-1, columns, C)[: H - top, : W - left]
        if page.predictor == 2 and int(page.compression) in _PREDICTED:
            tile = np.cumsum(tile, axis=1, dtype=tile.dtype)
        out[top : top + rows, left : left + columns, first : first + C] = tile
    return out


def _subsampled(page, file: BinaryIO, rows: int, columns: int) -> np.ndarray:
    """H x W x 3, uint8, of strips or tiles of blocks: v x h of luma, then one Cb and one Cr."""
    H, W, (h, v) = page.imagelength, page.imagewidth, page.tags.valueof(530, default=(2, 2))
    if page.bitspersample != 8 or page.samplesperpixel != 3 or page.planarconfig != 1:
        raise ValueError("YCbCr, subsampled, in a rare layout")
    places = [(top, left) for top in range(0, H, rows) for left in range(0, W, columns)]
    row_bytes = -(-columns // h) * (h * v + 2)  # of a row of blocks
    heights = [rows if page.is_tiled else min(rows, H - top) for top, _ in places]
    sizes = [-(-height // v) * row_bytes for height in heights]
    out = np.zeros((H, W, 3), np.uint8)
    for i, content in _segments(page, file, sizes, row_bytes):
        blocks = content.reshape(-1, row_bytes // (h * v + 2), h * v + 2)
        n, m, _ = blocks.shape
        luma = blocks[..., :-2].reshape(n, m, v, h).swapaxes(1, 2).reshape(n * v, m * h, 1)
        chroma = blocks[..., -2:].repeat(v, axis=0).repeat(h, axis=1)
        top, left = places[i]
        tile = np.concatenate([luma, chroma], axis=2)[:rows, :columns][: H - top, : W - left]
        out[top : top + rows, left : left + columns] = tile
    return out


def _numbers(content: np.ndarray, bits: int, order: str) -> np.ndarray:
    """Bytes in rows -> numbers of so many bits in rows."""
    if bits == 8:
        return content
    if bits == 16:
        return content.view(order + "u2").astype(np.uint16, copy=False)
    flags = np.unpackbits(content, axis=1)
    flags = flags[:, : flags.shape[1] // bits * bits].reshape(len(content), -1, bits)
    weights = (1 << np.arange(bits)[::-1]).astype(np.uint16)
    return (flags @ weights).astype(np.uint16 if bits > 8 else np.uint8)


def _segments(page, file: BinaryIO, sizes: list[int], row_bytes: int):
    """(index, bytes as uint8) of each strip or tile, unpacked to the size that it should have."""
    offsets, counts = page.dataoffsets, page.databytecounts
    end = file.seek(0, io.SEEK_END)

    def packed(i: int, size: int) -> bytes:
        file.seek(offsets[i])
        content = file.read(size)
        return content.translate(_REVERSED) if page.fillorder == 2 else content

    if len(offsets) < len(sizes):
        raise ValueError("strips are missing")
    if page.compression == 1:
        for i, size in enumerate(sizes):
            if _is_missing(page, i):
                continue
            if offsets[i] + size > end:
                raise ValueError("the end is missing")
            yield i, np.frombuffer(packed(i, size), np.uint8)
        return
    same = defaultdict(list)
    for i, size in enumerate(sizes):
        if offsets[i] + counts[i] > end:
            raise ValueError("the end is missing")
        if not _is_missing(page, i):
            same[size].append(i)
    for size, indices in same.items():
        strips = [packed(i, counts[i]) for i in indices]
        if int(page.compression) in _DEFLATE and not all(map(_unzips, strips)):
            raise ValueError("it does not fit its checksum")
        unpacked = _unpacked(strips, size // row_bytes, row_bytes, page)
        yield from zip(indices, unpacked.reshape(len(strips), size), strict=True)


def _unzips(strip: bytes) -> bool:
    """Whether it has its end, and its checksum there: libtiff stops where it has enough rows."""
    stream = zlib.decompressobj()
    stream.decompress(strip, 1 << 30)
    return stream.eof


def _unpacked(strips: list[bytes], rows: int, row_bytes: int, page) -> np.ndarray:
    """Strips of so many rows each, by libtiff: it takes their bytes for grey pixels."""
    n = len(strips)
    fields = {256: row_bytes, 257: n * rows, 258: 8, 259: int(page.compression), 262: 1,
              273: 0, 277: 1, 278: rows, 279: 0}  # fmt: skip
    table = 8 + 2 + 12 * len(fields) + 4
    ends = np.cumsum([table + 8 * n, *map(len, strips)])
    lists = {273: ends[:-1], 279: np.diff(ends)}
    out = b"II*\0" + struct.pack("<IH", 8, len(fields))
    for tag, value in fields.items():
        if tag in lists:
            value = int(lists[tag][0]) if n == 1 else table + 4 * n * (tag == 279)
        out += struct.pack("<HHII", tag, 4, n if tag in lists else 1, value)
    out += bytes(4) + b"".join(lists[tag].astype("<u4").tobytes() for tag in (273, 279))
    with Image.open(io.BytesIO(out + b"".join(strips)), formats=["TIFF"]) as image:
        return np.asarray(image)


def _image(
    page, kind: int, colours: np.ndarray, extras: np.ndarray
) -> tuple[Image.Image | np.ndarray, Image.Image | None]:
    """Samples of the colours, and of what else there is -> the picture, and alpha."""
    peak = (1 << page.bitspersample) - 1
    kinds = [int(extra) for extra in page.extrasamples][: extras.shape[2]]
    alpha = next((extras[..., k] for k, extra in enumerate(kinds) if extra in (1, 2)), None)
    if kind == 0:
        colours = peak - colours
    if kind == _CMYK and 336 in page.tags:  # the values of no ink, and of full, where they can be
        none, full = np.resize(page.tags.valueof(336), (4, 2)).T.astype(float)
        if (full - none > peak / 2).all():
            dots = (colours - none) * peak / (full - none)
            colours = np.rint(dots).clip(0, peak).astype(colours.dtype)
    if alpha is not None and 1 in kinds and kind != _PALETTE:  # colours come multiplied by alpha
        divisor = np.maximum(alpha, 1)[..., None].astype(np.float32)
        colours = np.minimum(np.rint(colours * (peak / divisor)), peak).astype(colours.dtype)
    if alpha is not None:
        alpha = Image.fromarray(scaled(alpha, peak))
    if kind == _PALETTE:
        palette = np.asarray(page.colormap).T
        palette = palette >> 8 if palette.max() > 255 else palette  # of 8 bits, by some old writers
        return Image.fromarray(palette.astype(np.uint8)[colours[..., 0]]), alpha
    if kind == _YCBCR:
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
