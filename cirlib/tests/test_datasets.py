"""Data sets by name, and a downloader that survives networks, servers and full disks."""

import hashlib
import io
import os
import socket
import tarfile
import threading
import zipfile
from collections import namedtuple
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cirlib.base import paths
from cirlib.base.files import UserError
from cirlib.data import datasets
from cirlib.data import download as downloads
from cirlib.data.datasets import Photograph, fingerprint, photographs, spread
from cirlib.data.download import Source, download


def png(value: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (5, 4), (value, 0, 0)).save(file, "PNG")
    return file.getvalue()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


IMAGES = {f"{number:04d}.png": png(number) for number in range(3)}


@pytest.fixture
def data(tmp_path, monkeypatch):
    """An empty data folder, and data sets that consist of the three images above."""
    monkeypatch.setattr(paths, "DATA", tmp_path)
    monkeypatch.setattr(paths, "WEIGHTS", tmp_path / "weights")
    monkeypatch.setattr(
        datasets, "_manifest", lambda name: {file: sha256(IMAGES[file]) for file in IMAGES}
    )
    monkeypatch.setenv("NO_PROXY", "*")
    return tmp_path


# Names


def test_embedded_photographs_are_in_the_wheel_and_in_colour():
    photos = photographs("embedded")
    assert [photo.name for photo in photos[:3]] == ["astronaut", "chelsea", "coffee"]
    for photo in photos:
        image = photo.read()
        assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3
        assert image.std() > 30 and np.ptp(image, axis=2).mean() > 5


def test_embedded_photographs_with_damage_of_their_own_are_in_the_wheel():
    shapes = [photo.read().shape for photo in photographs("embedded-real")]
    assert len(shapes) == 3 and all(min(shape[:2]) > 128 and shape[2] == 3 for shape in shapes)


def test_folder_is_sorted_and_labels_are_unique(tmp_path):
    for name in ("b.png", "a.png", "a.webp", ".hidden.png"):
        (tmp_path / name).write_bytes(png(1))
    (tmp_path / "notes.txt").write_text("no photo")
    photos = photographs(str(tmp_path))
    assert [photo.name for photo in photos] == ["a.png", "a.webp", "b"]
    assert photos[2].path == tmp_path / "b.png"


def test_plus_joins_sets_in_the_given_order(data):
    (data / "CBSD68").mkdir()
    for file, content in IMAGES.items():
        (data / "CBSD68" / file).write_bytes(content)
    (data / "own").mkdir()
    (data / "own" / "dog.png").write_bytes(png(9))
    names = [photo.name for photo in photographs(f"{data / 'own'}+cbsd68")]
    assert names == ["dog", "0000", "0001", "0002"]


def test_folder_with_a_plus_in_its_name(tmp_path):
    (tmp_path / "a+b").mkdir()
    (tmp_path / "a+b" / "dog.png").write_bytes(png(9))
    assert [photo.name for photo in photographs(str(tmp_path / "a+b"))] == ["dog"]


def test_missing_set_says_where_and_how(data):
    with pytest.raises(UserError, match="lacks 3 of 3") as raised:
        photographs("cbsd68")
    assert str(data / "CBSD68") in str(raised.value)
    assert "python -m cirlib data cbsd68" in str(raised.value)
    assert "CIRLIB_DATA" in str(raised.value)
    with pytest.raises(UserError, match="HR2K.*CIRLIB_DATA"):
        photographs("clic")


def test_incomplete_set_is_not_taken_for_the_whole(data):
    (data / "BSD432").mkdir()
    (data / "BSD432" / "0000.png").write_bytes(IMAGES["0000.png"])
    with pytest.raises(UserError, match="lacks 2 of 3"):
        photographs("bsd432")


@pytest.mark.parametrize("name", ["nonsense", "", "embedded+", "embedded+nonsense"])
def test_unknown_name_lists_the_known(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="one of embedded, embedded-real, cbsd68"):
        photographs(name)


