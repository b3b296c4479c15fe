"""Photos in, effects out."""

import json
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image

from cirlib.base.files import UserError
from cirlib.cli import crew
from cirlib.cli.photos import THUMBNAIL, contact_sheet, restore, result_names, task_name
from cirlib.data.images import read_kept, write_image
from cirlib.degradation import TASKS
from cirlib.engine.modulator import Modulator
from cirlib.tests.conftest import noise, random_searched

ABOUT = {"model": "x", "profile": "p"}


@pytest.fixture
def modulator() -> Modulator:
    return Modulator(random_searched("ta-tsnet", 0, 5), dtype=torch.float32)


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for k, name in enumerate(("a.png", "b.png", "b.jpg")):
        Image.fromarray(noise(20, 30 + k, k)).save(folder / name)
    return folder


def test_folder_keeps_all_photos_apart_even_where_case_does_not_count(modulator, photos, tmp_path):
    (photos / "b.jpg").rename(photos / "B.jpg")
    assert restore(modulator, photos, (0, 0, 0), tmp_path / "out", False, ABOUT) == []
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"a.png", "b_png.png", "B_jpg.png"}
    with Image.open(tmp_path / "out" / "a.png") as same, Image.open(photos / "a.png") as image:
        assert np.array_equal(same, image)  # nothing asked for
        assert same.text == ABOUT | {"task": "0,0,0"}


def test_several_photos_and_folders_at_once(modulator, photos, tmp_path, monkeypatch):
    (tmp_path / "one.png").write_bytes((photos / "a.png").read_bytes())
    sources = [tmp_path / "one.png", photos, photos / "a.png", tmp_path / "none.png"]
    (problem,) = restore(modulator, sources, (0, 0, 0), tmp_path / "out", False, ABOUT)
    assert "there is no file" in problem and "none.png" in problem
    found = {path.name for path in (tmp_path / "out").iterdir()}
    assert found == {"one.png", "a.png", "b_png.png", "b_jpg.png"}
    monkeypatch.chdir(tmp_path / "out")  # results of before, which may be written over
    with pytest.raises(UserError, match="a.png would be written over"):
        restore(modulator, [Path("a.png"), Path("one.png")], (0, 0, 0), Path("."), False, ABOUT)


def test_grid_writes_27_effects_and_a_sheet(modulator, photos, tmp_path):
    restore(modulator, photos / "a.png", (0, 0, 0), tmp_path / "out", True, {})
    names = {p.name for p in (tmp_path / "out").iterdir()}
    assert names == {f"a_{task_name(task)}.png" for task in TASKS} | {"a_contact_sheet.png"}
    modulator.load(np.asarray(Image.open(photos / "a.png")))
    found = np.asarray(Image.open(tmp_path / "out" / f"a_{task_name(TASKS[26])}.png"))
    assert np.array_equal(found, modulator.effect(TASKS[26]))


def test_photo_that_cannot_be_read_is_told_and_the_others_are_done(modulator, photos, tmp_path):
    broken = photos / "c\n\x1b[1m.jpg"  # in a message a line end and a terminal's code are escaped
    broken.write_bytes(b"no image")
    (problem,) = restore(modulator, photos, (0, 1, 0), tmp_path / "out", False, {})
    assert r"c\n\x1b[1m.jpg is not an image" in problem
    assert len(list((tmp_path / "out").iterdir())) == 3
    with pytest.raises(UserError, match=r"c\\n"):
        restore(modulator, broken, (0, 1, 0), tmp_path / "out", True, {})
    for photo in photos.glob("[ab].*"):
        photo.unlink()
    with pytest.raises(UserError, match=r"none of 1 photos could be restored:\n.*c\\n"):
        restore(modulator, photos, (0, 1, 0), tmp_path / "out", False, {})


def test_each_page_of_a_folder_has_its_results(modulator, photos, tmp_path):
    Image.new("RGB", (30, 20), "red").save(
        photos / "scan.tif", save_all=True, append_images=[Image.new("RGB", (30, 20), "blue")]
    )
    for page, others in ((1, 0), (2, 3)):
        problems = restore(modulator, photos, (0, 0, 0), tmp_path, False, ABOUT, page)
        assert sum("has no page 2, only 1" in text for text in problems) == len(problems) == others
    assert {file.name for file in tmp_path.glob("*2.png")} == {"scan_page_2.png"}
    colours = [Image.open(tmp_path / f"scan_page_{k}.png").getpixel((0, 0)) for k in (1, 2)]
    assert colours == [(255, 0, 0), (0, 0, 255)]


