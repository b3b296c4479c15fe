"""Data sets by name, labels that are unique, and packs."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cirlib.base.files import UserError
from cirlib.data import datasets
from cirlib.data.datasets import Photograph, fingerprint, photographs, spread
from cirlib.tests.conftest import IMAGES, noise, png


def test_embedded_photographs_are_in_the_wheel_and_in_colour():
    photos = photographs("embedded")
    assert [photo.name for photo in photos[:3]] == ["astronaut", "chelsea", "coffee"]
    for photo in photos:
        image = photo.read()
        assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3
        assert image.std() > 30 and np.ptp(image, axis=2).mean() > 5
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
    own = data / "my+own"  # which is no join
    own.mkdir()
    (own / "dog.png").write_bytes(png(9))
    assert [photo.name for photo in photographs(str(own))] == ["dog"]
    own.rename(data / "own")
    names = [photo.name for photo in photographs(f"{data / 'own'}+cbsd68")]
    assert names == ["dog", "0000", "0001", "0002"]


def test_no_two_photographs_of_a_join_are_called_the_same(tmp_path):
    for folder, names in (("a", ("x.png", "y.png")), ("b", ("x.png", "x.webp", "x_2.png"))):
        (tmp_path / folder).mkdir()
        for name in names:
            (tmp_path / folder / name).write_bytes(png(1))
    a, b = map(str, (tmp_path / "a", tmp_path / "b"))
    joined = {
        f"{a}+{b}": ["x", "y", "x.png", "x.webp", "x_2"],
        f"{a}+{a}": ["x", "y", "x_2", "y_2"],
        f"{a}+{a}+{b}": ["x", "y", "x_2", "y_2", "x.png", "x.webp", "x_2_2"],
        "embedded+embedded-real": ["astronaut", "chelsea", "coffee", "motorcycle_left", "rocket",
                                   "text", "hubble_deep_field", "rocket_2"],
    }  # fmt: skip
    for images, labels in joined.items():
        assert [photo.name for photo in photographs(images)] == labels


def test_name_that_is_no_text_is_a_label_with_a_fingerprint(tmp_path):
    name = os.fsencode(tmp_path) + b"/caf\xe9.png"
    try:
        Path(os.fsdecode(name)).write_bytes(png(1))
    except OSError:
        pytest.skip("this file system has names of text only")
    (photo,) = photographs(str(tmp_path))
    assert os.fsencode(photo.name) == b"caf\xe9" and len(fingerprint([photo])) == 12


def test_missing_set_says_where_and_how(data):
    with pytest.raises(UserError, match="lacks 3 of 3") as raised:
        photographs("cbsd68")
    assert str(data / "CBSD68") in str(raised.value)
    assert "python -m cirlib data cbsd68" in str(raised.value)
    assert "CIRLIB_DATA" in str(raised.value)
    with pytest.raises(UserError, match="HR2K.*CIRLIB_DATA"):
        photographs("clic")


@pytest.mark.parametrize(
    "name", ["nonsense", "", "embedded+", "embedded+nonsense", "~nobody-here", "a" * 300]
)
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
    assert len(datasets.expected_files("div2k")) == 800
    assert list(datasets.expected_files("div2k-valid"))[::99] == ["0801.png", "0900.png"]


# Packs


@pytest.fixture
def smooth(tmp_path) -> Path:
    """A large PNG, a smaller one of the same stem as a JPEG, and that JPEG."""
    folder = tmp_path / "photos"
    folder.mkdir()
    coarse = noise(9, 9)
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
        (str(smooth), "~nobody-here/pack", 1, "in the home of nobody here"),
        (str(smooth), tmp_path / ("a" * 300), 1, "File name too long"),
        (f"{smooth}+{smooth}", tmp_path / "pack", 1, "two photographs called a.jpg"),
    ):
        with pytest.raises(UserError, match=cause):
            datasets.pack(images, folder, megabytes)
    monkeypatch.setattr(os, "fsync", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        datasets.pack(str(smooth), tmp_path / "pack", 1)
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


def test_spread_takes_evenly_spaced_photographs():
    photos = [Photograph(str(i), Path()) for i in range(68)]
    names = [int(photo.name) for photo in spread(photos, 10)]
    assert names == [0, 6, 13, 20, 27, 34, 40, 47, 54, 61]
    assert spread(photos, None) == datasets.spread(photos, 100) == photos
