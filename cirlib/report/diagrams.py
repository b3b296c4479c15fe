"""Drawings of the method, our own, by code: what Figures 2, 3 and 4 of the paper explain.

    draw_block      the super network and the task's scale of a block (Section 7.3)
    draw_gates      from a task to channels, and when tasks agree (Figure 3, Eqs. 5 to 8)
    draw_sharing    CResMD, TSNet and TA+TSNet: what runs for three tasks (Figure 2, Eqs. 1 to 4)
    draw_pairs      absolute and relative ground truth (Figure 4, Eq. 13)

Numbers in them are computed by the code that they explain.
"""

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle

from cirlib.cost import Cost
from cirlib.data.datasets import photographs
from cirlib.degradation import degrade, sample_generator, task_to_levels
from cirlib.report.figures import PAGE_WIDTH, subplots
from cirlib.search import agreement, gate, gather_preference

TASK_COLOURS = ("#0072B2", "#D55E00", "#009E73")  # of three tasks; Okabe and Ito
SHARED = "#999999"  # what all tasks have in common
INK, PALE = "#444444", "#F2F2F2"

# The paper's toy: three tasks, two points of four channels each. At the first one they agree.
TOY_TASKS = ((1, 0, 0), (0, 1, 0), (0.5, 0.5, 0))
TOY_PREFERENCES = (  # z_s, tasks x points x channels
    ((1.2, 0.8, -0.9, -0.4), (0.9, -0.6, 0.7, -1.1)),
    ((0.6, 1.1, -0.2, -0.7), (-0.8, 1.0, -0.5, 0.6)),
    ((0.9, 0.5, -0.7, -1.0), (1.1, -0.7, -0.5, 0.8)),
)


def draw_block() -> Figure:
    """CResMD above, one of its blocks below: where the task scales, where channels are selected."""
    axis = _canvas(16, 7.6)
    _word(axis, 0, 7.3, "The super network CResMD", ha="left", weight="bold")
    blocks = ("block 0", "...", "block $B$-1")
    names = ("conv\nstride 2", *blocks, "conv\nshuffle", "conv\nReLU", "conv")
    _word(axis, 0.4, 5.5, "image\n$x$")
    x = 1.9
    _arrow(axis, (0.9, 5.5), (x - 0.65, 5.5))
    for name in names:
        if name == "...":
            _word(axis, x, 5.5, name)
        else:
            _box(axis, x, 5.5, 1.25, 1, name, TASK_COLOURS[0] if "block" in name else None)
        _arrow(axis, (x + 0.63, 5.5), (x + 1.07, 5.5))
        x += 1.7
    for at, name in ((2.7, "0"), (7.8, "3B+1"), (11.2, "3B+2")):
        _point(axis, at, 5.5, name, 4.75)
    _sign(axis, x - 0.45, 5.5, "×")
    _arrow(axis, (x - 0.2, 5.5), (x + 0.4, 5.5))
    _sign(axis, x + 0.65, 5.5, "+")
    _arrow(axis, (x + 0.9, 5.5), (x + 1.5, 5.5))
    _word(axis, x + 1.75, 5.5, "effect\n$\\hat{x}$")
    _path(axis, [(0.4, 5.95), (0.4, 6.7), (x + 0.65, 6.7), (x + 0.65, 5.77)])
    task = "task $t$ = (deblur, denoise, dejpeg)"
    _box(axis, 5.3, 4.15, 4.9, 0.5, task, TASK_COLOURS[1])
    for to in (3.6, 7.0):
        _path(axis, [(to, 4.42), (to, 4.98)], TASK_COLOURS[1])
    _path(axis, [(7.75, 4.15), (x - 0.45, 4.15), (x - 0.45, 5.23)], TASK_COLOURS[1])

    _word(axis, 0, 3.1, "Block $b$", ha="left", weight="bold")
    _word(axis, 0.4, 1.9, "stream")
    for at, name in ((2.6, "conv1"), (5.1, "ReLU"), (7.6, "conv2")):
        _box(axis, at, 1.9, 1.3, 0.8, name)
    _sign(axis, 10.2, 1.9, "×")
    _sign(axis, 12.8, 1.9, "+")
    for start, end in ((1, 1.9), (3.28, 4.42), (5.78, 6.92), (8.28, 9.93), (10.47, 12.53),
                       (13.07, 14.1)):  # fmt: skip
        _path(axis, [(start, 1.9), (end, 1.9)])
    _word(axis, 14.7, 1.9, "stream")
    _path(axis, [(1.2, 1.9), (1.2, 2.75), (12.8, 2.75), (12.8, 2.17)])
    _box(axis, 10.2, 0.5, 5.2, 0.55, "$W_b\\,t + \\beta_b$, a factor a channel", TASK_COLOURS[1])
    _path(axis, [(10.2, 0.78), (10.2, 1.63)], TASK_COLOURS[1])
    for at, name in ((1.55, "3b+1"), (6.3, "3b+2"), (11.5, "3b+3")):
        _point(axis, at, 1.9, name, 1.5)
    _word(axis, 0, 0.5, "green: points where channels are selected", ha="left",
          color=TASK_COLOURS[2])  # fmt: skip
    return axis.figure


