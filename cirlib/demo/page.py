"""The slider demo: what Section 1 wants for users, an effect as soon as a slider moves.

Here is the page; session.py computes, on a thread of its own, so that the page never freezes.
"""

import html
from collections.abc import Sequence

import ipywidgets as widgets
import numpy as np

from cirlib import checkpoints
from cirlib.base.files import UserError
from cirlib.data.images import Size, encode_png
from cirlib.degradation import BLUR_GRID, CLEAN, NOISE_GRID, QUALITY_GRID, TASKS, Levels
from cirlib.demo.session import COLUMNS, File, Session, Source, Task, Wish
from cirlib.demo.tally import Facts, Tally
from cirlib.demo.widgets import Sliders, Strip, Upload, Viewer
from cirlib.profiles import get_model

PREFERRED = ("ta-tsnet", "tsnet", "cresmd")  # which network is used first, of those there are
STRENGTHS = {0.0: "none", 0.5: "half", 1.0: "full"}  # of the 27 tasks (JPEG's half is 0.46)
STOPS = [
    [f"{r:g} px" for r in BLUR_GRID],
    [f"{sigma:g}" for sigma in NOISE_GRID],
    ["none", *map(str, QUALITY_GRID[1:])],
]  # of the sliders that degrade


def default_model(profile: str) -> str:
    """The network that the demo starts with."""
    trained = checkpoints.available(profile)
    return next((name for name in PREFERRED if name in trained), "cresmd")


class Demo(widgets.VBox):
    """A photo, degraded on request, and its effect, with all that changes and explains it.

    photos: to choose from; photo: which one is shown first. damage: how it is degraded. task: where
    the sliders start, (deblur, denoise, dejpeg) from 0 to 1. The network is default_model's.

    What the reader moves is set by the kernel's thread, what the page shows by the session's.
    Raises UserError when the profile has no trained network.
    """

    def __init__(
        self,
        profile: str,
        photos: Sequence[Source],
        photo: int = 0,
        damage: Levels = CLEAN,
        task: Task = (0.0, 0.0, 0.0),
    ):
        model = default_model(profile)
        checkpoints.find(model, profile)
        self.viewer = Viewer()
        self.strip = Strip(captions=[caption(task) for task in TASKS], columns=COLUMNS)
        self.effect_sliders = Sliders(
            labels=["Deblur", "Denoise", "Dejpeg"],
            low=[0.0] * 3, high=[1.0] * 3, step=[0.01] * 3, texts=[[]] * 3, values=list(task),
        )  # fmt: skip
        self.damage_sliders = Sliders(
            labels=["Blur", "Noise", "JPEG"],
            low=[0.0] * 3,
            high=[BLUR_GRID[-1], NOISE_GRID[-1], len(QUALITY_GRID) - 1],
            step=[0.1, 1, 1],
            texts=STOPS,
            values=damage_values(damage),
        )  # fmt: skip
        wide = widgets.Layout(width="auto")
        self.photo = widgets.Dropdown(
            options=[(each.name, each) for each in photos], value=photos[photo],
            description="Photo", layout=wide,
        ).add_class("cirlib-photo")  # fmt: skip
        self.upload = Upload(self._uploaded, self.show_error_of)
        self.model = widgets.Dropdown(
            options=[(get_model(name).label, name) for name in checkpoints.available(profile)],
            value=model, description="Network", layout=wide,
        )  # fmt: skip
        self.suggest = widgets.Button(description="Suggest", icon="magic", layout=wide)
        self.save = widgets.Button(description="Save PNG", icon="download", layout=wide)
        self.quality, self.facts, self.error, self.words = (widgets.HTML() for _ in range(4))

        def card(title: str, *children: widgets.Widget) -> widgets.VBox:
            box = widgets.VBox([widgets.HTML(f"<h4>{title}</h4>"), *children])
            return box.add_class("cirlib-card")

        shown = widgets.VBox([self.viewer, self.error, self.strip]).add_class("cirlib-shown")
        controls = widgets.VBox([
            card("Restore", self.effect_sliders, widgets.HBox([self.suggest, self.save]),
                 self.model),
            card("Photo", self.photo, self.upload, self.words),
            card("Degrade", self.damage_sliders, self.quality),
            card("What it costs", self.facts),
        ]).add_class("cirlib-controls")  # fmt: skip
        super().__init__([widgets.HBox([shown, controls]).add_class("cirlib-columns")])
        self.add_class("cirlib-demo")

        self.effect_sliders.observe(self._moved, names=["values", "held"])
        self.damage_sliders.observe(self._damaged, names=["values", "held"])
        self.photo.observe(self._chosen, names="value")
        self.model.observe(lambda change: self.session.want(model=change.new), names="value")
        self.suggest.on_click(
            lambda _: self.session.want(suggestion=self.session.wish.suggestion + 1)
        )
        self.save.on_click(lambda _: self.session.save())
        self.strip.on_click(lambda k: self._set_task(tuple(map(float, TASKS[k]))))
        self.session = Session(profile, self, Wish(photos[photo], damage, model, tuple(task)))

    def __repr__(self) -> str:
        return "Slider demo: run the notebook to move the sliders"

    def close(self) -> None:
        """Stop computing, and take the widgets off the page."""
        self.session.worker.stop()
        super().close()

    # What the reader does

    def _moved(self, _change) -> None:
        task = tuple(self.effect_sliders.values)
        self._mark(task)
        self.session.want(task=task, held=self.effect_sliders.held)

    def _damaged(self, _change) -> None:
        r, sigma, place = self.damage_sliders.values
        damage = Levels(round(r, 1), sigma, QUALITY_GRID[round(place)])
        self.session.want(damage=damage, held=self.damage_sliders.held)

    def _chosen(self, change) -> None:
        self.session.want(source=change.new)

    def _uploaded(self, name: str, data: bytes) -> None:
        self.session.want(source=File(name, data), damage=CLEAN)

    def _set_task(self, task: Task) -> None:
        self.effect_sliders.values = list(task)  # which is observed

    def _mark(self, task: Task) -> None:
        near = np.abs(TASKS - np.array(task)).max(1)
        self.strip.current = int(near.argmin()) if near.min() < 0.006 else -1

    # What the session tells

    def show_input(self, image: np.ndarray, size: Size, wish: Wish) -> None:
        data = encode_png(image, compress_level=1)
        with self.viewer.hold_sync():
            self.viewer.texts = [input_text(wish), self.viewer.texts[1]]
            self.viewer.before, (self.viewer.width, self.viewer.height) = data, size

    def show_effect(self, image: np.ndarray, wish: Wish) -> None:
        data = encode_png(image, compress_level=1)
        with self.viewer.hold_sync():
            self.viewer.texts = [input_text(wish), effect_text(wish)]
            self.viewer.after = data

    def show_progress(self, share: float) -> None:
        self.viewer.progress = share

    def show_strip(self, sheet: np.ndarray | None, ratio: float) -> None:
        data = b"" if sheet is None else encode_png(sheet, compress_level=1)
        with self.strip.hold_sync():
            self.strip.sheet, self.strip.ratio = data, ratio

    def show_facts(self, facts: Facts, tally: Tally) -> None:
        self.facts.value = cost_text(facts, tally)
        self.quality.value = quality_text(facts)

    def show_error(self, text: str) -> None:
        self.error.value = (
            f'<div class="cirlib-error" role="alert">{html.escape(text)}</div>' if text else ""
        )

    def show_error_of(self, error: UserError) -> None:
        self.show_error(str(error))

    def opened(self, source: Source, damage: Levels) -> None:
        """Show which photo it is, and how it is degraded."""
        self.damage_sliders.values = damage_values(damage)
        self.words.value = "<br>".join(map(html.escape, getattr(source, "words", [])))
        options = [option for option in self.photo.options if not isinstance(option[1], File)]
        if isinstance(source, File):
            options.append((source.name, source))
        self.photo.unobserve(self._chosen, names="value")  # new options choose the first of them
        self.photo.options = options
        self.photo.value = source
        self.photo.observe(self._chosen, names="value")

    def suggested(self, task: Task) -> None:
        self.effect_sliders.values = list(task)

    def saved(self, name: str, data: bytes) -> None:
        self.viewer.download(name, data)


