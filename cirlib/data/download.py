"""Verified download of photographs and metric weights, gone on with after a break."""

import hashlib
import os
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from cirlib.base import paths
from cirlib.base.files import UserError, atomic, say
from cirlib.base.files import sha256 as file_sha256
from cirlib.data.datasets import FOLDERS, expected_files
from cirlib.data.weights import WEIGHT_FILES

AVAILABLE = {
    "cbsd68": "68 test images (20 MB kept of about 200; non-commercial research)",
    "bsd432": "432 training images (32 MB kept of about 70; non-commercial research)",
    "div2k": "800 training images, 2K (3.5 GB; academic research only)",
    "div2k-valid": "100 validation images, 2K (0.45 GB; academic research only)",
    "weights": "what LPIPS and NIQE need (10 MB kept of 0.25 GB; BSD, LIVE's free licence)",
}


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
    expected = expected_files(name)
    wanted = {
        file: (folder / file, sha256)
        for file, sha256 in expected.items()
        if not _is_right(folder / file, sha256)
    }
    if wanted:
        say(f"{name}: {len(wanted)} of {len(expected)} images to fetch into {folder}")
        _fetch_and_unpack(SOURCES[name], wanted)
    say(f"{name}: all {len(expected)} images are in {folder}")
    return folder


def _download_weights() -> Path:
    def wanted(file: str) -> tuple[Path, str]:
        return paths.WEIGHTS / file, WEIGHT_FILES[file]

    niqe = wanted("niqe_modelparameters.mat")
    if not _is_right(*niqe):
        _fetch_and_unpack(SOURCES["niqe"], {"modelparameters.mat": niqe})
    alexnet = wanted("alexnet_features.safetensors")
    if not _is_right(*alexnet):
        _try_each_url(SOURCES["alexnet"], lambda checkpoint: _convert_alexnet(checkpoint, *alexnet))
    say(f"weights: all {len(WEIGHT_FILES)} files are in {paths.WEIGHTS}")
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
    return path.is_file() and (sha256 is None or file_sha256(path) == sha256)


def _fetch_and_unpack(source: Source, wanted: dict[str, tuple[Path, str | None]]) -> None:
    """Write each file of ``wanted``: name inside the archive -> (where to, its SHA-256)."""

    def unpack(archive: Path) -> None:
        left = dict(wanted)
        say(f"unpacking {archive}")
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
            say(f"{error}; now trying another server")


def _fetch(source: Source, url: str) -> Path:
    """The file under ``downloads``, from there or from ``url``, with the right checksum."""
    folder = paths.DATA / "downloads"
    target, by_hand = folder / source.file, f"put {source.file} into {folder} by hand and rerun"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not _is_right(target, source.sha256):
            _bring(url, target, by_hand)
    except OSError as error:
        raise UserError(
            f"cannot read or write {folder} ({error.strerror}): "
            "make room there or set CIRLIB_DATA to another folder"
        ) from error
    if not _is_right(target, source.sha256):
        target.unlink()
        raise UserError(
            f"{source.file} from {urlsplit(url).netloc} had a wrong SHA-256 and was deleted: "
            f"rerun, or {by_hand}"
        )
    return target


def _bring(url: str, target: Path, by_hand: str) -> None:
    """Transfer a file, from where an interrupted transfer stopped."""
    import requests
    import urllib3

    # One part file a URL: servers' archives of the same photographs differ in their bytes.
    mark = hashlib.sha256(url.encode()).hexdigest()[:8]
    part = target.with_name(f"{target.name}.{mark}.part")
    try:
        _transfer(url, part, target.name)
    except requests.HTTPError as error:
        raise UserError(
            f"{url} answers {error.response.status_code} {error.response.reason}: "
            f"try later, or {by_hand}"
        ) from error
    except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
        if part.exists():
            raise UserError(
                f"the transfer of {target.name} broke off after "
                f"{part.stat().st_size / 1e6:.1f} MB: rerun to go on, or {by_hand}"
            ) from error
        raise UserError(
            f"cannot reach {urlsplit(url).netloc} for {target.name}: "
            f"check the network and rerun, or {by_hand}"
        ) from error
    os.replace(part, target)


def _transfer(url: str, part: Path, name: str) -> None:
    import requests
    from tqdm import tqdm

    done = part.stat().st_size if part.exists() else 0
    # Not compressed for the way: archives are, and offsets shall count the file's own bytes.
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={done}-"} if done else {})
    with requests.get(url, headers=headers, stream=True, timeout=(10, 60)) as response:
        if response.status_code == requests.codes.requested_range_not_satisfiable:
            part.unlink()  # it does not belong to what the server has now
            return _transfer(url, part, name)
        response.raise_for_status()
        if response.status_code != requests.codes.partial_content:
            done = 0
        length = int(response.headers.get("Content-Length", 0))
        # Twice: the files that are unpacked are about as large as their archive.
        if done + 2 * length > (free := shutil.disk_usage(part.parent).free):
            raise UserError(
                f"{name} needs {(done + 2 * length) / 1e9:.1f} GB in {part.parent}, "
                f"{free / 1e9:.1f} GB are free: make room or set CIRLIB_DATA"
            )
        total = done + length if length else None
        bar = tqdm(desc=name, initial=done, total=total, unit="B", unit_scale=True)
        with bar, open(part, "ab" if done else "wb") as file:
            for block in response.raw.stream(1 << 20, decode_content=False):
                file.write(block)
                bar.update(len(block))
