"""Image files to arrays and back: uint8, H x W x 3, sRGB."""

import io
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import ExifTags, Image, ImageCms, PngImagePlugin, UnidentifiedImageError

from cirlib.base.files import UserError, atomic

Size = tuple[int, int]  # width, height in pixels

MAX_PIXELS = 120_000_000

# What can be read, as suffix -> Pillow's name of the format. The content decides which decoder
# runs: a JPEG called .png is read all the same.
FORMATS = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".webp": "WEBP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".bmp": "BMP",
}
# What can be written, with the longest side that libpng, libjpeg and libwebp take, in pixels.
_LONGEST_SIDE = {".png": 1_000_000, ".jpg": 65_500, ".jpeg": 65_500, ".webp": 16_383}

_LONGEST_EXIF = 65_533  # bytes, in a JPEG

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

# EXIF tags that a result keeps of its photo, and of the camera's own those that it does not.
_CAMERA = {
    ExifTags.Base.Make, ExifTags.Base.Model, ExifTags.Base.DateTime, ExifTags.Base.Artist,
    ExifTags.Base.Copyright, ExifTags.Base.ImageDescription,
}  # fmt: skip
_STALE = {
    ExifTags.Base.ExifImageWidth, ExifTags.Base.ExifImageHeight, ExifTags.Base.ColorSpace,
    ExifTags.Base.ExifInteroperabilityOffset,
}  # fmt: skip

_limit_lifted = threading.Lock()


def read_image(source: Path | str | BinaryIO) -> np.ndarray:
    """Read an image file as a contiguous, writable array: uint8, H x W x 3, sRGB.

    ``source`` is a path or an open binary file, which stays open. The image is turned upright by
    its EXIF orientation; an embedded ICC profile is converted to sRGB; transparent parts are laid
    over white; of an animation the first frame is taken. Grey of 16 bits is scaled to 8 as
    round(value / 257); for colour of 16 bits Pillow's decoders keep the upper byte, which is at
    most one level lower.

    Raises UserError when there is no such file, it is no image of a kind in ``FORMATS``, is
    damaged, or has more than ``MAX_PIXELS`` pixels.
    """
    if isinstance(source, str | Path):
        path = Path(source)
        try:
            _check_path(path)
            with open(path, "rb") as file:
                return _decode(file, str(path))
        except OSError as error:
            raise UserError(
                f"cannot read {path}: {error.strerror}; check its permissions"
            ) from error
    return _decode(source, str(getattr(source, "name", "the image")))


def _check_path(path: Path) -> None:
    if path.is_dir():
        raise UserError(f"{path} is a folder: name one image file in it")
    if not path.exists():
        raise UserError(f"there is no file {path}: check the name and the folder")
    if path.suffix.lower() not in FORMATS:
        raise UserError(
            f"{path} does not end in one of {' '.join(FORMATS)}: convert it to PNG or JPEG first"
        )


def _decode(file: BinaryIO, name: str) -> np.ndarray:
    try:
        with _own_limit():
            image = Image.open(file, formats=sorted(set(FORMATS.values())))
        with image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise UserError(
                    f"{name} is too large: {width} x {height} is over the limit of "
                    f"{MAX_PIXELS // 1_000_000} megapixels; scale it down or cut a part out"
                )
            if image.format == "TIFF":  # its decoder asks for Pillow's limit once more
                with _own_limit():
                    image.load()
            image.load()
            # After load(): PNG may keep its EXIF behind the pixels, TIFF is turned while loading.
            turn = _UPRIGHT.get(_orientation(image))
            rgb = _to_srgb(image, name)
            return np.array(rgb if turn is None else rgb.transpose(turn))
    except UserError:
        raise
    except UnidentifiedImageError as error:
        file.seek(0)
        if not file.read(1):
            raise UserError(f"{name} is empty (0 bytes): copy or download it again") from error
        raise UserError(
            f"{name} is not an image that can be read: give a PNG, JPEG, WebP, TIFF or BMP file"
        ) from error
    except MemoryError as error:
        raise UserError(f"not enough memory for {name}: scale it down or cut a part out") from error
    except Exception as error:  # on damaged bytes Pillow's decoders raise errors of many types
        raise UserError(
            f"{name} is damaged, cut off or of a rare kind ({error}): "
            "copy it again, or convert it to PNG"
        ) from error


