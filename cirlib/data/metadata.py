"""What a file says beside its pixels: EXIF as bytes, XMP, PNG's texts, and dots per inch."""

import hashlib
import io
import re
import struct
from dataclasses import dataclass, field, replace
from typing import BinaryIO, NamedTuple

from PIL import Image

_EXIF, _GPS, _INTEROP, _NOTE = 0x8769, 0x8825, 0xA005, 0x927C
_IPTC, _IPTC_OF_JPEG = 33723, 0x0404
_ORIENTATION, _SOFTWARE, _X, _Y, _UNIT = 274, 305, 282, 283, 296
_WHITE, _PRIMARIES, _GAMMA = 318, 319, 42240
_ASKED = {_X, _Y, _WHITE, _PRIMARIES, _GAMMA}  # of the stale ones
# Bytes of a value of each of TIFF's types.
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8,
          17: 8, 129: 1}  # fmt: skip
# Tags that no longer hold after reading: what lays out and colours the pixels (of TIFF 6 and DNG),
# orientation, previews; and what has a place of its own: profile, XMP, resolution, pointers.
_STALE = {
    *range(254, 267), 273, 274, *range(277, 282), *range(282, 285), *range(288, 294), 296, 301, 305,
    *range(317, 348), *range(512, 533), 700, 33421, 33422, 34377, 34675, 37724, _EXIF, _GPS,
    *range(50706, 52600), 40961, 40962, 40963, _INTEROP, 42240,
}  # fmt: skip
_STALE_XMP = "|".join((
    "tiff:Orientation", "tiff:ImageWidth", "tiff:ImageLength", "exif:ColorSpace",
    "exif:PixelXDimension", "exif:PixelYDimension", "photoshop:ICCProfile", r"hdrgm:\w+",
    "xmpNote:HasExtendedXMP", "exifEX:InteroperabilityIndex", r"GCamera:MotionPhoto\w*",
    r"GCamera:MicroVideo\w*",
))  # fmt: skip
_STALE_XMP = re.compile(
    rf"""\s(?:{_STALE_XMP})\s*=\s*(?:"[^"]*"|'[^']*')|<({_STALE_XMP})>[^<]*</\1>"""
    "|(?s:<xmp:Thumbnails>.*?</xmp:Thumbnails>)".encode()
)
_ORIENTATION_OF_XMP = re.compile(
    rb"""tiff:Orientation\s*=\s*["']\s*([1-8])|<tiff:Orientation>\s*([1-8])"""
)
XMP_OF_PNG = "XML:com.adobe.xmp"  # name of its text
_MORE_XMP = b"http://ns.adobe.com/xmp/extension/\0"
_LONGEST_XMP = 65_502  # bytes, in one segment of a JPEG
_POINTER = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/">'
    '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description '
    'rdf:about="" xmlns:xmpNote="http://ns.adobe.com/xmp/note/" xmpNote:HasExtendedXMP="%s"/>'
    "</rdf:RDF></x:xmpmeta>"
)


class Entry(NamedTuple):
    """A tag's value as its file has it."""

    type: int
    count: int
    value: bytes
    offset: int


