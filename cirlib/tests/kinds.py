"""A table of file kinds: how one is made, and what reading it gives. Add a line for another."""

import base64
import io
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import imagecodecs
import numpy as np
import tifffile
from PIL import ExifTags, Image, ImageCms, PngImagePlugin

from cirlib.data import colour

TAGS = ExifTags.Base
y, x = np.mgrid[:48, :64]
SCENE = np.stack([60 + 2 * x, 200 - 3 * y, 40 + x + y], -1).astype(np.uint8)
GREY = SCENE[..., 0]
GREY3 = GREY[..., None].repeat(3, axis=2)
DEEP = SCENE.astype(np.uint16) * 257
FINE = np.clip(DEEP.astype(int) + np.arange(-150, 150).reshape(-1, 1, 3)[: len(DEEP)], 0, 65535)
FINE = FINE.astype(np.uint16)  # 16 bits whose upper byte is not the nearest of 8
RED, BLUE = (Image.new("RGB", (64, 48), colour) for colour in ("red", "blue"))
INK = np.asarray(Image.fromarray(SCENE).convert("CMYK"))
HALF = np.full((48, 64), 128, np.uint8)  # of alpha
BITS_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
LEFT = np.arange(64) < 32 + 0 * HALF
OVER_WHITE = 255 + (SCENE - 255.0) * (128 / 255)


PHOTO = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)

WHITE_BELOW = np.full((2048, 64, 3), 255, np.uint8)
WHITE_BELOW[:48] = np.random.default_rng(0).integers(0, 256, (48, 64, 3))


@dataclass(frozen=True)
class Kind:
    """data makes the file. want: its pixels, or a part of the error. off: levels it may be away.

    word: a part of what is told beside the picture; empty: nothing is told.
    """

    name: str
    data: Callable[[], bytes]
    want: np.ndarray | str
    off: float = 0
    word: str = ""


def check(image: np.ndarray) -> np.ndarray:
    """The promises that hold for every array that read_image returns."""
    assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3
    assert image.flags.c_contiguous and image.flags.writeable
    return image


# How files are made


def pil(kind: str, image: Image.Image | np.ndarray = SCENE, **options) -> bytes:
    """By Pillow; with EXIF given as tag -> value, and what is in its Exif directory."""
    image = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    if tags := options.pop("tags", None):
        options["exif"] = exif(tags, options.pop("taken", {}))
    options |= {"JPEG": {"quality": 100, "subsampling": 0} | options, "WEBP": {"lossless": True},
                "AVIF": {"quality": 100, "subsampling": "4:4:4"}}.get(kind, {})  # fmt: skip
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def saved(image: Image.Image, kind: str, **options) -> io.BytesIO:
    return io.BytesIO(pil(kind, image, **options))


def exif(tags: dict, taken: dict) -> Image.Exif:
    made = Image.Exif()
    made.update(tags)
    made.get_ifd(ExifTags.IFD.Exif).update(taken)
    return made


SIDEWAYS = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/">'
    b'<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description '
    b'xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/></rdf:RDF></x:xmpmeta>'
)


def xmp_of_png(xmp: bytes) -> PngImagePlugin.PngInfo:
    texts = PngImagePlugin.PngInfo()
    texts.add_itxt("XML:com.adobe.xmp", xmp.decode())
    return texts


def animated(kind: str, **options) -> bytes:
    return pil(kind, save_all=True, append_images=[RED.copy(), BLUE.copy()], **options)


def chunk(name: bytes, content: bytes) -> bytes:
    check = zlib.crc32(name + content)
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", check)


def png(samples: np.ndarray, *chunks: tuple[bytes, bytes], bits: int | None = None) -> bytes:
    """PNG of uint8 or uint16, H x W x C, with chunks before the pixels; bits: of packed grey."""
    H, W, C = samples.shape
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[C]
    depth = bits or 8 * samples.itemsize
    if bits:
        rows = [packed(row, bits) for row in samples[..., 0]]
    else:
        rows = [row.astype(samples.dtype.newbyteorder(">")).tobytes() for row in samples]
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows))
    header = struct.pack(">IIBBBBB", W, H, depth, kind, 0, 0, 0)
    parts = [(b"IHDR", header), *chunks, (b"IDAT", pixels), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def packed(row, bits: int) -> bytes:
    text = "".join(f"{int(v):0{bits}b}" for v in row)
    return bytes(int(text[i : i + 8].ljust(8, "0"), 2) for i in range(0, len(text), 8))


def by_tifffile(samples: np.ndarray, photometric: str = "rgb", **options) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, samples, photometric=photometric, metadata=None, **options)
    return file.getvalue()