@contextmanager
def _own_limit() -> Iterator[None]:
    """Lift Pillow's limit, a warning at 89 megapixels, for a moment: ``MAX_PIXELS`` is ours.

    The limit is a global of Pillow's, hence the lock and the short time.
    """
    with _limit_lifted:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _orientation(image: Image.Image) -> int:
    try:
        return image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # broken EXIF, whole pixels: show the image as it lies in the file
        return 1


def camera_data(path: Path | str) -> Image.Exif | None:
    """What a photo's file says of how it was taken (date, camera, lens, place), for a result.

    With its resolution in print, in dots per inch, wherever the file has it. Without what no longer
    holds after read_image: orientation, size, colour space; and without thumbnail. None where there
    is nothing, or nothing that can be read.
    """
    kept = Image.Exif()
    try:
        with open(path, "rb") as file, _own_limit():
            image = Image.open(file, formats=sorted(set(FORMATS.values())))
            found = image.getexif()
            taken = {ifd: found.get_ifd(ifd) for ifd in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo)}
            for tag in _CAMERA & found.keys():
                kept[tag] = found[tag]
            for ifd, values in taken.items():
                if values := {t: v for t, v in values.items() if t not in _STALE}:
                    kept.get_ifd(ifd).update(values)
            # Pillow's "dpi" may also be a guess: 72 of a JPEG, 1 of a TIFF
            sure = image.format in ("PNG", "BMP") or image.info.get("jfif_unit")
            if dots := _dots_per_inch(found, image.info.get("dpi") if sure else None):
                x, y = reversed(dots) if _orientation(image) in _SIDEWAYS else dots
                tags = ExifTags.Base
                kept.update({tags.XResolution: x, tags.YResolution: y, tags.ResolutionUnit: 2})
            kept.tobytes()  # some broken values fail only here
    except Exception:  # as for the orientation: broken EXIF costs nothing else
        return None
    return kept if kept or any(taken.values()) else None


def _dots_per_inch(
    exif: Image.Exif, header: tuple[float, float] | None = None
) -> tuple[float, float] | None:
    """Across and down, by a file's header, else by EXIF or the same tags of TIFF.

    None where neither has them, or they are too few or too many to be true (for a JPEG to hold).
    """
    inches = {2: 1, 3: 2.54}.get(exif.get(ExifTags.Base.ResolutionUnit, 2), 0)
    tags = ExifTags.Base.XResolution, ExifTags.Base.YResolution
    dots = header or tuple(float(exif.get(tag, 0)) * inches for tag in tags)
    return dots if all(1 <= d <= 65_535 for d in dots) else None


def _to_srgb(image: Image.Image, name: str) -> Image.Image:
    """Any of Pillow's modes -> mode RGB in sRGB, transparent parts over white."""
    icc = image.info.get("icc_profile")
    alpha = None
    if image.mode in ("I", "F"):
        raise UserError(
            f"{name} has 32-bit values of unknown range: save it with 8 or 16 bits a channel"
        )
    if image.mode.startswith("I;16"):
        image = _to_8_bits(image)
    elif image.has_transparency_data:
        alpha = image.convert("RGBA").getchannel("A")
        image = image.convert("L" if image.mode == "LA" else "RGB")
    elif image.mode not in ("L", "CMYK"):
        image = image.convert("RGB")
    rgb = _apply_profile(image, icc) if icc else image.convert("RGB")
    if alpha is not None:
        rgb = Image.composite(rgb, Image.new("RGB", rgb.size, "white"), alpha)
    return rgb


