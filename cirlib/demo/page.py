"""The slider demo: what Section 1 wants for users, an effect as soon as a slider moves.

Here is the page; session.py computes, on a thread of its own, so that the page never freezes.
"""

import html
from collections.abc import Sequence

import ipywidgets as widgets
import numpy as np
import torch

from cirlib import checkpoints
from cirlib.base.device import fast_dtype, pick_device
from cirlib.checkpoints import SIZES
from cirlib.data.images import Size, encode_png
from cirlib.degradation import BLUR_GRID, CLEAN, NOISE_GRID, QUALITY_GRID, TASKS, Levels
from cirlib.demo.photos import File, Network, Photo, Wish
from cirlib.demo.session import NOTHING, STRIP_COLUMNS, Session, Task
from cirlib.demo.tally import Facts, Times
from cirlib.demo.widgets import Sliders, Strip, Upload, Viewer

PREFERRED = ("ta-tsnet", "tsnet", "cresmd")  # which network is used first, of those there are
STRENGTHS = {0.0: "none", 0.5: "half", 1.0: "full"}  # of the 27 tasks (JPEG's half is 0.46)
SLIDERS = ("Sharpen", "Denoise", "Clean JPEG")  # deblur, denoise, dejpeg
HELP = """
<details class="cirlib-help"><summary>What do the sliders and Suggest do?</summary>
<p><b>Sharpen</b> brings back what a soft lens or a slightly missed focus took. Half fits a blur 2
pixels wide, full one of 4. It does not mend a shaken camera.</p>
<p><b>Denoise</b> takes away grain, as of high ISO. Half fits noise of 25 of 255 grey levels, full
of 50.</p>
<p><b>Clean JPEG</b> removes the blocks and halos of strong compression. 0.46 fits quality 60, full
quality 10.</p>
<p>All at 0 leave the photo as it is. Too little leaves the damage; too much invents edges and
wipes out detail. Each version is made from the photo itself, so nothing adds up. The paper says
deblur, denoise and dejpeg.</p>
<p><b>Suggest</b> measures blur, noise and JPEG of the photo, and sets the sliders to fit. Undo
takes it back.</p></details>
"""
NETWORKS = """
<details class="cirlib-help"><summary>What are these networks?</summary>
<p><b>CResMD</b> is the whole network, and runs anew for each version. <b>TSNet</b> leaves out what
a version does not need. <b>TA+TSNet</b> also computes once what all versions have in common. Those
with <b>-m</b> have learnt to restore in part, for gentler sliders. A GFLOP is a billion
multiplications and additions. The size <b>full</b> is the paper's, <b>compact</b> has an eighth of
its weights.</p></details>
"""
PRIVATE = """
<p>It starts with what Suggest finds, and stays on this machine. Versions are saved as PNG of 8
bits, in sRGB.</p>
"""
STOPS = [
    [f"{r:g} px" for r in BLUR_GRID],
    [f"{sigma:g}" for sigma in NOISE_GRID],
    ["none", *map(str, QUALITY_GRID[1:])],
]  # of the sliders that degrade


def default_network(profile: str = "") -> Network:
    """The network that the demo starts with.

    profile: its size; by default the paper's where the processor multiplies bfloat16, else compact,
    so that a slider is answered at once. Raises UserError when nothing of the size is trained.
    """
    if not profile:
        profile = SIZES[0] if fast_dtype(pick_device()) == torch.bfloat16 else SIZES[-1]
    trained = checkpoints.available(profile)
    model = next((name for name in PREFERRED if name in trained), "cresmd")
    checkpoints.find(model, profile)
    return Network(model, profile)


def networks(first: Network) -> list[tuple[str, Network]]:
    """What the page offers, with labels: the first one, and what has had all its training."""
    sizes = SIZES if first.profile in SIZES else [first.profile]
    there = [Network(model, size) for size in sizes for model in checkpoints.available(size)]
    offered = [each for each in there if each == first or checkpoints.finished(*each)]
    return [(f"{each.label}, {each.profile}", each) for each in offered]


