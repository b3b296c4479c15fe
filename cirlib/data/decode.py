"""An open image file of any kind that is read -> its pixels, and what is kept beside them."""

import io
import re
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import BinaryIO

import numpy as np
from PIL import ExifTags, Image, ImageChops, JpegImagePlugin, UnidentifiedImageError

from cirlib.base.files import UserError
from cirlib.data import colour, metadata, tiff
from cirlib.data.limit import check_size
from cirlib.data.metadata import Kept

READ = "PNG, JPEG, WebP, TIFF, BMP, GIF or AVIF"

# How files begin -> Pillow's name of the format.
_BEGINNINGS = {
    b"\x89PNG\r\n\x1a\n": "PNG", b"\xff\xd8\xff": "JPEG", b"GIF8": "GIF",
    b"II*\0": "TIFF", b"MM\0*": "TIFF", b"II+\0": "TIFF", b"MM\0+": "TIFF",
}  # fmt: skip
_BMP_HEADERS = {struct.pack("<I", size) for size in (12, 16, 40, 52, 56, 64, 108, 124)}
_HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}

# EXIF's Orientation -> what brings the image upright.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS = (5, 6, 7, 8)  # of these, those that swap height and width
_TEXTS = (b"tEXt", b"zTXt", b"iTXt")  # of a PNG
# Names of those that Pillow's decoder has for others.
_NO_TEXTS = set(
    "aspect bbox blend chromaticity default_image disposal dpi duration exif gamma icc_profile "
    "interlace loop photoshop srgb transparency xmp".split()
)
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # marks of a JPEG
_MARK = re.compile(rb"\xff+[^\0\xff\xd0-\xd7]", re.DOTALL)  # of a JPEG, but those within pixels

Tell = Callable[[str], None]


def kind_of(head: bytes) -> str | None:
    """Pillow's name of a format by a file's first bytes; None: none that is read."""
    for beginning, kind in _BEGINNINGS.items():
        if head.startswith(beginning):
            return kind
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if head[:2] == b"BM" and head[14:18] in _BMP_HEADERS:
        return "BMP"
    if head[4:8] == b"ftyp":
        brands = {head[k : k + 4] for k in range(8, min(len(head), int.from_bytes(head[:4])), 4)}
        return "AVIF" if brands & {b"avif", b"avis"} else "HEIF" if brands & _HEIF_BRANDS else None
    return None


def decode(
    file: BinaryIO, name: str, page: int | None, tell: Tell, pixels: bool = True
) -> np.ndarray | Kept:
    """Pixels as read_image gives them, or else what a result keeps of the file."""
    file.seek(0)
    head = file.read(256)
    if not head:
        raise UserError(f"{name} is empty (0 bytes): copy or download it again")
    kind = kind_of(head)
    if kind is None:
        raise UserError(f"{name} is not an image that can be read: give a {READ} file")
    if kind == "HEIF":
        _enable_heif(name)
    try:
        if kind == "TIFF":
            samples, alpha, orientation, image, offset = tiff.read(file, name, page, tell, pixels)
            exif = metadata.read_exif(file, offset)
        else:
            damages: list[str] = []  # told once the pixels are there
            if kind == "PNG":
                file, texts = _checked(file, name, damages.append)
            image, file = _open(file, kind, name, page, tell)
            if kind == "PNG":
                damages += _lost_texts(image, texts, name)
            if kind == "GIF":
                image.info |= metadata.info_of_gif(file)
            if pixels:
                image = _loaded(image, file, name, tell)
            if kind == "PNG" and pixels and _ends_early(image, file):
                raise ValueError("its pixels end before the last row")
            for damage in damages:
                tell(damage)
            exif, orientation = metadata.exif_of(image), _orientation(image)
        if not pixels:
            return metadata.kept(image, exif, orientation in _SIDEWAYS)
        if not image.info.get("icc_profile", True):  # there, and cannot be unpacked
            tell(f"{name}: {colour.UNUSABLE}")
        colours = colour.said(image, file, exif, name)
        if kind != "TIFF":
            samples, alpha = _channels(image, file)
            if kind == "JPEG" and image.mode == "CMYK" and "adobe" not in image.info:
                samples = ImageChops.invert(samples)  # Pillow takes all for inverted
                tell(f"{name} does not say if its inks are inverted, as Adobe's: taken as they are")
        rgb = colour.to_srgb(samples, colours, name, tell)
        if alpha is not None:
            if not alpha.getbbox():
                tell(f"{name} is transparent all over: it is read as white")
            rgb = Image.composite(rgb, Image.new("RGB", rgb.size, "white"), alpha)
        turn = _UPRIGHT.get(orientation)
        return np.array(rgb if turn is None else rgb.transpose(turn))
    except UserError:
        raise
    except MemoryError as error:
        raise UserError(f"not enough memory for {name}: scale it down or cut a part out") from error
    except Exception as error:  # on damaged bytes decoders raise errors of many types
        said = " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, UnidentifiedImageError):  # which tells of an object in Python
            bits = _bits(file) if kind == "JPEG" else 8
            said = "its header cannot be read" if bits == 8 else f"{bits} bits a channel"
        raise UserError(
            f"{name} is damaged, cut off or of a rare kind ({said}): "
            "copy it again, or convert it to PNG"
        ) from error


