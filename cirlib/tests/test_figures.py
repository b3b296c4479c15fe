"""Figures are saved whole, the same each time, and closed; grids show the pixels given."""

import re
import subprocess
import sys

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from numpy.lib.stride_tricks import sliding_window_view

from cirlib.base import paths
from cirlib.base.paths import ROOT
from cirlib.base.provenance import load_facts
from cirlib.report import diagrams, figures, tables
from cirlib.tests.conftest import noise

DRAWING = [f"cirlib.report.{path.stem}" for path in ROOT.glob("cirlib/report/*.py")
           if path.stem not in ("__init__", "conf", "nbconvert_config")]  # fmt: skip


@pytest.fixture
def folder():
    return paths.FIGURES / "smoke"


def draw():
    figure, axis = figures.subplots(figsize=(2, 1.5))
    axis.plot([0, 1, 2], [3, 1, 2], label="TA+TSNet")
    axis.imshow(np.arange(12).reshape(3, 4))
    axis.legend()
    return figure


def test_names_of_marks_are_clear_of_each_other():
    figure, axis = figures.subplots(figsize=(4, 3))
    line = axis.axhline(0.5)
    x = np.random.default_rng(0).random((12, 2))
    axis.plot(*x.T, "o")
    figures.name_marks(axis, [(*at, f"layer {k}", f"C{k}") for k, at in enumerate(x)])
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in axis.texts]
    height = line.get_window_extent().y0
    assert len(boxes) == 12
    assert not any(box.y0 < height < box.y1 for box in boxes)
    assert not any(a.padded(-1).overlaps(b) for k, a in enumerate(boxes) for b in boxes[:k])


def test_names_of_lines_are_clear_of_each_other():
    figure, axis = figures.subplots(figsize=(4, 3))
    for k in range(4):
        axis.plot([0, 1], [0, 0.01 * k], label=f"model {k}")
    axis.plot([0, 1], [0, 1], label="far")
    figures.name_lines(axis)
    figure.draw_without_rendering()
    *middles, far = (text.xyann[1] for text in axis.texts)
    assert abs(sum(middles)) < 1e-6 < max(middles) and abs(far) < 1e-6  # pushed both ways
    boxes = [text.get_window_extent() for text in axis.texts]
    assert not any(a.padded(-1).overlaps(b) for k, a in enumerate(boxes) for b in boxes[:k])


def test_every_model_has_its_own_colour_and_name():
    assert figures.MODEL_COLOURS.keys() == figures.MODEL_LABELS.keys()
    assert len(set(figures.MODEL_COLOURS.values())) == len(figures.MODEL_COLOURS)
    assert figures._HIGHLIGHT not in figures.MODEL_COLOURS.values()


def test_importing_leaves_the_style_of_others_alone():
    code = "import matplotlib as m; m.use('Agg'); old = dict(m.rcParams); import matplotlib.pyplot"
    code += (
        f"; {'; '.join(f'import {module}' for module in DRAWING)}; assert dict(m.rcParams) == old"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)


def test_the_drawing_of_the_search_says_what_the_equations_give():
    told = [text.get_text() for text in diagrams.draw_gates(gamma=0.7).axes[0].texts]
    assert any("2.00 in common > 0.7 · 2?\nyes" in text for text in told)
    assert any("1.33 in common > 0.7 · 2?\nno" in text for text in told)


@pytest.mark.parametrize("name", ["block", "sharing", "pairs"])
def test_drawings_of_the_method_are_drawn(name):
    getattr(diagrams, f"draw_{name}")().draw_without_rendering()


def test_all_figures_are_drawn_in_the_style():
    draw()
    assert plt.rcParams["pdf.fonttype"] == 42
    assert plt.rcParams["figure.constrained_layout.use"]
    for path in [*ROOT.glob("cirlib/**/*.py"), *ROOT.glob("notebooks/*.ipynb")]:
        if path.name not in ("figures.py", "test_figures.py"):
            assert not re.search(r"(plt|pyplot)\.(figure|subplots?)\b", path.read_text()), path


def test_save_figure_writes_both_the_same_each_time_and_closes(folder):
    figure = draw()
    saved = figures.save_figure(figure, "fig7", "smoke")
    assert saved == [folder / "fig7.pdf", folder / "fig7.png"]
    assert sorted(p.name for p in folder.iterdir()) == ["fig7.json", "fig7.pdf", "fig7.png"]
    facts = load_facts(saved[0])
    assert facts["profile"] == "smoke" and {"commit", "date", "device"} <= facts.keys()
    assert not plt.fignum_exists(figure.number)
    again = figures.save_figure(draw(), "again", "smoke")
    first, second = ([path.read_bytes() for path in written] for written in (saved, again))
    assert first == second
    assert b"CreationDate" not in first[0]
    assert b"Software" not in first[1]


