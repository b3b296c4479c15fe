"""Colours arrive as sRGB, by a profile that was made here; kinds.py has what else says them."""

import struct

import numpy as np
import pytest
from PIL import Image

from cirlib.data import colour
from cirlib.data.images import read_image
from cirlib.tests import kinds
from cirlib.tests.kinds import PHOTO, check, saved


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
    image = check(read_image(saved(colour, kind, icc_profile=SWAPPED)))
    assert np.abs(image.astype(int) - [60, 220, 120]).max() <= 5


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
    for kind in ("WEBP", "AVIF"):
        file = saved(Image.new("RGB", (16, 16), (55, 55, 55)), kind, icc_profile=LINEAR_GREY)
        assert np.abs(check(read_image(file)).astype(int) - 128).max() <= 2
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
    ink = np.random.default_rng(0).integers(0, 256, (4, 4, 4), np.uint8)
    ink[..., 3] = [0, 0, 255, 255]
    file = saved(Image.fromarray(ink, "CMYK"), "TIFF", icc_profile=bytes(profile))
    image = check(read_image(file))
    assert image[:, :2].min() >= 250 and image[:, 2:].max() <= 5


def test_any_colour_of_16_bits_is_within_a_level():
    samples = np.random.default_rng(0).integers(0, 65536, (64, 64, 3)).astype(np.uint16)
    light = (samples / 65535) ** colour.ADOBE_GAMMA @ kinds.TO_XYZ["Adobe"].T
    wanted = 255 * kinds.srgb_curve(np.clip(light @ np.linalg.inv(kinds.TO_XYZ["sRGB"]).T, 0, 1))
    found = colour.to_srgb(samples, (colour.ADOBE_RGB, colour.ADOBE_GAMMA), "", pytest.fail)
    assert np.abs(np.asarray(found) - wanted).max() <= 1