class Demo(widgets.VBox):
    """A photo, degraded on request, and its effect, with all that changes and explains it.

    network: used first; others are offered. photos: to choose from; photo: which one is shown
    first. damage: how it is degraded. task: where the sliders start, (deblur, denoise, dejpeg) from
    0 to 1.

    What the reader moves is set by the kernel's thread, what the page shows by the session's.
    """

    def __init__(
        self,
        network: Network,
        photos: Sequence[Photo],
        photo: int = 0,
        damage: Levels = CLEAN,
        task: Task = (0.0, 0.0, 0.0),
    ):
        self.viewer = Viewer()
        self.strip = Strip(
            captions=[caption(task) for task in TASKS], columns=STRIP_COLUMNS,
            groups=[f"Sharpen {strength}" for strength in STRENGTHS.values()],
            hint="27 versions. In each block denoise grows downwards, clean JPEG to the right: "
            "none, half, full. Point at one to read what it is; choose one to start there.",
        )  # fmt: skip
        self.effect_sliders = Sliders(
            labels=list(SLIDERS),
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
        self.photo = dropdown(
            "Photo", [(each.name, each) for each in photos], photos[photo], "which photo is shown"
        ).add_class("cirlib-photo")
        self.upload = Upload(self._uploaded, self.show_error)
        self.network = dropdown(
            "Network", networks(network), network,
            "which network makes the versions: full ones are better, compact ones faster",
        )  # fmt: skip
        self.suggest = button("Suggest", "magic", "set the sliders to what the photo seems to need")
        self.undo = button("Undo", "undo", "set the sliders to where they stood before")
        self.reset = button("Reset", "times", "set all sliders to 0: the photo as it is")
        self.save = button("Save PNG", "download", "save this version at full size")
        self.undo.disabled = True
        self.lead, self.quality, self.facts, self.error, self.words, self.found = (
            html_text("") for _ in range(6)
        )

        def card(title: str, *children: widgets.Widget) -> widgets.VBox:
            box = widgets.VBox([html_text(f"<h4>{title}</h4>"), *children])
            return box.add_class("cirlib-card")

        restore = card(
            "Restore", self.effect_sliders, widgets.HBox([self.suggest, self.save]),
            widgets.HBox([self.undo, self.reset]), self.found, html_text(HELP),
        ).add_class("cirlib-restore")  # fmt: skip
        self.degrade = card("Damage it first", self.damage_sliders, self.quality)
        shown = widgets.VBox([self.viewer, self.error, self.strip]).add_class("cirlib-shown")
        others = widgets.VBox([
            card("Photo", self.photo, self.upload, html_text(PRIVATE), self.words),
            self.degrade,
            card("What it takes", self.facts, self.network, html_text(NETWORKS)),
        ]).add_class("cirlib-others")  # fmt: skip
        columns = widgets.HBox([restore, shown, others]).add_class("cirlib-columns")
        super().__init__([self.lead, columns])
        self.add_class("cirlib-demo")

        self._past: list[Task] = []  # where the restoring sliders stood, for undo
        self._gesture: list[bool] | None = None  # which slider is being moved, if one alone is
        self._input: tuple | None = None  # what is seen before: of a Wish
        self.effect_sliders.observe(self._moved, names=["values", "held"])
        self.damage_sliders.observe(self._damaged, names=["values", "held"])
        self.photo.observe(self._chosen, names="value")
        self.network.observe(lambda change: self.session.want(network=change.new), names="value")
        self.suggest.on_click(lambda _: self.session.want(suggestion=self._next_suggestion()))
        self.undo.on_click(self._undo)
        self.reset.on_click(lambda _: self._set_task(NOTHING))
        self.save.on_click(lambda _: self.session.save())
        self.strip.on_click(lambda k: self._set_task(tuple(map(float, TASKS[k]))))
        self.session = Session(self, Wish(photos[photo], damage, network, tuple(task)))

    def __repr__(self) -> str:
        return "Slider demo: run the notebook to move the sliders"

    def close(self) -> None:
        """Stop computing, and take the widgets off the page."""
        self.session.worker.stop()
        super().close()

    # What the reader does

    def _moved(self, change) -> None:
        task = tuple(self.effect_sliders.values)
        if change.name == "held":
            self._gesture = None
        else:
            self._remember(tuple(change.old), task)
            self.found.value = ""
        self._mark(task)
        self.session.want(task=task, held=self.effect_sliders.held)

    def _remember(self, before: Task, now: Task) -> None:
        """Once a drag, and once for many keys that move one slider."""
        moved = [a != b for a, b in zip(before, now, strict=True)]
        if moved != self._gesture:
            self._past.append(before)
        self._gesture = moved if sum(moved) == 1 else None
        self.undo.disabled = not self._past

    def _undo(self, _button) -> None:
        if self._past:
            *rest, task = self._past
            self._set_task(task)
            self._forget(rest)

    def _forget(self, rest: Sequence[Task] = ()) -> None:
        self._past, self._gesture = list(rest), None
        self.undo.disabled = not rest

    def _damaged(self, _change) -> None:
        r, sigma, place = self.damage_sliders.values
        damage = Levels(round(r, 1), sigma, QUALITY_GRID[round(place)])
        self.session.want(damage=damage, held=self.damage_sliders.held)

    def _chosen(self, change) -> None:
        self._open(photo=change.new)

    def _uploaded(self, name: str, data: bytes) -> None:
        self._open(photo=File(name, data), damage=CLEAN)

    def _open(self, **changes) -> None:
        """Another photo: its sliders start at 0, and then where it seems to need them."""
        self.session.want(task=NOTHING, suggestion=self._next_suggestion(), **changes)

    def _next_suggestion(self) -> int:
        return self.session.wish.suggestion + 1

    def _set_task(self, task: Task) -> None:
        self.effect_sliders.values = list(task)  # which is observed

    def _mark(self, task: Task) -> None:
        near = np.abs(TASKS - np.array(task)).max(1)
        self.strip.current = int(near.argmin()) if near.min() < 0.006 else -1

    # What the session tells

    def show_input(self, image: np.ndarray, size: Size, wish: Wish) -> None:
        """Of another photo the last one's effect and numbers go, of other damage they are stale."""
        data, other = encode_png(image, compress_level=1), not self._shows(wish.photo)
        with self.viewer.hold_sync():
            self.viewer.texts = [input_text(wish), self.viewer.texts[1]]
            self.viewer.before, (self.viewer.width, self.viewer.height) = data, size
            if other:
                self.viewer.after = b""
            if wish.input != self._input:
                self.viewer.stale = True
        if other:
            self.lead.value, self.facts.value = lead_text(wish.network, None, None, None), ""
        if wish.input != self._input:
            self.quality.value = quality_text(None)
        self._input = wish.input

    def _shows(self, photo: Photo) -> bool:
        return self._input is not None and self._input[0] is photo

    def show_effect(self, image: np.ndarray, wish: Wish) -> None:
        data = encode_png(image, compress_level=1)
        with self.viewer.hold_sync():
            self.viewer.texts = [input_text(wish), effect_text(wish)]
            self.viewer.after, self.viewer.stale = data, False

    def show_progress(self, share: float) -> None:
        self.viewer.progress = share

    def show_strip(self, sheet: np.ndarray | None, ratio: float) -> None:
        data = b"" if sheet is None else encode_png(sheet, compress_level=1)
        with self.strip.hold_sync():
            self.strip.sheet, self.strip.ratio = data, ratio

    def show_facts(self, facts: Facts, own: Times | None, cresmd: Times | None) -> None:
        self.lead.value = lead_text(facts.network, own, cresmd, facts.share)
        self.facts.value = cost_text(facts, own, cresmd)
        self.quality.value = quality_text(facts)

    def show_error(self, text: str) -> None:
        self.error.value = (
            f'<div class="cirlib-error" role="alert">{html.escape(text)}</div>' if text else ""
        )

    def opened(self, photo: Photo, damage: Levels, task: Task) -> None:
        """Show which photo it is, how it is degraded, and where its sliders start."""
        own = isinstance(photo, File)
        self.effect_sliders.unobserve(self._moved, names="values")  # it is no wish of the reader's
        self._set_task(task)
        self.effect_sliders.observe(self._moved, names="values")
        self._mark(task)
        if not self._shows(photo):  # else one that could not be read
            self._forget()
            self.found.value = ""
        self.damage_sliders.values = damage_values(damage)
        self.degrade.layout.display = "none" if own else ""
        self.words.value = "<br>".join(map(html.escape, getattr(photo, "words", [])))
        options = [option for option in self.photo.options if not isinstance(option[1], File)]
        if own:
            options.append((photo.name, photo))
        self.photo.unobserve(self._chosen, names="value")  # new options choose the first of them
        self.photo.options = options
        self.photo.value = photo
        self.photo.observe(self._chosen, names="value")

    def suggested(self, task: Task) -> None:
        self.effect_sliders.values = list(task)
        self.found.value = "" if any(task) else "<p>Suggest finds nothing to mend here.</p>"

    def saved(self, name: str, data: bytes) -> None:
        self.viewer.download(name, data)


def html_text(text: str) -> widgets.HTML:
    return widgets.HTML(text, tooltip="")  # without one, the browser shows "null"


def button(text: str, icon: str, tooltip: str) -> widgets.Button:
    return widgets.Button(
        description=text, icon=icon, tooltip=tooltip, layout=widgets.Layout(width="auto")
    )


def dropdown(text: str, options: list, value, tooltip: str) -> widgets.Dropdown:
    return widgets.Dropdown(
        description=text, options=options, value=value, tooltip=tooltip,
        layout=widgets.Layout(width="auto"),
    )  # fmt: skip


def caption(task) -> str:
    """'sharpen half, denoise none, clean JPEG full' of one of the 27 tasks."""
    names = [STRENGTHS[round(2 * float(t)) / 2] for t in task]
    return "sharpen {}, denoise {}, clean JPEG {}".format(*names)


def damage_values(damage: Levels) -> list[float]:
    """Levels -> where their sliders stand."""
    return [damage.r, damage.sigma, 0.0 if damage.q is None else (102 - damage.q) / 2]


def input_text(wish: Wish) -> str:
    """'chelsea, blur 1 px, noise 25, JPEG 60': what is seen before."""
    r, sigma, place = damage_values(wish.damage)
    stops = STOPS[0][round(10 * r)], STOPS[1][round(sigma)], STOPS[2][round(place)]
    return "{}, blur {}, noise {}, JPEG {}".format(wish.photo.name, *stops)


def effect_text(wish: Wish) -> str:
    """What is seen after: the input's text and the task."""
    task = "sharpen {:.2f}, denoise {:.2f}, clean JPEG {:.2f}".format(*wish.task)
    return f"{input_text(wish)}, {task}"


def quality_text(facts: Facts | None) -> str:
    """PSNR of input and effect, where the truth is known; None: not measured yet."""
    if facts is None:
        return "<p>PSNR ...</p>"
    if facts.before is None:
        return "<p>Damage a clean photo, and see how much of it comes back.</p>"
    gain = facts.after - facts.before
    return (
        f"<p>PSNR {facts.before:.2f} dB &rarr; <b>{facts.after:.2f} dB</b>, {gain:+.2f} dB, "
        "against the clean photo</p>"
    )


def lead_text(
    network: Network, own: Times | None, cresmd: Times | None, share: float | None
) -> str:
    """What the 27 versions of the photo take, with bars, as HTML; None: not measured yet.

    share: of the FLOPs that CResMD has. The text is as high before as after, so that nothing below
    moves.
    """
    took = {network.label: own, "CResMD": cresmd}
    known = [each.all for each in took.values() if each is not None]
    less = {} if share is None else {"arithmetic": 1 / share}
    if len(known) == 2:
        less["time"] = known[1] / known[0]
    parts = [f"{ratio:.1f} times less {what}" for what, ratio in less.items() if ratio >= 1.05]
    told = "27 versions of this photo " + ("take" if parts or own else "are being made")
    if parts:
        told += f" {' and '.join(parts)} than with the whole network, CResMD"
    bars = "".join(
        f'<tr><th>{label}</th><td style="--share: {each.all / max(known) if each else 0:.3f}">'
        f"<b>{total(each)}</b></td></tr>"
        for label, each in took.items()
    )
    return f'<div class="cirlib-lead"><p>{told}</p><table>{bars}</table></div>'


def cost_text(facts: Facts, own: Times | None, cresmd: Times | None) -> str:
    """Time and FLOPs of the network in use and of CResMD, as HTML."""
    named = {facts.network.label: (own, facts.flops)}
    if facts.cresmd_flops is not None:
        named["CResMD"] = cresmd, facts.cresmd_flops
    rows = {
        "": named,
        "27 versions": [total(each) for each, _ in named.values()],
        "one more": [duration(each and each.one) for each, _ in named.values()],
        "this one, GFLOPs": [giga(flops) for _, flops in named.values()],
    }
    table = "".join(
        f"<tr><th>{name}</th>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"
        for name, cells in rows.items()
    )
    text = f'<table class="cirlib-cost">{table}</table><p>'
    if facts.trunk_flops:
        text += f"And {giga(facts.trunk_flops)} GFLOPs once a photo, for all versions. "
    if own is not None:
        width, height = own.size
        runs = ", ".join(
            f"{len(each.effects)} of {name}" for name, (each, _) in named.items() if each
        )
        text += (
            f"Times: on this machine, at {width} &times; {height} pixels, medians of warm runs, "
            f"{runs}."
        )
    return text + "</p>"


def giga(flops: int) -> str:
    """'34.1', '1,920': billions, three digits of them."""
    return f"{float(f'{flops / 1e9:.3g}'):,g}"


def total(times: Times | None) -> str:
    """Of the 27 versions; "about" where not all of them were made."""
    return "about " * (times is not None and not times.whole) + duration(times and times.all)


def duration(seconds: float | None) -> str:
    """'34 ms', '13.1 s', '52 s'; dots where it is not known."""
    if seconds is None:
        return "..."
    if seconds < 0.9995:
        return f"{1000 * seconds:.0f} ms"
    return f"{seconds:.1f} s" if seconds < 19.95 else f"{seconds:.0f} s"