@pytest.mark.parametrize("threads", [1, 2])
def test_what_is_no_file_costs_no_other_photo(modulator, photos, tmp_path, threads, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    (photos / "dead.jpg").symlink_to("nowhere.jpg")
    (photos / "ring.jpg").symlink_to("ring.jpg")
    (photos / "x.jpg").mkdir()
    (photos / "loop").symlink_to(".")
    for pipe in ("pipe.png", "pipe"):
        os.mkfifo(photos / pipe)
    problems = restore(modulator, photos, (0, 0, 0), tmp_path / "out", False, ABOUT)
    assert [text.split(": ")[0].split("/")[-1] for text in problems] == [
        "dead.jpg", "pipe.png is a pipe or a device", "ring.jpg"]  # fmt: skip
    assert len(list((tmp_path / "out").iterdir())) == 3


def test_photos_side_by_side_give_the_same_bytes_and_words_as_one_by_one(
    modulator, photos, tmp_path, monkeypatch, capsys
):
    """Small ones have a thread each, large ones all of them; one that is broken costs no other."""
    for k in range(6):
        Image.fromarray(noise(15 + 3 * k, 40, k)).save(photos / f"c{k}.png")
    (photos / "c3.png").write_bytes((photos / "c3.png").read_bytes()[:200])
    large = 40 * 25 * modulator.per_pixel
    monkeypatch.setattr(crew, "tile_memory", lambda device, workers: large)
    taken, load, before = {}, Modulator.load, torch.get_num_threads()
    monkeypatch.setattr(Modulator, "load", lambda self, image, *rest: (
        taken.setdefault(image.shape[:2], (self, torch.get_num_threads())),
        load(self, image, *rest)))  # fmt: skip
    found = []
    for threads in (1, 2):
        taken.clear()
        torch.set_num_threads(threads)
        folder = tmp_path / f"with {threads}"
        problems = restore(modulator, photos, None, folder, False, ABOUT)
        assert torch.get_num_threads() == threads
        assert len(problems) == 1 and "c3.png" in problems[0]
        found.append({file.name: file.read_bytes() for file in folder.iterdir()})
        found.append(capsys.readouterr().err)
    assert found[0] == found[2] and len(found[0]) == 8
    assert found[1] == found[3] and found[1].count("task") == 8
    assert taken[30, 40] == (modulator, 2) and taken[20, 30][1] == 1
    assert taken[20, 30][0] is not modulator
    torch.set_num_threads(before)


def test_ctrl_c_ends_those_that_are_begun_at_their_next_step(modulator, photos):
    begun, before = [], signal.signal(signal.SIGINT, signal.default_int_handler)

    def work(mine, photo, tell, progress):
        begun.append(photo.name)
        if len(begun) == 2:
            os.kill(os.getpid(), signal.SIGINT)  # as a terminal does
        for _ in range(6000):
            time.sleep(0.01)
            progress(0.5)

    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        crew.each_photo(modulator, sorted(photos.iterdir()), work, "photos", threads=2)
    signal.signal(signal.SIGINT, before)
    assert time.monotonic() - began < 30 and len(begun) == 2


def test_what_of_a_folder_is_no_photo_is_told(modulator, photos, capsys):
    output = photos / "out"  # is one of the sub-folders
    for _ in range(2):
        assert restore(modulator, photos, (0, 0, 0), output, False, ABOUT) == []
        assert "left out" not in capsys.readouterr().err
    (photos / "b.PSD").touch()
    (photos / ".hidden").touch()
    restore(modulator, photos, (0, 0, 0), output, False, ABOUT)
    assert "left out: 1 file that is no photo we read (.psd)\n" in capsys.readouterr().err
    for name in ("c.psd", "d.dng", "notes"):
        (photos / name).touch()
    (photos / "more.png").mkdir()
    restore(modulator, photos, (0, 0, 0), output, False, ABOUT)
    told = "left out: 4 files that are no photos we read (.dng, .psd, no suffix), 1 folder\n"
    assert told in capsys.readouterr().err


def test_several_images_need_a_folder(modulator, photos, tmp_path):
    with pytest.raises(UserError, match="must be a folder"):
        restore(modulator, photos, (0, 1, 0), tmp_path / "out.png", False, {})
    with pytest.raises(UserError, match="nowhere"):
        restore(modulator, tmp_path / "nowhere", (0, 1, 0), tmp_path / "out", True, {})


def test_originals_are_never_written_over(modulator, photos, monkeypatch):
    before = {path: path.read_bytes() for path in photos.iterdir()}
    with pytest.raises(UserError, match="a.png would be written over: name another place with -o"):
        restore(modulator, photos / "a.png", (0, 1, 0), photos / "a.png", False, {})
    with pytest.raises(UserError, match="photos would be written over"):
        restore(modulator, photos, (0, 1, 0), photos, False, {})
    (photos / "a.png").rename(photos / "restored.png")
    monkeypatch.chdir(photos)
    with pytest.raises(UserError, match="restored.png would be written over"):
        restore(modulator, Path("restored.png"), (0, 1, 0), None, False, {})
    with pytest.raises(UserError, match="b.jpg is there, and no result of ours"):
        restore(modulator, photos / "b.png", (0, 1, 0), photos / "b.jpg", False, {})
    (photos / "one").mkdir()
    (photos / "b.png").rename(photos / "one" / "restored.webp")
    with pytest.raises(UserError, match="restored.png is there, and no result of ours"):
        restore(modulator, photos / "one", (0, 1, 0), photos, False, {})
    (photos / f"restored_{task_name(TASKS[3])}.png").write_bytes(before[photos / "b.jpg"])
    with pytest.raises(UserError, match=r"restored_0.00_0.50_0.00.png is there"):
        restore(modulator, photos / "one", (0, 1, 0), photos, True, {})
    (photos / f"restored_{task_name(TASKS[3])}.png").unlink()
    assert len(list(photos.iterdir())) == 3  # no effect was computed in vain
    (photos / "one" / "restored.webp").rename(photos / "b.png")
    (photos / "one").rmdir()
    assert (photos / "restored.png").read_bytes() == before.pop(photos / "a.png")
    assert all(path.read_bytes() == content for path, content in before.items())


def test_a_pipe_is_not_waited_for(modulator, photos):
    os.mkfifo(photos / "pipe.png")
    with pytest.raises(UserError, match="pipe.png is there, and no result of ours"):
        restore(modulator, photos / "a.png", (0, 1, 0), photos / "pipe.png", False, ABOUT)


def test_what_the_format_cannot_hold_is_told_before_the_work(modulator, photos, monkeypatch):
    Image.new("RGB", (16_400, 2)).save(photos / "wide.png")
    monkeypatch.setattr(modulator, "load", lambda *_: pytest.fail("worked in vain"))
    with pytest.raises(UserError, match="over 16383 pixels"):
        restore(modulator, photos / "wide.png", (0, 1, 0), photos / "out.webp", False, ABOUT)


def test_another_programs_picture_that_names_a_model_is_not_written_over(modulator, photos):
    write_image(photos / "theirs.png", np.zeros((4, 4, 3), np.uint8), metadata={"model": "SDXL"})
    with pytest.raises(UserError, match="theirs.png is there, and no result of ours"):
        restore(modulator, photos / "a.png", (0, 1, 0), photos / "theirs.png", False, ABOUT)


def test_result_that_cannot_be_written_is_told_before_the_work(modulator, photos, monkeypatch):
    monkeypatch.setattr(modulator, "load", lambda *_: pytest.fail("worked in vain"))
    with pytest.raises(UserError, match=r"out\.tif: end the name in one of \.png \.jpg"):
        restore(modulator, photos / "a.png", (0, 1, 0), Path("out.tif"), False, {})
    with pytest.raises(UserError, match="cannot write /proc/x/y.png: .*; choose another place"):
        restore(modulator, photos / "a.png", (0, 1, 0), Path("/proc/x/y.png"), False, {})
    with pytest.raises(UserError, match="cannot write .*: File name too long; choose another"):
        restore(modulator, photos / "a.png", (0, 1, 0), Path(f"{'a' * 260}.png"), False, {})
    (photos / "file").touch()
    with pytest.raises(UserError, match="must be a folder"):
        restore(modulator, photos, (0, 1, 0), photos / "file", False, {})
    for grid in (False, True):
        with pytest.raises(UserError, match="cannot write .*; choose another place"):
            restore(modulator, photos, (0, 1, 0), photos / "file" / "out", grid, {})


@pytest.mark.parametrize("grid", [False, True])
def test_results_of_before_are_written_over(modulator, photos, tmp_path, grid):
    for task in ((0, 1, 0), (0, 0, 0)):
        restore(modulator, photos, task, tmp_path / "out", grid, ABOUT)
    if not grid:
        with Image.open(tmp_path / "out" / "a.png") as image:
            assert image.text["task"] == "0,0,0"
    for suffix in ("webp", "jpg"):
        for _ in range(2):
            output = tmp_path / f"out.{suffix}"
            restore(modulator, photos / "a.png", (0, 1, 0), output, False, ABOUT)


def test_result_that_cannot_be_written_is_told_and_the_others_are_done(modulator, photos, tmp_path):
    (photos / "b.png").rename(photos / f"{'b' * 250}.png")  # too long with a task behind it
    problems = restore(modulator, photos, None, tmp_path / "out", True, ABOUT)
    assert len(problems) == 1 and "File name too long" in problems[0]
    assert len(list((tmp_path / "out").iterdir())) == 2 * 28
    assert restore(modulator, photos, (0, 0, 0), tmp_path / "single", False, ABOUT) == []
    assert len(list((tmp_path / "single").iterdir())) == 3


@pytest.mark.parametrize(("threads", "in_hand"), [(1, set()), (2, {"b_jpg.png", "b_png.png"})])
def test_a_folder_stops_where_the_disk_is_full(modulator, photos, small_disk, threads, in_hand):
    Image.fromarray(noise(300, 300)).save(photos / "a.png")
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with pytest.raises(UserError, match=r"no space left on disk for .*a\.png"):
            restore(modulator, photos, (0, 0, 0), small_disk / "out", False, ABOUT)
    finally:
        torch.set_num_threads(before)
    done = {file.name for file in (small_disk / "out").iterdir()}
    assert done <= in_hand  # of another thread, which may finish


def test_a_name_made_for_a_photo_is_not_that_of_another():
    photos = [Path(name) for name in ("a.jpg", "a.png", "A_png.webp", "a_png_2.png")]
    names = result_names(photos)
    assert names == ["a_jpg", "a_png_3", "A_png", "a_png_2"]
    accents = [Path("\u00e9.jpg"), Path("e\u0301.jpg")]  # one name to some file systems
    assert result_names(accents) == ["\u00e9_jpg", "e\u0301_jpg_2"]


def test_a_grey_photo_stays_grey(modulator, photos, tmp_path):
    grey = np.random.default_rng(0).integers(0, 256, (20, 30), np.uint8)
    Image.fromarray(grey).save(photos / "grey.png")
    modulator.load(np.repeat(grey[..., None], 3, 2))
    tinted = modulator.effect((1, 1, 1)).astype(int)
    assert np.ptp(tinted, 2).max() > 0
    restore(modulator, photos / "grey.png", (1, 1, 1), tmp_path / "out.png", False, {})
    with Image.open(tmp_path / "out.png") as image:
        found = np.asarray(image).astype(int)
    assert np.ptp(found, 2).max() == 0
    wanted = tinted @ (0.299, 0.587, 0.114)
    assert abs(found[..., 0] - wanted).max() <= 1


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
def test_what_the_camera_has_written_is_kept(modulator, tmp_path, suffix):
    exif, tags = Image.Exif(), ExifTags.Base
    exif.update({tags.Make: "Maker", tags.Orientation: 6, tags.Software: "their editor"})
    exif[tags.ImageDescription] = "a caption"
    taken = {tags.DateTimeOriginal: "2031:02:03 04:05:06", tags.MakerNote: b"secret"}
    stale = {tags.ColorSpace: 65535, tags.ExifImageWidth: 30}
    exif.get_ifd(ExifTags.IFD.Exif).update(taken | stale)
    exif.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitudeRef] = "N"
    Image.fromarray(noise(20, 30)).save(tmp_path / "photo.jpg", exif=exif)
    output = tmp_path / f"out.{suffix}"
    restore(modulator, tmp_path / "photo.jpg", (1, 0, 0), output, False, ABOUT)
    with Image.open(output) as image:
        found = image.getexif()
        assert image.size == (20, 30) and found[tags.Make] == "Maker"
        ours = set() if suffix == "png" else {tags.Software}  # holds our JSON then
        assert found.keys() & {tags.Orientation, tags.Software} == ours
        assert found[tags.ImageDescription] == "a caption"
        assert found.get_ifd(ExifTags.IFD.Exif) == taken
        assert found.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitudeRef] == "N"
        told = image.text if suffix == "png" else json.loads(found[tags.Software])
    assert told["model"] == "x" and told["task"] == "1,0,0"


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
@pytest.mark.parametrize("kind", ["png", "jpg", "tif", "jpg, EXIF"])
def test_the_resolution_in_print_is_kept(modulator, tmp_path, kind, suffix):
    exif, tags = Image.Exif(), ExifTags.Base
    exif[tags.Orientation] = 6  # what was across is down
    options = {"dpi": (300, 150)}
    if kind == "jpg, EXIF":  # dots per centimetre, and none in the header
        exif.update({tags.ResolutionUnit: 3, tags.XResolution: 300 / 2.54})
        exif[tags.YResolution] = 150 / 2.54
        options = {}
    photo, output = tmp_path / f"photo.{kind[:3]}", tmp_path / f"out.{suffix}"
    Image.new("RGB", (30, 20), "red").save(photo, exif=exif, **options)
    restore(modulator, photo, (0, 0, 0), output, False, ABOUT)
    with Image.open(output) as image:
        found = image.getexif()
        assert image.size == (20, 30) and found[tags.ResolutionUnit] == 2
        dots = float(found[tags.XResolution]), float(found[tags.YResolution])
        assert dots == pytest.approx((150, 300), rel=1e-4)
        if suffix != "webp":  # which has no other place for it
            assert image.info["dpi"] == pytest.approx((150, 300), rel=1e-4)


