"""What is wanted is shown, newest first; what it takes is measured; nothing is lost or leaks."""

import gc
import io
import threading
import time
import weakref

import numpy as np
import pytest
from PIL import ExifTags, Image

from cirlib.base.device import pick_device
from cirlib.data.images import encode_png, read_kept, shrunk
from cirlib.data.png import short_chunks
from cirlib.degradation import CLEAN, TASKS, Levels, degrade, sample_generator
from cirlib.demo import photos, session
from cirlib.demo.photos import File, Network, Pixels, Wish
from cirlib.demo.session import Session
from cirlib.demo.tally import Times
from cirlib.engine import estimation
from cirlib.engine.modulator import Modulator
from cirlib.measure.metrics import psnr
from cirlib.tests.conftest import noise
from cirlib.tests.kinds import pil

NOISY = Levels(0.0, 25.0, None)
TASK = (0.0, 0.5, 0.0)
NETWORK, CRESMD = Network("ta-tsnet", "compact"), Network("cresmd", "compact")


def photo(height=40, width=60, seed=0):
    small = noise(5, 5, seed)
    return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))


def file(pixels, name="own.png", **options):
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, name.rpartition(".")[2].upper(), **options)
    return File(name, data.getvalue())


class Recorder:
    """A page that remembers what it was told: (what, arguments)."""

    def __init__(self):
        self.told = []

    def __getattr__(self, name):
        return lambda *arguments: self.told.append((name, arguments))

    def all(self, name):
        return [arguments for what, arguments in self.told if what == name]

    def errors(self):
        return [text for (text,) in self.all("show_error") if text]


@pytest.fixture
def page():
    return Recorder()


@pytest.fixture
def start(page, monkeypatch):
    """Start a session; it ends with the test."""
    monkeypatch.setattr(session, "REST", 0.0)
    started = []

    def start(source, damage=NOISY, task=TASK, idle=True):
        if not idle:
            monkeypatch.setattr(session, "REST", 1e6)
        started.append(Session(page, Wish(source, damage, NETWORK, task)))
        if idle:
            assert started[-1].worker.wait(60)
        return started[-1]

    yield start
    for each in started:
        each.worker.stop()