@dataclass(frozen=True)
class Exif:
    """EXIF: tag -> Entry of its directories. order: "<" or ">", of the bytes in each value."""

    order: str = "<"
    image: dict[int, Entry] = field(default_factory=dict)
    photo: dict[int, Entry] = field(default_factory=dict)
    gps: dict[int, Entry] = field(default_factory=dict)
    interop: dict[int, Entry] = field(default_factory=dict)
    damaged: bool = False  # more was said, and is cut off or points to nowhere

    @property
    def orientation(self) -> int:
        """1 to 8; 0 where it is not said."""
        value = int(self._number(self.image, _ORIENTATION))
        return value if 1 <= value <= 8 else 0

    @property
    def is_srgb(self) -> bool:
        return self._index == b"R98" or self._number(self.photo, 40961) == 1

    @property
    def is_adobe_rgb(self) -> bool:
        """As DCF lets cameras say it: R03, or colour space 2 of some that name no DCF space."""
        space = self._number(self.photo, 40961)
        return not self.is_srgb and (self._index == b"R03" or space == 2)

    @property
    def primaries(self) -> tuple[float, ...]:
        """x, y of white, red, green and blue; empty where they are not said."""
        places = self._numbers(self.image, _WHITE) + self._numbers(self.image, _PRIMARIES)
        return places if len(places) == 8 and all(0 < p < 1 for p in places) else ()

    @property
    def gamma(self) -> float | None:
        """None where it is not said."""
        value = self._number(self.photo, _GAMMA)
        return value if 0.1 <= value <= 10 else None

    @property
    def _index(self) -> bytes:
        return self.interop[1].value[:3] if 1 in self.interop else b""

    def _numbers(self, entries: dict[int, Entry], tag: int) -> tuple[float, ...]:
        """The values of a tag; empty where there is none, or they are broken."""
        kind, count, value, _ = entries.get(tag, Entry(3, 0, b"", 0))
        try:
            if kind in (5, 10):
                parts = struct.unpack(f"{self.order}{2 * count}{'I' if kind == 5 else 'i'}", value)
                return tuple(a / b for a, b in zip(parts[::2], parts[1::2], strict=True))
            return struct.unpack(
                self.order + count * {1: "B", 3: "H", 4: "I", 11: "f", 12: "d"}[kind], value
            )
        except (struct.error, KeyError, ZeroDivisionError):
            return ()

    def _number(self, entries: dict[int, Entry], tag: int) -> float:
        """The first value of a tag; 0 where there is none."""
        return next(iter(self._numbers(entries, tag)), 0)

    def dots_per_inch(self) -> tuple[float, float]:
        """Across and down; zeros where it does not say."""
        unit = self._number(self.image, _UNIT) if _UNIT in self.image else 2
        inches = {2: 1, 3: 2.54}.get(unit, 0)
        return self._number(self.image, _X) * inches, self._number(self.image, _Y) * inches

    def upright(self, dpi: tuple[float, float] | None) -> "Exif":
        """Without what is stale in a result, and with its resolution."""
        image, photo = (
            {tag: entry for tag, entry in entries.items() if tag not in _STALE}
            for entries in (self.image, self.photo)
        )
        for tag, dots in zip((_X, _Y), dpi or (), strict=False):
            value = struct.pack(self.order + "II", round(dots * 10_000), 10_000)
            image[tag] = Entry(5, 1, value, 0)
        if dpi:
            image[_UNIT] = Entry(3, 1, struct.pack(self.order + "H", 2), 0)
        return replace(self, image=image, photo=photo, interop={})

    def with_software(self, text: str) -> "Exif":
        value = text.encode() + b"\0"
        return replace(self, image=self.image | {_SOFTWARE: Entry(2, len(value), value, 0)})

    def tobytes(self) -> bytes:
        """As Pillow takes it. A maker's note stays where it was: it may point into itself."""
        out, order = bytearray(8), self.order

        def put(entries: dict[int, Entry]) -> bytes:
            out.extend(bytes(len(out) % 2))
            start, table = len(out), struct.pack(order + "H", len(entries))
            out.extend(bytes(2 + 12 * len(entries) + 4))
            for tag, entry in sorted(entries.items()):
                value = entry.value.ljust(4, b"\0")
                if tag == _NOTE and note:
                    value = struct.pack(order + "I", note)
                elif len(value) > 4:
                    out.extend(bytes(len(out) % 2))
                    value = struct.pack(order + "I", len(out))
                    out.extend(entry.value)
                table += struct.pack(order + "HHI", tag, entry.type, entry.count) + value
            out[start : start + len(table)] = table
            return struct.pack(order + "I", start)

        maker = self.photo.get(_NOTE)
        note = maker.offset if maker and len(maker.value) > 4 and 8 <= maker.offset < 4096 else 0
        if note:
            out.extend(bytes(note - 8) + maker.value)
        image = dict(self.image)
        for pointer, entries in ((_EXIF, self.photo), (_GPS, self.gps)):
            if entries:
                image[pointer] = Entry(4, 1, put(entries), 0)
        out[4:8] = put(image)
        out[:4] = b"II*\0" if order == "<" else b"MM\0*"
        return b"Exif\0\0" + bytes(out)

    def __bool__(self) -> bool:
        return bool(self.image or self.photo or self.gps)


