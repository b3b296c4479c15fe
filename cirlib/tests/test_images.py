"""Whatever a user's photo is, it arrives as uint8, H x W x 3, sRGB, upright; or one line says why
not. Every file here is made on the spot."""

import gc
import io
import json
import struct
import threading
import warnings
import zlib

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageCms

from cirlib.base.files import UserError
from cirlib.data import images
from cirlib.data.images import list_images, read_image, read_metadata, write_image

RNG = np.random.default_rng(0)
PHOTO = RNG.integers(0, 256, (6, 8, 3), dtype=np.uint8)


def check(image: np.ndarray) -> np.ndarray:
    """The promises that hold for every array that read_image returns."""
    assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3
    assert image.flags.c_contiguous and image.flags.writeable
    return image


def png_16(samples: np.ndarray) -> bytes:
    """PNG of uint16, H x W x C; Pillow cannot write colour of 16 bits."""
    H, W, C = samples.shape
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[C]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)

    def chunk(name: bytes, content: bytes) -> bytes:
        check = zlib.crc32(name + content)
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", check)

    header = struct.pack(">IIBBBBB", W, H, 16, kind, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        [chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    )


def tiff(width: int, height: int, bits: tuple[int, ...], strip: bytes, order: str = "<") -> bytes:
    """Uncompressed TIFF of one strip, grey or RGB, little- (<) or big-endian (>)."""
    channels = len(bits)
    fields = [
        (256, 3, width),
        (257, 3, height),
        (258, 3, bits[0] if channels == 1 else 8 + len(strip)),
        (259, 3, 1),
        (262, 3, 1 if channels == 1 else 2),
        (273, 4, 8),
        (277, 3, channels),
        (278, 3, height),
        (279, 4, len(strip)),
    ]
    directory = 8 + len(strip) + 2 * channels
    out = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", directory)
    out += strip + struct.pack(f"{order}{channels}H", *bits)
    out += struct.pack(f"{order}H", len(fields))
    for tag, kind, value in fields:
        count = channels if tag == 258 else 1
        if kind == 3 and value < 1 << 16 and (tag, count) != (258, 3):
            out += struct.pack(f"{order}HHIHxx", tag, kind, count, value)
        else:
            out += struct.pack(f"{order}HHII", tag, kind, count, value)
    return out + bytes(4)


def saved(image: Image.Image, kind: str, **options) -> io.BytesIO:
    file = io.BytesIO()
    image.save(file, kind, **options)
    file.seek(0)
    return file


def error_of(source) -> str:
    """The message, which is one line."""
    with pytest.raises(UserError) as raised:
        read_image(source)
    assert "\n" not in str(raised.value)
    return str(raised.value)


# Kinds of pixels


@pytest.mark.parametrize("suffix, kind", images.FORMATS.items())
def test_every_format_is_read(tmp_path, suffix, kind):
    path = tmp_path / f"photo{suffix.upper()}"
    Image.fromarray(PHOTO).save(path, kind, **({"lossless": True} if kind == "WEBP" else {}))
    image = check(read_image(str(path)))
    if kind == "JPEG":
        assert image.shape == PHOTO.shape
    else:
        np.testing.assert_array_equal(image, PHOTO)


def test_content_decides_not_the_suffix(tmp_path):
    Image.fromarray(PHOTO).save(tmp_path / "photo.jpg", "PNG")
    np.testing.assert_array_equal(read_image(tmp_path / "photo.jpg"), PHOTO)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "LA", "RGBA", "CMYK", "YCbCr"])
def test_smallest_image_of_every_mode(mode):
    kind = "TIFF" if mode in ("CMYK", "YCbCr") else "PNG"
    assert check(read_image(saved(Image.new(mode, (1, 1)), kind))).shape == (1, 1, 3)


def test_grey_becomes_three_equal_channels():
    image = check(read_image(saved(Image.fromarray(PHOTO[..., 0]), "PNG")))
    np.testing.assert_array_equal(image, PHOTO[..., :1].repeat(3, axis=2))


def test_palette():
    image = Image.fromarray(np.array([[0, 1], [2, 1]], dtype=np.uint8), "P")
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    expected = [[[10, 20, 30], [40, 50, 60]], [[70, 80, 90], [40, 50, 60]]]
    np.testing.assert_array_equal(check(read_image(saved(image, "PNG"))), expected)
    image = read_image(saved(image, "PNG", transparency=1))
    expected[0][1] = expected[1][1] = [255, 255, 255]
    np.testing.assert_array_equal(check(image), expected)