def _to_8_bits(image: Image.Image) -> Image.Image:
    bits = image.tag_v2[ExifTags.Base.BitsPerSample][0] if image.format == "TIFF" else 16
    peak = 2**bits - 1  # TIFF knows grey of 12 bits, too
    grey = np.array(image).astype(np.uint32)
    return Image.fromarray(((grey * 255 + peak // 2) // peak).astype(np.uint8))


def _apply_profile(image: Image.Image, icc: bytes) -> Image.Image:
    """Mode L, RGB or CMYK -> RGB by the ICC profile; plainly where that is broken or foreign."""
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
        if profile.profile.xcolor_space == {"L": "GRAY", "RGB": "RGB ", "CMYK": "CMYK"}[image.mode]:
            return ImageCms.profileToProfile(
                image, profile, ImageCms.createProfile("sRGB"), outputMode="RGB"
            )
    except (ImageCms.PyCMSError, OSError):
        pass  # the pixels are still worth showing
    return image.convert("RGB")


def check_target(path: Path) -> None:
    """Raises UserError unless the suffix is one that write_image can write."""
    if path.suffix.lower() not in _LONGEST_SIDE:
        raise UserError(f"cannot write {path}: end the name in one of {' '.join(_LONGEST_SIDE)}")


def write_image(
    path: Path | str,
    image: np.ndarray,
    *,
    metadata: dict[str, str] | None = None,
    exif: Image.Exif | None = None,
) -> None:
    """Write an array (uint8, H x W x 3, sRGB) as PNG, JPEG or lossless WebP, by the suffix.

    The file is whole or absent. ``exif`` is written as it is, and its resolution also into the own
    header of PNG and JPEG, where most programs look for it. ``metadata`` becomes text chunks in
    PNG, and JSON in the EXIF tag Software in the other two. JPEG has quality 95 without chroma
    subsampling.

    Raises UserError for another suffix, an image or EXIF too long for the format, or a path that
    cannot be written; ValueError when the array is not uint8, H x W x 3.
    """
    path = Path(path)
    check_target(path)
    suffix = path.suffix.lower()
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"expected uint8, H x W x 3; got {image.dtype}, {image.shape}")
    if max(image.shape) > _LONGEST_SIDE[suffix]:
        raise UserError(
            f"cannot write {path}: a side is over {_LONGEST_SIDE[suffix]} pixels, the format's "
            "limit; write .png instead"
        )
    if suffix == ".png":
        with atomic(path) as temporary:
            temporary.write_bytes(encode_png(image, metadata=metadata, exif=exif))
        return
    if metadata:
        exif = Image.Exif() if exif is None else deepcopy(exif)
        exif[ExifTags.Base.Software] = json.dumps(metadata)
    options = {"exif": exif} if exif is not None else {}
    if suffix == ".webp":
        options["lossless"] = True
    else:
        if exif is not None and len(exif.tobytes()) > _LONGEST_EXIF:
            raise UserError(f"cannot write {path}: JPEG has no room for so much EXIF; write .png")
        options |= {"quality": 95, "subsampling": "4:4:4"}
        if exif is not None and (dots := _dots_per_inch(exif)):
            options["dpi"] = dots
    with atomic(path) as temporary:
        Image.fromarray(np.ascontiguousarray(image)).save(
            temporary, format=FORMATS[suffix], **options
        )


def read_metadata(path: Path | str) -> dict[str, str]:
    """The ``metadata`` that write_image wrote into a file; empty where there are none."""
    try:
        with Image.open(path, formats=sorted(set(FORMATS.values()))) as image:
            if image.format == "PNG":  # info: what stands before the pixels, without reading those
                return {key: text for key, text in image.info.items() if isinstance(text, str)}
            return dict(json.loads(image.getexif()[ExifTags.Base.Software]))
    except Exception:  # whatever it is, we did not write it
        return {}


def encode_png(
    image: np.ndarray,
    *,
    metadata: dict[str, str] | None = None,
    exif: Image.Exif | None = None,
    compress_level: int = 6,
) -> bytes:
    """The bytes of a PNG file of an array (uint8, H x W x 3, sRGB), with metadata as text chunks.

    compress_level: 0 to 9; 1 takes a third of the time of 6, and 8% more bytes for a photo.
    """
    texts, file = PngImagePlugin.PngInfo(), io.BytesIO()
    for key, value in (metadata or {}).items():
        texts.add_text(key, value)
    Image.fromarray(np.ascontiguousarray(image)).save(
        file, "PNG", pnginfo=texts, exif=exif, compress_level=compress_level,
        dpi=None if exif is None else _dots_per_inch(exif),
    )  # fmt: skip
    return file.getvalue()


def _visible(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in FORMATS and path.is_file()


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