def read_exif(file: BinaryIO, *offsets: int) -> Exif:
    """EXIF out of a file that is built as TIFF, of its first page and those at offsets.

    What is broken is left out.
    """
    file.seek(0)
    head = file.read(16)
    order, big = ("<" if head[:2] == b"II" else ">"), 43 in head[2:4]
    if head[:2] not in (b"II", b"MM") or len(head) < 8:
        return Exif()
    first = struct.unpack_from(order + "Q", head, 8) if big else struct.unpack_from(
        order + "I", head, 4
    )  # fmt: skip
    image: dict[int, Entry] = {}
    damages: list[int] = []
    for offset in (*first, *offsets):
        image |= _directory(file, order, big, offset, damages)

    def below(entries: dict[int, Entry], pointer: int) -> dict[int, Entry]:
        value = entries[pointer].value if pointer in entries else b""
        if len(value) not in (4, 8):
            return {}
        (offset,) = struct.unpack(order + {4: "I", 8: "Q"}[len(value)], value)
        return _directory(file, order, big, offset, damages)

    photo, gps = below(image, _EXIF), below(image, _GPS)
    return Exif(order, image, photo, gps, below(photo, _INTEROP), bool(damages))


def _directory(
    file: BinaryIO, order: str, big: bool, start: int, damages: list[int]
) -> dict[int, Entry]:
    """What stands at start. damages: takes the places of what cannot be read."""
    form, step, short = (order + "HHQ8s", 20, 8) if big else (order + "HHI4s", 12, 4)
    found, left = {}, 1 << 26  # bytes of all values: many may claim the same ones
    file.seek(start)
    head = file.read(8 if big else 2)
    if len(head) < (8 if big else 2):
        damages.append(start)
        return {}
    (count,) = struct.unpack(order + ("Q" if big else "H"), head)
    table = file.read(step * min(count, 4096))
    if len(table) < step * count:
        damages.append(start)
    for place in range(0, len(table) - step + 1, step):
        tag, kind, count, value = struct.unpack_from(form, table, place)
        size, offset = count * _SIZES.get(kind, 0), 0
        if size > short:
            if tag in _STALE and tag not in _ASKED:  # a profile, pixels: may be large
                continue
            (offset,) = struct.unpack(order + ("Q" if big else "I"), value)
            file.seek(offset)
            value = file.read(min(size, 1 << 24, left))
            left -= len(value)
        if size and len(value) >= size:
            found[tag] = Entry(kind, count, value[:size], offset)
        elif size:
            damages.append(offset)
    return found


def raw_profile(image: Image.Image, *names: str) -> bytes:
    """What ImageMagick has put as text into a PNG: the first of such names; empty if none."""
    for name in names:
        text = image.info.get(f"Raw profile type {name}")
        if isinstance(text, str):
            try:
                return bytes.fromhex("".join(text.split("\n")[3:]))  # after its name and length
            except ValueError:
                return b""
    return b""


def info_of_gif(file: BinaryIO) -> dict[str, bytes]:
    """What it says before its first frame that Pillow does not read, by Pillow's names."""
    content = file.seek(0) or file.read()
    at, found = 13 + (3 << (content[10] & 7) + 1 if content[10] & 128 else 0), {}
    while content[at] == ord("!"):
        parts, start, at = [], at + 14, at + 2
        while size := content[at]:
            parts.append(content[at + 1 : at + 1 + size])
            at += 1 + size
        at += 1
        if parts[:1] == [b"ICCRGBG1012"]:
            found["icc_profile"] = b"".join(parts[1:])
        elif parts[:1] == [b"XMP DataXMP"]:  # not in parts: 258 bytes end it
            found["xmp"] = content[start : at - 258]
    return found


def exif_of(image: Image.Image) -> Exif:
    """EXIF of an open PNG, JPEG, WebP or AVIF; IPTC of a JPEG is put where a TIFF has it."""
    block = image.info.get("exif") or raw_profile(image, "exif", "APP1")  # HEIC: may be None
    if image.format == "AVIF":  # of one that is turned info has it in ASCII
        block = image._decoder.get_info()[4] or b""
    while block.startswith(b"Exif\0\0"):  # of a PNG twice, by some writers
        block = block[6:]
    exif = read_exif(io.BytesIO(block))
    if iptc := image.info.get("photoshop", {}).get(_IPTC_OF_JPEG):
        exif = replace(exif, image=exif.image | {_IPTC: Entry(7, len(iptc), iptc, 0)})
    return exif


def orientation_of(image: Image.Image, exif: Exif) -> int:
    """How an open image lies in its file, as EXIF counts it, by its EXIF or else its XMP."""
    if image.format in ("AVIF", "HEIF"):  # which have boxes for that, and Pillow's plugins turn
        try:
            return image.getexif().get(_ORIENTATION, 1)
        except Exception:  # broken EXIF, whole pixels
            return 1
    return exif.orientation or orientation_of_xmp(_own_xmp(image)) or 1