def caption(task) -> str:
    """'deblur half, denoise none, dejpeg full' of one of the 27 tasks."""
    names = [STRENGTHS[round(2 * float(t)) / 2] for t in task]
    return "deblur {}, denoise {}, dejpeg {}".format(*names)


def damage_values(damage: Levels) -> list[float]:
    """Levels -> where their sliders stand."""
    return [damage.r, damage.sigma, 0.0 if damage.q is None else (102 - damage.q) / 2]


def input_text(wish: Wish) -> str:
    """'chelsea, blur 1 px, noise 25, JPEG 60': what is seen before."""
    r, sigma, place = damage_values(wish.damage)
    stops = STOPS[0][round(10 * r)], STOPS[1][round(sigma)], STOPS[2][round(place)]
    return "{}, blur {}, noise {}, JPEG {}".format(wish.source.name, *stops)


def effect_text(wish: Wish) -> str:
    """What is seen after: the input's text and the task."""
    return input_text(wish) + ", deblur {:.2f}, denoise {:.2f}, dejpeg {:.2f}".format(*wish.task)


def quality_text(facts: Facts) -> str:
    """PSNR of input and effect, where the truth is known."""
    if facts.before is None:
        return "<p>Degrade a clean photo, and see how much of it comes back.</p>"
    gain = facts.after - facts.before
    return (
        f"<p>PSNR {facts.before:.2f} dB &rarr; <b>{facts.after:.2f} dB</b>, {gain:+.2f} dB, "
        "against the clean photo</p>"
    )


def cost_text(facts: Facts, tally: Tally) -> str:
    """Time and FLOPs of the effect and of CResMD's, and the sum of the session, as HTML."""
    rows = [(get_model(facts.model).label, duration(facts.seconds), flops(facts.flops))]
    seconds = tally.cresmd_seconds(facts.size)
    if facts.cresmd_flops is not None:
        measured = "measuring" if seconds is None else duration(seconds)
        rows.append(("CResMD", measured, flops(facts.cresmd_flops)))
    table = "".join(f"<tr><th>{a}</th><td>{b}</td><td>{c}</td></tr>" for a, b, c in rows)
    plural = "effect" if tally.count == 1 else "effects"
    total = f"computed {tally.count} {plural}: {duration(tally.seconds)}"
    would = tally.cresmd_total()
    if would is not None:
        total += f"; CResMD would have taken {duration(would)}"
    shared = f", and {flops(facts.trunk_flops)} once a photo" if facts.trunk_flops else ""
    return (
        f'<table class="cirlib-cost">{table}</table>'
        f"<p>for this effect of {facts.size[0]} &times; {facts.size[1]} pixels{shared}</p>"
        f'<p class="cirlib-total">So far {total}.</p>'
    )


def duration(seconds: float) -> str:
    """'34 ms', '3.1 s', '52 s'."""
    if seconds < 0.9995:
        return f"{1000 * seconds:.0f} ms"
    return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"


def flops(count: float) -> str:
    return f"{count / 1e9:.3g} GFLOPs"
