"""Photographs by name, and their verified download.

A data set is a folder under ``paths.DATA``; what belongs in it is known here, file by file, so an
unfinished download is never taken for the whole. ``manifests/*.csv`` hold the SHA-256 of every
photograph of BSD432 and CBSD68, and of those of ``clic`` and ``photos`` that the shipped networks
have seen, which are no download. ``data/README.md`` tells the terms of each set.
"""

import csv
import hashlib
import importlib.util
import io
import logging
import os
import shutil
import sys
import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

import numpy as np
from PIL import Image

from cirlib import paths
from cirlib.files import UserError, atomic
from cirlib.images import list_images, read_image

FOLDERS = {
    "cbsd68": "CBSD68",
    "bsd432": "BSD432",
    "div2k": "DIV2K/DIV2K_train_HR",
    "div2k-valid": "DIV2K/DIV2K_valid_HR",
    "clic": "HR2K",
    "photos": "PHOTOS",
}
BY_HAND = {"clic": "clic_*.webp", "photos": "*.webp"}  # sets that no command downloads
AVAILABLE = {
    "cbsd68": "68 test images (20 MB kept of about 200; non-commercial research)",
    "bsd432": "432 training images (32 MB kept of about 70; non-commercial research)",
    "div2k": "800 training images, 2K (3.5 GB; academic research only)",
    "div2k-valid": "100 validation images, 2K (0.45 GB; academic research only)",
    "weights": "what LPIPS and NIQE need (10 MB kept of 0.25 GB; BSD, LIVE's free licence)",
}
# Photographs that lie inside scikit-image's wheel: everyday scenes in colour, and some with damage
# of their own (partly out of focus, grainy, compressed).
EMBEDDED = {
    "embedded": (
        "astronaut.png", "chelsea.png", "coffee.png", "motorcycle_left.png", "rocket.jpg"),
    "embedded-real": ("text.png", "coins.png", "rocket.jpg"),
}  # fmt: skip

PACK_QUALITY = 85  # of JPEG: BSD432 takes two thirds of its bytes then, CLIC a fourth


@dataclass(frozen=True)
class Photograph:
    name: str  # file name without suffix, as a label
    path: Path

    def read(self) -> np.ndarray:
        """Pixels as uint8, H x W x 3, sRGB. Raises UserError when the file cannot be read."""
        return read_image(self.path)


def photographs(name: str) -> list[Photograph]:
    """The photographs of a data set or of a folder, in a fixed order, not yet read.

    ``name`` is a key of ``EMBEDDED`` or of ``FOLDERS``, the path of a folder, or several of these
    joined as in ``bsd432+clic``. Where two files of a folder differ in their suffix alone, it
    stays part of the label.

    Raises UserError when something is missing: which folder was looked at, and what to do.
    """
    folder = Path(name).expanduser()
    if name in EMBEDDED:
        found = _embedded(EMBEDDED[name])
    elif name in BY_HAND:
        folder = paths.DATA / FOLDERS[name]
        found = sorted(folder.glob(BY_HAND[name]))
        if not found:
            raise UserError(
                f"no {BY_HAND[name]} in {folder}: put sharp photographs there, or "
                f"set CIRLIB_DATA to a folder that has {FOLDERS[name]}"
            )
    elif name in FOLDERS:
        folder = paths.DATA / FOLDERS[name]
        found = [folder / file for file in _files(name)]
        lacking = sum(not path.is_file() for path in found)
        if lacking:
            raise UserError(
                f"{folder} lacks {lacking} of {len(found)} images: "
                f"run `python -m cirlib data {name}` or set CIRLIB_DATA"
            )
    elif name and folder.is_dir():
        found = list_images(folder)
    elif "+" in name:
        return [photograph for part in name.split("+") for photograph in photographs(part)]
    else:
        raise UserError(
            f"no data set or folder is called {name!r}: "
            f"give a folder, or one of {', '.join((*EMBEDDED, *FOLDERS))}"
        )
    stems = Counter(path.stem for path in found)
    return [Photograph(path.stem if stems[path.stem] == 1 else path.name, path) for path in found]


def default_test_set() -> str:
    """``cbsd68``, the paper's, where it is on this machine, else ``embedded``."""
    try:
        photographs("cbsd68")
    except UserError:
        return "embedded"
    return "cbsd68"


