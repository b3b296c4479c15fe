"""Grids and animations."""

import numpy as np
from PIL import Image

from cirlib import modulation_figures as pictures
from cirlib import paths
from cirlib.profiles import MODELS
from cirlib.provenance import load_facts
from cirlib.search import build
from cirlib.tests.conftest import TINY


def _gallery():
    nets = {name: build(MODELS[name], TINY, seed=0).eval() for name in ("cresmd", "tsnet")}
    return pictures.Gallery(nets)


def test_a_sweep_is_a_loop_without_a_jump():
    tasks = np.array(pictures.sweep((1, 0, 0.5), 10))
    assert tasks[0].tolist() == [0, 0, 0] and tasks.max(0).tolist() == [1, 0, 0.5]
    steps = np.abs(np.diff(np.vstack([tasks, tasks[:1]]), axis=0))
    assert np.allclose(steps[:, 0], 0.1) and np.allclose(steps[:, 2], 0.05)


def test_an_animation_shows_input_and_models_and_is_the_same_twice(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "FIGURES", tmp_path)
    image = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)
    tasks = pictures.sweep((1, 1, 1), 3)
    frames = pictures.animate(_gallery(), [image] * len(tasks), tasks)
    assert len(frames) == 6 and frames[0].shape[1] == 3 * 32 + 2 * pictures.GAP
    top = 2 * (pictures.TEXT + 6)
    assert (frames[0][top : top + 24, :32] == image).all()  # the input
    assert (frames[0][top : top + 24, 36:68] == image).all()  # a task of none changes nothing
    assert (frames[3][top : top + 24, 36:68] != image).any()
    first, second = (
        pictures.save_animation(frames, name, "tiny").read_bytes() for name in ("a", "b")
    )
    assert first == second
    with Image.open(tmp_path / "tiny" / "a.webp") as film:
        assert film.n_frames == 6 and film.info["loop"] == 0
    assert {"commit", "date"} <= load_facts(tmp_path / "tiny" / "a.webp").keys()


def test_a_grid_has_a_row_a_task_and_a_column_a_model(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "FIGURES", tmp_path)
    image = np.random.default_rng(0).integers(0, 256, (40, 48, 3), np.uint8)
    tasks = [(0, 0, 0), (0.2, 0, 0)]
    grid = pictures.modulation_grid(_gallery(), image, tasks)
    line = pictures.TEXT + 6
    assert grid.shape == (3 * line + 2 * 40, 3 * 48 + 2 * pictures.GAP, 3)
    second = 3 * line + 40  # top of the second row's pictures
    assert (grid[2 * line : 2 * line + 40, :48] == image).all()
    assert (grid[second : second + 40, :48] == image).all()
    assert (grid[second : second + 40, 52:100] != image).any()
    with Image.open(pictures.save_picture(grid, "grid", "tiny")) as saved:
        assert saved.size == grid.shape[1::-1]
    assert {"commit", "date"} <= load_facts(tmp_path / "tiny" / "grid.jpg").keys()


def test_an_inset_is_the_framed_part_twice_as_large():
    image = np.random.default_rng(0).integers(0, 256, (40, 48, 3), np.uint8)
    grid = pictures.modulation_grid(_gallery(), image, [(0, 0, 0)], zoom=(2, 3, 10, 8))
    line = pictures.TEXT + 6
    inset = grid[2 * line + 40 - 16 : 2 * line + 40, 48 - 20 : 48]
    assert (inset[2:-2:2, 2:-2:2] == image[4:10, 3:11]).all()


def test_a_contact_sheet_goes_from_the_first_frame_to_the_turn():
    frames = [np.full((2, 2, 3), k, np.uint8) for k in range(20)]  # 0..10 and back
    assert pictures.contact_sheet(frames, 3)[::2, 0, 0].tolist() == [0, 5, 10]