def tiff(size: tuple[int, int], bits: int, photometric: int, strips: list[bytes], order="<",
         compression=1, channels=1, more=()) -> bytes:  # fmt: skip
    """By hand: what no writer here can. Strips of equal heights, chunky."""
    width, height = size
    tags = {256: width, 257: height, 259: compression, 262: photometric, 277: channels,
            278: height // len(strips)} | dict(more)  # fmt: skip
    lists = {258: [bits] * channels, 273: [], 279: [len(strip) for strip in strips]}
    out = b"II*\0" if order == "<" else b"MM\0*"
    body = b""
    start = 8 + 2 + 12 * (len(tags) + 3) + 4
    for strip in strips:
        lists[273].append(start + len(body))
        body += strip
    table = b""
    for tag, values in sorted((lists | {tag: [value] for tag, value in tags.items()}).items()):
        content = struct.pack(f"{order}{len(values)}I", *values)
        if len(values) > 1:
            content, body = struct.pack(order + "I", start + len(body)), body + content
        table += struct.pack(order + "HHI", tag, 4, len(values)) + content
    return out + struct.pack(order + "IH", 8, len(table) // 12) + table + bytes(4) + body


def tiff_r03(order: str) -> bytes:
    place = len(tiff((64, 48), 8, 2, [ADOBE.tobytes()], order, channels=3, more={34665: 0}))
    directory = struct.pack(order + "HHHIHxxHHII", 2, 40961, 3, 1, 0xFFFF, 40965, 4, 1, place + 30)
    directory += struct.pack(order + "HHHI4s", 1, 1, 2, 4, b"R03\0").rjust(18, b"\0")
    whole = tiff((64, 48), 8, 2, [ADOBE.tobytes()], order, channels=3, more={34665: place})
    return whole + directory.ljust(60, b"\0")


def lzw(content: bytes) -> bytes:
    """As a strip, by libtiff."""
    file = io.BytesIO(pil("TIFF", np.frombuffer(content, np.uint8)[None], compression="tiff_lzw"))
    image = Image.open(file)
    return file.getvalue()[image.tag_v2[273][0] :][: image.tag_v2[279][0]]


def preview_first() -> bytes:
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as tif:
        tif.write(SCENE[::4, ::4], photometric="rgb", subfiletype=1, metadata=None)
        tif.write(SCENE, photometric="rgb", metadata=None)
    return file.getvalue()


def picture_below(*tags) -> bytes:
    """A preview on the page, which may have further tags, the picture in its SubIFD."""
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as tif:
        tif.write(SCENE[::4, ::4], photometric="rgb", subfiletype=1, subifds=1, metadata=None,
                  extratags=tags)  # fmt: skip
        tif.write(SCENE, photometric="rgb", metadata=None)
    return file.getvalue()


def raw_below() -> bytes:
    """A rendered picture on the page, which is not said to be a preview, and raw in its SubIFD."""
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as tif:
        tif.write(SCENE, photometric="rgb", subifds=1, metadata=None)
        tif.write(DEEP[..., 0], photometric="cfa", subfiletype=1, metadata=None)
    return file.getvalue()


def tiff_without(content: bytes, tag: int) -> bytes:
    """A TIFF of tiff(), whose directory comes first, with an entry of it that is of no meaning."""
    place = content.index(struct.pack("<HHI", tag, 4, 1))
    return content[:place] + struct.pack("<HHI", 65000, 4, 1) + content[place + 8 :]


def damaged_strip(image=SCENE, put=bytes, share: int = 9, **options) -> bytes:
    """A TIFF with other bytes in place of a share of its last strip, at its end."""
    content = bytearray(pil("TIFF", image, **options))
    tags = Image.open(io.BytesIO(content)).tag_v2
    end, size = tags[273][-1] + tags[279][-1], tags[279][-1] // share
    content[end - size : end] = put(size)
    return bytes(content)


def ycbcr_of_hd() -> bytes:
    """As a TIFF, deflated, with the coefficients of BT.709, and black and white at 16 and 235."""
    luma, range_ = np.array([0.2126, 0.7152, 0.0722]), (16, 235, 128, 240, 128, 240)
    Y = SCENE @ luma
    Cb, Cr = ((SCENE[..., k] - Y) / (2 - 2 * luma[k]) for k in (2, 0))
    samples = np.stack([16 + Y * 219 / 255, 128 + Cb * 112 / 127, 128 + Cr * 112 / 127], axis=2)
    content = by_tifffile(np.rint(samples).astype(np.uint8), compression="zlib", extratags=[
        (529, 5, 3, (2126, 10000, 7152, 10000, 722, 10000), True),
        (532, 5, 6, tuple(v for one in range_ for v in (one, 1)), True),
        (530, 3, 2, (1, 1), True)])  # fmt: skip
    place = content.index(struct.pack("<HHIH", 262, 3, 1, 2))
    return content[: place + 8] + struct.pack("<H", 6) + content[place + 10 :]


def subsampled(h: int, v: int) -> bytes:
    """A TIFF of 61 x 47, not compressed, whose blocks of h x v pixels have one chroma."""
    full = np.pad(SCENE[:47, :61], ((0, 1), (0, 3), (0, 0)), mode="edge")
    Y, *chroma = np.moveaxis(np.asarray(Image.fromarray(full).convert("YCbCr")), 2, 0)
    means = [c.reshape(48 // v, v, 64 // h, h).mean((1, 3))[..., None].round() for c in chroma]
    luma = Y.reshape(48 // v, v, 64 // h, h).swapaxes(1, 2).reshape(48 // v, 64 // h, -1)
    blocks = np.concatenate([luma, *means], axis=2)[:, : -(-61 // h)].astype(np.uint8)
    ratio = h | v << 16  # as two of 16 bits
    content = tiff((61, 47), 8, 6, [blocks.tobytes()], channels=3, more={530: ratio})
    return content.replace(struct.pack("<HHII", 530, 4, 1, ratio),
                           struct.pack("<HHII", 530, 3, 2, ratio))  # fmt: skip


def png_of_rows(rows: int, samples: np.ndarray = SCENE) -> bytes:
    """Whole, but with data for so many rows."""
    content = png(samples)
    data = zlib.compress(b"".join(b"\0" + row.tobytes() for row in samples[:rows]))
    return content[: content.index(b"IDAT") - 4] + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def png_without_its_palette() -> bytes:
    content = pil("PNG", Image.fromarray(GREY).convert("P"))
    place = content.index(b"PLTE") - 4
    size = int.from_bytes(content[place : place + 4])
    return content[:place] + content[place + 12 + size :]


def jpeg_of_two_scans() -> bytes:
    """GREY in colour: its luma, then both chromas, whose codes of a bit give nothing but zeros."""
    content = pil("JPEG", GREY.copy())
    place = content.index(b"\xff\xc0")
    frame = content[place + 4 : place + 9] + bytes([3, 1, 17, 0, 2, 17, 0, 3, 17, 0])
    tables = b"".join(bytes([kind, 1, *[0] * 16]) for kind in (0x01, 0x11))
    chroma = struct.pack(">HH", 0xFFC4, 2 + len(tables)) + tables
    chroma += b"\xff\xfe\0\x22" + b"c" * 32  # behind which the last bytes but zeros are
    chroma += struct.pack(">HH8B", 0xFFDA, 10, 2, 2, 0x11, 3, 0x11, 0, 63, 0) + bytes(24)
    return (content[:place] + struct.pack(">HH", 0xFFC0, 17) + frame
            + content[place + 13 : -2] + chroma + content[-2:])  # fmt: skip


def jpeg_without_its_second_scan() -> bytes:
    content = jpeg_of_two_scans()
    return content[: content.index(b"\xff\xc4", content.index(b"\xff\xda"))]


def part_zeroed(content: bytes) -> bytes:
    return content[:3000] + bytes(300) + content[3300:]


def png_of_passes(rows: int) -> bytes:
    """Interlaced, with so many rows too few in the last pass."""
    order = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2),
             (1, 0, 2, 1))  # fmt: skip
    lines = [
        b"\0" + row.tobytes() for y, x, down, right in order for row in SCENE[y::down, x::right]
    ]
    head = struct.pack(">IIBBBBB", 64, 48, 8, 2, 0, 0, 1)
    pixels = zlib.compress(b"".join(lines[: len(lines) - rows]))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        chunk(*part) for part in ((b"IHDR", head), (b"IDAT", pixels), (b"IEND", b""))
    )


def sideways_by_exif(spoil: Callable[[bytes], bytes]) -> bytes:
    """A JPEG with EXIF that is spoilt: Orientation 6, then who made the camera."""
    block = spoil(exif({TAGS.Orientation: 6, TAGS.Make: "a maker of cameras"}, {}).tobytes())
    return JPEG[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + JPEG[2:]


def pointing_to_nowhere(block: bytes) -> bytes:
    at = block.index(struct.pack(">H", TAGS.Make))
    return block[: at + 8] + b"\0\1\0\0" + block[at + 12 :]


def two_pages(count: int) -> bytes:
    """A TIFF, cut so many bytes behind where its second directory begins."""
    content = pil("TIFF", save_all=True, append_images=[RED.copy()])
    at = int.from_bytes(content[4:8], "little")
    at += 2 + 12 * int.from_bytes(content[at : at + 2], "little")
    return content[: int.from_bytes(content[at : at + 4], "little") + count]


def arithmetic_jpeg() -> bytes:
    """PHOTO's red at quality 75, as jpegtran codes it; Pillow would read its codes in two parts."""
    content = base64.b85decode(
        "|JeWA07C!>1_lQP1qcTR2MGxX3Jeqt3=0bk84?o@6df8L9vvDS93UhvCm<p$BODwkHz_PIF*GzZA166I"
        "I5IpgGc+>)$p8xo00saE0Ra&J|I7de01yxb|Jncu0RaF2KLF57=L*Ho=FUppsBFRK3-jm4i&2dkocc{O"
        "IbF6GOvcePQg9fu6exXZAKC1D|Je"
    )
    pad = 65_512 - content.index(b"\xff\xda")
    return content[:2] + b"\xff\xfe" + struct.pack(">H", pad + 2) + bytes(pad) + content[2:]


def gif_with_a_smaller_frame() -> bytes:
    content = pil("GIF", GREY[:24, :32].copy())
    return content[:6] + struct.pack("<HH", 64, 48) + content[10:]


def avif_with_an_aperture(parts: int = 1) -> bytes:
    """Of 32 x 24 pixels, 4 to the right of the centre and 6 above it; parts: of each fraction."""
    content = bytearray(pil("AVIF"))
    pixels = content.index(b"mdat") + 4
    at = content.index(struct.pack(">I", pixels))
    content[at : at + 4] = struct.pack(">I", pixels + 40)
    for name in (b"meta", b"iprp", b"ipco"):
        at = content.index(name) - 4
        size = int.from_bytes(content[at : at + 4])
        content[at : at + 4] = struct.pack(">I", size + 40)
    aperture = struct.pack(">I4s4I4i", 40, b"clap", 32, parts, 24, parts, 4, parts, -6, parts)
    return bytes(content[: at + size] + aperture + content[at + size :])


def second_picture(other: bytes) -> bytes:
    """A JPEG with an index of two pictures, and this behind the first."""
    content = pil("MPO", save_all=True, append_images=[RED.resize((8, 6))])
    return content[: content.rindex(b"\xff\xd8\xff")] + other


def half_profile() -> bytes:
    """A JPEG that has the first of two parts of its profile."""
    content = bytearray(pil("JPEG", icc_profile=profile("sRGB")))
    content[content.index(b"ICC_PROFILE\0") + 13] = 2
    return bytes(content)


def bmp_with_profile() -> bytes:
    plain, icc = pil("BMP", LINEAR), colour.profile(colour.SRGB, 1.0)
    header = bytearray(struct.pack("<I", 124) + plain[18:54].ljust(120, b"\0"))
    header[56:60] = b"DEBM"
    struct.pack_into("<II", header, 112, 124 + len(plain) - 54, len(icc))
    return plain[:10] + struct.pack("<I", 14 + 124) + bytes(header) + plain[54:] + icc


def bmp_in_space(samples: np.ndarray, name: str, gamma: float) -> bytes:
    plain = pil("BMP", samples)
    space = np.rint(TO_XYZ[name].T.ravel() * 2**30).astype("<i4").tobytes()
    header = struct.pack("<I", 108) + plain[18:54].ljust(56, b"\0") + space
    header += struct.pack("<3I", *[round(gamma * 2**16)] * 3)
    return plain[:10] + struct.pack("<I", 14 + 108) + header + plain[54:]


def gif_with(name: bytes, content: bytes) -> bytes:
    """Of LINEAR's greys; the content is in blocks of 255 bytes, or else, of XMP, as it is."""
    plain = pil("GIF", LINEAR[..., 0])
    place = 13 + (3 << (plain[10] & 7) + 1)
    if name != b"XMP DataXMP":
        parts = [content[k : k + 255] for k in range(0, len(content), 255)]
        content = b"".join(bytes([len(part)]) + part for part in parts) + b"\0"
    return plain[:place] + b"!\xff\x0b" + name + content + plain[place:]


def bmp(alpha) -> bytes:
    """32 bits, with a header that has an alpha mask."""
    H, W, _ = SCENE.shape
    pixels = np.dstack([SCENE[..., ::-1], np.broadcast_to(alpha, (H, W))])[::-1].astype(np.uint8)
    info = struct.pack("<IiiHHIIiiII4I", 108, W, H, 1, 32, 3, 4 * H * W, 2835, 2835, 0, 0,
                       0xFF0000, 0xFF00, 0xFF, 0xFF000000).ljust(108, b"\0")  # fmt: skip
    return b"BM" + struct.pack("<IHHI", 122 + 4 * H * W, 0, 0, 122) + info + pixels.tobytes()


def bmp16(alpha) -> bytes:
    """A bit of alpha, and five of each colour."""
    H, W, _ = SCENE.shape
    red, green, blue = np.moveaxis(SCENE >> 3, 2, 0).astype(np.uint16)
    pixels = np.uint16(alpha) << 15 | red << 10 | green << 5 | blue
    info = struct.pack("<IiiHHIIiiII4I", 108, W, H, 1, 16, 3, 2 * H * W, 2835, 2835, 0, 0,
                       0x7C00, 0x3E0, 0x1F, 0x8000).ljust(108, b"\0")  # fmt: skip
    return b"BM" + struct.pack("<IHHI", 122 + 2 * H * W, 0, 0, 122) + info + pixels[::-1].tobytes()


# Colours, by the formulas of the standards

TO_XYZ = {
    "sRGB": [[.4124564, .3575761, .1804375], [.2126729, .7151522, .0721750],
             [.0193339, .1191920, .9503041]],
    "Adobe": [[.5767309, .1855540, .1881852], [.2973769, .6273491, .0752741],
              [.0270343, .0706872, .9911085]],
    "P3": [[.4865709, .2656677, .1982173], [.2289746, .6917385, .0792869],
           [0, .0451134, 1.0439444]],
}  # fmt: skip
TO_XYZ = {name: np.array(rows) for name, rows in TO_XYZ.items()}
CHRM_P3 = struct.pack(">8I", 31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000)


def linear(samples: np.ndarray) -> np.ndarray:
    v = samples / 255
    return np.where(v <= 0.04045, v / 12.92, ((v + 0.055) / 1.055) ** 2.4)


def srgb_curve(v: np.ndarray) -> np.ndarray:
    return np.where(v <= 0.0031308, 12.92 * v, 1.055 * np.maximum(v, 0) ** (1 / 2.4) - 0.055)


def in_space(name: str, curve=srgb_curve, peak: int = 255) -> np.ndarray:
    """SCENE, in sRGB, in the samples of another space, from 0 to peak."""
    light = linear(SCENE) @ TO_XYZ["sRGB"].T @ np.linalg.inv(TO_XYZ[name]).T
    samples = np.rint(peak * curve(np.clip(light, 0, 1)))
    return samples.astype(np.uint8 if peak == 255 else np.uint16)


ADOBE = in_space("Adobe", lambda v: v ** (256 / 563))
P3 = in_space("P3")
LINEAR = np.rint(255 * linear(SCENE)).astype(np.uint8)
GAMMA = b"gAMA", struct.pack(">I", 45455)
LIGHT = b"gAMA", struct.pack(">I", 100000)
DARK = SCENE // 8  # where 8 bits of light are too few, 16 enough
DARK_LIGHT = np.rint(65535 * linear(DARK)).astype(np.uint16)
DARK3 = DARK[..., :1].repeat(3, axis=2)


def dcf(index: str, space: int) -> dict:
    return {"tags": {TAGS.Make: "m"},
            "taken": {TAGS.ColorSpace: space, ExifTags.IFD.Interop: {1: index}}}  # fmt: skip


def profile(name: str) -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile(name)).tobytes()


def lab(photometric: str, dtype) -> bytes:
    image = ImageCms.profileToProfile(
        Image.fromarray(SCENE), ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"),
        outputMode="LAB",
    )  # fmt: skip
    v = np.frombuffer(image.tobytes("raw", "LAB"), np.uint8).reshape(SCENE.shape).astype(int)
    v[..., 1:] ^= 128 if photometric == "icclab" else 0
    scale = np.array([257, 256, 256]) if dtype == np.uint16 else 1
    return by_tifffile((v * scale).astype(dtype), photometric)


def nclx() -> bytes:
    """AVIF without profile that says P3 with sRGB's curve by its numbers."""
    data = pil("AVIF", P3)
    place = data.index(b"colrnclx") + 8
    return data[:place] + struct.pack(">HH", 12, 13) + data[place + 4 :]


JPEG = pil("JPEG")
BLACK_BELOW = SCENE * (y < 40)[..., None].astype(np.uint8)
NOISY = np.asarray(Image.fromarray(PHOTO).resize((256, 192), Image.Resampling.BICUBIC))
TURNED = np.rot90(SCENE, -1)
EVEN = np.broadcast_to(np.uint8(90), SCENE.shape)
GREY16 = np.array([[[1000], [1001], [65535], [30000]]], np.uint16)
GREY2 = np.array([[[0], [1], [2], [3]]], np.uint8)


def grey_row(*values) -> np.ndarray:
    return np.array(values)[None, :, None].repeat(3, axis=2)


KINDS = [
    # Plain
    Kind("PNG", lambda: pil("PNG"), SCENE),
    Kind("JPEG", lambda: JPEG, SCENE, 3),
    Kind("JPEG, progressive", lambda: pil("JPEG", progressive=True), SCENE, 3),
    Kind("WebP", lambda: pil("WEBP"), SCENE),
    Kind("BMP", lambda: pil("BMP"), SCENE),
    Kind("TIFF", lambda: pil("TIFF"), SCENE),
    Kind("AVIF", lambda: pil("AVIF"), SCENE, 4),
    Kind("GIF", lambda: pil("GIF", GREY), GREY3),
    Kind("PNG, grey", lambda: pil("PNG", GREY), GREY3),
    Kind("PNG, 1 bit", lambda: pil("PNG", Image.fromarray(GREY > 99)), GREY3 // 100 * 255, 255),
    Kind("JPEG, grey", lambda: pil("JPEG", GREY), GREY3, 3),
    Kind("JPEG, CMYK", lambda: pil("JPEG", Image.fromarray(INK, "CMYK")), SCENE, 3),
    Kind("JPEG, CMYK without Adobe's mark", lambda: pil(
        "JPEG", Image.fromarray(255 - INK, "CMYK")).replace(b"Adobe", b"Other"), SCENE, 3,
        word="does not say if its inks are inverted"),
    Kind("BMP, 24 bits of palette", lambda: pil("BMP", Image.fromarray(GREY)), GREY3),
    # Frames and pages
    Kind("APNG", lambda: animated("PNG"), SCENE, word="the first is read; restore --page N"),
    Kind("WebP, animated", lambda: animated("WEBP"), SCENE, word="3 frames"),
    Kind("GIF, animated", lambda: pil("GIF", GREY, save_all=True, append_images=[RED.copy()]),
         GREY3, word="2 frames"),
    Kind("GIF, a first frame smaller than the whole", gif_with_a_smaller_frame,
         np.pad(GREY3[:24, :32], ((0, 24), (0, 32), (0, 0)), constant_values=255)),
    Kind("AVIF, of which a part is to be seen", avif_with_an_aperture, SCENE[6:30, 20:52], 4),
    Kind("AVIF, of which a nonsensical part is to be seen", lambda: avif_with_an_aperture(0),
         SCENE, 12),
    Kind("AVIF, animated", lambda: animated("AVIF"), SCENE, 12, word="3 frames"),
    Kind("TIFF, 3 pages", lambda: animated("TIFF"), SCENE, word="page 1 is read; restore --page"),
    Kind("TIFF, preview first", preview_first, SCENE, word="2 pages: only page 2 is read"),
    Kind("TIFF, preview first, not said so",
         lambda: pil("TIFF", SCENE[::4, ::4], save_all=True,
                     append_images=[Image.fromarray(SCENE)]),
         SCENE, word="only page 2"),
    Kind("TIFF, preview of another shape first, not said so",
         lambda: pil("TIFF", SCENE[:24, ::3], save_all=True, append_images=[
             Image.fromarray(SCENE)]), SCENE, word="only page 2"),
    Kind("TIFF, picture in a SubIFD", picture_below, SCENE),
    Kind("JPEG of two pictures", lambda: pil("MPO", save_all=True, append_images=[RED.copy()]),
         SCENE, 12, word="2 frames"),
    Kind("JPEG with a preview",
         lambda: pil("MPO", save_all=True, append_images=[RED.resize((8, 6))]), SCENE, 12),
    *(Kind(f"JPEG, index of two pictures, {what}", lambda other=other: second_picture(other()),
           SCENE, 12)
      for what, other in (
          ("second gone", bytes), ("second cut", lambda: JPEG[:99]),
          ("profile in the second", lambda: pil("JPEG", LINEAR[::4, ::4],
                                                icc_profile=colour.profile(colour.SRGB, 1.0))),
          ("second sideways", lambda: pil("JPEG", SCENE[::4, ::4], tags={TAGS.Orientation: 6})))),
    Kind("TIFF, picture in a SubIFD, sideways", lambda: picture_below((274, 3, 1, 6, True)),
         np.rot90(SCENE, -1)),
    *(Kind(f"{kind}, sideways by XMP alone", lambda kind=kind, how=how: pil(kind, **how),
           np.rot90(SCENE, -1), 12)
      for kind, how in (("PNG", {"pnginfo": xmp_of_png(SIDEWAYS)}), ("JPEG", {"xmp": SIDEWAYS}),
                        ("WEBP", {"xmp": SIDEWAYS}), ("TIFF", {"tiffinfo": {700: SIDEWAYS}}))),
    # Colours
    Kind("PNG, profile that cannot be unpacked", lambda: png(SCENE, (b"iCCP", b"p\0\0?")), SCENE,
         word="profile cannot be used"),
    Kind("JPEG, half a profile", half_profile, SCENE, 3, word="profile cannot be used"),
    Kind("BMP with a profile", bmp_with_profile, SCENE, 4),
    Kind("BMP, linear by its header", lambda: bmp_in_space(LINEAR, "sRGB", 1.0), SCENE, 4),
    Kind("BMP, Adobe RGB by its header",
         lambda: bmp_in_space(ADOBE, "Adobe", colour.ADOBE_GAMMA), SCENE, 3),
    Kind("BMP, its header says no gamma", lambda: bmp_in_space(SCENE, "sRGB", 0), SCENE),
    Kind("GIF with a profile", lambda: gif_with(b"ICCRGBG1012", colour.profile(colour.SRGB, 1.0)),
         GREY3, 4),
    *(Kind(f"PNG, primaries that cannot be, {place}", lambda place=place: png(
        SCENE, GAMMA, (b"cHRM", struct.pack(">8I", *[place] * 8))), SCENE,
        word="profile cannot be used") for place in (0, 50_000)),
    Kind("JPEG, Adobe RGB by R03", lambda: pil("JPEG", ADOBE, **dcf("R03", 0xFFFF)), SCENE, 10),
    Kind("WebP, Adobe RGB by R03", lambda: pil("WEBP", ADOBE, **dcf("R03", 0xFFFF)), SCENE, 3),
    Kind("PNG, Adobe RGB by R03", lambda: pil("PNG", ADOBE, **dcf("R03", 0xFFFF)), SCENE, 3),
    *(Kind(f"TIFF, Adobe RGB by R03, {order}", lambda order=order: tiff_r03(order), SCENE, 3)
      for order in "<>"),
    Kind("AVIF, its numbers before R03", lambda: pil("AVIF", **dcf("R03", 0xFFFF)), SCENE, 4),
    Kind("JPEG, Adobe RGB by 2", lambda: pil("JPEG", ADOBE, **dcf("", 2)), SCENE, 10),
    Kind("JPEG, R98", lambda: pil("JPEG", **dcf("R98", 0xFFFF)), SCENE, 3),
    Kind("JPEG, R98 and 2", lambda: pil("JPEG", **dcf("R98", 2)), SCENE, 3),
    Kind("JPEG, sRGB and R03", lambda: pil("JPEG", **dcf("R03", 1)), SCENE, 3),
    Kind("JPEG, Adobe RGB by its primaries", lambda: pil("JPEG", ADOBE, tags={
        318: (0.3127, 0.329), 319: (0.64, 0.33, 0.21, 0.71, 0.15, 0.06)},
        taken={TAGS.ColorSpace: 0xFFFF, TAGS.Gamma: 2.2}), SCENE, 10),
    Kind("JPEG, primaries and sRGB", lambda: pil("JPEG", tags={
        318: (0.3127, 0.329), 319: (0.64, 0.33, 0.21, 0.71, 0.15, 0.06)},
        taken={TAGS.ColorSpace: 1}), SCENE, 3),
    Kind("TIFF, P3 by its primaries", lambda: by_tifffile(P3, extratags=[
        (318, 5, 2, (3127, 10000, 329, 1000), True),
        (319, 5, 6, (680, 1000, 320, 1000, 265, 1000, 690, 1000, 150, 1000, 60, 1000), True)]),
        SCENE, 3),
    Kind("JPEG, profile and R03",
         lambda: pil("JPEG", icc_profile=profile("sRGB"), **dcf("R03", 0xFFFF)), SCENE, 4),
    Kind("JPEG, linear by its EXIF", lambda: pil("JPEG", LINEAR, tags={TAGS.Make: "m"}, taken={
        TAGS.ColorSpace: 0xFFFF, TAGS.Gamma: 1.0}), SCENE, 15),
    *(Kind(f"PNG, Gamma of {gamma} in EXIF, {space}", lambda gamma=gamma, space=space: pil(
        "PNG", tags={TAGS.Make: "m"}, taken={TAGS.ColorSpace: space, TAGS.Gamma: gamma}), SCENE)
      for gamma, space in ((2.2, 0xFFFF), (1.0, 1))),
    Kind("PNG, gAMA of sRGB, primaries by R03", lambda: png(ADOBE, GAMMA, (b"eXIf", exif(
        **dcf("R03", 0xFFFF)).tobytes()[6:])), SCENE, 3),
    Kind("PNG, linear", lambda: png(LINEAR, LIGHT), SCENE, 4),
    Kind("PNG, linear, grey",
         lambda: png(LINEAR[..., :1], LIGHT), GREY3, 4),
    Kind("PNG of 16 bits, linear", lambda: png(DARK_LIGHT, LIGHT), DARK, 1.5),
    Kind("PNG of 16 bits, linear, grey", lambda: png(DARK_LIGHT[..., :1], LIGHT), DARK3, 1.5),
    Kind("TIFF of 16 bits, linear profile",
         lambda: by_tifffile(DARK_LIGHT, iccprofile=colour.profile(colour.SRGB, 1.0)), DARK, 1.5),
    Kind("TIFF of 16 bits, Adobe RGB", lambda: by_tifffile(
        in_space("Adobe", lambda v: v ** (256 / 563), 65535),
        iccprofile=colour.profile(colour.ADOBE_RGB, colour.ADOBE_GAMMA)), SCENE, 1),
    Kind("PNG, grey, profile of colour",
         lambda: pil("PNG", LINEAR[..., 0], icc_profile=colour.profile(colour.SRGB, 1.0)),
         GREY3, 4),
    Kind("PNG, gAMA of sRGB", lambda: png(SCENE, GAMMA), SCENE),
    Kind("PNG, gAMA of nonsense", lambda: png(SCENE, (b"gAMA", bytes(4))), SCENE),
    Kind("PNG, sRGB before gAMA",
         lambda: png(SCENE, LIGHT, (b"sRGB", b"\0")), SCENE),
    Kind("PNG, cHRM of P3", lambda: png(P3, GAMMA, (b"cHRM", CHRM_P3)), SCENE, 3),
    Kind("PNG, cICP of P3", lambda: png(P3, (b"cICP", bytes([12, 13, 0, 1]))), SCENE, 3),
    Kind("PNG, cICP before all",
         lambda: png(P3, (b"cICP", bytes([12, 13, 0, 1])), (b"sRGB", b"\0")), SCENE, 3),
    Kind("PNG, cICP of sRGB before cHRM",
         lambda: png(SCENE, (b"cICP", bytes([1, 13, 0, 1])), GAMMA, (b"cHRM", CHRM_P3)), SCENE),
    Kind("PNG, cICP of narrow range", lambda: png(P3, (b"cICP", bytes([12, 13, 0, 0]))), "narrow"),
    Kind("PNG, cICP of narrow range alone",
         lambda: png(P3, (b"cICP", bytes([2, 13, 0, 0]))), "narrow"),
    Kind("PNG, cICP of a curve alone",
         lambda: png(LINEAR, (b"cICP", bytes([2, 8, 0, 1])), (b"sRGB", b"\0")), SCENE, 4),
    Kind("PNG, cICP that says nothing",
         lambda: png(P3, (b"cICP", bytes([2, 2, 0, 1])), GAMMA, (b"cHRM", CHRM_P3)), SCENE, 3),
    Kind("PNG, HDR without primaries", lambda: png(P3, (b"cICP", bytes([2, 18, 0, 1]))), "(HLG)"),
    *(Kind(f"PNG, cICP of unknown {what}", lambda said=said: png(SCENE, (b"cICP", bytes(said))),
           SCENE, word="profile cannot be used")
      for what, said in (("primaries", [99, 13, 0, 1]), ("curve", [1, 9, 0, 1]))),
    Kind("PNG, HDR", lambda: png(P3, (b"cICP", bytes([9, 16, 0, 1]))), "high dynamic range (PQ)"),
    Kind("AVIF, P3 by its numbers", nclx, SCENE, 6),
    Kind("PNG, profile of sRGB", lambda: pil("PNG", icc_profile=profile("sRGB")), SCENE, 1),
    Kind("PNG, broken profile", lambda: pil("PNG", icc_profile=b"nonsense"), SCENE,
         word="profile cannot be used"),
    Kind("PNG of 16 bits", lambda: png(FINE), np.rint(FINE / 257.0)),
    Kind("PNG of 16 bits, grey and alpha",
         lambda: png(np.dstack([FINE[..., 0], FINE[..., 0] | 65535])),
         np.rint(FINE[..., :1] / 257.0).repeat(3, 2)),
    # Transparency
    Kind("PNG of 16 bits, alpha", lambda: png(np.dstack([FINE, HALF * np.uint16(257)])),
         OVER_WHITE, 1),
    Kind("PNG, alpha", lambda: pil("PNG", np.dstack([SCENE, HALF])), OVER_WHITE, 1),
    *(Kind(f"{kind}, transparent all over", lambda kind=kind: pil(
        kind, np.dstack([SCENE, 0 * HALF])), 255 + 0 * SCENE, word="read as white")
      for kind in ("PNG", "WEBP", "TIFF", "AVIF")),
    Kind("PNG, opaque", lambda: pil("PNG", np.dstack([SCENE, HALF | 255])), SCENE),
    Kind("WebP, alpha", lambda: pil("WEBP", np.dstack([SCENE, HALF])), OVER_WHITE, 1),
    Kind("PNG, clear palette", lambda: pil("PNG", Image.fromarray(GREY).convert("P"),
                                           transparency=bytes([128] * 256)),
         255 + (GREY3 - 255.0) * (128 / 255), 1),
    Kind("BMP, alpha", lambda: bmp(HALF), OVER_WHITE, 1),
    Kind("BMP, alpha of 0", lambda: bmp(0), SCENE),
    Kind("BMP of 16 bits, alpha", lambda: bmp16(1), SCENE, 9),
    Kind("BMP of 16 bits, half of it clear", lambda: bmp16(LEFT),
         np.where(LEFT[..., None], SCENE, 255), 9),
    Kind("BMP of 16 bits, alpha of 0", lambda: bmp16(0), SCENE, 9),
    Kind("PNG, clear grey of 16 bits",
         lambda: png(GREY16, (b"tRNS", struct.pack(">H", 1000))), grey_row(255, 4, 255, 117)),
    Kind("PNG, clear grey of 2 bits",
         lambda: png(GREY2, (b"tRNS", struct.pack(">H", 2)), bits=2), grey_row(0, 85, 255, 255)),
    Kind("PNG, clear grey of 1 bit",
         lambda: png(GREY2 % 2, (b"tRNS", struct.pack(">H", 0)), bits=1),
         grey_row(255, 255, 255, 255)),
    Kind("PNG, clear colour of 16 bits",
         lambda: png(DEEP, (b"tRNS", struct.pack(">3H", *DEEP[0, 0]))),
         np.where((SCENE == SCENE[0, 0]).all(2)[..., None], 255, SCENE)),
    # TIFF's layouts; the grid is a test of its own
    Kind("TIFF, LZW", lambda: pil("TIFF", compression="tiff_lzw"), SCENE),
    Kind("TIFF, JPEG", lambda: pil("TIFF", compression="jpeg", quality=100), SCENE, 6),
    *(Kind(f"TIFF, {how}", lambda how=how: pil("TIFF", Image.fromarray(GREY > 99), compression=how),
           np.where(GREY3 > 99, 255, 0)) for how in ("tiff_ccitt", "group3", "group4")),
    Kind("TIFF, palette", lambda: pil("TIFF", Image.fromarray(GREY).convert("P")), GREY3),
    Kind("TIFF, YCbCr", lambda: pil("TIFF", Image.fromarray(SCENE).convert("YCbCr")), SCENE, 3),
    Kind("TIFF, CMYK of 16 bits", lambda: by_tifffile(
        INK * np.uint16(257), "separated"), SCENE, 1),
    *(Kind(f"TIFF, CMYK, ink from {unit * 16} to {unit * 235}", lambda unit=unit: by_tifffile(
        np.rint(16 + INK * (219 / 255)).astype(type(unit)) * unit, "separated",
        extratags=[(336, 3, 2, (16 * int(unit), 235 * int(unit)), True)]), SCENE, 3)
      for unit in (np.uint8(1), np.uint16(257))),
    Kind("TIFF, CMYK, ink to nonsense", lambda: by_tifffile(
        INK * np.uint16(257), "separated", extratags=[(336, 3, 2, (0, 255), True)]), SCENE, 1),
    Kind("TIFF of other inks", lambda: by_tifffile(
        np.dstack([SCENE, GREY]), "separated", extratags=[(332, 3, 1, 2, True)]), "has inks other"),
    *(Kind(f"TIFF with a curve in tag {tag}", lambda tag=tag: by_tifffile(
        SCENE, extratags=[(tag, 3, 256, tuple(range(0, 65536, 257)), True)]), SCENE, word="curve")
      for tag in (291, 301)),
    *(Kind(f"TIFF, {photometric} of {dtype.__name__}",
           lambda photometric=photometric, dtype=dtype: lab(photometric, dtype), SCENE, 10)
      for photometric in ("cielab", "icclab") for dtype in (np.uint8, np.uint16)),
    Kind("BigTIFF", lambda: by_tifffile(DEEP, bigtiff=True), SCENE),
    *(Kind(f"TIFF, grey of {bits} bits, {photometric}, {order}",
           lambda bits=bits, photometric=photometric, order=order: tiff(
               (32, 2), bits, photometric,
               [packed(abs(np.arange(32) * (2**bits - 1) // 31 - (1 - photometric) * (2**bits - 1)),
                       bits) if bits < 16 else
                abs(np.arange(32) * 65535 // 31 - (1 - photometric) * 65535)
                .astype(order + "u2").tobytes()] * 2, order),
           np.rint(np.arange(32) * (2**bits - 1) // 31 * 255 / (2**bits - 1))[None, :, None]
           .repeat(2, axis=0).repeat(3, axis=2), 0.5)
      for bits in (1, 2, 4, 8, 10, 12, 14, 16) for photometric in (0, 1) for order in "<>"),
    *(Kind(f"TIFF, LZW of 16 bits, {order}, predictor {predictor}",
           lambda order=order, predictor=predictor: tiff(
               (64, 48), 16, 2,
               [lzw(np.diff(rows, axis=1, prepend=0).astype(order + "u2").tobytes()
                    if predictor == 2 else rows.astype(order + "u2").tobytes())
                for rows in np.split(DEEP, 6)],
               order, compression=5, channels=3, more={317: predictor}), SCENE)
      for order in "<>" for predictor in (1, 2)),
    Kind("TIFF, YCbCr by other numbers", ycbcr_of_hd, SCENE, 2),
    *(Kind(f"TIFF, YCbCr, chroma of {h} x {v}", lambda h=h, v=v: subsampled(h, v),
           SCENE[:47, :61], 7)
      for h, v in ((2, 2), (2, 1), (1, 2), (4, 4))),
    Kind("TIFF, predictor without compression", lambda: tiff(
        (64, 48), 8, 2, [SCENE.tobytes()], channels=3, more={317: 2}), SCENE),
    Kind("TIFF, cut where its tags have their values", lambda: tiff(
        (64, 48), 8, 2, [SCENE.tobytes()], channels=3)[:-1], "its tag 258 cannot be read"),
    Kind("TIFF, a title behind its end", lambda: tiff(
        (64, 48), 8, 1, [GREY.tobytes()], more={270: 99_999}).replace(
            struct.pack("<HHI", 270, 4, 1), struct.pack("<HHI", 270, 2, 9)), GREY3,
        word="damaged tags, which are left out: 270"),
    Kind("TIFF that does not say its colours", lambda: tiff_without(tiff(
        (64, 48), 8, 2, [SCENE.tobytes()], channels=3), 262), SCENE),
    Kind("TIFF that does not say it is grey", lambda: tiff_without(tiff(
        (64, 48), 8, 1, [GREY.tobytes()]), 262), GREY3),
    Kind("TIFF of three channels of grey", lambda: by_tifffile(
        SCENE, "minisblack", planarconfig="contig"), GREY3, word="3 channels, of which 1 are read"),
    Kind("TIFF without its lower half", lambda: tiff((64, 48), 8, 1, [GREY[:24].tobytes(), b""]),
         np.concatenate([GREY3[:24], np.zeros_like(GREY3[24:])]), word="parts without pixels"),
    Kind("TIFF, JPEG that is cut off", lambda: damaged_strip(compression="jpeg", quality=100),
         SCENE, 255, word="cut off"),
    Kind("TIFF, LZW, damaged", lambda: damaged_strip(
        put=lambda size: b"\xff" * size, share=2, compression="tiff_lzw"), "is damaged"),
    Kind("TIFF, deflate, damaged", lambda: damaged_strip(
        np.random.default_rng(0).integers(0, 99, (48, 64, 3), np.uint8), share=2,
        compression="tiff_adobe_deflate"), "is damaged"),
    Kind("TIFF, deflate, bits the other way round", lambda: tiff((64, 48), 8, 1, [
        zlib.compress(GREY.tobytes()).translate(BITS_REVERSED)], compression=8,
        more={266: 2}), GREY3),
    Kind("TIFF, JPEG of CMYK, said to have bits the other way round", lambda: pil(
        "TIFF", Image.fromarray(INK, "CMYK"), compression="jpeg", quality=100, tiffinfo={266: 2}),
        SCENE, 6),
    Kind("TIFF, JPEG of grey times alpha", lambda: by_tifffile(
        np.dstack([GREY // 2, HALF]), "minisblack", planarconfig="contig", compression="jpeg",
        compressionargs={"level": 100}, extrasamples=["assocalpha"]),
        255 + (GREY3 - 255.0) * (128 / 255), 4),
    Kind("TIFF, deflate, its last strip filled up", lambda: tiff(
        (64, 5), 8, 1, [zlib.compress(GREY[:20].tobytes())], compression=8, more={278: 20}),
        GREY3[:5]),
    *(Kind(f"TIFF, {how}, damaged", lambda how=how, put=put: damaged_strip(
        Image.fromarray(GREY % 7 > 3), put, compression=how), SCENE, 255, word="no sound fax code")
      for how in ("tiff_ccitt", "group3", "group4") for put in (bytes, lambda n: b"\xa5" * n)),
    Kind("TIFF of floats", lambda: by_tifffile(SCENE.astype(np.float32)), "32-bit floating-point"),
    Kind("TIFF of 32 bits", lambda: by_tifffile(DEEP.astype(np.uint32)), "8 or 16 bits a channel"),
    Kind("TIFF of values of undefined format", lambda: tiff(
        (64, 48), 8, 2, [SCENE.tobytes()], channels=3, more={339: 4}), SCENE),
    Kind("TIFF of a compression that is not read", lambda: tiff(
        (64, 48), 8, 2, [SCENE.tobytes()], channels=3, compression=50001), "not read (WEBP)"),
    Kind("TIFF without pixels", lambda: tiff((0, 48), 8, 1, [b""]), "has no pixels (0 x 48)"),
    Kind("TIFF of a camera", lambda: tiff((64, 48), 16, 32803, [DEEP[..., 0].tobytes()]),
         "camera's raw file: develop it"),
    Kind("TIFF of a camera, raw below what is said to be the picture", raw_below,
         "camera's raw file: develop it"),
    Kind("TIFF of a camera by Canon", lambda: b"II*\0\x10\0\0\0CR\2\0" + bytes(4) + tiff(
        (8, 6), 8, 1, [bytes(48)])[8:], "camera's raw file: develop it"),
    Kind("TIFF, JPEG of 12 bits", lambda: by_tifffile(
        GREY.astype(np.uint16) * 16, "minisblack", compression="jpeg",
        compressionargs={"bitspersample": 12}), "a JPEG of 12-bit values"),
    # Whole, though with more than is usual
    Kind("PNG, text with a name of Pillow's", lambda: png(SCENE, (b"tEXt", b"icc_profile\0x")),
         SCENE, word="a text named icc_profile, which is left out"),
    Kind("PNG, two texts of one name", lambda: png(
        SCENE, (b"tEXt", b"Comment\0x"), (b"tEXt", b"Comment\0y")), SCENE, word="2 texts named"),
    *(Kind(f"PNG, text that is no text, {what}", lambda name=name, content=content: png(
        SCENE, (name, b"Author" + content)), SCENE, word="Author that is empty or cannot be read")
      for what, name, content in (
          ("not UTF-8", b"iTXt", b"\0\0\0\0\0Zo\xeb"),
          ("packed, not UTF-8", b"iTXt", b"\0\1\0\0\0" + zlib.compress(b"Zo\xeb")),
          ("packed badly", b"zTXt", b"\0\0nonsense"))),
    Kind("PNG, much text", lambda: png(SCENE, (b"zTXt", b"Comment\0\0" + zlib.compress(
        bytes(range(32, 127)) * 20_000))), SCENE),
    Kind("PNG, more text than memory", lambda: png(SCENE, *[(b"zTXt", b"Comment\0\0" +
        zlib.compress(b" " * 1_000_000))] * 70), "damaged, cut off or of a rare kind"),
    Kind("PNG, one text larger than memory", lambda: png(SCENE, (b"zTXt", b"Comment\0\0" +
        zlib.compress(bytes(70_000_000), 1))), "damaged, cut off or of a rare kind"),
    Kind("PNG, its text damaged",
         lambda: png(SCENE, (b"tEXt", b"Comment\0hello")).replace(b"hello", b"hallo"), SCENE,
         word="has a damaged tEXt, which is left out"),
    Kind("JPEG with a trailer", lambda: JPEG + bytes(range(256)) * 40, SCENE, 3),
    Kind("JPEG with a film behind", lambda: JPEG + b"\xff\xda\0\0mp4" * 40, SCENE, 3),
    Kind("JPEG, coded by arithmetic", arithmetic_jpeg, np.asarray(Image.open(io.BytesIO(
        pil("JPEG", PHOTO[..., 0].copy(), quality=75))))[..., None].repeat(3, axis=2)),
    Kind("JPEG, a last scan of zeros", jpeg_of_two_scans, GREY3, 3),
    Kind("JPEG, progressive, long and white below", lambda: pil(
        "JPEG", WHITE_BELOW, progressive=True), WHITE_BELOW, 3),
    Kind("PNG, black below", lambda: png(BLACK_BELOW), BLACK_BELOW),
    # Not whole
    *(Kind(f"PNG, {rows} of 48 rows", lambda rows=rows: png_of_rows(rows), "before the last row")
      for rows in (1, 47)),
    Kind("PNG of 16 bits, grey and alpha, 30 of 48 rows", lambda: png_of_rows(
        30, np.dstack([GREY, HALF]).astype(">u2")), "before the last row"),
    Kind("JPEG without its end mark", lambda: JPEG[:-2], SCENE, 3, word="the picture is whole"),
    Kind("JPEG, half of its end mark", lambda: JPEG[:-1], SCENE, 3, word="the picture is whole"),
    *(Kind(f"JPEG, progressive, without its scans from {k}", lambda k=k: b"\xff\xda".join(
        pil("JPEG", progressive=True).split(b"\xff\xda")[:k]) + b"\xff\xd9", SCENE, off,
        word="lacks scans") for k, off in ((-1, 3), (2, 20))),
    Kind("JPEG, progressive, no end mark", lambda: pil("JPEG", progressive=True)[:-2], SCENE, 3,
         word="less detail"),
    Kind("JPEG, cut and filled up", lambda: pil("JPEG", EVEN)[:-40] + bytes(5000), EVEN, 255,
         word="% of it, below, are missing"),
    Kind("JPEG, cut, another picture behind", lambda: pil("JPEG", EVEN)[:-40] + JPEG, EVEN, 255,
         word="% of it, below, are missing"),
    Kind("JPEG, a part of it lost", lambda: JPEG[:-900] + bytes(512) + JPEG[-388:], SCENE, 255,
         word="seems damaged"),
    Kind("JPEG, a part of it twice", lambda: JPEG[:-400] + JPEG[-800:], SCENE, 255,
         word="seems damaged"),
    *(Kind(f"JPEG with restart marks, {what}", lambda data=data: data(
        pil("JPEG", NOISY, restart_marker_rows=1)), NOISY, 255,
         word="seems damaged") for what, data in (
        ("three parts lost", lambda j: j[: j.index(b"\xff\xd3")] + j[j.index(b"\xff\xd6") :]),
        ("its end lost", lambda j: j[: j.rindex(b"\xff\xd2")] + b"\xff\xd9"),
        ("out of order", lambda j: j.replace(b"\xff\xd3", b"\xff\xd5")))),
    Kind("JPEG, progressive, a part of it 0", lambda: part_zeroed(pil(
        "JPEG", NOISY, progressive=True)), NOISY, 255, word="seems damaged"),
    Kind("TIFF, JPEG of which a part is 0", lambda: part_zeroed(by_tifffile(
        NOISY, compression="jpeg")), NOISY, 255, word="damaged"),
    Kind("JPEG, a scan of colour lacking", lambda: jpeg_without_its_second_scan() +
         b"\xff\xd9", GREY3, 3, word="lacks scans"),
    Kind("JPEG, a scan of colour lacking, and half of the other",
         lambda: jpeg_without_its_second_scan()[:-200], GREY3, 255, word="below, are missing"),
    Kind("JPEG, a scan of colour lacking, and the end", jpeg_without_its_second_scan, GREY3, 3,
         word="less colour"),
    *(Kind(f"JPEG, sideways by EXIF {what}", lambda spoil=spoil: sideways_by_exif(spoil), TURNED, 3,
           word="damaged EXIF") for what, spoil in (
          ("that points to nowhere", pointing_to_nowhere), ("cut off", lambda b: b[:50]))),
    *(Kind(f"JPEG, sideways by XMP with {what}", lambda xmp=xmp: pil("JPEG", xmp=xmp), TURNED, 3)
      for what, xmp in (("other quotes", SIDEWAYS.replace(b'"6"', b"'6'")),
                        ("spaces", SIDEWAYS.replace(b'="6"', b' = "6"')))),
    *(Kind(f"PNG, interlaced, {rows} rows too few", lambda rows=rows: png_of_passes(rows),
           "before the last row") for rows in (1, 23)),
    Kind("PNG, interlaced", lambda: png_of_passes(0), SCENE),
    *(Kind(f"PNG, {name.decode()} of a wrong length", lambda name=name, body=body: png(
        SCENE, (name, body)), SCENE, word=f"a damaged {name.decode()}, which is left out")
      for name, body in ((b"pHYs", b"abc"), (b"gAMA", b"abc"), (b"cHRM", bytes(10)),
                         (b"sRGB", b""), (b"tRNS", b""), (b"tRNS", b"ab"), (b"acTL", b""),
                         (b"iCCP", b"name"), (b"iCCP", b"name\0\5"))),
    Kind("PNG, an animation of no frames", lambda: png(SCENE, (b"acTL", bytes(8))), SCENE),
    Kind("TIFF of two pages, cut before the second", lambda: two_pages(0), SCENE,
         word="what comes behind page 1 is missing"),
    Kind("TIFF of two pages, cut in the second", lambda: two_pages(10), SCENE,
         word="what comes behind page 1 is missing"),
    *(Kind(f"JPEG, {name[:5].decode()} cut off", lambda mark=mark, name=name: JPEG[:20] + mark +
           struct.pack(">H", 2 + len(name)) + name + JPEG[20:], SCENE, 3, word="beside its pixels")
      for mark, name in ((b"\xff\xe0", b"JFIF"), (b"\xff\xee", b"Adobe"),
                         (b"\xff\xe2", b"ICC_PROFILE\0"),
                         (b"\xff\xed", b"Photoshop 3.0\0008BIM12"))),
    Kind("PNG, a palette lacking", png_without_its_palette, "its parts do not fit together"),
    Kind("JPEG, its end filled up", lambda: JPEG[:-2] + b"\xff" * 3 + JPEG[-2:], SCENE, 3),
    Kind("JPEG of 12 bits", lambda: imagecodecs.jpeg_encode(SCENE.astype(np.uint16) * 16,
         bitspersample=12), "12 bits a channel"),
    Kind("JPEG, its head only", lambda: JPEG[:640], "is damaged, cut off"),
    Kind("PNG, cut", lambda: pil("PNG")[:-100], "is damaged, cut off"),
    Kind("empty", lambda: b"", "is empty (0 bytes): copy"),
    Kind("text", lambda: b"<html>not found</html>", "is not an image that can be read: give a PNG"),
    Kind("PPM", lambda: pil("PPM"), "is not an image that can be read"),
    Kind("HEIC", lambda: b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(99), "pip install pillow-h"),
]  # fmt: skip
