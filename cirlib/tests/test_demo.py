"""A moved slider shows its effect, once; an error is shown, not lost."""

import asyncio
import io

import numpy as np
import pytest
from PIL import Image

from cirlib import demo
from cirlib.demo import GAP, SLIDERS, Panel, encode, side_by_side
from cirlib.files import UserError
from cirlib.modulation import Modulator
from cirlib.profiles import MODELS
from cirlib.search import build
from cirlib.tests.conftest import TINY


def photo(height=12, width=18):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def decode(png):
    return np.array(Image.open(io.BytesIO(png)))


@pytest.fixture
def panel():
    return Panel(Modulator(build(MODELS["cresmd"], TINY, seed=0)), photo())


def test_encoding_loses_nothing():
    assert (decode(encode(photo())) == photo()).all()


def test_images_stand_side_by_side():
    pair = side_by_side(photo(), photo())
    assert pair.shape == (12, 18 + GAP + 18, 3)
    assert (pair[:, 18 : 18 + GAP] == 255).all()


def test_panel_starts_with_the_image_as_it_is(panel):
    assert panel.task == (0, 0, 0)
    assert [slider.description for slider in panel.sliders] == list(SLIDERS)
    assert (decode(panel.view.value) == side_by_side(photo(), photo())).all()


def test_moving_a_slider_shows_the_effect_of_its_task(panel):
    for place, slider in enumerate(panel.sliders):
        slider.value = 0.5
        expected = panel.modulator.effect([0.5] * (place + 1) + [0] * (2 - place))
        assert (decode(panel.view.value) == side_by_side(photo(), expected)).all()
    assert "0.50, 0.50, 0.50" in panel.status.value


def test_one_image_widget_of_fixed_height(panel):
    before = panel.view
    panel.sliders[1].value = 1
    assert panel.view is before
    assert panel.view.layout.height == "300px"


def test_only_the_last_position_of_a_moving_slider_is_computed(panel, monkeypatch):
    monkeypatch.setattr(demo, "PAUSE", 0.01)
    asked = []
    monkeypatch.setattr(panel.modulator, "effect", lambda task: asked.append(task) or photo())

    async def drag():
        for value in (0.2, 0.4, 0.6):
            panel.sliders[0].value = value
        await asyncio.sleep(0.1)

    asyncio.run(drag())
    assert asked == [(0.6, 0, 0)]


def test_an_error_is_shown_under_the_image_and_gone_with_the_next_effect(panel, monkeypatch):
    shown = panel.view.value
    with monkeypatch.context() as patch:
        patch.setattr(panel.modulator, "effect", lambda task: [][0])
        panel.sliders[0].value = 1
    assert "IndexError" in panel.errors.value
    assert "&lt;" in panel.errors.value  # text, not markup
    assert panel.view.value == shown
    panel.sliders[0].value = 0.5
    assert panel.errors.value == ""
    assert panel.view.value != shown


def test_a_users_error_is_one_line(panel, monkeypatch):
    def fail(task):
        raise UserError("too large: cut a part out")

    monkeypatch.setattr(panel.modulator, "effect", fail)
    panel.sliders[0].value = 1
    assert "too large: cut a part out</pre>" in panel.errors.value
    assert "Traceback" not in panel.errors.value


def test_static_text_says_what_to_do(panel):
    assert "run the notebook" in repr(panel)