def test_alpha_is_laid_over_white():
    alpha = np.array([[0, 255], [51, 255]], dtype=np.uint8)
    colour = np.full((2, 2, 3), (100, 0, 200), dtype=np.uint8)
    image = read_image(saved(Image.fromarray(np.dstack([colour, alpha])), "PNG"))
    np.testing.assert_array_equal(check(image)[0], [[255, 255, 255], [100, 0, 200]])
    np.testing.assert_array_equal(image[1], [[224, 204, 244], [100, 0, 200]])
    grey = Image.fromarray(np.dstack([colour[..., 2], alpha]), "LA")
    image = read_image(saved(grey, "PNG"))
    np.testing.assert_array_equal(check(image)[..., 1], [[255, 200], [244, 200]])


def test_opaque_alpha_changes_nothing():
    opaque = np.full((6, 8, 1), 255, dtype=np.uint8)
    image = read_image(saved(Image.fromarray(np.dstack([PHOTO, opaque])), "PNG"))
    np.testing.assert_array_equal(image, PHOTO)


RAMP = np.arange(0, 65536, 7, dtype=np.uint16)[:9216].reshape(72, 128)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "TIFF, compressed", "TIFF, big-endian"])
def test_grey_of_16_bits_is_scaled_not_clipped(kind):
    if kind == "TIFF, big-endian":
        file = io.BytesIO(tiff(128, 72, (16,), RAMP.astype(">u2").tobytes(), ">"))
    else:
        options = {"compression": "tiff_lzw"} if "compressed" in kind else {}
        file = saved(Image.fromarray(RAMP), kind.split(",")[0], **options)
    image = check(read_image(file))
    np.testing.assert_array_equal(image[..., 1], np.rint(RAMP / 257))


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_png_colour_of_16_bits_is_scaled_within_one_level(channels):
    samples = np.stack([RAMP, RAMP.T.reshape(RAMP.shape), RAMP[::-1], RAMP], axis=2)
    samples = samples[..., :channels].copy()
    if channels != 3:
        samples[..., -1] = 65535
    image = check(read_image(io.BytesIO(png_16(samples)))).astype(int)
    expected = np.rint(samples[..., : 3 if channels > 2 else 1] / 257)
    assert np.abs(image - expected).max() <= 1
    exact = samples[..., :3] // 257 * 257  # what was 8 bits before stays what it was
    image = read_image(io.BytesIO(png_16(np.ascontiguousarray(exact))))
    if channels == 3:
        np.testing.assert_array_equal(image, exact // 257)


def test_tiff_colour_of_16_bits_is_scaled_within_one_level():
    samples = np.stack([RAMP, RAMP[::-1], RAMP[:, ::-1]], axis=2)
    content = tiff(128, 72, (16, 16, 16), samples.astype("<u2").tobytes())
    image = check(read_image(io.BytesIO(content))).astype(int)
    assert np.abs(image - np.rint(samples / 257)).max() <= 1


def test_tiff_grey_of_12_bits_reaches_white():
    packed = bytes.fromhex("000800" + "fffabc")  # 0, 0x800, 0xfff, 0xabc
    image = read_image(io.BytesIO(tiff(4, 1, (12,), packed)))
    expected = np.rint(np.array([0, 0x800, 0xFFF, 0xABC]) * 255 / 4095)
    np.testing.assert_array_equal(check(image)[0, :, 0], expected)


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_values_of_unknown_range_are_refused(dtype):
    file = saved(Image.fromarray(np.ones((3, 3), dtype=dtype)), "TIFF")
    assert "32-bit" in error_of(file) and "8 or 16 bits" in error_of(file)


def test_cmyk_without_profile():
    ink = np.zeros((4, 4, 4), dtype=np.uint8)
    ink[:, 2:, 3] = 255
    for kind in ("TIFF", "JPEG"):
        image = check(read_image(saved(Image.fromarray(ink, "CMYK"), kind)))
        assert image[:, 0].min() >= 252 and image[:, 3].max() <= 3


def test_animation_gives_its_first_frame():
    frames = [Image.fromarray(PHOTO), Image.new("RGB", (8, 6), "red")]
    options = {"PNG": {}, "WEBP": {"lossless": True}, "TIFF": {}}
    for kind, option in options.items():
        file = saved(frames[0], kind, save_all=True, append_images=frames[1:], **option)
        np.testing.assert_array_equal(check(read_image(file)), PHOTO)


def test_phone_jpeg_of_several_pictures_gives_its_first():
    frames = [Image.new("RGB", (16, 16), (200, 100, 50)), Image.new("RGB", (8, 8), "red")]
    image = read_image(saved(frames[0], "MPO", save_all=True, append_images=frames[1:]))
    assert np.abs(check(image) - np.array([200, 100, 50])).max() <= 2 and image.shape[0] == 16


# Orientation


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF", "TIFF, compressed", "JPEG"])
def test_exif_orientation_is_applied(kind, orientation):
    """The EXIF standard tells where row 0 and column 0 of the file are in the upright scene."""
    scene = np.kron(PHOTO[:2, :3], np.ones((16, 16, 1), dtype=np.uint8))  # survives JPEG
    stored = {
        1: scene,
        2: scene[:, ::-1],
        3: scene[::-1, ::-1],
        4: scene[::-1],
        5: scene.transpose(1, 0, 2),
        6: scene.transpose(1, 0, 2)[::-1],
        7: scene[::-1, ::-1].transpose(1, 0, 2),
        8: scene.transpose(1, 0, 2)[:, ::-1],
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"WEBP": {"lossless": True}, "JPEG": {"quality": 100, "subsampling": 0}}
    options["TIFF, compressed"] = {"compression": "tiff_lzw"}
    image = Image.fromarray(np.ascontiguousarray(stored))
    file = saved(image, kind.split(",")[0], exif=exif, **options.get(kind, {}))
    image = check(read_image(file))
    assert image.shape == scene.shape
    assert np.abs(image.astype(int) - scene).max() <= (6 if kind == "JPEG" else 0)


def test_broken_exif_does_not_cost_the_picture():
    for broken in (b"Exif\0\0MM\0*\xff\xff\xff\xff", b"Exif\0\0nonsense", b"Exif\0\0"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = read_image(saved(Image.fromarray(PHOTO), "WEBP", lossless=True, exif=broken))
        np.testing.assert_array_equal(image, PHOTO)


# Colour profiles


def icc(space: bytes, tags: dict[bytes, bytes]) -> bytes:
    """A small ICC profile of version 2; ``tags`` as the standard's clause 6 lays them out."""
    offset = 128 + 4 + 12 * len(tags)
    table, body = struct.pack(">I", len(tags)), b""
    for name, content in tags.items():
        content += b"\0" * (-len(content) % 4)
        table += struct.pack(">4sII", name, offset + len(body), len(content))
        body += content
    header = struct.pack(
        ">I4xI4s4s4s12x4s", offset + len(body), 0x02100000, b"mntr", space, b"XYZ ", b"acsp"
    )
    header += bytes(68 - len(header)) + struct.pack(">iii", 0xF6D6, 0x10000, 0xD32D)
    return header + bytes(128 - len(header)) + table + body


def xyz(x: float, y: float, z: float) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">iii", *(round(v * 65536) for v in (x, y, z)))


def gamma(value: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(value * 256))


WHITE = {b"wtpt": xyz(0.9642, 1.0, 0.8249)}
LINEAR_GREY = icc(b"GRAY", WHITE | {b"kTRC": gamma(1.0)})
SWAPPED = icc(  # sRGB's primaries with red and green exchanged, gamma 2.2
    b"RGB ",
    WHITE
    | {b"rXYZ": xyz(0.3851, 0.7169, 0.0971), b"gXYZ": xyz(0.4361, 0.2225, 0.0139)}
    | {b"bXYZ": xyz(0.1431, 0.0606, 0.7141)}
    | {name: gamma(2.2) for name in (b"rTRC", b"gTRC", b"bTRC")},
)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP", "JPEG"])
def test_icc_profile_is_converted_to_srgb(kind):
    colour = Image.new("RGB", (16, 16), (220, 60, 120))
    options = {"lossless": True} if kind == "WEBP" else {}
    image = check(read_image(saved(colour, kind, icc_profile=SWAPPED, **options)))
    assert np.abs(image.astype(int) - [60, 220, 120]).max() <= 5


def test_srgb_profile_changes_nothing():
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    image = read_image(saved(Image.fromarray(PHOTO), "PNG", icc_profile=profile))
    assert np.abs(image.astype(int) - PHOTO).max() <= 1


def test_icc_profile_of_images_with_alpha():
    colour = Image.new("RGBA", (2, 1), (220, 60, 120, 255))
    colour.putpixel((1, 0), (220, 60, 120, 0))
    image = read_image(saved(colour, "PNG", icc_profile=SWAPPED))
    assert np.abs(image.astype(int) - [[[60, 220, 120], [255, 255, 255]]]).max() <= 5


def test_icc_profile_of_grey():
    """Light of 21.4 % is 128 in sRGB: linear grey 55 of 255."""
    for grey in (Image.new("L", (2, 2), 55), Image.new("LA", (2, 2), (55, 255))):
        image = check(read_image(saved(grey, "PNG", icc_profile=LINEAR_GREY)))
        assert np.abs(image.astype(int) - 128).max() <= 2
    deep = Image.fromarray(np.full((2, 2), 55 * 257, dtype=np.uint16))
    image = check(read_image(saved(deep, "PNG", icc_profile=LINEAR_GREY)))
    assert np.abs(image.astype(int) - 128).max() <= 2


@pytest.mark.parametrize("profile", [b"nonsense", LINEAR_GREY, SWAPPED[:200]])
def test_broken_or_foreign_profile_does_not_cost_the_picture(profile):
    image = read_image(saved(Image.fromarray(PHOTO), "PNG", icc_profile=profile))
    np.testing.assert_array_equal(image, PHOTO)


def test_cmyk_is_converted_by_its_profile():
    """By a profile of our own, of a printer whose coloured inks are invisible."""
    identity = bytes(range(256))
    corners = [(0 if black else 255, 128, 128) for _ in range(8) for black in (0, 1)]  # Lab
    lut = b"mft1" + bytes(4) + bytes([4, 3, 2, 0])
    lut += struct.pack(">9i", *np.eye(3, dtype=int).ravel() * 65536)
    lut += identity * 4 + bytes(sum(corners, ())) + identity * 3
    profile = bytearray(icc(b"CMYK", WHITE | {b"A2B0": lut}))
    profile[12:16], profile[20:24] = b"prtr", b"Lab "
    ink = RNG.integers(0, 256, (4, 4, 4), dtype=np.uint8)
    ink[..., 3] = [0, 0, 255, 255]
    file = saved(Image.fromarray(ink, "CMYK"), "TIFF", icc_profile=bytes(profile))
    image = check(read_image(file))
    assert image[:, :2].min() >= 250 and image[:, 2:].max() <= 5


# What cannot be read


def test_missing_file(tmp_path):
    message = error_of(tmp_path / "dog.png")
    assert "there is no file" in message and "dog.png" in message and "check the name" in message


def test_file_that_the_system_will_not_open(tmp_path):
    message = error_of(tmp_path / f"{'x' * 300}.png")
    assert "cannot read" in message and "File name too long" in message


def test_folder(tmp_path):
    message = error_of(tmp_path)
    assert "is a folder" in message and "name one image file" in message


def test_empty_file(tmp_path):
    (tmp_path / "dog.png").touch()
    assert "dog.png is empty (0 bytes): copy" in error_of(tmp_path / "dog.png")
    assert "empty" in error_of(io.BytesIO())


def test_unsupported_suffix(tmp_path):
    (tmp_path / "dog.heic").write_bytes(b"ftypheic")
    message = error_of(tmp_path / "dog.heic")
    assert "dog.heic does not end in one of .png" in message and "convert it to PNG" in message


def test_no_image(tmp_path):
    (tmp_path / "dog.jpg").write_text("<html>not found</html>")
    message = error_of(tmp_path / "dog.jpg")
    assert "dog.jpg is not an image" in message and "give a PNG" in message


def test_other_formats_of_pillow_are_not_tried():
    assert "is not an image that can be read" in error_of(saved(Image.fromarray(PHOTO), "PPM"))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "BMP"])