def _point(axis: Axes, x: float, y: float, name: str, below: float) -> None:
    axis.plot(x, y, "o", ms=5, color=TASK_COLOURS[2], zorder=4)
    _word(axis, x, below, name, color=TASK_COLOURS[2], size=7)


def draw_gates(gamma: float) -> Figure:
    """Eqs. 5 to 8 on the toy: from tasks to preferences, gates, and whether tasks agree.

    z_a is the mean of z_s, what Eq. 7 tends to. gamma: the threshold of Eq. 8.
    """
    z_s = torch.tensor(TOY_PREFERENCES)
    z_a = gather_preference(torch.zeros(z_s.shape[1:]), z_s, alpha=1)
    g_s, g_a = gate(z_s), gate(z_a)
    agreed = agreement(g_s, g_a, gamma)
    kept, wanted = (g_s * g_a).sum(-1).mean(0), g_a.sum(-1)
    M, N, C = z_s.shape
    step, wide = 0.9 * C + 1.1, 0.9 * C
    axis = _canvas(5.4 + 2 * N * step, M + 4.2)
    top, left = M + 2.6, 5.3
    middle = top - (M - 1) / 2
    _word(axis, 0.8, top + 1, "task $t_m$")
    _box(axis, 3.4, middle, 1.9, 0.9 * M, "controller\n$f^c$")
    for m, task in enumerate(TOY_TASKS):
        told = "(" + ", ".join(f"{t:g}" for t in task) + ")"
        _word(axis, 0.8, top - m, told, color=TASK_COLOURS[m % 3], size=7.5)
        _path(axis, [(1.95, top - m), (2.45, top - m)], TASK_COLOURS[m % 3])
    for n in range(N):
        for symbol, values, shared, number in (("z", z_s, z_a, 6), ("g", g_s, g_a, 5)):
            _word(axis, left + wide / 2, top + 1, f"${symbol}^s_{{m,{n + 1}}}$, Eq. {number}")
            begin = [(left - 0.9, middle)]
            if symbol == "z" and n:  # of all points by the controller, at once
                begin = [(3.4, middle - 0.45 * M), (3.4, 2.7), (left - 0.5, 2.7),
                         (left - 0.5, middle)]  # fmt: skip
            _path(axis, [*begin, (left - 0.15, middle)])
            for m in range(M):
                _cells(axis, left, top - m, values[m, n], TASK_COLOURS[m % 3])
            _cells(axis, left, 1.8, shared[n], SHARED)
            _word(axis, left - 0.5, 1.8, f"${symbol}^a_{n + 1}$")
            left += step
        verdict = "yes, it may be shared" if agreed[n] else "no, each task has its own"
        told = (f"point {n + 1}, Eq. 8: {kept[n]:.2f} in common > {gamma:g} · {wanted[n]:g}?\n"
                + verdict)  # fmt: skip
        _word(axis, left - step - 0.55, 0.5, told, size=7.5, color="black" if agreed[n] else INK)
    _word(axis, 2, 1.8, "mean of all, Eq. 7")
    return axis.figure