def _enable_heif(name: str) -> None:
    try:
        import pillow_heif
    except ImportError as error:
        raise UserError(
            f"{name} is HEIC: pip install pillow-heif, or convert it to PNG or JPEG first"
        ) from error
    pillow_heif.register_heif_opener()


def _open(
    file: BinaryIO, kind: str, name: str, page: int | None, tell: Tell
) -> tuple[Image.Image, BinaryIO]:
    """The page of that number, or the first frame, not yet loaded, and the file that it is in.

    Of a JPEG with several pictures each is read as a file of its own: what the others say of their
    colours and sides is not for it.
    """
    file.seek(0)
    image = Image.open(file, formats=[kind])
    check_size(name, *image.size)
    frames = getattr(image, "n_frames", 1)
    if page is not None and not 1 <= page <= frames:
        raise UserError(f"{name} has no page {page}, only {frames}")
    if image.format == "MPO":
        file.seek(0)
        content, index = file.read(), image.mpinfo[0xB002]
        base = JpegImagePlugin.JpegImageFile(io.BytesIO(content)).info["mpoffset"]
        starts = [0, *(base + other["DataOffset"] for other in index[1:])]
        if page is None and _size_of_jpeg(content[starts[1] :]) == image.size:  # no preview or map
            tell(f"{name} has {frames} frames: only the first is read{tiff.ANOTHER}")
        own = io.BytesIO(content[starts[page - 1 if page else 0] :])
        image = JpegImagePlugin.JpegImageFile(own)
        check_size(name, *image.size)
        return image, own
    if page is not None:
        image.seek(page - 1)
    elif frames > 1:
        which = "the first" if image.tell() == 0 else f"number {image.tell() + 1}"  # of HEIC
        tell(f"{name} has {frames} frames: only {which} is read{tiff.ANOTHER}")
    return image, file


def _size_of_jpeg(content: bytes) -> tuple[int, int] | None:
    """None: there is none."""
    try:
        return JpegImagePlugin.JpegImageFile(io.BytesIO(content)).size
    except Exception:  # cut away, or not what the index says
        return None


def _loaded(image: Image.Image, file: BinaryIO, name: str, tell: Tell) -> Image.Image:
    if image.format == "JPEG":
        image.decodermaxblock = file.seek(0, io.SEEK_END)  # as _jpeg
    seen = _seen(image) if image.format == "GIF" else None
    try:
        image.load()
    except OSError:
        if image.format != "JPEG":
            raise
        return _mended(file, name, tell)
    if seen and seen.getextrema()[0] == 0 and not image.has_transparency_data:
        image.putalpha(seen)
    if image.format == "JPEG":  # Pillow takes what fills up a file that was cut for more of it
        file.seek(0)
        content = file.read()
        end, whole = _end(content)
        if not whole:
            return _mended(file, name, tell)
        if not _uses_up(image, content[:end]):
            tell(f"{name} seems damaged: parts may be wrong")
        elif "progressive" in image.info and _lacks_scans(content, len(image.getbands())):
            tell(f"{name} lacks scans: it may have less detail than it had")
    return image


