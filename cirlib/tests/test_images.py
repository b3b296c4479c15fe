"""Whatever a user's photo is, it arrives as uint8, H x W x 3, sRGB, upright; or one line says why
not. Every file here is made on the spot; most kinds are lines of the table in kinds.py."""

import gc
import io
import itertools
import os
import struct
import time
import warnings
import zlib

import imagecodecs
import numpy as np
import pytest
from PIL import Image

from cirlib.base.files import UserError
from cirlib.data import limit
from cirlib.data.images import list_images, pixels_of, read_image, read_kept, read_metadata
from cirlib.data.metadata import exif_of, read_exif
from cirlib.tests.kinds import (
    KINDS,
    PHOTO,
    SCENE,
    TAGS,
    Kind,
    by_tifffile,
    check,
    pil,
    saved,
    second_picture,
)


def error_of(source) -> str:
    """The message, which is one line."""
    with pytest.raises(UserError) as raised:
        read_image(source)
    assert "\n" not in str(raised.value)
    return str(raised.value)


# Kinds of files


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
@pytest.mark.filterwarnings("error")
def test_kind_of_file(kind: Kind, capfd):
    told = []
    file = io.BytesIO(kind.data())
    if isinstance(kind.want, str):
        assert kind.want in error_of(file)
        assert not capfd.readouterr().err  # of libraries
        return
    image = check(read_image(file, tell=told.append))
    assert not capfd.readouterr().err
    assert image.shape == kind.want.shape
    assert np.abs(image - kind.want.astype(float)).max() <= kind.off
    assert len(told) == bool(kind.word) and all(kind.word in text for text in told), told
    assert not any("\n" in text for text in told)


LAYOUTS = list(itertools.product(
    ("contig", "separate"), (np.uint8, np.uint16), "<>", (None, "zlib"),
    ("minisblack", "miniswhite", "rgb", "separated"),
    (None, "unspecified", "unassalpha", "assocalpha"), (None, (16, 32)),
))  # fmt: skip


@pytest.mark.parametrize("part", range(4))
def test_layouts_of_tiff(part):
    """A quarter of 512 each, drawn once; what a pixel should be by TIFF's own definitions."""
    rng = np.random.default_rng(part)
    for k in rng.permutation(len(LAYOUTS))[: len(LAYOUTS) // 8]:
        planar, dtype, order, compression, photometric, extra, tile = LAYOUTS[k]
        C = {"rgb": 3, "separated": 4}.get(photometric, 1)
        peak = np.iinfo(dtype).max
        samples = rng.integers(0, peak + 1, (21, 37, C + (extra is not None))).astype(dtype)
        if extra == "assocalpha":
            samples[..., :C] = np.minimum(samples[..., :C], samples[..., C:])
        colour, alpha = samples[..., :C] / peak, np.ones((21, 37, 1))
        if photometric == "miniswhite":
            colour = 1 - colour
        if extra in ("assocalpha", "unassalpha"):
            alpha = samples[..., C:] / peak
        if extra == "assocalpha":
            colour = np.minimum(1, colour / np.maximum(alpha, 1 / peak))
        if photometric == "separated":
            ink = np.rint(255 * colour).astype(np.uint8)
            colour = np.asarray(Image.fromarray(ink, "CMYK").convert("RGB")) / 255
        content = by_tifffile(
            samples[..., 0] if samples.shape[2] == 1 else
            samples.transpose(2, 0, 1) if planar == "separate" else samples, photometric,
            planarconfig=planar if samples.shape[2] > 1 else None,
            extrasamples=[extra] if extra else None, byteorder=order, tile=tile,
            rowsperstrip=None if tile else 10, compression=compression,
            predictor=True if compression else None,
        )  # fmt: skip
        image = check(read_image(io.BytesIO(content)))
        assert np.abs(image - 255 * (colour * alpha + 1 - alpha)).max() <= 1.5, LAYOUTS[k]


def test_a_page_can_be_chosen(tmp_path):
    pages = [np.full((8, 8, 3), 40 * k, np.uint8) for k in range(3)]
    others = [Image.fromarray(page) for page in pages[1:]]
    for kind in ("TIFF", "PNG", "WEBP"):
        file = io.BytesIO(pil(kind, pages[0], save_all=True, append_images=others))
        np.testing.assert_array_equal(read_image(file, page=2), pages[1])
        with pytest.raises(UserError, match="no page 4, only 3"):
            read_image(file, page=4)


def test_around_frames_that_are_smaller_a_gif_is_white_on_every_page():
    dark, light = (Image.new("L", (8, 8), level) for level in (20, 200))
    content = pil("GIF", np.asarray(dark), save_all=True, append_images=[light])
    content = content[:6] + struct.pack("<HH", 12, 8) + content[10:]
    for page, level in ((1, 20), (2, 200)):
        image = read_image(io.BytesIO(content), page=page)
        assert (image[:, :8] == level).all() and (image[:, 8:] == 255).all()


def test_each_picture_of_a_jpeg_and_each_frame_of_16_bits_can_be_chosen():
    both = io.BytesIO(second_picture(pil("JPEG", 255 - SCENE)))
    assert np.abs(read_image(both, page=2).astype(int) - (255 - SCENE)).max() <= 12
    frames = np.stack([np.full((8, 8), level * 257, np.uint16) for level in (50, 150)])
    both = io.BytesIO(imagecodecs.apng_encode(frames))
    assert [read_image(both, page=k).mean() for k in (1, 2)] == [50, 150]


def test_without_anybody_to_tell_a_word_goes_to_stderr(tmp_path, capsys):
    (tmp_path / "cut.jpg").write_bytes(pil("JPEG")[:-2])
    read_image(tmp_path / "cut.jpg")
    told = "cut.jpg lacks its end mark, but the picture is whole\n"
    assert capsys.readouterr().err.endswith(told)


def test_content_decides_not_the_suffix(tmp_path):
    Image.fromarray(PHOTO).save(tmp_path / "photo.jpg", "PNG")
    np.testing.assert_array_equal(read_image(tmp_path / "photo.jpg"), PHOTO)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "LA", "RGBA", "CMYK", "YCbCr"])