def test_default_test_set_is_the_papers_where_it_is_there(data):
    assert datasets.default_test_set() == "embedded"
    (data / "CBSD68").mkdir()
    for file, content in IMAGES.items():
        (data / "CBSD68" / file).write_bytes(content)
    assert datasets.default_test_set() == "cbsd68"


def test_fingerprint_sees_names_bytes_and_order(tmp_path):
    for name, content in IMAGES.items():
        (tmp_path / name).write_bytes(content)
    photos = photographs(str(tmp_path))
    first = fingerprint(photos)
    assert len(first) == 12 and first == fingerprint(photographs(str(tmp_path)))
    assert first != fingerprint(photos[::-1])
    assert first != fingerprint([Photograph("other", photos[0].path), *photos[1:]])
    (tmp_path / "0001.png").write_bytes(png(77))
    assert first != fingerprint(photos)


def test_manifests_are_whole_and_disjoint():
    train, test = datasets._manifest("bsd432"), datasets._manifest("cbsd68")
    assert len(train) == 432 and len(test) == 68
    assert all(len(digest) == 64 for digest in [*train.values(), *test.values()])
    assert len({*train.values(), *test.values()}) == 500
    assert len(datasets.files("div2k")) == 800
    assert list(datasets.files("div2k-valid"))[::99] == ["0801.png", "0900.png"]


@pytest.mark.parametrize("name", ["cbsd68", "bsd432"])
def test_real_photographs_pass_their_manifest(name, monkeypatch):
    try:
        photos = photographs(name)
    except UserError:
        pytest.skip(f"{name} is not on this machine")
    monkeypatch.setattr(downloads, "_try_each_url", lambda *_: pytest.fail("a file is not right"))
    assert download(name) == photos[0].path.parent
    assert {photo.read().shape for photo in photos[:20]} <= {(321, 481, 3), (481, 321, 3)}


# Packs


@pytest.fixture
def smooth(tmp_path) -> Path:
    """A large PNG, a smaller one of the same stem as a JPEG, and that JPEG."""
    folder = tmp_path / "photos"
    folder.mkdir()
    coarse = np.random.default_rng(0).integers(0, 256, (9, 9, 3), np.uint8)
    for name, side in (("b.png", 300), ("a.png", 120), ("a.jpg", 90)):
        image = Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)
        image.save(folder / name)
    return folder


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


def test_a_pack_with_room_has_the_files_as_they_are(smooth, tmp_path):
    packed = datasets.pack(str(smooth), tmp_path / "new" / "pack", megabytes=size(smooth) / 1e6)
    assert {path.name: path.read_bytes() for path in packed.iterdir()} == {
        path.name: path.read_bytes() for path in smooth.iterdir()
    }
    assert fingerprint(photographs(str(packed))) == fingerprint(photographs(str(smooth)))


def test_a_pack_makes_the_largest_smaller_until_all_fit(smooth, tmp_path):
    limit = size(smooth) - 10_000
    folders = [datasets.pack(str(smooth), tmp_path / name, limit / 1e6) for name in ("one", "two")]
    one, two = ({p.name: p.read_bytes() for p in folder.iterdir()} for folder in folders)
    assert one == two and sorted(one) == ["a.jpg", "a.png", "b.jpg"]
    assert one["a.png"] == (smooth / "a.png").read_bytes() and size(folders[0]) <= limit
    before, after = (photo.read().astype(float) for photo in (
        photographs(str(smooth))[2], photographs(str(folders[0]))[2]))  # fmt: skip
    assert before.shape == after.shape and abs(before - after).mean() < 3
    least = datasets.pack(str(smooth), tmp_path / "least", 0.025)
    assert sorted(path.name for path in least.iterdir()) == ["a.jpg", "a.png.jpg", "b.jpg"]


