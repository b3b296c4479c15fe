"""Photos in, effects out."""

import numpy as np
import pytest
import torch
from PIL import Image

from cirlib.degradation import TASKS
from cirlib.files import UserError
from cirlib.modulation import Modulator
from cirlib.restore import THUMBNAIL, contact_sheet, restore, task_name, task_text
from cirlib.tests.conftest import random_searched


@pytest.fixture
def modulator() -> Modulator:
    return Modulator(random_searched("ta-tsnet", 0, 5), dtype=torch.float32)


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for k, name in enumerate(("a.png", "b.png", "b.jpg")):
        pixels = np.random.default_rng(k).integers(0, 256, (20, 30 + k, 3), np.uint8)
        Image.fromarray(pixels).save(folder / name)
    return folder


def test_one_photo_one_file(modulator, photos, tmp_path):
    output = tmp_path / "new" / "out.jpg"
    assert restore(modulator, photos / "a.png", (1, 0, 0.5), output, False, {}) == []
    with Image.open(output) as image:
        assert image.size == (30, 20)


def test_folder_keeps_all_photos_apart(modulator, photos, tmp_path):
    assert restore(modulator, photos, (0, 0, 0), tmp_path / "out", False, {"model": "x"}) == []
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"a.png", "b_png.png", "b_jpg.png"}
    with Image.open(tmp_path / "out" / "a.png") as same, Image.open(photos / "a.png") as image:
        assert np.array_equal(same, image)  # nothing asked for
        assert same.text == {"model": "x", "task": "0,0,0"}


def test_grid_writes_27_effects_and_a_sheet(modulator, photos, tmp_path):
    restore(modulator, photos / "a.png", (0, 0, 0), tmp_path / "out", True, {})
    names = {p.name for p in (tmp_path / "out").iterdir()}
    assert names == {f"a_{task_name(task)}.png" for task in TASKS} | {"a_contact_sheet.png"}
    modulator.load(np.asarray(Image.open(photos / "a.png")))
    found = np.asarray(Image.open(tmp_path / "out" / f"a_{task_name(TASKS[26])}.png"))
    assert np.array_equal(found, modulator.effect(TASKS[26]))


def test_photo_that_cannot_be_read_is_told_and_the_others_are_done(modulator, photos, tmp_path):
    (photos / "c.jpg").write_bytes(b"no image")
    problems = restore(modulator, photos, (0, 1, 0), tmp_path / "out", False, {})
    assert len(problems) == 1 and "c.jpg" in problems[0]
    assert len(list((tmp_path / "out").iterdir())) == 3
    with pytest.raises(UserError, match=r"c\.jpg"):
        restore(modulator, photos / "c.jpg", (0, 1, 0), tmp_path / "out", True, {})


def test_several_images_need_a_folder(modulator, photos, tmp_path):
    with pytest.raises(UserError, match="must be a folder"):
        restore(modulator, photos, (0, 1, 0), tmp_path / "out.png", False, {})
    with pytest.raises(UserError, match="nowhere"):
        restore(modulator, tmp_path / "nowhere", (0, 1, 0), tmp_path / "out", True, {})


@pytest.mark.parametrize("height, width", [(1, 1), (600, 300), (30, 900)])
def test_contact_sheet_shows_all(height, width):
    effects = [np.full((height, width, 3), k, np.uint8) for k in range(27)]
    sheet = contact_sheet(effects, TASKS)
    colours = set(sheet.reshape(-1, 3)[:, 0].tolist())
    assert set(range(27)) <= colours
    assert sheet.shape[0] < 4 * (THUMBNAIL + 40) and sheet.shape[1] < 10 * (THUMBNAIL + 10)


def test_task_text_can_be_given_as_a_task():
    assert task_text((0.5, 0.45652, 0)) == "0.5,0.4565,0"
