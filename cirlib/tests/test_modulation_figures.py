"""Grids and animations."""

import numpy as np
import pytest
from PIL import Image

from cirlib.architecture import full_architecture, live
from cirlib.base import paths
from cirlib.base.provenance import load_facts
from cirlib.cost import cost
from cirlib.degradation import task_to_levels
from cirlib.profiles import MODELS
from cirlib.report import modulation as pictures
from cirlib.search import build
from cirlib.tests.conftest import TINY, random_searched


def _gallery():
    nets = {name: build(MODELS[name], TINY, seed=0).eval() for name in ("cresmd", "tsnet")}
    return pictures.Gallery(nets)


def test_a_sweep_is_a_loop_without_a_jump():
    tasks = np.array(pictures.sweep((1, 0, 0.5), 10))
    assert tasks[0].tolist() == [0, 0, 0] and tasks.max(0).tolist() == [1, 0, 0.5]
    steps = np.abs(np.diff(np.vstack([tasks, tasks[:1]]), axis=0))
    assert np.allclose(steps[:, 0], 0.1) and np.allclose(steps[:, 2], 0.05)


def test_a_caption_tells_what_was_done_and_nothing_else():
    task = (0.3, 0, 0.3)
    told = pictures.described("chelsea", task_to_levels(task), task)
    assert told == "chelsea with blur r 1.2, JPEG quality 74; optimum (0.3, 0, 0.3)"
    assert pictures.described("a", task_to_levels((0, 0, 0)), (0, 0, 0)).startswith("a with no dam")


def test_an_animation_shows_input_and_models_and_is_the_same_twice(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "FIGURES", tmp_path)
    image = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)
    tasks = pictures.sweep((1, 1, 1), 3)
    frames = pictures.animate(_gallery(), [image] * len(tasks), tasks, "noise")
    assert len(frames) == 6 and frames[0].shape[1] == 3 * 32 + 2 * pictures.GAP
    top = 3 * pictures.LINE
    assert (frames[0][top : top + 24, :32] == image).all()  # the input
    assert (frames[0][top : top + 24, 36:68] == image).all()  # a task of none changes nothing
    assert (frames[3][top : top + 24, 36:68] != image).any()
    first, second = (
        pictures.save_animation(frames, name, "tiny", {"seed": 0}).read_bytes()
        for name in ("a", "b")
    )
    assert first == second
    with Image.open(tmp_path / "tiny" / "a.webp") as film:
        assert film.n_frames == 6 and film.info["loop"] == 0
    assert {"commit", "date", "seed"} <= load_facts(tmp_path / "tiny" / "a.webp").keys()


def test_an_animation_can_say_what_the_effects_so_far_have_cost():
    nets = {"cresmd": build(MODELS["cresmd"], TINY, seed=0).eval(),
            "ta-tsnet": random_searched("ta-tsnet", seed=2, shared_points=6)}  # fmt: skip
    tasks = pictures.sweep((1, 1, 1), 3)
    spent = pictures.running_cost(nets, tasks, (32, 24))
    whole = cost([full_architecture(TINY.blocks, TINY.channels)], (32, 24)).per_effect(1) / 1e9
    assert spent["cresmd"] == pytest.approx(whole * np.arange(1, 7))  # whole for each effect
    own = [live(nets["ta-tsnet"].architecture(task)) for task in tasks]
    for k in range(1, 7):  # Eq. 4 of the first k effects
        assert spent["ta-tsnet"][k - 1] == pytest.approx(
            cost(own[:k], (32, 24)).per_effect(k) * k / 1e9
        )
    image = np.zeros((24, 120, 3), np.uint8)
    gallery = pictures.Gallery(nets)
    larger = {model: 1000 * costs for model, costs in spent.items()}  # than 0.0 when rounded
    plain, told = (
        pictures.animate(gallery, [image] * 6, tasks, "", spent=costs) for costs in (None, larger)
    )
    assert len(told[0]) == len(plain[0]) + pictures.LINE
    line = slice(2 * pictures.LINE, 3 * pictures.LINE)
    assert (told[0][line] != told[5][line]).any()
    so_far = [frame[line, :120] for frame in told]  # under "input": that the numbers add up
    assert (so_far[0] < 255).any() and all((one == so_far[0]).all() for one in so_far)


def test_a_grid_has_a_row_a_task_and_a_column_a_model(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "FIGURES", tmp_path)
    image = np.random.default_rng(0).integers(0, 256, (40, 48, 3), np.uint8)
    tasks = [(0, 0, 0), (0.2, 0, 0)]
    grid = pictures.modulation_grid(_gallery(), image, tasks, "noise")
    line = pictures.LINE
    assert grid.shape == (4 * line + 2 * 40, 3 * 48 + 2 * pictures.GAP, 3)
    second = 4 * line + 40  # top of the second row's pictures
    assert (grid[3 * line : 3 * line + 40, :48] == image).all()
    assert (grid[second : second + 40, :48] == image).all()
    assert (grid[second : second + 40, 52:100] != image).any()
    with Image.open(pictures.save_picture(grid, "grid", "tiny", {"seed": 0})) as saved:
        assert saved.size == grid.shape[1::-1]
    assert {"commit", "date", "seed"} <= load_facts(tmp_path / "tiny" / "grid.jpg").keys()


def test_the_framed_part_is_shown_below_as_wide_as_the_picture():
    image = np.random.default_rng(0).integers(0, 256, (40, 48, 3), np.uint8)
    grid = pictures.modulation_grid(_gallery(), image, [(0, 0, 0)], "", zoom=(20, 9, 16, 8))
    below = 3 * pictures.LINE + 40 + 2
    picture, inset = grid[below - 42 : below - 2, :48], grid[below:, :48]
    assert inset.shape == (24, 48, 3)
    assert (inset[1::3, 1::3] == image[9:17, 20:36]).all()
    assert (picture[9:17, 20:36] == image[9:17, 20:36]).all()  # the frame is around it
    assert (picture != image).any(2).sum() == 2 * (18 + 8)


def test_frames_of_a_video_are_numbered():
    images = [np.full((24, 200, 3), k, np.uint8) for k in range(3)]
    tasks = [(0, 0, 0)] * 3
    photo = pictures.animate(_gallery(), [images[0]] * 3, tasks, "still")
    video = pictures.animate(_gallery(), images, tasks, "moving")
    label = slice(2 * pictures.LINE, 3 * pictures.LINE)
    assert (photo[0][label] == photo[2][label]).all()
    assert (video[1][label] != video[2][label]).any()


def test_a_contact_sheet_goes_up_to_the_turn():
    head = 2 * pictures.LINE  # shown once
    frames = [np.full((head + 2, 2, 3), k, np.uint8) for k in range(20)]  # 0..10 and back
    sheet = pictures.still(frames, 2)
    assert len(sheet) == head + 2 * 2 and sheet[head::2, 0, 0].tolist() == [5, 10]
