"""Grids and animations."""

import matplotlib

matplotlib.use("Agg")

import numpy as np
import pandas as pd
import pytest
from numpy.lib.stride_tricks import sliding_window_view
from PIL import Image

from cirlib.architecture import full_architecture, live
from cirlib.base import paths
from cirlib.base.provenance import load_facts
from cirlib.cost import cost
from cirlib.degradation import task_to_levels
from cirlib.measure import metrics
from cirlib.measure.modulation import MATCHED
from cirlib.profiles import MODELS
from cirlib.report import modulation as pictures
from cirlib.search import build
from cirlib.tests.conftest import TINY, noise, random_searched


def _gallery():
    nets = {name: build(MODELS[name], TINY, seed=0).eval() for name in ("cresmd", "tsnet")}
    return pictures.Gallery(nets)


def shown(drawn, image):
    """How often the upper left corner of an image stands in a drawing."""
    parts = sliding_window_view(drawn, (8, 8, 3)).reshape(-1, 8, 8, 3)
    return (parts == image[:8, :8]).all((1, 2, 3)).sum()


def test_what_is_enlarged_keeps_off_the_border():
    photo = np.full((70, 84, 3), 128, np.uint8)
    photo[:10] = noise(10, 84) // 4 + 90  # most texture
    photo[30:40, 50:60] = noise(10, 10) // 8 + 110
    gallery = _gallery()
    gallery.load(photo)
    left, top, width, height = gallery.zoom()["zoom"]
    assert 5 <= left <= 84 - 5 - width and 5 <= top <= 70 - 5 - height
    gallery.load(photo[:8, :8])  # however small
    assert gallery.zoom()["zoom"][2:] == (1, 1)


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


def test_an_animation_shows_input_and_models_and_is_the_same_twice():
    image, tasks = noise(56, 64), pictures.sweep((1, 1, 1), 3)
    frames = pictures.animate(_gallery(), [image] * len(tasks), tasks, "noise")
    assert len(frames) == 6 and frames[0].dtype == np.uint8 and frames[0].shape[2] == 3
    assert shown(frames[0], image) == 3  # a task of none changes nothing
    assert shown(frames[3], image) == 1  # the input
    first, second = (
        pictures.save_webp(frames, name, "tiny", {"seed": 0}).read_bytes() for name in ("a", "b")
    )
    assert first == second
    with Image.open(paths.FIGURES / "tiny" / "a.webp") as film:
        assert film.n_frames == 6 and film.info["loop"] == 0
    assert {"commit", "date", "seed"} <= load_facts(paths.FIGURES / "tiny" / "a.webp").keys()


def test_an_animation_can_say_what_the_effects_so_far_have_cost(monkeypatch):
    nets = {"cresmd": build(MODELS["cresmd"], TINY, seed=0).eval(),
            "ta-tsnet": random_searched("ta-tsnet", seed=2, shared_points=6)}  # fmt: skip
    tasks = pictures.sweep((1, 1, 1), 3)
    spent = pictures.running_cost(nets, tasks, (32, 24))
    whole = cost([full_architecture(TINY.blocks, TINY.channels)], (32, 24)).per_effect(1) / 1e9
    assert spent["cresmd"] == pytest.approx(whole * np.arange(6))  # whole for each but (0, 0, 0)
    assert spent["ta-tsnet"][0] == 0  # nothing has run yet
    own = [live(nets["ta-tsnet"].architecture(task)) for task in tasks]
    for k in range(1, 6):  # Eq. 4 of the first k effects
        assert spent["ta-tsnet"][k] == pytest.approx(
            cost(own[1 : k + 1], (32, 24)).per_effect(k) * k / 1e9
        )
    gallery, titles = pictures.Gallery(nets), []
    monkeypatch.setattr(pictures, "show_images", lambda _, names, **rest: titles.append(names))
    monkeypatch.setattr(pictures, "drawn", lambda figure: figure)
    pictures.animate(gallery, [noise(56, 64)] * 6, tasks, "", spent=spent)
    assert [title[0] for title in titles] == ["input\nso far spent:"] * 6
    assert titles[5][1] == f"CResMD\n{spent['cresmd'][5]:.1f} GFLOPs"


def test_a_grid_has_a_row_a_task_and_a_column_a_model():
    clean, image = noise(56, 64), noise(56, 64, 1)
    tasks = [(0, 0, 0), (0.2, 0, 0)]
    grid = pictures.modulation_grid(_gallery(), image, tasks, "noise", clean, "artifacts")
    axes = grid.axes
    assert [axis.get_title() for axis in axes] == ["", "CResMD", "TSNet", "", "", ""]
    assert [axis.get_ylabel() for axis in axes[1::3]] == ["task\n(0, 0, 0)", "task\n(0.2, 0, 0)"]
    notes = [axis.get_xlabel() for axis in axes]
    own = f"{metrics.psnr(image, clean):.2f} dB"
    assert notes[:4] == [f"input, {own}", own, own, "clean photo"]
    path = pictures.save_webp([pictures.drawn(grid)], "grid", "tiny", {"seed": 0})
    with Image.open(path) as saved:
        pixels = np.asarray(saved)
    assert shown(pixels, image) == 3 and shown(pixels, clean) == 1  # lossless
    assert {"commit", "date", "seed"} <= load_facts(path).keys()


@pytest.mark.parametrize(("factor", "words"), [
    (1, "TA+TSNet-m smooths less than CResMD, as in the paper."),
    (0.2, "TA+TSNet-m smooths more than CResMD, against the paper."),
    (0.59, "TA+TSNet-m and CResMD are alike, against the paper."),
])  # fmt: skip
def test_a_verdict_says_whether_the_paper_is_met(factor, words):
    gallery, clean = _gallery(), noise(56, 64)
    gallery.modulators["ta-tsnet-m"] = gallery.modulators.pop("tsnet")
    gallery.load(noise(56, 64, 1), clean)
    for name, share in (("cresmd", 0.6), ("ta-tsnet-m", factor)):
        gallery.modulators[name].effect = lambda _, share=share: (share * clean).astype(np.uint8)
    told = pictures.verdict("detail", gallery, (1, 0, 0))
    assert told.startswith("Detail kept, %, at (1, 0, 0)")
    assert told.endswith(f"On this photo {words}")


def test_frames_of_a_video_are_numbered_and_alike_in_size(monkeypatch):
    images, tasks = [noise(56, 64, s) for s in range(2)], [(0, 0, 0), (1, 0.5, 1)]
    frames = pictures.animate(_gallery(), images, tasks, "moving")
    assert frames[0].shape == frames[1].shape
    firsts = []
    monkeypatch.setattr(pictures, "show_images", lambda _, names, **rest: firsts.append(names[0]))
    monkeypatch.setattr(pictures, "drawn", lambda figure: figure)
    pictures.animate(_gallery(), [images[0]] * 2, tasks, "still")
    pictures.animate(_gallery(), images, tasks, "moving")
    assert firsts == ["input", "input", "input", "input, frame 1"]


def test_steps_have_intervals_over_photographs():
    rows = [(photo, case, "step_psnr", level, 1.0 + photo * level)
            for photo in range(3) for case in MATCHED for level in (0.5, 1)]  # fmt: skip
    frame = pd.DataFrame(rows, columns=["image", "case", "quantity", "level", "value"])
    figure = pictures.draw_steps({"cresmd": frame, "tsnet-m": frame}, "step_psnr")
    assert len(figure.axes) == len(MATCHED) and "3 photographs" in figure.get_suptitle()
    assert all(len(axis.collections) == 2 for axis in figure.axes)  # a band each
