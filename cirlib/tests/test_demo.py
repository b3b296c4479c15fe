"""The page says what is wanted, and shows what it is told."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from cirlib.degradation import CLEAN, TASKS, Levels
from cirlib.demo import page
from cirlib.demo.page import (
    Demo,
    caption,
    cost_text,
    damage_values,
    duration,
    lead_text,
    quality_text,
)
from cirlib.demo.photos import Network, Pixels
from cirlib.demo.session import NOTHING
from cirlib.demo.tally import Facts, Times
from cirlib.demo.widgets import Upload
from cirlib.tests.conftest import noise

TASK = (0.25, 0.5, 0.46)
NETWORK = Network("ta-tsnet", "compact")
FACTS = Facts(NETWORK, TASK, 4e9, 3e9, 24e9, 0.1, 20.0, 25.5)


def decode(png):
    return np.asarray(Image.open(io.BytesIO(png)))


@pytest.fixture
def demo():
    photos = [Pixels("a", noise(20, 30)), Pixels("b", noise(20, 30, 1))]
    demo = Demo(NETWORK, photos, 1, Levels(1.0, 25.0, 60), TASK)
    assert demo.session.worker.wait(60)
    yield demo
    demo.close()


def settle(demo):
    assert demo.session.worker.wait(60)


def test_page_begins_with_the_photo_and_sliders_that_were_asked_for(demo):
    assert demo.photo.value.name == "b" and demo.network.value == NETWORK
    assert tuple(demo.effect_sliders.values) == TASK
    assert demo.damage_sliders.values == [1.0, 25.0, 21.0]
    assert demo.viewer.texts == [
        "b, blur 1 px, noise 25, JPEG 60",
        "b, blur 1 px, noise 25, JPEG 60, sharpen 0.25, denoise 0.50, clean JPEG 0.46",
    ]
    assert (demo.viewer.width, demo.viewer.height) == (30, 20)
    assert np.array_equal(decode(demo.viewer.before), demo.session.image)
    assert "PSNR" in demo.quality.value and not demo.error.value


def test_moved_slider_shows_its_effect(demo):
    demo.effect_sliders.values = [0.0, 0.0, 0.0]
    settle(demo)
    assert np.array_equal(decode(demo.viewer.after), demo.session.image)
    assert demo.strip.current == 0
    demo.effect_sliders.values = [0.0, 0.3, 0.0]
    assert demo.strip.current == -1


def test_moved_damage_degrades_anew(demo):
    demo.damage_sliders.values = [0.0, 0.0, 0.0]
    settle(demo)
    assert demo.session.wish.damage == CLEAN
    assert np.array_equal(decode(demo.viewer.before), noise(20, 30, 1))
    demo.damage_sliders.values = [0.30000000000000004, 12.0, 46.0]
    settle(demo)
    assert demo.session.wish.damage == Levels(0.3, 12.0, 10)


def test_damage_goes_to_the_sliders_and_back():
    for damage in (CLEAN, Levels(0.3, 12.0, 100), Levels(4.0, 50.0, 10)):
        assert all(isinstance(value, float) for value in damage_values(damage))
    assert damage_values(Levels(0.3, 12.0, 100)) == [0.3, 12.0, 1.0]


def test_own_photo_comes_undamaged_joins_the_choice_and_leaves_it_with_the_next(demo):
    for name in ("own.png", "next.png"):
        file = io.BytesIO()
        Image.fromarray(noise(20, 30, 2)).save(file, "PNG")
        demo._uploaded(name, file.getvalue())
        settle(demo)
        assert [option[0] for option in demo.photo.options] == ["a", "b", name]
        assert demo.photo.value.name == name and demo.damage_sliders.values == [0.0, 0.0, 0.0]
        assert np.array_equal(decode(demo.viewer.before), noise(20, 30, 2))
        assert demo.degrade.layout.display == "none"  # it is damaged enough
    demo.photo.value = demo.photo.options[0][1]
    settle(demo)
    assert demo.viewer.texts[0].startswith("a, ") and demo.degrade.layout.display == ""
    assert [option[0] for option in demo.photo.options] == ["a", "b"]


def test_new_photo_starts_at_its_estimate_and_one_undo_from_itself(demo):
    demo.photo.value = demo.photo.options[0][1]
    settle(demo)
    assert demo.session.wish.task == tuple(demo.effect_sliders.values) not in (TASK, NOTHING)
    while not demo.undo.disabled:
        demo.undo.click()
    assert demo.effect_sliders.values == [0.0, 0.0, 0.0]  # not the last photo's


def test_undo_takes_back_a_drag_a_row_of_keys_and_a_jump_each_at_once(demo):
    sliders = demo.effect_sliders
    assert demo.undo.disabled
    sliders.held = True
    for share in (0.3, 0.4):
        sliders.values = [share, *TASK[1:]]
    sliders.held = False
    for share in (0.41, 0.42):
        sliders.values = [share, *TASK[1:]]
    demo.strip._handle_custom_msg({"clicked": 26}, [])
    demo.reset.click()
    assert sliders.values == [0.0, 0.0, 0.0]
    for back in (TASKS[26], (0.42, *TASK[1:]), (0.4, *TASK[1:]), TASK):
        assert not demo.undo.disabled
        demo.undo.click()
        assert sliders.values == pytest.approx(list(back))
    assert demo.undo.disabled
    settle(demo)
    assert demo.session.wish.task == TASK


def test_failed_photo_leaves_choice_and_damage_as_they_were(demo):
    demo._uploaded("<b>.png", b"no image")
    settle(demo)
    assert "&lt;b&gt;.png is not an image" in demo.error.value  # text, not markup
    assert demo.photo.value.name == "b" and demo.damage_sliders.values == [1.0, 25.0, 21.0]
    assert tuple(demo.effect_sliders.values) == demo.session.wish.task == TASK


def test_page_compares_with_cresmd_of_the_same_size(demo):
    small = demo.session.facts.cresmd_flops
    demo.network.value = Network("ta-tsnet", "full")
    settle(demo)
    assert demo.session.facts.cresmd_flops > 6 * small
    assert {network.profile for network, _ in demo.session.times} == {"compact", "full"}


@pytest.mark.parametrize("fast, size", [(torch.bfloat16, "full"), (torch.float32, "compact")])
def test_page_begins_with_the_size_that_suits_the_processor(monkeypatch, fast, size):
    monkeypatch.setattr(page, "fast_dtype", lambda _device: fast)
    assert page.default_network() == Network("ta-tsnet", size)


def test_network_can_be_changed_and_a_clicked_thumbnail_sets_the_sliders(demo):
    assert ("CResMD, full", Network("cresmd", "full")) in demo.network.options
    demo.network.value = Network("cresmd", "compact")
    settle(demo)
    assert demo.session.wish.network.model == "cresmd" and "CResMD" in demo.facts.value
    demo.strip._handle_custom_msg({"clicked": 13}, [])
    assert demo.effect_sliders.values == list(map(float, TASKS[13]))
    assert demo.strip.current == 13


def test_an_effect_of_another_photo_or_damage_is_not_left_beside_it(demo):
    seen = []
    demo.viewer.observe(
        lambda change: seen.append((change.name, bool(change.new))), ["after", "stale"]
    )
    demo.photo.value = demo.photo.options[0][1]
    settle(demo)
    assert seen.index(("after", False)) < seen.index(("after", True)) and not demo.viewer.stale
    seen.clear()
    demo.damage_sliders.values = [0.0, 10.0, 0.0]
    settle(demo)
    assert ("after", False) not in seen and ("stale", True) in seen and not demo.viewer.stale


def test_a_file_that_cannot_be_read_leaves_undo(demo):
    demo.effect_sliders.values = [0.0, 0.3, 0.0]
    settle(demo)
    demo._uploaded("letter.jpg", b"Dear Sir")
    settle(demo)
    assert "letter.jpg" in demo.error.value and not demo.undo.disabled
    demo.undo.click()
    settle(demo)
    assert tuple(demo.effect_sliders.values) == TASK and not demo.error.value


def test_a_suggestion_of_nothing_is_told(demo):
    demo.suggested((0.0, 0.0, 0.0))
    assert "nothing to mend" in demo.found.value
    demo.effect_sliders.values = [0.0, 0.3, 0.0]
    assert not demo.found.value


def test_captions_name_the_27_tasks():
    captions = [caption(task) for task in TASKS]
    assert len(set(captions)) == 27
    assert captions[1] == "sharpen none, denoise none, clean JPEG half"


def test_closed_page_stops_computing(demo):
    demo.close()
    assert demo.session.worker._stopped


def test_costs_are_told_in_words():
    """By one measure for both: shared layers once, and 27 times the median effect."""
    size = (481, 321)
    own, cresmd = Times(size, 0.02, [0.3, *26 * [0.04]]), Times(size, 0.01, [0.2])
    assert "being made" in lead_text(NETWORK, None, cresmd, None)
    assert "take 10.0 times less arithmetic than" in lead_text(NETWORK, None, cresmd, 0.1)
    assert "1.1 s" in lead_text(NETWORK, own, None, 0.1)
    lead, text = lead_text(NETWORK, own, cresmd, 0.1), cost_text(FACTS, own, cresmd)
    assert "<th>27 versions</th><td>1.1 s</td><td>about 5.4 s</td>" in text and "5.4 s" in lead
    assert "take 10.0 times less arithmetic and 4.9 times less time than with the whole" in lead
    assert "<th>one more</th><td>40 ms</td><td>200 ms</td>" in text
    assert "3 GFLOPs once a photo" in text and "medians of warm runs, 27 of " in text
    assert "<td>...</td>" in cost_text(FACTS, None, None)
    assert "+5.50 dB" in quality_text(FACTS)


@pytest.mark.parametrize(
    "seconds, text", [(0.0341, "34 ms"), (0.9996, "1.0 s"), (3.14, "3.1 s"), (52.07, "52 s")]
)
def test_durations(seconds, text):
    assert duration(seconds) == text


# Files in pieces


def test_pieces_of_a_file_are_joined_and_then_forgotten():
    received, failed = [], []
    upload = Upload(lambda *file: received.append(file), failed.append)
    for start in (0, 4, 8):
        piece = b"0123456789"[start : start + 4]
        upload._handle_custom_msg({"name": "a", "size": 10, "start": start}, [memoryview(piece)])
    assert received == [("a", b"0123456789")] and not failed and upload._pieces == []
    upload._handle_custom_msg({"name": "empty", "size": 0, "start": 0}, [memoryview(b"")])
    assert received[1] == ("empty", b"")


def test_a_file_gives_way_to_one_that_is_chosen_while_it_is_sent():
    received = []
    upload = Upload(lambda *file: received.append(file), received.append)

    def piece(name, start, data):
        upload._piece(upload, {"name": name, "size": 6, "start": start}, [data])

    piece("a", 0, b"aaa")
    piece("b", 0, b"bbb")
    piece("a", 3, b"aaa")
    piece("b", 3, b"BBB")
    assert received == [("b", b"bbbBBB")]


def test_file_over_the_limit_is_not_kept():
    received, failed = [], []
    upload = Upload(lambda *file: received.append(file), failed.append)
    upload._handle_custom_msg({"name": "a", "size": 41_000_000, "start": 0}, [memoryview(b"0")])
    assert not received and not upload._pieces and "a has 41.0 MB, of 40 allowed" in str(failed[0])
