"""What is written comes back: pixels, and what a photo's file says beside them."""

import io
import json
import struct

import numpy as np
import pytest
from PIL import ExifTags, Image

from cirlib.base.files import UserError
from cirlib.data import colour
from cirlib.data.images import read_image, read_kept, read_metadata, write_image
from cirlib.data.metadata import Kept
from cirlib.tests.kinds import P3, PHOTO, SCENE, TAGS, by_tifffile, chunk, exif, gif_with, pil, png


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


TEXTS = {TAGS.Artist: "Zoë Müller", TAGS.Copyright: "© 2024 Zoë", TAGS.ImageDescription: "東京の夜"}
NOTE = b"maker" * 9
TAKEN = {
    TAGS.DateTimeOriginal: "2024:01:02 03:04:05",
    TAGS.MakerNote: NOTE,
    TAGS.ColorSpace: 1,
    TAGS.UserComment: b"UNICODE\0\x6a\x19",
    0xA434: "a lens",
    0xA432: (24.0, 70.0, 2.8, 4.0),
}


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF"])
def test_exif_goes_through_byte_by_byte(tmp_path, kind, suffix):
    tags = {tag: text.encode() for tag, text in TEXTS.items()}
    tags[TAGS.Orientation] = 6
    photo, path = io.BytesIO(pil(kind, tags=tags, taken=TAKEN)), tmp_path / f"result{suffix}"
    kept = read_kept(photo)
    assert {tag: kept.exif.image[tag].value for tag in TEXTS} == {
        tag: text.encode() + b"\0" for tag, text in TEXTS.items()
    }
    write_image(path, read_image(photo), kept=kept, metadata={"model": "x"})
    again = read_kept(path)
    for before, after in ((kept.exif.image, again.exif.image), (kept.exif.photo, again.exif.photo)):
        assert {tag: entry[:3] for tag, entry in before.items()} == {
            tag: entry[:3] for tag, entry in after.items() if tag != TAGS.Orientation
        }
    assert again.exif.photo.keys() == TAKEN.keys() - {TAGS.ColorSpace}
    # a maker's note points into itself, by places in the whole block
    assert again.exif.photo[TAGS.MakerNote].offset == kept.exif.photo[TAGS.MakerNote].offset
    assert read_image(path).shape[:2] == (64, 48)


def test_iptc_of_a_jpeg_is_kept_as_a_tag():
    block = b"8BIM\x04\x04\0\0\0\0\0\x06\x1c\x02x\0\x01a"
    segment = b"Photoshop 3.0\0" + block
    photo = pil("JPEG")
    photo = photo[:2] + b"\xff\xed" + struct.pack(">H", 2 + len(segment)) + segment + photo[2:]
    kept = read_kept(io.BytesIO(photo))
    assert kept.exif.image[33723].value == b"\x1c\x02x\0\x01a"


XMP = b"""<x:xmpmeta xmlns:x="adobe:ns:meta/">
<rdf:Description tiff:Orientation="6" GCamera:MotionPhoto="1" dc:x='Zo\xc3\xab'>
<exif:ColorSpace>65535</exif:ColorSpace>
<xmp:Thumbnails><rdf:Alt>
65535</rdf:Alt></xmp:Thumbnails></rdf:Description></x:xmpmeta>"""


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "PNG", "TIFF", "GIF", "AVIF"])
def test_xmp_is_kept_without_what_is_stale(tmp_path, kind, suffix):
    text = b"XML:com.adobe.xmp\0\0\0\0\0" + XMP
    content = (
        png(SCENE, (b"iTXt", text)) if kind == "PNG" else
        by_tifffile(SCENE, extratags=[(700, 1, len(XMP), XMP, True)]) if kind == "TIFF" else
        gif_with(b"XMP DataXMP", XMP + bytes([1, *range(255, -1, -1), 0])) if kind == "GIF" else
        pil(kind, xmp=XMP)
    )  # fmt: skip
    path = tmp_path / f"result{suffix}"
    write_image(path, SCENE, kept=read_kept(io.BytesIO(content)))
    xmp = read_kept(path).xmp
    assert b"dc:x='Zo\xc3\xab'" in xmp
    assert not any(stale in xmp for stale in (b"Orientation", b"MotionPhoto", b"65535"))


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1"])
def test_xmp_in_another_encoding_is_kept_in_utf8(encoding):
    xmp = XMP.decode().encode(encoding)
    kept = read_kept(io.BytesIO(by_tifffile(SCENE, extratags=[(700, 1, len(xmp), xmp, True)])))
    assert "dc:x='Zoë'" in kept.xmp.decode()
    assert b"Orientation" not in kept.xmp