def spread(photos: list[Photograph], limit: int | None) -> list[Photograph]:
    """``limit`` of the photographs, evenly spaced in their order; None or 0: all of them."""
    count = len(photos)
    if not limit or limit >= count:
        return photos
    return [photos[i * count // limit] for i in range(limit)]


def fingerprint(photos: Iterable[Photograph]) -> str:
    """Twelve hexadecimal digits of the SHA-256 over labels and file contents, for provenance."""
    digest = hashlib.sha256()
    for photo in photos:
        digest.update(f"{photo.name} {_sha256(photo.path)}\n".encode())
    return digest.hexdigest()[:12]


def pack(images: str, folder: Path | str, megabytes: float) -> Path:
    """Copy photographs into a new folder of ``megabytes`` (10^6 bytes) at most; returns it.

    images: as for photographs. Files are copied as they are; where they take too much, the largest
    become JPEG (quality PACK_QUALITY, upright, sRGB) one after the other, until all fit. The same
    photographs give the same bytes, with the same Pillow. The folder is whole or absent.

    Raises UserError when it is there already, two photographs have one name, or JPEG is too large.
    """
    folder, photos = Path(folder).expanduser(), photographs(images)
    if folder.exists():
        raise UserError(f"{folder} is there already: name a new folder, or delete it")
    sizes = {photo: photo.path.stat().st_size for photo in photos}
    smaller: dict[Photograph, bytes] = {}
    for photo in sorted(photos, key=lambda photo: (-sizes[photo], photo.name)):
        if sum(sizes.values()) <= megabytes * 1e6:
            break
        content = _encode_jpeg(photo.read())
        if len(content) < sizes[photo]:
            smaller[photo], sizes[photo] = content, len(content)
    if (total := sum(sizes.values()) / 1e6) > megabytes:
        raise UserError(
            f"{images} takes {total:.3g} MB as JPEG, more than {megabytes:g}: "
            "allow more, or give fewer photographs"
        )
    names = [f"{photo.name}.jpg" if photo in smaller else photo.path.name for photo in photos]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise UserError(f"{images} has two photographs called {twice[0]}: rename one")
    unfinished = folder.with_name(f".{folder.name}-unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)  # a killed run left it
    try:
        for photo, name in zip(photos, names, strict=True):
            with atomic(unfinished / name) as temporary:
                temporary.write_bytes(smaller.get(photo) or photo.path.read_bytes())
        unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return folder


def _encode_jpeg(image: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=PACK_QUALITY, subsampling="4:4:4")
    return file.getvalue()


def _embedded(names: Iterable[str]) -> list[Path]:
    spec = importlib.util.find_spec("skimage")  # found, not imported: that takes a second
    if spec is None:
        raise UserError("the embedded photographs are scikit-image's: pip install scikit-image")
    found = [Path(spec.submodule_search_locations[0], "data", file) for file in names]
    for path in found:
        if not path.is_file():
            raise UserError(f"there is no {path}: install scikit-image from its wheel")
    return found


@cache
def _manifest(name: str) -> dict[str, str]:
    """File name -> SHA-256 of what ``bsd432`` or ``cbsd68`` consists of."""
    with open(Path(__file__).parent / "manifests" / f"{name}.csv", newline="") as file:
        return {row["file"]: row["sha256"] for row in csv.DictReader(file)}


def _files(name: str) -> dict[str, str | None]:
    """File name -> SHA-256, None where only the archive has one."""
    if name == "div2k":
        return {f"{number:04d}.png": None for number in range(1, 801)}
    if name == "div2k-valid":
        return {f"{number:04d}.png": None for number in range(801, 901)}
    return _manifest(name)


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# Download


@dataclass(frozen=True)
class Source:
    """A file to fetch. ``urls`` are tried in turn; all hold the contents that we want."""

    file: str  # its name under paths.DATA / "downloads"
    urls: tuple[str, ...]
    sha256: str | None = None  # None: what we take out of it is checked, file by file


# GitHub limits anonymous requests for raw files by the hour: from there we take one archive.
SOURCES = {
    "cbsd68": Source(
        "CBSD68-dataset.zip",
        (
            "https://github.com/clausmichele/CBSD68-dataset/archive/51a07a95884ac7c8bdd5d1614f9da781adc3c4a0.zip",
        ),
    ),
    "bsd432": Source(
        "BSR_bsds500.tgz",
        (
            "http://www.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/BSR/BSR_bsds500.tgz",
            "https://github.com/BIDS/BSDS500/archive/a04b7c6c3a9f0ace74bf205c72a43d32e1c72722.zip",
        ),
    ),
    "div2k": Source(
        "DIV2K_train_HR.zip",
        ("https://data.vision.ee.ethz.ch/cvl/DIV2K/DIV2K_train_HR.zip",),
        "9d0b9c463f6e35b6c62cc6a930ee2224f670b34c1df841a57670f9acf0f6c335",
    ),
    "div2k-valid": Source(
        "DIV2K_valid_HR.zip",
        ("https://data.vision.ee.ethz.ch/cvl/DIV2K/DIV2K_valid_HR.zip",),
        "20dd31fd84d777bc1cf5d6b7654a3f569c0aec74458ae094122ad1d0489900fc",
    ),
    "niqe": Source(
        "niqe_release.zip",
        (
            "http://live.ece.utexas.edu/research/quality/niqe_release.zip",
            "https://github.com/utlive/niqe/archive/refs/heads/main.zip",
        ),
    ),
    "alexnet": Source(
        "alexnet-owt-7be5be79.pth",
        ("https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",),
        "7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02",
    ),
}


def download(name: str) -> Path:
    """Bring a key of ``AVAILABLE`` into its folder under ``paths.DATA``; return that folder.

    What is there already and right stays as it is. An interrupted transfer goes on where it
    stopped, if the server can do that. An archive that was put into ``downloads`` by hand is
    taken instead of the network, and every archive is removed once its files are unpacked. Tells
    what it does on stderr.

    Raises UserError when the network, the server, the disk or a checksum stands against it.
    """
    if name not in AVAILABLE:
        raise UserError(f"no download is called {name!r}: choose from {', '.join(AVAILABLE)}")
    if name == "weights":
        return _download_weights()
    folder = paths.DATA / FOLDERS[name]
    files = _files(name)
    wanted = {
        file: (folder / file, sha256)
        for file, sha256 in files.items()
        if not _is_right(folder / file, sha256)
    }
    if wanted:
        _say(f"{name}: {len(wanted)} of {len(files)} images to fetch into {folder}")
        _fetch_and_unpack(SOURCES[name], wanted)
    _say(f"{name}: all {len(files)} images are in {folder}")
    return folder


def _download_weights() -> Path:
    from cirlib.metrics import WEIGHT_FILES  # here: it imports torch

    def wanted(file: str) -> tuple[Path, str]:
        return paths.WEIGHTS / file, WEIGHT_FILES[file]

    niqe = wanted("niqe_modelparameters.mat")
    if not _is_right(*niqe):
        _fetch_and_unpack(SOURCES["niqe"], {"modelparameters.mat": niqe})
    alexnet = wanted("alexnet_features.safetensors")
    if not _is_right(*alexnet):
        _try_each_url(SOURCES["alexnet"], lambda checkpoint: _convert_alexnet(checkpoint, *alexnet))
    _say(f"weights: all {len(WEIGHT_FILES)} files are in {paths.WEIGHTS}")
    return paths.WEIGHTS


def _convert_alexnet(checkpoint: Path, target: Path, sha256: str) -> None:
    """Keep the five convolutions, 10 of the checkpoint's 244 MB, without pickle."""
    import torch
    from safetensors.torch import save

    state = torch.load(checkpoint, map_location="cpu", weights_only=True)
    layers = [f"features.{number}" for number in (0, 3, 6, 8, 10)]
    names = [f"{layer}.{kind}" for layer in layers for kind in ("weight", "bias")]
    content = save({name: state[name].contiguous() for name in names})
    if hashlib.sha256(content).hexdigest() != sha256:
        raise UserError(
            f"{checkpoint} became other bytes than expected for {target.name}: "
            "install the safetensors version of pyproject.toml and rerun"
        )
    with atomic(target) as temporary:
        temporary.write_bytes(content)


def _is_right(path: Path, sha256: str | None) -> bool:
    return path.is_file() and (sha256 is None or _sha256(path) == sha256)


def _fetch_and_unpack(source: Source, wanted: dict[str, tuple[Path, str | None]]) -> None:
    """Write each file of ``wanted``: name inside the archive -> (where to, its SHA-256)."""

    def unpack(archive: Path) -> None:
        left = dict(wanted)
        _say(f"unpacking {archive}")
        for name, content in _contents(archive, wanted):
            if name not in left:
                continue
            target, sha256 = left[name]
            # An archive may hold other files of that name: CBSD68's has noisy copies.
            if sha256 is None or hashlib.sha256(content).hexdigest() == sha256:
                with atomic(target) as temporary:
                    temporary.write_bytes(content)
                del left[name]
        if left:
            archive.unlink()
            raise UserError(
                f"{archive} had {len(left)} of {len(wanted)} files not at all or not as expected, "
                f"first {min(left)}, and was deleted: rerun, or put the right files into "
                f"{next(iter(left.values()))[0].parent} by hand"
            )

    _try_each_url(source, unpack)


def _contents(archive: Path, names: Iterable[str]) -> Iterator[tuple[str, bytes]]:
    """(file name without folders, content) for each file in a zip or tar that is called so."""
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as file:
                for info in file.infolist():
                    name = PurePosixPath(info.filename).name
                    if name in names and not info.is_dir():
                        yield name, file.read(info)
        else:
            with tarfile.open(archive) as file:
                for member in file:
                    name = PurePosixPath(member.name).name
                    if name in names and member.isfile():
                        yield name, file.extractfile(member).read()
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, zlib.error) as error:
        archive.unlink()
        raise UserError(
            f"{archive} was no whole zip or tar archive and is deleted: rerun to fetch it again"
        ) from error


def _try_each_url(source: Source, use: Callable[[Path], None]) -> None:
    """Fetch the file from its first URL, or the next, and ``use`` it; then it is not needed."""
    for number, url in enumerate(source.urls, 1):
        try:
            path = _fetch(source, url)
            use(path)
            path.unlink()
            return
        except UserError as error:
            if number == len(source.urls):
                raise
            _say(f"{error}; now trying another server")


def _fetch(source: Source, url: str) -> Path:
    """The file under ``downloads``, from there or from ``url``, with the right checksum."""
    import pooch

    pooch.get_logger().setLevel(logging.WARNING)  # we report ourselves
    folder = paths.DATA / "downloads"
    by_hand = f"put {source.file} into {folder} by hand and rerun"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return Path(
            pooch.retrieve(
                url,
                known_hash=source.sha256 and f"sha256:{source.sha256}",
                fname=source.file,
                path=folder,
                downloader=_Resuming(source.file, by_hand),
            )
        )
    except ValueError as error:  # pooch's word for a wrong checksum; it deleted the file
        raise UserError(
            f"{source.file} from {urlsplit(url).netloc} had a wrong SHA-256 and was deleted: "
            f"rerun, or {by_hand}"
        ) from error
    except OSError as error:
        raise UserError(
            f"cannot write {folder} ({error.strerror}): "
            "make room there or set CIRLIB_DATA to another folder"
        ) from error


class _Resuming:
    """Downloader for pooch that keeps what an interrupted transfer brought, and goes on there."""

    def __init__(self, file: str, by_hand: str):
        self.file, self.by_hand = file, by_hand

    def __call__(self, url: str, output_file: str, pooch: object) -> None:
        import requests
        import urllib3

        # One part file a URL: servers' archives of the same photographs differ in their bytes.
        mark = hashlib.sha256(url.encode()).hexdigest()[:8]
        part = Path(output_file).with_name(f"{self.file}.{mark}.part")
        try:
            self._transfer(url, part)
        except requests.HTTPError as error:
            raise UserError(
                f"{url} answers {error.response.status_code} {error.response.reason}: "
                f"try later, or {self.by_hand}"
            ) from error
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            if part.exists():
                raise UserError(
                    f"the transfer of {self.file} broke off after "
                    f"{part.stat().st_size / 1e6:.1f} MB: rerun to go on, or {self.by_hand}"
                ) from error
            raise UserError(
                f"cannot reach {urlsplit(url).netloc} for {self.file}: "
                f"check the network and rerun, or {self.by_hand}"
            ) from error
        os.replace(part, output_file)

    def _transfer(self, url: str, part: Path) -> None:
        import requests
        from tqdm import tqdm

        done = part.stat().st_size if part.exists() else 0
        # Not compressed for the way: archives are, and offsets shall count the file's own bytes.
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={done}-"} if done else {})
        with requests.get(url, headers=headers, stream=True, timeout=(10, 60)) as response:
            if response.status_code == requests.codes.requested_range_not_satisfiable:
                part.unlink()  # it does not belong to what the server has now
                return self._transfer(url, part)
            response.raise_for_status()
            if response.status_code != requests.codes.partial_content:
                done = 0
            length = int(response.headers.get("Content-Length", 0))
            # Twice: the files that are unpacked are about as large as their archive.
            if done + 2 * length > (free := shutil.disk_usage(part.parent).free):
                raise UserError(
                    f"{self.file} needs {(done + 2 * length) / 1e9:.1f} GB in {part.parent}, "
                    f"{free / 1e9:.1f} GB are free: make room or set CIRLIB_DATA"
                )
            bar = tqdm(
                desc=self.file,
                initial=done,
                total=done + length if length else None,
                unit="B",
                unit_scale=True,
            )
            with bar, open(part, "ab" if done else "wb") as file:
                for block in response.raw.stream(1 << 20, decode_content=False):
                    file.write(block)
                    bar.update(len(block))


def _say(text: str) -> None:
    print(text, file=sys.stderr)