def until(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def effect(image, task, network=NETWORK):
    modulator = Modulator(network.load(), pick_device())
    modulator.load(image)
    return modulator.effect(task)


def test_first_the_photo_then_its_effect_and_what_it_gains(start, page):
    running = start(Pixels("a", photo()))
    assert not page.errors()
    ((image, size, _),) = page.all("show_input")
    assert size == (60, 40) and not np.array_equal(image, photo())  # degraded
    ((after, wish),) = page.all("show_effect")
    assert np.array_equal(after, effect(image, TASK)) and wish.task == TASK
    facts = running.facts
    assert facts.before == psnr(image, photo()) and facts.after == psnr(after, photo())
    assert facts.after > facts.before + 3
    assert 0 < facts.flops < facts.cresmd_flops / 3


def test_own_photo_has_no_truth_to_compare_with(start):
    facts = start(Pixels("a", photo()), CLEAN).facts
    assert facts.before is None and facts.after is None


def test_newest_wish_wins_and_older_ones_are_dropped(start, page, monkeypatch):
    running = start(Pixels("a", photo()), idle=False)
    until(lambda: page.all("show_effect"))
    compute, began, release = Modulator.effect, threading.Event(), threading.Event()

    def slow(*arguments):
        began.set()
        release.wait(30)
        return compute(*arguments)

    monkeypatch.setattr(Modulator, "effect", slow)
    tasks = [(k / 50, 0.0, 0.0) for k in range(50)]
    running.want(task=tasks[0])
    assert began.wait(30)
    for task in tasks[1:]:
        running.want(task=task)
    release.set()
    until(lambda: page.all("show_effect")[-1][1].task == tasks[-1])
    assert [wish.task for _, wish in page.all("show_effect")] == [TASK, tasks[0], tasks[-1]]


def test_shared_features_are_computed_once_a_photo(start, monkeypatch):
    loaded, load = [], Modulator.load
    monkeypatch.setattr(
        Modulator, "load", lambda self, *rest: loaded.append(self) or load(self, *rest)
    )
    running = start(Pixels("a", photo()), idle=False)
    for k in range(5):
        running.want(task=(k / 5, 0.0, 0.0))
        until(lambda k=k: running.facts and running.facts.task[0] == k / 5)
    assert len(loaded) == 1


def test_large_photo_is_shown_small_while_dragging_and_whole_at_rest(start, page, monkeypatch):
    monkeypatch.setattr(session, "DISPLAY", 600)
    running = start(Pixels("a", photo()))
    (small, size, _), (whole, _, _) = page.all("show_input")
    assert small.shape == (20, 30, 3) and whole.shape == (40, 60, 3) and size == (60, 40)
    assert [image.shape[0] for image, _ in page.all("show_effect")] == [20, 40]
    assert np.array_equal(page.all("show_effect")[-1][0], effect(whole, TASK))
    assert page.all("show_progress")[-1] == (1,)
    running.want(task=(0.0, 1.0, 0.0), held=True)
    assert running.worker.wait(30)
    assert [image.shape[0] for image, _ in page.all("show_effect")] == [20, 40, 20]
    running.want(held=False)
    assert running.worker.wait(30)
    assert [image.shape[0] for image, _ in page.all("show_effect")] == [20, 40, 20, 40]


def test_large_effect_tells_its_progress_and_stops_for_a_newer_wish(start, page, monkeypatch):
    monkeypatch.setattr(session, "DISPLAY", 600)
    monkeypatch.setattr(session, "TILE_BYTES", 20_000)  # several tiles
    running = start(Pixels("a", photo(80, 120)))
    shares = [share for (share,) in page.all("show_progress")]
    assert len(shares) > 4 and 0 <= min(shares) and shares[-1] == 1
    tell, stopped = page.show_progress, []

    def interrupt(share):
        if not stopped:
            stopped.append(share)
            running.want(task=(0.0, 1.0, 0.0))
        tell(share)

    page.show_progress = interrupt
    running.want(task=(1.0, 0.0, 0.0))
    assert running.worker.wait(30)
    whole = [wish.task for image, wish in page.all("show_effect") if image.shape[0] == 80]
    assert whole == [TASK, (0.0, 1.0, 0.0)]


def test_thumbnails_come_in_rows_and_both_networks_are_timed(start, page):
    running = start(Pixels("a", photo()))
    empty, *sheets = [sheet for sheet, _ in page.all("show_strip")]
    assert empty is None and len(sheets) == 3 and sheets[-1].shape == (3 * 40, 9 * 60, 4)
    assert sheets[0][:40, :, 3].all() and not sheets[0][40:, :, 3].any()  # the rest lacks
    assert np.array_equal(sheets[-1][:40, :60, :3], running.image)  # task (0, 0, 0)
    first = effect(running.image, tuple(map(float, TASKS[1])))
    assert np.array_equal(sheets[-1][:40, 60:120, :3], first)
    facts, own, cresmd = page.all("show_facts")[-1]
    assert facts.network == NETWORK and len(own.effects) == 27
    assert Times.LEAST <= len(cresmd.effects) <= Times.MOST and own.size == cresmd.size == (60, 40)
    assert 0 < own.effects[0] < min(cresmd.effects)  # (0, 0, 0) costs nothing: not among them


def test_what_is_saved_is_what_was_wanted_at_that_moment_and_whole(start, page, monkeypatch):
    monkeypatch.setattr(session, "DISPLAY", 600)
    running = start(Pixels("a", photo()))
    running.save()
    running.want(task=(1.0, 1.0, 1.0))
    assert running.worker.wait(30)
    ((name, data),) = page.all("saved")
    assert name == "a restored.png"
    with Image.open(io.BytesIO(data)) as image:
        assert image.text == {"model": "ta-tsnet", "profile": "compact", "task": "0,0.5,0"}
        assert np.array_equal(np.asarray(image), effect(running.image, TASK))


def test_what_is_saved_is_not_lost_when_the_page_goes_on_to_another_photo(start, page):
    running = start(Pixels("a", photo()))
    running.want(photo=Pixels("b", photo(seed=1)))
    running.save()  # before its features are there
    running.want(task=(1.0, 0.0, 0.0))
    running.save()
    running.want(photo=Pixels("c", photo(seed=2)), network=CRESMD)
    assert running.worker.wait(60)
    assert [name for name, _ in page.all("saved")] == ["b restored.png"] * 2
    image = degrade(photo(seed=1), NOISY, sample_generator(0, 0))
    for (_, data), task in zip(page.all("saved"), (TASK, (1.0, 0.0, 0.0)), strict=True):
        assert np.array_equal(Image.open(io.BytesIO(data)), effect(image, task))
    assert page.all("show_effect")[-1][1].photo.name == "c"


def test_what_cannot_be_saved_is_told_until_something_new_is_wanted(start, page):
    class Slow(File):
        def read(self):
            moved_on.wait(30)
            return super().read()

    running, moved_on = start(Pixels("a", photo())), threading.Event()
    running.want(photo=Slow("broken.png", b"no image"))
    running.save()
    running.want(photo=Pixels("b", photo(seed=1)))
    moved_on.set()
    assert running.worker.wait(60)
    assert page.all("saved") == [] and page.all("show_effect")[-1][1].photo.name == "b"
    assert [photo.name for photo, *_ in page.all("opened")] == ["a", "b"]
    running.want(damage=running.wish.damage)  # as the page's sliders say when they are set
    (last,) = page.all("show_error")[-1]
    assert last.startswith("broken restored.png was not saved: broken.png")
    running.want(task=(1.0, 0.0, 0.0))
    assert running.worker.wait(60)
    assert page.all("show_error")[-1] == ("",)


def test_suggestion_that_is_asked_for_is_given_for_the_photo_that_is_there_then(
    start, page, monkeypatch
):
    running = start(Pixels("a", photo()))
    asked = []

    def slow(image, _device):
        if not asked:
            running.want(photo=Pixels("b", photo(seed=1)))  # another photo meanwhile
        asked.append(image)
        return 0.5, 0.0, 0.0

    monkeypatch.setattr(estimation, "suggest", slow)
    running.want(suggestion=1)
    assert running.worker.wait(60)
    assert len(asked) == 2 and page.all("suggested") == [((0.5, 0.0, 0.0),)]
    shown = page.all("show_effect")[-1][1]
    assert running.wish.photo.name == shown.photo.name == "b"
    assert running.wish.task == shown.task == (0.5, 0.0, 0.0)


def test_suggestion_that_comes_too_late_is_dropped(start, page, monkeypatch):
    running = start(Pixels("a", photo()))

    def slow(_image, _device):
        running.want(task=(1.0, 0.0, 0.0))  # the reader moves a slider meanwhile
        return 0.5, 0.0, 0.0

    monkeypatch.setattr(estimation, "suggest", slow)
    running.want(suggestion=1)
    assert running.worker.wait(30)
    assert page.all("suggested") == []
    assert page.all("show_effect")[-1][1].task == (1.0, 0.0, 0.0)


def test_save_keeps_what_restore_keeps_byte_by_byte(start, page):
    tags = {ExifTags.Base.Artist: "Zoë".encode(), ExifTags.Base.Orientation: 6}
    own = pil("JPEG", photo(), tags=tags, dpi=(300, 150), xmp=b"<x/>", comment=b"Zo\xeb")
    running = start(File("own.jpeg", own), CLEAN)
    running.save()
    assert running.worker.wait(30)
    ((name, data),) = page.all("saved")
    restored = encode_png(running.photo, kept=read_kept(io.BytesIO(own)))  # as restore does
    mine, wanted = (short_chunks(io.BytesIO(content)) for content in (data, restored))
    assert name == "own restored.png" and mine.keys() == wanted.keys() | {b"tEXt"}
    assert {b"eXIf", b"pHYs", b"iTXt"} < wanted.keys() and b"Zo\xc3\xab" in wanted[b"eXIf"]
    assert all(mine[kind] == wanted[kind] for kind in (b"eXIf", b"pHYs", b"iTXt", b"IHDR"))


def test_another_network_shows_its_own_effect(start, page):
    running = start(Pixels("a", photo()))
    running.want(network=CRESMD)
    assert running.worker.wait(60)
    shown, _ = page.all("show_effect")[-1]
    assert np.array_equal(shown, effect(running.image, TASK, CRESMD))


@pytest.mark.parametrize("broken", [b"", b"no image", file(photo()).data[:300]])
def test_photo_that_cannot_be_read_is_explained_and_the_former_stays(start, page, broken):
    running = start(Pixels("a", photo()))
    running.want(photo=File("broken.png", broken), damage=CLEAN)
    assert running.worker.wait(30)
    (text,) = page.errors()
    assert text.startswith("broken.png") and "\n" not in text
    assert running.wish.input == (running._opened, NOISY) and running._opened.name == "a"
    running.want(task=(1.0, 0.0, 0.0))
    assert running.worker.wait(30)
    assert page.all("show_effect")[-1][1].task == (1.0, 0.0, 0.0)


def test_why_a_photo_is_not_shown_stays_while_the_former_is_finished(start, page, monkeypatch):
    monkeypatch.setattr(session, "DISPLAY", 600)
    running, told = start(Pixels("a", photo())), []

    def interrupt(share):
        if not told:
            running.want(photo=File("broken.png", b"no image"))
        told.append(share)

    page.show_progress = interrupt
    running.want(task=(1.0, 0.0, 0.0))
    assert running.worker.wait(30)
    assert page.all("show_effect")[-1][0].shape[0] == 40  # whole
    assert page.all("show_error")[-1][0].startswith("broken.png")
    assert told[0] < 1 == told[-1]


def test_huge_photo_is_explained(start, page, monkeypatch):
    monkeypatch.setattr(photos, "LARGEST", 1000)
    start(Pixels("a", photo()))
    assert "cirlib restore" in page.errors()[0] and not page.all("show_input")


def test_ten_photos_in_a_row_leave_one_in_memory(start, page):
    running, former = start(Pixels("a", photo())), []
    for k in range(10):
        source = file(photo(seed=k), f"{k}.png")
        former.append(weakref.ref(source))
        running.want(photo=source, damage=CLEAN)
        assert running.worker.wait(60)
        page.told.clear()
    del source
    gc.collect()
    assert [reference() is not None for reference in former] == [False] * 9 + [True]


def test_failure_of_any_kind_is_told_once_and_the_next_wish_is_tried(start, page, monkeypatch):
    running = start(Pixels("a", photo()))
    with monkeypatch.context() as patch:
        patch.setattr(Modulator, "effect", lambda *_: [][0])
        running.want(task=(1.0, 0.0, 0.0))
        assert running.worker.wait(30)
    (text,) = page.errors()
    assert "IndexError" in text
    running.want(task=(0.5, 0.0, 0.0))
    assert running.worker.wait(30)
    assert len(page.errors()) == 1 and page.all("show_error")[-1] == ("",)


def test_shrinking_keeps_proportions_and_small_images():
    assert shrunk(photo(), 2400).shape == (40, 60, 3)
    assert shrunk(photo(), 600).shape == (20, 30, 3)
    assert shrunk(photo(1, 3000), 100).shape[0] == 1