def draw_sharing() -> Figure:
    """What runs for three tasks: CResMD whole, TSNet its own channels, TA+TSNet a trunk once.

    A box is as wide as its layers, as high as its channels, so its area is its cost. The trunk
    keeps what most tasks keep.
    """
    axis = _canvas(16.5, 6.2)
    trunk, kept = 0.6, (0.3, 0.45, 0.25)  # shares: of layers in the trunk, of channels a task keeps
    M, wide, shared, gap = len(kept), 3.4, sorted(kept)[len(kept) // 2], 0.45
    costs = [Cost(0, (1,) * M), Cost(0, tuple(kept)),
             Cost(trunk * shared, tuple((1 - trunk) * share for share in kept))]  # fmt: skip
    names = "(a) CResMD, Eq. 1", "(b) TSNet, Eq. 2", "(c) TA+TSNet, Eq. 4"
    for k, (name, cost) in enumerate(zip(names, costs, strict=True)):
        left = 0.9 + 5.4 * k
        _word(axis, left + wide / 2, 5.9, name, weight="bold")
        _word(axis, left + wide / 2, 0.25, f"area for each of {M} effects: "
              f"{100 * cost.per_effect(M):.0f} %")  # fmt: skip
        start, end = left, left + wide
        if k == 2:
            start, end = left + trunk * wide + gap, end + gap
            _block(axis, left, 3.1, trunk * wide, shared, SHARED, "$f^a$")
        for m, share in enumerate(kept):
            y, height = 4.7 - 1.6 * m, share if k else 1
            if k == 2:
                _path(axis, [(start - gap, 3.1), (start - 0.05, y)], SHARED)
            label = ("$f$", f"$f_{m + 1}$", f"$f^s_{m + 1}$")[k]
            _block(axis, start, y, end - start, height, TASK_COLOURS[m % 3], label)
            _path(axis, [(end + 0.05, y), (end + 0.4, y)], TASK_COLOURS[m % 3])
            _word(axis, end + 0.7, y, f"$\\hat{{x}}_{m + 1}$", color=TASK_COLOURS[m % 3])
            if k < 2:
                _path(axis, [(left - 0.4, 3.1), (left - 0.05, y)])
        if k == 2:
            _path(axis, [(left - 0.4, 3.1), (left - 0.05, 3.1)])
        _word(axis, left - 0.6, 3.1, "$x$")
    return axis.figure


def draw_pairs() -> Figure:
    """Pairs that are trained on: every level to the clean photo, or any level to a milder one.

    An arrow goes from input to ground truth and bears the restoration that it is an example of,
    Eq. 13.
    """
    levels = (1, 0.6, 0.3, 0)  # of noise
    figure, axes = subplots(1, 2, figsize=(1.15 * PAGE_WIDTH, 1.95))
    photo = next(one for one in photographs("embedded") if one.name == "chelsea").read()
    clean, side, gap = photo[70:166, 110:206].copy(), 1.0, 0.35
    last = len(levels) - 1
    absolute = [(k, last) for k in range(last)]
    relative = [(k, j) for k in range(last) for j in range(k + 1, last + 1)]
    titles = "(a) absolute: to the clean photo, $t = l$", "(b) relative: $t = l_{in} - l_{gt}$"
    for axis, title, pairs in zip(axes, titles, (absolute, relative), strict=True):
        for k, level in enumerate(levels):
            picture = degrade(clean, task_to_levels((0, level, 0)), sample_generator(0, 0))
            left = k * (side + gap)
            axis.imshow(picture, extent=(left, left + side, 0, side))
            _word(axis, left + side / 2, -0.2, f"$l$ = {level:g}" if level else "$l$ = 0, clean")
        for k, j in pairs:
            tip = [i * (side + gap) + side / 2 for i in (k, j)]
            colour = TASK_COLOURS[k % 3]
            height = 0.3 * (j - k) - 0.1
            axis.add_patch(FancyArrowPatch(
                (tip[0], side + 0.04), (tip[1] - 0.1 * (last - k - 1), side + 0.04),
                connectionstyle=f"arc3,rad={-2 * height / (tip[1] - tip[0])}", arrowstyle="-|>",
                mutation_scale=8, color=colour, lw=1.2, shrinkA=0, shrinkB=0,
            ))  # fmt: skip
            told = {"color": colour, "bbox": {"fc": "white", "ec": "none", "pad": 0.5}}
            top, middle = side + 0.04 + height, sum(tip) / 2
            _word(axis, middle, top, f"{levels[k] - levels[j]:g}", size=7.5, zorder=9, **told)
        axis.set(xlim=(-0.1, last * (side + gap) + side + 0.1), ylim=(-0.35, 2), title=title)
        axis.axis("off")
    return figure


def _canvas(width: float, height: float) -> Axes:
    """Axes without axes, in units that are the same both ways."""
    figure, axis = subplots(figsize=(1.15 * PAGE_WIDTH, 1.15 * PAGE_WIDTH * height / width))
    axis.set(xlim=(-0.2, width), ylim=(-0.2, height), aspect="equal")
    axis.axis("off")
    return axis


def _word(axis: Axes, x: float, y: float, text: str, ha: str = "center", **style) -> None:
    axis.text(x, y, text, ha=ha, va="center", **({"size": 8} | style))


def _box(axis, x, y, width, height, text, colour=None) -> None:
    """A rounded box around its middle x, y."""
    axis.add_patch(FancyBboxPatch(
        (x - width / 2 + 0.1, y - height / 2 + 0.1), width - 0.2, height - 0.2,
        boxstyle="round,pad=0.1", fc=PALE, ec=colour or INK, lw=1.2 if colour else 0.8,
    ))  # fmt: skip
    _word(axis, x, y, text, size=7.5)


def _block(axis, left, y, width, share, colour, text) -> None:
    """A network around the height y: as high as its share of the channels."""
    height = 1.35
    axis.add_patch(Rectangle((left, y - height / 2), width, height, fill=False, ec="0.8", ls=":"))
    axis.add_patch(Rectangle((left, y - share * height / 2), width, share * height, fc=colour,
                             ec="none", alpha=0.55))  # fmt: skip
    _word(axis, left + width / 2, y, text)


def _sign(axis: Axes, x: float, y: float, text: str) -> None:
    axis.plot(x, y, "o", ms=11, mfc="white", mec=INK, mew=0.8, zorder=3)
    axis.text(x, y, text, ha="center", va="center_baseline", size=9, zorder=4)


def _arrow(axis: Axes, start, end, colour: str = INK) -> None:
    axis.annotate("", end, start, zorder=2, arrowprops={
        "arrowstyle": "-|>", "color": colour, "lw": 0.9, "shrinkA": 0, "shrinkB": 0,
        "mutation_scale": 7})  # fmt: skip


def _path(axis: Axes, points, colour: str = INK) -> None:
    """A line through points, an arrow at its end."""
    axis.plot(*zip(*points[:-1], strict=True), color=colour, lw=0.9, solid_capstyle="butt")
    _arrow(axis, points[-2], points[-1], colour)


def _cells(axis: Axes, left: float, y: float, values, colour: str) -> None:
    """A row of numbers as cells, the stronger the darker; what is 0 or less is off, and white."""
    form = ".0f" if set(values.tolist()) <= {0, 1} else ".1f"
    strongest = max(float(values.abs().max()), 1)
    for c, value in enumerate(values.tolist()):
        at = left + 0.9 * c
        axis.add_patch(Rectangle((at, y - 0.4), 0.85, 0.8, fc=colour, ec="none",
                                 alpha=0.65 * max(value, 0) / strongest))  # fmt: skip
        axis.add_patch(Rectangle((at, y - 0.4), 0.85, 0.8, fill=False, ec="0.6", lw=0.6))
        _word(axis, at + 0.42, y, f"{value:{form}}", size=6.5)