def test_save_table_states_where_the_numbers_came_from(folder):
    frame = pd.DataFrame({"method": ["tsnet"], "psnr": [25.5]})
    facts = {"commit": "0123456789abcdef-dirty", "device": "Some GPU", "threads": 4, "seed": 1,
             "data": "caf\udce9"}  # fmt: skip  # of a folder whose name is no text
    path = tables.save_table(frame, "table2", "smoke", facts)
    assert path == folder / "table2.md"
    text = path.read_text()
    assert text.startswith("| method") and "25.5" in text
    line = r"*profile smoke; seed 1; data caf\udce9; commit 0123456789-dirty; Some GPU, 4 threads*"
    assert text.splitlines()[-1] == line


def test_grid_shows_every_image_once_and_labels_it():
    images = [noise(12, 16, s) for s in range(5)] + [None]
    figure = figures.show_images(images, ["a", "b", "c"], 3, row_titles=["up", "down"])
    axes = figure.axes
    assert len(axes) == 6
    for axis, expected in zip(axes[:5], images, strict=False):
        (drawn,) = axis.get_images()
        np.testing.assert_array_equal(drawn.get_array(), expected)
        assert drawn.get_interpolation() == "nearest"
    assert not axes[5].get_images()
    assert [axis.get_title() for axis in axes] == ["a", "b", "c", "", "", ""]
    assert [axis.get_ylabel() for axis in axes] == ["up", "", "", "down", "", ""]


def test_without_a_width_a_pixel_is_a_pixel():
    images = [noise(20, 30, seed=s) for s in range(4)]
    words = {"row_titles": ["one\ntwo"], "notes": ["1 dB"] * 4, "caption": "above", "foot": "below"}
    figure = figures.show_images(images, ["a", "b"], 2, width=None, **words)
    figure.dpi = figures.DPI
    figure.canvas.draw()
    drawn = np.asarray(figure.canvas.buffer_rgba())[..., :3]
    found = sliding_window_view(drawn, (20, 30, 3)).reshape(-1, 20, 30, 3)
    for one in images:
        assert (found[:, ::7, ::7] == one[::7, ::7]).all((1, 2, 3)).sum() == 1


def test_detail_is_texture_that_is_not_saturated():
    photo = np.full((60, 80, 3), 128, np.uint8)
    photo[10:30, 10:30] = noise(20, 20) // 4 + 90  # fine
    photo[35:55, 50:70] = 255 * (noise(20, 20, seed=1) // 128)  # stronger, but black and white
    photo[:, 40] = 200  # an edge
    left, top, width, height = figures.detail(photo, 20)
    assert (left, top) == (10, 10) and (width, height) == (20, 20)


def test_zoom_enlarges_the_region_in_the_far_corner():
    picture = noise(40, 60)
    left, top, width, height = zoom = (30, 20, 15, 10)
    figure = figures.show_images([picture], zoom=zoom, zoom_size=0.5)
    (inset,) = figure.axes[0].child_axes
    shown = inset.get_images()[0].get_array()
    np.testing.assert_array_equal(shown, picture[top : top + height, left : left + width])
    figure.draw_without_rendering()
    outer, inner = figure.axes[0].get_window_extent(), inset.get_window_extent()
    assert inner.width == pytest.approx(outer.width / 2, rel=0.01)
    assert inner.width / inner.height == pytest.approx(width / height, rel=0.02)
    assert inner.x0 == pytest.approx(outer.x0, abs=1)  # the region is at the lower right,
    assert inner.y1 == pytest.approx(outer.y1, abs=1)  # so the inset at the upper left


def test_grid_refuses_what_is_no_picture_nothing_and_a_zoom_outside():
    image = noise(12, 16)
    for wrong in (image.astype(np.float32) / 255, image[..., :2], image[..., 0].ravel()):
        with pytest.raises(ValueError, match="uint8"):
            figures.show_images([image, wrong])
    with pytest.raises(ValueError, match="no images"):
        figures.show_images([])
    with pytest.raises(ValueError, match="not inside"):
        figures.show_images([image], zoom=(10, 0, 8, 4))