def orientation_of_xmp(xmp: bytes) -> int:
    """1 to 8; 0 where it is not said."""
    found = _ORIENTATION_OF_XMP.search(_in_utf8(xmp))
    return int(found[1] or found[2]) if found else 0


def _own_xmp(image: Image.Image) -> bytes:
    """Where its format has it."""
    text = image.info.get(XMP_OF_PNG, "").encode("latin-1", "replace")  # in a wrong kind of chunk
    return image.info.get("xmp") or text


def _xmp_of(image: Image.Image) -> bytes:
    """XMP in UTF-8, and into it what a JPEG has of it in further segments."""
    raw = raw_profile(image, "xmp", "APP1").removeprefix(b"http://ns.adobe.com/xap/1.0/\0")
    xmp = _in_utf8(_own_xmp(image) or (raw if raw.lstrip()[:1] == b"<" else b""))
    more = {}
    for _, segment in getattr(image, "applist", ()):
        if segment.startswith(_MORE_XMP):
            (place,) = struct.unpack_from(">I", segment.ljust(75), 71)  # after a digest and a size
            more[place] = segment[75:]
    content = re.search(
        rb"<rdf:RDF.*?>(.*)</rdf:RDF>", b"".join(map(more.get, sorted(more))), re.DOTALL
    )
    return xmp.replace(b"</rdf:RDF>", content[1] + b"</rdf:RDF>", 1) if content else xmp


def xmp_for_jpeg(xmp: bytes) -> dict[str, bytes]:
    """As Pillow takes it: in one segment, or in many, with one that points to them."""
    if len(xmp) <= _LONGEST_XMP:
        return {"xmp": xmp} if xmp else {}
    digest = hashlib.md5(xmp, usedforsecurity=False).hexdigest().upper()
    extra = b""
    for place in range(0, len(xmp), 65_400):
        head = _MORE_XMP + digest.encode() + struct.pack(">II", len(xmp), place)
        part = head + xmp[place : place + 65_400]
        extra += b"\xff\xe1" + struct.pack(">H", 2 + len(part)) + part
    return {"xmp": (_POINTER % digest).encode(), "extra": extra}


def _in_utf8(xmp: bytes) -> bytes:
    """A TIFF may have it in UTF-16, and what is no Unicode is taken for Latin-1."""
    if xmp[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return xmp.decode("utf-16", "replace").encode()
    return _as_text(xmp).encode()


def _as_text(text: bytes | str) -> str:
    if isinstance(text, str):
        return text
    try:
        return text.decode()
    except UnicodeDecodeError:  # then every byte is a letter
        return text.decode("latin-1")


@dataclass(frozen=True)
class Kept:
    """What a result keeps of its photo's file, beside the pixels.

    exif: without what no longer holds (orientation, size, colour space) and without thumbnail; the
    other values byte by byte. texts: of a PNG, by their keys. dpi: across and down, upright.
    """

    exif: Exif = Exif()
    xmp: bytes = b""
    texts: dict[str, str] = field(default_factory=dict)
    dpi: tuple[float, float] | None = None

    def __bool__(self) -> bool:
        return bool(self.exif or self.xmp or self.texts)


def kept(image: Image.Image, exif: Exif, sideways: bool) -> Kept:
    """Of an image that is open and loaded, and its EXIF. sideways: it lies so in the file."""
    # Pillow's "dpi" may also be a guess: 72 of a JPEG, 1 of a TIFF
    sure = image.format in ("PNG", "BMP") or image.info.get("jfif_unit")
    dots = image.info.get("dpi") if sure else None
    dots = tuple(map(float, dots or exif.dots_per_inch()))
    if not all(1 <= d <= 65_535 for d in dots):  # too few or too many to be true, or for a JPEG
        dots = None
    elif sideways:
        dots = dots[::-1]
    texts = {}
    if image.format == "PNG":
        taken = {f"Raw profile type {name}" for name in ("exif", "APP1", "xmp", "icc", "icm")}
        taken.add(XMP_OF_PNG)
        texts = {k: v for k, v in image.info.items() if isinstance(v, str) and k not in taken}
    comments = [text for mark, text in getattr(image, "applist", ()) if mark == "COM"]  # of a JPEG
    if comment := b"\n".join(comments) or image.info.get("comment"):
        texts["Comment"] = _as_text(comment)
    return Kept(exif.upright(dots), _STALE_XMP.sub(b"", _xmp_of(image)), texts, dots)