def test_packs_that_cannot_be_are_refused_and_leave_nothing(smooth, tmp_path, monkeypatch):
    for images, folder, megabytes, cause in (
        (
            str(smooth),
            tmp_path / "pack",
            0.02,
            r"takes 0.02\d+ MB as JPEG, more than 0.02: allow more",
        ),
        (str(smooth), smooth, 1, "is there already: name a new folder"),
        (f"{smooth}+{smooth}", tmp_path / "pack", 1, "two photographs called a.jpg"),
    ):
        with pytest.raises(UserError, match=cause):
            datasets.pack(images, folder, megabytes)
    monkeypatch.setattr(os, "fsync", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        datasets.pack(str(smooth), tmp_path / "pack", 1)
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


# Download


class Server:
    """Files on 127.0.0.1. ``cut``: bytes after which transfers break; ``ranges``: serve those."""

    def __init__(self):
        self.files: dict[str, bytes] = {}
        self.requests: list[tuple[str, str | None]] = []  # path, header Range
        self.cut: int | None = None
        self.ranges = True
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                start = self.headers.get("Range")
                server.requests.append((self.path, start))
                content = server.files.get(self.path)
                if content is None:
                    self.send_error(404)
                    return
                offset = 0
                if start and server.ranges:
                    offset = int(start.removeprefix("bytes=").removesuffix("-"))
                    if offset >= len(content):
                        self.send_error(416)
                        return
                    self.send_response(206)
                else:
                    self.send_response(200)
                self.send_header("Content-Length", str(len(content) - offset))
                self.end_headers()
                end = len(content) if server.cut is None else offset + server.cut
                self.wfile.write(content[offset:end])

            def log_message(self, *_):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.02,))
        self.thread.start()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.http.server_port}{path}"

    def stop(self):
        self.http.shutdown()
        self.http.server_close()
        self.thread.join()


@pytest.fixture
def server():
    server = Server()
    yield server
    server.stop()


