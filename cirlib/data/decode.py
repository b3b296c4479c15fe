"""An open image file of any kind that is read -> its pixels, and what is kept beside them."""

import io
import struct
import warnings
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageChops, JpegImagePlugin, UnidentifiedImageError

from cirlib.base.files import Tell, UserError
from cirlib.data import colour, jpeg, metadata, png, tiff
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
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="PIL")  # what matters is told here
        return _decode(file, name, page, tell, pixels)


def _decode(
    file: BinaryIO, name: str, page: int | None, tell: Tell, pixels: bool
) -> np.ndarray | Kept:
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
                file, texts = png.checked(file, name, damages.append)
            image, file = _open(file, kind, name, page, tell)
            if kind == "PNG":
                damages += png.lost_texts(image, texts, name)
            if kind == "GIF":
                image.info |= metadata.info_of_gif(file)
            if pixels:
                image = _loaded(image, file, name, tell)
            if kind == "PNG" and pixels and png.ends_early(image, file):
                raise ValueError("its pixels end before the last row")
            for damage in damages:
                tell(damage)
            exif = metadata.exif_of(image)
            if exif.damaged:
                tell(f"{name} has damaged EXIF: what cannot be read of it is left out")
            orientation = metadata.orientation_of(image, exif)
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
        said = " ".join(str(error).split())
        if not said or not isinstance(error, OSError | ValueError | RuntimeError):
            said = "its parts do not fit together"  # its own words are for programmers
        if isinstance(error, UnidentifiedImageError):  # which tells of an object in Python
            bits = jpeg.bits(file) if kind == "JPEG" else 8
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
    """The page of that number, or the first frame, not yet loaded, and the file that it is in."""
    file.seek(0)
    try:
        image = Image.open(file, formats=[kind])
    except UnidentifiedImageError:
        if kind != "JPEG":
            raise
        file = jpeg.without_broken(file, name, tell)
        image = Image.open(file, formats=[kind])
    check_size(name, *image.size)
    frames = getattr(image, "n_frames", 1)
    if page is not None and not 1 <= page <= frames:
        raise UserError(f"{name} has no page {page}, only {frames}")
    if image.format == "MPO":
        pictures = jpeg.pictures(file, image)
        if page is None and jpeg.size_of(pictures[1]) == image.size:  # no preview or map
            tell(f"{name} has {frames} frames: only the first is read{tiff.ANOTHER}")
        own = io.BytesIO(pictures[page - 1 if page else 0])
        image = JpegImagePlugin.JpegImageFile(own)
        check_size(name, *image.size)
        return image, own
    if page is not None:
        image.seek(page - 1)
    elif frames > 1:
        which = "the first" if image.tell() == 0 else f"number {image.tell() + 1}"  # of HEIC
        tell(f"{name} has {frames} frames: only {which} is read{tiff.ANOTHER}")
    return image, file


def _loaded(image: Image.Image, file: BinaryIO, name: str, tell: Tell) -> Image.Image:
    if image.format == "JPEG":
        return jpeg.loaded(image, file, name, tell)
    seen = _seen(image) if image.format == "GIF" else None
    image.load()
    if seen and seen.getextrema()[0] == 0 and not image.has_transparency_data:
        image.putalpha(seen)
    return image


def _seen(image: Image.Image) -> Image.Image:
    """Where a GIF has drawn up to its present frame: around smaller ones there is nothing."""
    seen, page = Image.new("L", image.size), image.tell()
    for frame in range(page + 1):
        image.seek(frame)
        seen.paste(255, image.tile[0].extents)
    return seen


def _channels(
    image: Image.Image, file: BinaryIO
) -> tuple[Image.Image | np.ndarray, Image.Image | None]:
    """Mode L, RGB or CMYK, or of 16 bits uint16, H x W x C, and alpha; of all kinds but TIFF."""
    bits = png.short_chunks(file)[b"IHDR"][8] if image.format == "PNG" else 8
    clear = image.info.get("transparency")
    if image.format == "AVIF":
        image = image.crop(_aperture(image, file))
    if bits == 16:
        deep = png.deep(image, file)
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
    if bitmap := image.format == "BMP":
        image = _bmp_of_16_bits(image, file)
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


def _bmp_of_16_bits(bitmap: Image.Image, file: BinaryIO) -> Image.Image:
    """A BMP with the bit of alpha that a header may name, as it is where that names none.

    Pillow reads the colours of 16 bits alone.
    """
    file.seek(0)
    head = file.read(70)
    if head[14] < 56 or head[28:30] != b"\x10\0" or head[66:] != b"\0\x80\0\0":
        return bitmap
    file.seek(0)
    tile = Image.open(file, formats=["BMP"]).tile[0]
    file.seek(tile.offset)
    _, stride, direction = tile.args
    content = file.read(stride * bitmap.height)
    return Image.frombytes("RGBA", bitmap.size, content, "raw", "BGRA;15", stride, direction)