def _seen(image: Image.Image) -> Image.Image:
    """Where a GIF has drawn up to its present frame: around smaller ones there is nothing."""
    seen, page = Image.new("L", image.size), image.tell()
    for frame in range(page + 1):
        image.seek(frame)
        seen.paste(255, image.tile[0].extents)
    return seen


def _jpeg(content: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(content), formats=["JPEG"])
    image.decodermaxblock = len(content)  # coded by arithmetic, it is decoded at once or not at all
    return image


def _uses_up(image: Image.Image, data: bytes) -> bool:
    """Whether a JPEG's pixels end where its data do, which they hardly do behind damage.

    Then what follows the data changes nothing, and their last bytes count.
    """
    # all that changes, and sooner compared; a progressive one says much of nothing in a byte
    below = 0, 0 if "progressive" in image.info else max(0, image.height - 1024), *image.size

    def is_of(other: bytes) -> bool:
        try:
            again = _jpeg(other + b"\xff\xd9")
            return again.crop(below).tobytes() == image.crop(below).tobytes()
        except OSError:
            return False

    if next(kind for kind, _, _ in _segments(data) if kind in _FRAMES) > 0xC8:
        below = 0, 0, image.width, max(0, image.height - 16)  # arithmetic leaves out last zeros
        return is_of(data + b"\x5a" * 64)
    start = data.rstrip(b"\0\xff")[:-32]  # some fill up the end
    others = (start + bytes([value]) * 32 for value in (0x5A, 0xA5, 0x33, 0xCC))
    restarts = b"\xff\xd0" in data  # from which libjpeg goes on, whatever is between them
    short = len(start) < data.rindex(b"\xff\xda") + 14  # a last scan that hardly has data
    return is_of(data + b"\x5a" * 64) and (restarts or short or not all(map(is_of, others)))


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
    """Whether a progressive JPEG, with its end, has fewer than give all bits of all frequencies."""
    lacking = {}  # channel, frequency -> bits
    for kind, _, scan in _segments(content):
        if kind == 0xD9:
            break
        if kind == 0xDA:
            first, last, bits = scan[-3:]
            keys = ((c, k) for c in scan[1:-3:2] for k in range(first, last + 1))
            lacking |= dict.fromkeys(keys, bits & 15)
    return len(lacking) < 64 * channels or any(lacking.values())


def _bits(file: BinaryIO) -> int:
    """Of a JPEG a channel, by its first frame; 8 where there is none."""
    content = file.seek(0) or file.read()
    return next((part[0] for kind, _, part in _segments(content) if kind in _FRAMES and part), 8)


def _chunks(content: bytes | memoryview) -> Iterator[tuple[bytes, bytes | memoryview, bool]]:
    """Of a PNG: each one's name, all of it, and whether it does not fit its checksum."""
    at, kind = 8, b""
    while at + 12 <= len(content) and kind != b"IEND":
        end = at + 12 + int.from_bytes(content[at : at + 4])
        kind = bytes(content[at + 4 : at + 8])
        sum_ = zlib.crc32(content[at + 4 : end - 4])
        yield kind, content[at:end], sum_ != int.from_bytes(content[end - 4 : end])
        at = end


def _checked(file: BinaryIO, name: str, tell: Tell) -> tuple[BinaryIO, list[str]]:
    """A PNG as Pillow reads it all, and the names of its texts.

    Without what may be lacking and does not fit its checksum, for which Pillow stops: checksums of
    pixels it does not look at, where they can be unpacked. Without texts whose names Pillow has for
    what it decodes. With what it would miss behind the last frame, EXIF and texts, at the front.
    """
    content = memoryview(file.seek(0) or file.read())
    parts, early, wrong, keys = [content[:8]], [], set(), []
    for kind, part, damaged in _chunks(content):
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