@pytest.mark.parametrize("kind", ["png", "jpg", "tif", "webp"])
def test_a_photo_without_a_resolution_gets_none(tmp_path, kind):
    exif = Image.Exif()
    exif[ExifTags.Base.Make] = "Maker"
    Image.new("RGB", (30, 20)).save(tmp_path / f"photo.{kind}", exif=exif)
    kept = read_kept(tmp_path / f"photo.{kind}")
    assert kept.dpi is None and kept.exif.image.keys() == exif.keys()


@pytest.mark.parametrize("page", [1, 2])
def test_a_page_keeps_its_own_camera_data(modulator, tmp_path, page):
    pages = []
    for number in (1, 2):
        exif = Image.Exif()
        exif[ExifTags.Base.Make] = f"Maker {number}"
        pages.append(Image.new("RGB", (30, 20)))
        pages[-1].encoderinfo = {"exif": exif, "dpi": (100 * number, 100 * number)}
    pages[0].save(tmp_path / "scan.tif", save_all=True, append_images=pages[1:],
                  **pages[0].encoderinfo)  # fmt: skip
    output = tmp_path / "out.png"
    restore(modulator, tmp_path / "scan.tif", (0, 0, 0), output, False, ABOUT, page)
    with Image.open(output) as image:
        assert image.getexif()[ExifTags.Base.Make] == f"Maker {page}"
        assert image.info["dpi"] == pytest.approx((100 * page, 100 * page), rel=1e-3)


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
def test_a_resolution_that_cannot_be_true_is_dropped(modulator, tmp_path, suffix):
    Image.new("RGB", (30, 20)).save(tmp_path / "photo.png", dpi=(1e6, 1e-9))
    restore(modulator, tmp_path / "photo.png", (0, 0, 0), tmp_path / f"out.{suffix}", False, ABOUT)
    with Image.open(tmp_path / f"out.{suffix}") as image:
        assert ExifTags.Base.XResolution not in image.getexif()
        assert image.info.get("dpi", (72, 72)) == (72, 72)  # what Pillow says of JPEGs that do not


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_a_photo_without_camera_data_has_none_afterwards(photos):
    assert not read_kept(photos / "a.png")
    exif = b"Exif\0\0MM\0*\xff\xff\xff\xff"
    Image.open(photos / "a.png").save(photos / "broken.webp", exif=exif)
    assert not read_kept(photos / "broken.webp")


@pytest.mark.parametrize("height, width", [(1, 1), (600, 300), (30, 900)])
def test_contact_sheet_shows_all(height, width):
    effects = [np.full((height, width, 3), k, np.uint8) for k in range(27)]
    sheet = contact_sheet(effects, TASKS)
    colours = set(sheet.reshape(-1, 3)[:, 0].tolist())
    assert set(range(27)) <= colours
    assert sheet.shape[0] < 4 * (THUMBNAIL + 40) and sheet.shape[1] < 10 * (THUMBNAIL + 10)
