"""Image files to arrays and back: uint8, H x W x 3, sRGB."""

import io
import json
import math
import os
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import ExifTags, Image, PngImagePlugin

from cirlib.base.files import Tell, UserError, atomic, say
from cirlib.data.decode import decode, kind_of
from cirlib.data.metadata import XMP_OF_PNG, Exif, Kept, xmp_for_jpeg

Size = tuple[int, int]  # width, height in pixels

# What is read, as suffix -> Pillow's name of the format. The content decides which decoder runs: a
# JPEG called .png is read all the same, as is one without suffix.
FORMATS = {
    ".png": "PNG",
    ".jpg": "JPEG", ".jpeg": "JPEG", ".jfif": "JPEG", ".jif": "JPEG", ".jpe": "JPEG",
    ".pjpeg": "JPEG",
    ".webp": "WEBP",
    ".tif": "TIFF", ".tiff": "TIFF",
    ".bmp": "BMP",
    ".gif": "GIF",
    ".avif": "AVIF",
    ".heic": "HEIF", ".heif": "HEIF",
}  # fmt: skip
# Cameras' own, which are TIFF inside: no photos of a folder.
_RAW = {".3fr", ".arw", ".cr2", ".dng", ".erf", ".iiq", ".kdc", ".mef", ".nef", ".nrw", ".orf",
        ".pef", ".rw2", ".rwl", ".sr2", ".srf", ".srw"}  # fmt: skip
# What can be written, with the longest side that libpng, libjpeg and libwebp take, in pixels.
_LONGEST_SIDE = {".png": 1_000_000, ".jpg": 65_500, ".jpeg": 65_500, ".webp": 16_383}

_LONGEST_EXIF = 65_533  # bytes, in a JPEG, as of a comment


def read_image(
    source: Path | str | BinaryIO, page: int | None = None, tell: Tell = say
) -> np.ndarray:
    """Read an image file as a contiguous, writable array: uint8, H x W x 3, sRGB.

    ``source`` is a path or an open binary file, which stays open. The image is turned upright by
    its EXIF orientation. Its colours are converted to sRGB, by an embedded ICC profile or by what
    else says them; transparent parts are laid over white. Of several pages or frames that of number
    ``page`` is taken, from 1; by default the first that is no preview. 16 bits are scaled to 8 as
    round(value / 257).

    tell: is given a line on what is not as one would think: pages that are left out, the lower part
    of a JPEG that is cut off, a profile that is broken.

    Raises UserError when there is no such file, it is no image of a kind in ``FORMATS``, is
    damaged, or has more than ``MAX_PIXELS`` pixels.
    """
    return _read(source, page, tell)


def pixels_of(path: Path) -> float:
    """How many the first picture of a file has, by its header; infinite where that does not say."""
    try:
        with Image.open(path if path.is_file() else "") as image:  # opening a pipe may wait
            return image.width * image.height
    except Exception:  # who reads it will say what is wrong
        return math.inf


def read_kept(source: Path | str | BinaryIO, page: int | None = None) -> Kept:
    """What a result keeps of a photo's file beside its pixels; empty where that cannot be read.

    page: as for read_image.
    """
    try:
        return _read(source, page, lambda _: None, pixels=False)
    except UserError:
        return Kept()


def _read(
    source: Path | str | BinaryIO, page: int | None, tell: Tell, pixels: bool = True
) -> np.ndarray | Kept:
    if not isinstance(source, str | Path):
        return decode(source, str(getattr(source, "name", "the image")), page, tell, pixels)
    path = Path(source)
    try:
        if path.is_dir():
            raise UserError(f"{path} is a folder: name one image file in it")
        if not path.exists():
            raise UserError(f"there is no file {path}: check the name and the folder")
        if not path.is_file():  # opening a pipe may wait for ever
            raise UserError(f"{path} is a pipe or a device: save its content as a file first")
        with open(path, "rb") as file:
            return decode(file, str(path), page, tell, pixels)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}; check its permissions") from error


def check_target(path: Path) -> None:
    """Raises UserError unless the suffix is one that write_image can write."""
    if path.suffix.lower() not in _LONGEST_SIDE:
        raise UserError(f"cannot write {path}: end the name in one of {' '.join(_LONGEST_SIDE)}")


def check_room(path: Path, image: np.ndarray, exif: Exif) -> None:
    """Raises UserError where the format of the suffix has no room for such sides, or such EXIF."""
    suffix = path.suffix.lower()
    if max(image.shape) > _LONGEST_SIDE[suffix]:
        raise UserError(
            f"cannot write {path}: a side is over {_LONGEST_SIDE[suffix]} pixels, the format's "
            "limit; write .png instead"
        )
    if FORMATS[suffix] == "JPEG" and len(exif.tobytes()) > _LONGEST_EXIF:
        raise UserError(f"cannot write {path}: JPEG has no room for so much EXIF; write .png")