def test_smallest_image_of_every_mode(mode):
    kind = "TIFF" if mode in ("CMYK", "YCbCr") else "PNG"
    assert check(read_image(saved(Image.new(mode, (1, 1)), kind))).shape == (1, 1, 3)


def test_palette():
    image = Image.fromarray(np.array([[0, 1], [2, 1]], dtype=np.uint8), "P")
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    expected = [[[10, 20, 30], [40, 50, 60]], [[70, 80, 90], [40, 50, 60]]]
    np.testing.assert_array_equal(check(read_image(saved(image, "PNG"))), expected)
    image = read_image(saved(image, "PNG", transparency=1))
    expected[0][1] = expected[1][1] = [255, 255, 255]
    np.testing.assert_array_equal(check(image), expected)


# Orientation


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF", "TIFF, jpeg", "JPEG", "AVIF"])
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
    options = {"compression": "jpeg", "quality": 100} if "jpeg" in kind else {}
    stored = np.ascontiguousarray(stored)
    tags = {TAGS.Orientation: orientation}
    file = io.BytesIO(pil(kind.split(",")[0], stored, tags=tags, **options))
    image = check(read_image(file))
    assert image.shape == scene.shape
    off = 9 if "JPEG" in kind.upper() or kind == "AVIF" else 0
    assert np.abs(image.astype(int) - scene).max() <= off