def test_xmp_of_any_length_comes_through_a_jpeg(tmp_path):
    long = b"<rdf:RDF><rdf:Description dc:x='%s'/></rdf:RDF>" % (b"0123456789" * 15_000)
    for name in ("a.jpg", "b.jpg"):  # what was read of the first is written to the second
        write_image(tmp_path / name, SCENE, kept=Kept(xmp=long))
        long = read_kept(tmp_path / name).xmp
        assert b"0123456789" * 15_000 in long and b"HasExtendedXMP" not in long


def test_what_imagemagick_hides_in_texts_is_found():
    def raw(name: bytes, content: bytes) -> tuple[bytes, bytes]:
        return b"tEXt", b"Raw profile type %s\0\nx\n 9\n%s\n" % (name, content.hex().encode())

    tags = exif({TAGS.Artist: b"Zo\xc3\xab"}, {}).tobytes()
    icc = colour.profile((*colour.D65, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06), None)
    photo = png(P3, raw(b"APP1", tags), raw(b"xmp", XMP), raw(b"icc", icc))
    kept = read_kept(io.BytesIO(photo))
    assert kept.exif.image[TAGS.Artist].value.startswith(b"Zo\xc3\xab")
    assert b"dc:x" in kept.xmp and not kept.texts
    assert np.abs(read_image(io.BytesIO(photo)) - SCENE.astype(int)).max() <= 3


def test_a_comment_in_latin_letters_is_text():
    photo = pil("JPEG", comment=b"Zo\xeb")
    assert read_kept(io.BytesIO(photo)).texts == {"Comment": "Zoë"}
    twice = photo[:2] + b"\xff\xfe\0\5One" + photo[2:]
    assert read_kept(io.BytesIO(twice)).texts == {"Comment": "One\nZoë"}


def test_what_stands_behind_the_last_frame_of_a_png_is_kept():
    photo = pil("PNG", save_all=True, append_images=[Image.fromarray(255 - SCENE)])
    more = chunk(b"tEXt", b"Title\0A title") + chunk(b"tEXt", b"XML:com.adobe.xmp\0" + XMP)
    kept = read_kept(io.BytesIO(photo[:-12] + more + photo[-12:]))
    assert kept.texts == {"Title": "A title"} and b"dc:x='Zo\xc3\xab'" in kept.xmp


def test_texts_of_a_png_are_kept_in_a_png_and_elsewhere_missed_aloud(tmp_path):
    author = (b"iTXt", b"Author\0\0\0de\0Autor\0Zo\xc3\xab")
    photo = png(SCENE, (b"tEXt", b"Title\0A title"), author)
    kept, told = read_kept(io.BytesIO(photo)), []
    write_image(tmp_path / "a.png", SCENE, kept=kept, metadata={"model": "x"}, tell=told.append)
    with Image.open(tmp_path / "a.png") as image:
        assert image.text == {"Title": "A title", "Author": "Zoë", "model": "x"} and not told
        assert (image.text["Author"].lang, image.text["Author"].tkey) == ("de", "Autor")
    write_image(tmp_path / "b.jpg", SCENE, kept=Kept(texts={"Comment": "x" * 65_534}),
                tell=told.append)  # fmt: skip
    assert "no room for the photo's Comment: write .png" in told.pop()
    for suffix in (".jpg", ".webp"):
        write_image(tmp_path / f"a{suffix}", SCENE, kept=kept, tell=told.append)
        assert "no room for the photo's Title, Author: write .png" in told.pop()


def test_exif_with_a_second_mark_of_its_kind_is_kept():
    photo = png(SCENE, (b"eXIf", exif({TAGS.Make: "m"}, {}).tobytes()))
    assert read_kept(io.BytesIO(photo)).exif.image[TAGS.Make].value == b"m\0"


def test_exif_too_long_for_a_jpeg_is_told_with_the_cure(tmp_path):
    note = exif({TAGS.Make: "m"}, {TAGS.MakerNote: bytes(70_000)})
    kept = read_kept(io.BytesIO(pil("PNG", exif=note)))
    with pytest.raises(UserError, match=r"photo\.jpg: JPEG has no room for so much EXIF; write"):
        write_image(tmp_path / "photo.jpg", PHOTO, kept=kept)
    write_image(tmp_path / "photo.png", PHOTO, kept=kept)
    assert [path.name for path in tmp_path.iterdir()] == ["photo.png"]


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