def write_image(
    path: Path | str,
    image: np.ndarray,
    *,
    metadata: dict[str, str] | None = None,
    kept: Kept | None = None,
    tell: Tell = say,
) -> None:
    """Write an array (uint8, H x W x 3, sRGB) as PNG, JPEG or lossless WebP, by the suffix.

    The file is whole or absent. ``kept``: what read_kept gives of a photo; its resolution stands in
    EXIF, and also in the own header of PNG and JPEG, where most programs look for it. ``metadata``
    becomes text chunks in PNG, and JSON in the EXIF tag Software in the other two. JPEG has quality
    95 without chroma subsampling. tell: is given a line on what of ``kept`` the format cannot hold.

    Raises UserError for another suffix, an image or EXIF too long for the format, or a path that
    cannot be written; ValueError when the array is not uint8, H x W x 3.
    """
    path, kept = Path(path), kept or Kept()
    check_target(path)
    suffix = path.suffix.lower()
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"expected uint8, H x W x 3; got {image.dtype}, {image.shape}")
    exif = kept.exif.with_software(json.dumps(metadata)) if metadata else kept.exif
    check_room(path, image, exif)
    if suffix == ".png":
        with atomic(path) as temporary:
            temporary.write_bytes(encode_png(image, metadata=metadata, kept=kept))
        return
    options = {"exif": exif.tobytes()} if exif else {}
    lost = [*kept.texts]
    if suffix == ".webp":
        options |= {"lossless": True, "xmp": kept.xmp}
    else:
        options |= {"quality": 95, "subsampling": "4:4:4"} | xmp_for_jpeg(kept.xmp)
        if 0 < len(comment := kept.texts.get("Comment", "").encode()) <= _LONGEST_EXIF:
            lost.remove("Comment")
            options["comment"] = comment
        if kept.dpi:
            options["dpi"] = kept.dpi
    with atomic(path) as temporary:
        Image.fromarray(np.ascontiguousarray(image)).save(
            temporary, format=FORMATS[suffix], **options
        )
    if lost:
        tell(f"{path} has no room for the photo's {', '.join(lost)}: write .png to keep them")


def read_metadata(path: Path | str) -> dict[str, str]:
    """The ``metadata`` that write_image wrote into a file; empty where there are none."""
    try:
        with Image.open(path, formats=["PNG", "JPEG", "WEBP"]) as image:
            if image.format == "PNG":  # info: what stands before the pixels, without reading those
                return {key: text for key, text in image.info.items() if isinstance(text, str)}
            return dict(json.loads(image.getexif()[ExifTags.Base.Software]))
    except Exception:  # whatever it is, we did not write it
        return {}


def encode_png(
    image: np.ndarray,
    *,
    metadata: dict[str, str] | None = None,
    kept: Kept | None = None,
    compress_level: int = 6,
) -> bytes:
    """The bytes of a PNG file of an array (uint8, H x W x 3, sRGB), with metadata as text chunks.

    With a fourth channel: how opaque it is.

    kept: as for write_image. compress_level: 0 to 9; 1 takes a third of the time of 6, and 8% more
    bytes for a photo.
    """
    texts, file, kept = PngImagePlugin.PngInfo(), io.BytesIO(), kept or Kept()
    for key, value in (kept.texts | (metadata or {})).items():
        texts.add_text(key, value)
    if kept.xmp:
        texts.add_itxt(XMP_OF_PNG, kept.xmp.decode("utf-8", "replace"))
    Image.fromarray(np.ascontiguousarray(image)).save(
        file, "PNG", pnginfo=texts, exif=kept.exif.tobytes() if kept.exif else None,
        compress_level=compress_level, dpi=kept.dpi,
    )  # fmt: skip
    return file.getvalue()


def _visible(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def _is_image(path: Path) -> bool:
    """By suffix, or by content: a photo may have lost its suffix, or have another."""
    suffix = path.suffix.lower()
    if os.path.isdir(path) or suffix in _RAW:
        return False
    if suffix in FORMATS or not os.path.isfile(path):
        return suffix in FORMATS  # also a pipe, a dead link, a locked file: who reads it says so
    try:
        with open(path, "rb") as file:
            return kind_of(file.read(256)) is not None
    except OSError:
        return False


def list_images(folder: Path | str) -> list[Path]:
    """Image files in ``folder`` by name, hidden ones and sub-folders left out.

    Raises UserError when the folder is missing or has none.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}: check the name")
    found = [path for path in _visible(folder) if _is_image(path)]
    if not found:
        raise UserError(f"no images in {folder}: put files in it that end in {' '.join(FORMATS)}")
    return found


def list_others(folder: Path | str) -> list[Path]:
    """What list_images leaves out, by name: other files and sub-folders, but no hidden ones."""
    return [path for path in _visible(Path(folder)) if not _is_image(path)]


def centre_crop(image: np.ndarray, crop: int | None) -> np.ndarray:
    """The central crop x crop pixels, or the image where it is smaller or crop is None."""
    if crop is None:
        return image
    top, left = (max(0, (extent - crop) // 2) for extent in image.shape[:2])
    return np.ascontiguousarray(image[top : top + crop, left : left + crop])


def size_of(image: np.ndarray) -> Size:
    """(width, height) of H x W x 3."""
    return image.shape[1], image.shape[0]


def shrunk(image: np.ndarray, pixels: int) -> np.ndarray:
    """An image of at most about so many pixels, averaged; itself if it is no larger."""
    height, width, _ = image.shape
    scale = (pixels / (height * width)) ** 0.5
    if scale >= 1:
        return image
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BOX))