def test_broken_exif_does_not_cost_the_picture():
    for broken in (b"Exif\0\0MM\0*\xff\xff\xff\xff", b"Exif\0\0nonsense", b"Exif\0\0"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = read_image(saved(Image.fromarray(PHOTO), "WEBP", lossless=True, exif=broken))
        np.testing.assert_array_equal(image, PHOTO)


def test_many_tags_that_claim_the_same_bytes_are_not_all_read():
    tags, size = range(50_000, 50_100), 1 << 21
    entries = b"".join(struct.pack("<HHII", tag, 1, size, 0) for tag in tags)
    directory = b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries
    found = read_exif(io.BytesIO(directory.ljust(size, b"\0"))).image
    assert 0 < sum(len(entry.value) for entry in found.values()) <= 1 << 26


def test_a_decoder_that_says_exif_is_none_gives_none():
    """As pillow-heif does."""
    image = Image.new("L", (1, 1))
    image.info["exif"] = None
    assert not exif_of(image)


# What cannot be read


def test_missing_file(tmp_path):
    message = error_of(tmp_path / "dog.png")
    assert "there is no file" in message and "dog.png" in message and "check the name" in message


def test_file_that_the_system_will_not_open(tmp_path):
    message = error_of(tmp_path / f"{'x' * 300}.png")
    assert "cannot read" in message and "File name too long" in message


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    assert "is a pipe or a device" in error_of(tmp_path / "pipe.png")


def test_folder(tmp_path):
    message = error_of(tmp_path)
    assert "is a folder" in message and "name one image file" in message


def cut(content: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return content[: rng.integers(1, len(content))]


def flip(content: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    content, n = content.copy(), len(content)
    # half of the flips in the header, where they hurt most
    places = rng.integers(0, n if rng.random() < 0.5 else min(n, 150), 3)
    content[places] = rng.integers(0, 256, 3)
    return content


BAD = [kind for kind in KINDS if isinstance(kind.want, np.ndarray) and kind.want.size > 999
       and kind.name in ("PNG", "JPEG", "JPEG, progressive", "WebP", "BMP", "TIFF", "AVIF", "GIF",
                         "APNG", "TIFF, LZW", "TIFF, JPEG", "TIFF, palette", "BigTIFF",
                         "TIFF, 3 pages", "JPEG, Adobe RGB by R03", "PNG, cHRM of P3",
                         "TIFF, LZW of 16 bits, >, predictor 2", "TIFF, picture in a SubIFD",
                         "PNG, Adobe RGB by R03", "WebP, Adobe RGB by R03")]  # fmt: skip


@pytest.mark.parametrize("kind", BAD, ids=lambda kind: kind.name)
@pytest.mark.filterwarnings("ignore")
def test_bad_files_end_in_a_picture_or_in_one_line(kind):
    """500 in all. What is cut off, or is not what a PNG's checksums say, is never passed over.

    Other flipped bytes may give other pixels: but for PNG these kinds have no checksums.
    """
    assert len(BAD) == 20
    content = np.frombuffer(kind.data(), np.uint8)
    whole = read_image(io.BytesIO(content.tobytes()), tell=lambda _: None)
    for seed in range(25):
        rng, told = np.random.default_rng(seed), []
        bad = (cut if seed % 2 else flip)(content, rng).tobytes()
        began = time.monotonic()
        try:
            read_kept(io.BytesIO(bad))
            image = check(read_image(io.BytesIO(bad), tell=told.append))
            if seed % 2 or "PNG" in kind.name:
                assert told or np.array_equal(image, whole), seed
        except UserError as error:
            assert "\n" not in str(error)
        assert time.monotonic() - began < 10
        assert not any("\n" in text for text in told)


def test_pages_in_a_circle_end():
    content = bytearray(pil("TIFF"))
    at = int.from_bytes(content[4:8], "little")
    n = int.from_bytes(content[at : at + 2], "little")
    content[at + 2 + 12 * n :][:4] = content[4:8]
    content[at + 2 + 12 * n : at + 6 + 12 * n] = content[4:8]
    np.testing.assert_array_equal(read_image(io.BytesIO(content)), SCENE)


def test_too_large_is_refused_by_its_header(monkeypatch):
    monkeypatch.setattr(limit, "MAX_PIXELS", 2_000_000)
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
def test_more_pixels_than_pillow_likes_are_read_silently(kind, tmp_path):
    """90 megapixels, of which Pillow would warn."""
    path = tmp_path / f"large.{kind.lower()}"
    Image.new("1", (10_000, 9_000)).save(path, kind)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert pixels_of(path) == 90_000_000 and read_metadata(path) == {}
        image = read_image(path)
    assert image.shape == (9_000, 10_000, 3) and not image.any()


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


# Folders


def test_list_images_is_sorted_and_picky(tmp_path):
    names = ("b.PNG", "a.jpeg", "c.webp", "d.Tif", "e.jfif", "f.HEIC", ".hidden.png", "notes.txt")
    for name in (*names, "noext"):
        (tmp_path / name).touch()
    for name in ("photo.jpg_large", "photo", "photo.dat"):
        (tmp_path / name).write_bytes(pil("JPEG"))
    (tmp_path / "raw.NEF").write_bytes(pil("TIFF"))
    (tmp_path / "folder.png").mkdir()
    found = [path.name for path in list_images(str(tmp_path))]
    assert found == ["a.jpeg", "b.PNG", "c.webp", "d.Tif", "e.jfif", "f.HEIC", "photo",
                     "photo.dat", "photo.jpg_large"]  # fmt: skip


def test_list_images_of_nothing(tmp_path):
    with pytest.raises(UserError, match="no images in .*put files in it that end in .png"):
        list_images(tmp_path)
    with pytest.raises(UserError, match="there is no folder .*nowhere: check the name"):
        list_images(tmp_path / "nowhere")
