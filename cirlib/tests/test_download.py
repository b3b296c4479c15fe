"""A downloader that survives networks, servers and full disks."""

import io
import socket
import tarfile
import threading
import zipfile
from collections import namedtuple
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from cirlib.base.files import UserError
from cirlib.data import datasets
from cirlib.data import download as downloads
from cirlib.data.datasets import photographs
from cirlib.data.download import Source, download
from cirlib.tests.conftest import IMAGES, png, sha256


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
    download("cbsd68")
    assert len(server.requests) == 1  # what is there is not fetched again
    assert not list((data / "downloads").iterdir())  # neither the archive nor leftovers
    assert not (data.parent / "0002.png").exists()
    assert [photo.read()[0, 0, 0] for photo in photographs("cbsd68")] == [0, 1, 2]
    output = capsys.readouterr()
    assert output.out == "" and "all 3 images" in output.err and "set.zip" in output.err


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


@pytest.mark.parametrize("over, told", [(999, None), (-30, "rerun")], ids=["longer", "shorter"])
def test_leftover_of_another_version_is_found_out(cbsd68, server, data, over, told):
    server.cut = 100
    with pytest.raises(UserError):
        download("cbsd68")
    (part,) = (data / "downloads").iterdir()
    part.write_bytes(bytes(len(server.files["/set.zip"]) + over))
    server.cut = None
    if told:
        with pytest.raises(UserError, match=told):
            download("cbsd68")
        assert not cbsd68.exists() and not list((data / "downloads").iterdir())
    download("cbsd68")
    assert contents(cbsd68) == IMAGES


UNFIT = "set.zip was no whole zip or tar archive .*: rerun"


@pytest.mark.parametrize("content, digest, told", [
    (None, None, "answers 404 .*put set.zip into .*downloads by hand"),
    (b"", None, UNFIT), (b"<html>log in</html>", None, UNFIT),
    (tarred(MEMBERS)[:-40], None, UNFIT), (zipped(MEMBERS)[:-40], None, UNFIT),
    (zipped(MEMBERS), sha256(b"another"), "wrong SHA-256 and was deleted: rerun, or put set.zip"),
], ids=["not found", "empty", "a page", "cut tgz", "cut zip", "wrong checksum"])  # fmt: skip
def test_what_is_not_the_archive_is_told_in_a_line_and_leaves_nothing(
    cbsd68, server, data, monkeypatch, content, digest, told
):
    server.files = {} if content is None else {"/set.zip": content}
    source = Source("set.zip", (server.url("/set.zip"),), digest)
    monkeypatch.setitem(downloads.SOURCES, "cbsd68", source)
    with pytest.raises(UserError, match=told) as raised:
        download("cbsd68")
    assert "\n" not in str(raised.value) and not list((data / "downloads").iterdir())
    # what came before the cut has been held against its checksum
    assert not cbsd68.exists() or contents(cbsd68).items() <= IMAGES.items()


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
    with pytest.raises(UserError, match="cannot read or write .*downloads .*CIRLIB_DATA"):
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


@pytest.mark.parametrize("name", ["cbsd68", "bsd432"])
def test_real_photographs_pass_their_manifest(name, monkeypatch):
    try:
        photos = photographs(name)
    except UserError:
        pytest.skip(f"{name} is not on this machine")
    monkeypatch.setattr(downloads, "_try_each_url", lambda *_: pytest.fail("a file is not right"))
    assert download(name) == photos[0].path.parent
    assert {photo.read().shape for photo in photos[:20]} <= {(321, 481, 3), (481, 321, 3)}