def test_truncated_file(tmp_path, kind):
    suffix = next(suffix for suffix in images.FORMATS if images.FORMATS[suffix] == kind)
    photo = RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    whole = saved(Image.fromarray(photo), kind).getvalue()
    path = tmp_path / f"dog{suffix}"
    for length in (len(whole) // 2, len(whole) * 9 // 10):
        path.write_bytes(whole[:length])
        message = error_of(path)
        assert "damaged" in message or "is not an image" in message
        assert f"dog{suffix}" in message and ("copy it again" in message or "give a" in message)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "BMP"])
def test_corrupt_bytes_end_in_an_image_or_in_one_line(kind):
    options = {"TIFF": {"compression": "tiff_lzw"}}.get(kind, {})
    exif = Image.Exif()
    exif[0x0112] = 6
    if kind != "BMP":
        options |= {"exif": exif, "icc_profile": SWAPPED}
    photo = RNG.integers(0, 256, (24, 24, 3), dtype=np.uint8)
    whole = np.frombuffer(saved(Image.fromarray(photo), kind, **options).getvalue(), np.uint8)
    for seed in range(60):
        rng = np.random.default_rng(seed)
        broken = whole.copy()
        # Half of the flips in the header, where they hurt most.
        places = rng.integers(0, len(whole) if seed % 2 else 150, 3)
        broken[places] = rng.integers(0, 256, 3)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                check(read_image(io.BytesIO(broken.tobytes())))
            except UserError as error:
                assert "\n" not in str(error)