def _ends_early(image: Image.Image, file: BinaryIO) -> bool:
    """Whether the data of a loaded PNG are whole but too few for its rows, which are 0 then."""
    last = np.asarray(image.crop((0, image.height - 1, *image.size)))
    if image.tell() or last.any() or image.info.get("interlace"):  # of which Pillow tells itself
        return False
    import imagecodecs

    content = file.seek(0) or file.read()
    parts = [part for kind, part, _ in _chunks(content) if kind.isupper()]  # no warnings of others
    try:
        imagecodecs.png_decode(content[:8] + b"".join(parts))
    except imagecodecs.PngError as error:
        return "Not enough image data" in str(error)
    return False


def _lost_texts(image: Image.Image, names: list[str], file: str) -> Iterator[str]:
    """A line on each text of an open PNG that is not kept."""
    for name in sorted(set(names)):
        if name in _NO_TEXTS:
            yield f"{file} has a text named {name}, which is left out"
        elif names.count(name) > 1:
            yield f"{file} has {names.count(name)} texts named {name}: only the last is kept"
        elif not image.info.get("xmp" if name == metadata.XMP_OF_PNG else name):
            yield f"{file} has a text named {name} that is empty or cannot be read"


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
    image, other = (_jpeg(data + end + b"\xff\xd9" * 64) for end in (b"", b"\x5a" * 4096))
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
    else:
        tell(f"{name} lacks its end mark, but the picture is whole")
    return image


def _orientation(image: Image.Image) -> int:
    try:
        return image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # broken EXIF, whole pixels: show the image as it lies in the file
        return 1


def _channels(
    image: Image.Image, file: BinaryIO
) -> tuple[Image.Image | np.ndarray, Image.Image | None]:
    """Mode L, RGB or CMYK, or of 16 bits uint16, H x W x C, and alpha; of all kinds but TIFF."""
    bits = colour.png_chunks(file)[b"IHDR"][8] if image.format == "PNG" else 8
    clear = image.info.get("transparency")
    if image.format == "AVIF":
        image = image.crop(_aperture(image, file))
    if bits == 16:
        deep = _deep(image, file)
        if clear is not None:
            return deep, Image.fromarray(np.where((deep == clear).all(2), 0, 255).astype(np.uint8))
        if deep.shape[2] % 2:
            return deep, None
        return deep[..., :-1], Image.fromarray(colour.scaled(deep[..., -1], 65535))
    if image.format == "PNG" and image.mode in ("L", "RGB") and clear is not None:
        # Pillow compares it with pixels of 8 bits
        clear = clear if isinstance(clear, tuple) else (clear,)
        scaled = [v * 255 // (2**bits - 1) for v in clear]
        image.info["transparency"] = tuple(scaled) if image.mode == "RGB" else scaled[0]
    bitmap = image.format == "BMP"
    image, alpha = colour.split_alpha(image)
    if bitmap and alpha is not None and not alpha.getbbox():  # not used, as Windows has it
        alpha = None
    return image, alpha


def _aperture(image: Image.Image, file: BinaryIO) -> tuple[int, int, int, int]:
    """The part of an AVIF that is to be seen, before it is turned: Pillow leaves it whole."""
    file.seek(0)
    head = file.read(1 << 16)
    place = head.find(b"\0\0\0\x28clap")
    if not 0 <= place <= len(head) - 40:
        return 0, 0, *image.size
    parts = np.reshape(struct.unpack_from(">4I4i", head, place + 8), (4, 2))
    if not parts[:, 1].all():  # fractions of nothing
        return 0, 0, *image.size
    (width, height), middle = (parts[:, 0] / parts[:, 1]).reshape(2, 2)
    start = middle + np.subtract(image.size, (width, height)) / 2
    box = np.rint([*start, *start + (width, height)])
    return tuple(np.clip(box, 0, image.size * 2).astype(int).tolist())


def _deep(image: Image.Image, file: BinaryIO) -> np.ndarray:
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