def zipped(members: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


def tarred(members: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return file.getvalue()


# As in CBSD68's archive: other files of the same names, which only the checksum tells apart.
MEMBERS = (
    {"set-51a07a/README.md": b"hello", "set-51a07a/noisy/0000.png": b"noisy"}
    | {f"set-51a07a/original/{name}": content for name, content in IMAGES.items()}
    | {"set-51a07a/zz/0001.png": b"noisy", "../../0002.png": b"outside"}
)


@pytest.fixture
def cbsd68(data, server, monkeypatch):
    """A source of cbsd68 on the local server; the folder it is to arrive in."""
    server.files["/set.zip"] = zipped(MEMBERS)
    source = Source("set.zip", (server.url("/set.zip"),))
    monkeypatch.setitem(downloads.SOURCES, "cbsd68", source)
    return data / "CBSD68"


def contents(folder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("pack", [zipped, tarred])
def test_download_unpacks_what_the_manifest_names(cbsd68, server, data, pack, capsys):
    server.files["/set.zip"] = pack(MEMBERS)
    assert download("cbsd68") == cbsd68
    assert contents(cbsd68) == IMAGES
    assert not list((data / "downloads").iterdir())  # neither the archive nor leftovers
    assert not (data.parent / "0002.png").exists()
    assert [photo.read()[0, 0, 0] for photo in photographs("cbsd68")] == [0, 1, 2]
    output = capsys.readouterr()
    assert output.out == "" and "all 3 images" in output.err and "set.zip" in output.err


def test_second_download_does_nothing(cbsd68, server):
    download("cbsd68")
    asked = len(server.requests)
    download("cbsd68")
    assert len(server.requests) == asked == 1


def test_download_mends_what_is_missing_or_changed_and_keeps_the_rest(cbsd68):
    cbsd68.mkdir()
    (cbsd68 / "0000.png").write_bytes(IMAGES["0000.png"])
    (cbsd68 / "0001.png").write_bytes(b"changed")
    (cbsd68 / "mine.txt").write_text("mine")
    kept = (cbsd68 / "0000.png").stat()
    download("cbsd68")
    assert contents(cbsd68) == IMAGES | {"mine.txt": b"mine"}
    after = (cbsd68 / "0000.png").stat()
    assert (kept.st_ino, kept.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


@pytest.mark.parametrize("ranges", [True, False], ids=["ranges", "no ranges"])
def test_broken_transfer_looks_incomplete_and_is_resumed(cbsd68, server, data, ranges):
    server.ranges = ranges
    server.cut = 100
    with pytest.raises(UserError, match="set.zip broke off after .* MB: rerun to go on"):
        download("cbsd68")
    with pytest.raises(UserError, match="lacks 3 of 3"):
        photographs("cbsd68")
    assert [path.stat().st_size for path in (data / "downloads").iterdir()] == [100]
    server.cut = None
    download("cbsd68")
    assert contents(cbsd68) == IMAGES
    assert server.requests == [("/set.zip", None), ("/set.zip", "bytes=100-")]


def test_leftover_longer_than_the_file_is_dropped(cbsd68, server, data):
    server.cut = 100
    with pytest.raises(UserError):
        download("cbsd68")
    (part,) = (data / "downloads").iterdir()
    part.write_bytes(bytes(10_000))
    server.cut = None
    download("cbsd68")
    assert contents(cbsd68) == IMAGES


def test_leftover_of_another_version_is_found_out(cbsd68, server, data):
    server.cut = 100
    with pytest.raises(UserError):
        download("cbsd68")
    (part,) = (data / "downloads").iterdir()
    part.write_bytes(bytes(len(server.files["/set.zip"]) - 30))
    server.cut = None
    with pytest.raises(UserError, match="rerun"):
        download("cbsd68")
    assert not cbsd68.exists() and not list((data / "downloads").iterdir())
    download("cbsd68")
    assert contents(cbsd68) == IMAGES


def test_wrong_checksum(cbsd68, server, data, monkeypatch):
    source = Source("set.zip", (server.url("/set.zip"),), sha256(b"something else"))
    monkeypatch.setitem(downloads.SOURCES, "cbsd68", source)
    with pytest.raises(UserError, match="wrong SHA-256 and was deleted: rerun, or put set.zip"):
        download("cbsd68")
    assert not cbsd68.exists() and not list((data / "downloads").iterdir())


def test_right_checksum(cbsd68, server, monkeypatch):
    source = Source("set.zip", (server.url("/set.zip"),), sha256(server.files["/set.zip"]))
    monkeypatch.setitem(downloads.SOURCES, "cbsd68", source)
    download("cbsd68")
    assert contents(cbsd68) == IMAGES


def test_not_found(cbsd68, server, data):
    server.files.clear()
    with pytest.raises(UserError, match="answers 404 .*put set.zip into .*downloads by hand"):
        download("cbsd68")
    assert not cbsd68.exists() and not list((data / "downloads").iterdir())


def test_no_network(cbsd68, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as free:
        url = f"http://127.0.0.1:{free.getsockname()[1]}/set.zip"
    monkeypatch.setitem(downloads.SOURCES, "cbsd68", Source("set.zip", (url,)))
    with pytest.raises(UserError, match="cannot reach 127.0.0.1:.* check the network") as raised:
        download("cbsd68")
    assert "put set.zip into" in str(raised.value) and "\n" not in str(raised.value)
    assert not cbsd68.exists()


def test_archive_without_an_expected_photograph(cbsd68, server, data):
    server.files["/set.zip"] = zipped({"0000.png": IMAGES["0000.png"], "0001.png": b"other"})
    with pytest.raises(UserError, match="had 2 of 3 files not at all or not as expected") as raised:
        download("cbsd68")
    assert "first 0001.png" in str(raised.value) and str(cbsd68) in str(raised.value)
    assert contents(cbsd68) == {"0000.png": IMAGES["0000.png"]}
    with pytest.raises(UserError, match="lacks 2 of 3"):
        photographs("cbsd68")
    assert not list((data / "downloads").iterdir())


@pytest.mark.parametrize(
    "content",
    [b"", b"<html>log in</html>", tarred(MEMBERS)[:-40], zipped(MEMBERS)[:-40]],
    ids=["empty", "a page", "cut tgz", "cut zip"],
)
def test_no_archive(cbsd68, server, data, content):
    server.files["/set.zip"] = content
    with pytest.raises(
        UserError, match="set.zip was no whole zip or tar archive .*: rerun"
    ) as raised:
        download("cbsd68")
    assert "\n" not in str(raised.value)
    assert not list((data / "downloads").iterdir())


def test_next_server_is_tried(cbsd68, server, monkeypatch, capsys):
    source = Source("set.zip", (server.url("/gone.zip"), server.url("/set.zip")))
    monkeypatch.setitem(downloads.SOURCES, "cbsd68", source)
    download("cbsd68")
    assert contents(cbsd68) == IMAGES
    assert "404" in (said := capsys.readouterr().err) and "another server" in said


def test_archive_placed_by_hand_needs_no_network(cbsd68, server, data):
    (data / "downloads").mkdir()
    (data / "downloads" / "set.zip").write_bytes(server.files["/set.zip"])
    download("cbsd68")
    assert contents(cbsd68) == IMAGES and not server.requests


def test_full_disk_is_told_before_the_transfer(cbsd68, monkeypatch):
    usage = namedtuple("usage", "total used free")(10, 9, 1)
    monkeypatch.setattr(datasets.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(UserError, match="set.zip needs .* make room or set CIRLIB_DATA"):
        download("cbsd68")


def test_data_folder_that_is_a_file(cbsd68, data):
    (data / "downloads").write_text("in the way")
    with pytest.raises(UserError, match="cannot write .*downloads .*CIRLIB_DATA"):
        download("cbsd68")


def test_div2k_is_taken_from_its_zip(data, server, monkeypatch):
    names = [f"{number:04d}.png" for number in range(801, 901)]
    server.files["/valid.zip"] = zipped({f"DIV2K_valid_HR/{name}": png(7) for name in names})
    source = Source("valid.zip", (server.url("/valid.zip"),), sha256(server.files["/valid.zip"]))
    monkeypatch.setitem(downloads.SOURCES, "div2k-valid", source)
    assert download("div2k-valid") == data / "DIV2K" / "DIV2K_valid_HR"
    assert [photo.name for photo in photographs("div2k-valid")][::99] == ["0801", "0900"]


def test_weights_are_cut_out_of_their_releases(data, server, monkeypatch):
    torch = pytest.importorskip("torch")
    safetensors = pytest.importorskip("safetensors.torch")
    from cirlib.data import weights

    layers = [f"features.{number}" for number in (0, 3, 6, 8, 10)]
    state = {f"{layer}.{kind}": torch.rand(3, 2) for layer in layers for kind in ("weight", "bias")}
    file = io.BytesIO()
    torch.save(state | {"classifier.1.weight": torch.rand(4, 4)}, file)
    server.files |= {"/a.pth": file.getvalue(), "/n.zip": zipped({"x/modelparameters.mat": b"mat"})}
    for name, path in {"alexnet": "/a.pth", "niqe": "/n.zip"}.items():
        source = Source(path[1:], (server.url(path),), sha256(server.files[path]))
        monkeypatch.setitem(downloads.SOURCES, name, source)
    monkeypatch.setitem(weights.WEIGHT_FILES, "niqe_modelparameters.mat", sha256(b"mat"))
    features = sha256(safetensors.save(state))
    monkeypatch.setitem(weights.WEIGHT_FILES, "alexnet_features.safetensors", features)

    assert download("weights") == data / "weights"
    assert set(contents(data / "weights")) == set(weights.WEIGHT_FILES)
    loaded = safetensors.load_file(data / "weights" / "alexnet_features.safetensors")
    assert loaded.keys() == state.keys()
    assert all(torch.equal(loaded[name], state[name]) for name in state)
    asked = len(server.requests)
    download("weights")
    assert len(server.requests) == asked == 2
    assert not list((data / "downloads").iterdir())


def test_unknown_download_lists_the_known():
    with pytest.raises(UserError, match="cbsd68, bsd432, div2k, div2k-valid, weights"):
        download("clic")
    assert set(downloads.AVAILABLE) - {"weights"} <= set(datasets.FOLDERS)


def test_spread_takes_evenly_spaced_photographs():
    photos = [Photograph(str(i), Path()) for i in range(68)]
    names = [int(photo.name) for photo in spread(photos, 10)]
    assert names == [0, 6, 13, 20, 27, 34, 40, 47, 54, 61]
    assert spread(photos, None) == datasets.spread(photos, 100) == photos