def test_png_with_a_wrong_checksum():
    content = bytearray(saved(Image.fromarray(PHOTO), "PNG").getvalue())
    content[content.index(b"IDAT") + 10] ^= 255
    assert "damaged" in error_of(io.BytesIO(content))


def test_too_large_is_refused_by_its_header(monkeypatch):
    monkeypatch.setattr(images, "MAX_PIXELS", 2_000_000)
    file = saved(Image.new("L", (2000, 1001)), "PNG")
    message = error_of(file)
    assert "2000 x 1001 is over the limit of 2 megapixels" in message and "scale it" in message
    assert read_image(saved(Image.new("L", (2000, 1000)), "PNG")).shape == (1000, 2000, 3)


@pytest.mark.parametrize("side", [14_000, 60_000])
def test_bomb_is_refused_without_unpacking(side):
    """Pillow would warn of the first and refuse the second on its own."""
    content = bytearray(saved(Image.fromarray(PHOTO), "PNG").getvalue())
    content[16:24] = struct.pack(">II", side, side)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert f"{side} x {side} is over the limit of 120 megapixels" in error_of(
            io.BytesIO(content)
        )


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_more_pixels_than_pillow_likes_are_read_silently(kind, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40)  # PHOTO has 48: a warning by Pillow
    file = saved(Image.fromarray(PHOTO), kind)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(read_image(file), PHOTO)
    assert Image.MAX_IMAGE_PIXELS == 40


def test_pillows_limit_survives_threads():
    before = Image.MAX_IMAGE_PIXELS
    content = saved(Image.fromarray(PHOTO), "TIFF").getvalue()
    threads = [
        threading.Thread(target=lambda: [read_image(io.BytesIO(content)) for _ in range(50)])
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Image.MAX_IMAGE_PIXELS == before


@pytest.mark.slow
@pytest.mark.parametrize("kind, options", [("JPEG", {}), ("TIFF", {"compression": "tiff_lzw"})])
def test_100_megapixels_are_read_without_a_warning(tmp_path, kind, options):
    path = tmp_path / f"large.{kind.lower()}"
    Image.new("RGB", (10_000, 10_000), (10, 200, 90)).save(path, kind, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        image = check(read_image(path))
    assert image.shape == (10_000, 10_000, 3)
    assert np.abs(image[::999, ::999].astype(int) - [10, 200, 90]).max() <= 2


def test_no_file_stays_open(tmp_path):
    whole = saved(Image.fromarray(PHOTO), "PNG").getvalue()
    frames = [Image.fromarray(PHOTO), Image.new("RGB", (8, 6), "red")]
    frames[0].save(tmp_path / "several.tif", save_all=True, append_images=frames[1:])
    (tmp_path / "good.png").write_bytes(whole)
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.png").write_text("text")
    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        for name in ("good.png", "several.tif", "cut.png", "text.png"):
            try:
                read_image(tmp_path / name)
            except UserError:
                pass
        gc.collect()
    with open(tmp_path / "good.png", "rb") as file:
        read_image(file)
        assert not file.closed  # it is the caller's


# Writing


@pytest.mark.parametrize("suffix", [".png", ".WEBP", ".jpg", ".jpeg"])
def test_written_images_come_back(tmp_path, suffix):
    smooth = np.linspace(0, 255, 32 * 32 * 3).reshape(32, 32, 3).astype(np.uint8)
    path = tmp_path / "new" / f"photo{suffix}"
    write_image(path, smooth)
    if suffix in (".png", ".WEBP"):
        np.testing.assert_array_equal(read_image(path), smooth)
    else:
        assert np.abs(read_image(path).astype(int) - smooth).mean() < 2
    assert [path.name for path in path.parent.iterdir()] == [path.name]


def test_view_of_an_array_is_written(tmp_path):
    write_image(tmp_path / "photo.png", PHOTO[::-1, ::2])
    np.testing.assert_array_equal(read_image(tmp_path / "photo.png"), PHOTO[::-1, ::2])


def test_metadata_is_kept(tmp_path):
    metadata = {"model": "ta_tsnet", "task": "blur 2, Größe 25 σ"}
    for suffix in (".png", ".jpg", ".webp"):
        path = tmp_path / f"photo{suffix}"
        write_image(path, PHOTO, metadata=metadata)
        with Image.open(path) as image:
            if suffix == ".png":
                assert {key: image.text[key] for key in metadata} == metadata
            else:
                assert json.loads(image.getexif()[ExifTags.Base.Software]) == metadata
        assert read_image(path).shape == PHOTO.shape
        assert read_metadata(path) == metadata
        write_image(path, PHOTO)
        assert read_metadata(path) == {}
    assert read_metadata(tmp_path) == read_metadata(tmp_path / "none.png") == {}


def test_exif_too_long_for_a_jpeg_is_told_with_the_cure(tmp_path):
    exif = Image.Exif()
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.MakerNote] = bytes(70_000)
    with pytest.raises(UserError, match=r"photo\.jpg: JPEG has no room for so much EXIF; write"):
        write_image(tmp_path / "photo.jpg", PHOTO, exif=exif)
    write_image(tmp_path / "photo.png", PHOTO, exif=exif)
    assert [path.name for path in tmp_path.iterdir()] == ["photo.png"]


def test_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "photo.png"
    write_image(path, PHOTO)

    def fail(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", fail)
    with pytest.raises(UserError, match="no space left"):
        write_image(path, 255 - PHOTO)
    monkeypatch.undo()
    np.testing.assert_array_equal(read_image(path), PHOTO)
    assert list(tmp_path.iterdir()) == [path]


def test_unknown_suffix_is_not_written(tmp_path):
    with pytest.raises(UserError, match="photo.gif: end the name in one of .png .jpg"):
        write_image(tmp_path / "photo.gif", PHOTO)
    assert not list(tmp_path.iterdir())


def test_side_beyond_the_format_is_not_written(tmp_path):
    with pytest.raises(UserError, match="over 16383 pixels.*write .png"):
        write_image(tmp_path / "wide.webp", np.zeros((1, 16_384, 3), dtype=np.uint8))


@pytest.mark.parametrize("wrong", [PHOTO / 255, PHOTO[..., 0], PHOTO[..., :2]])
def test_other_arrays_are_refused(tmp_path, wrong):
    with pytest.raises(ValueError, match="expected uint8, H x W x 3"):
        write_image(tmp_path / "photo.png", wrong)


# Folders


def test_list_images_is_sorted_and_picky(tmp_path):
    for name in ("b.PNG", "a.jpeg", "c.webp", "d.Tif", ".hidden.png", "notes.txt", "noext"):
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    names = [path.name for path in list_images(str(tmp_path))]
    assert names == ["a.jpeg", "b.PNG", "c.webp", "d.Tif"]


def test_list_images_of_nothing(tmp_path):
    with pytest.raises(UserError, match="no images in .*put files in it that end in .png"):
        list_images(tmp_path)
    with pytest.raises(UserError, match="there is no folder .*nowhere: check the name"):
        list_images(tmp_path / "nowhere")
