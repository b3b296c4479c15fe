"""Where the milliseconds of an effect go: each convolution timed as the engine runs it."""

import time
from collections import Counter

import pandas as pd
import torch

from cirlib.base import memory
from cirlib.compact import Plan
from cirlib.engine.convolution import FusedConv
from cirlib.engine.modulator import Modulator
from cirlib.engine.program import Program
from cirlib.measure.latency import kinds, noise_image
from cirlib.networks import READ_THE_STREAM, WRITE_THE_STREAM
from cirlib.search import SearchNet

TAIL = ("up", "post", "last")
PARTS = ("trunk, its share", "blocks", *TAIL, "around them")


class _Timed:
    """A convolution that tells a clock what it takes."""

    def __init__(self, conv: FusedConv, clock: Counter, part: str):
        self.conv, self.clock, self.part = conv, clock, part

    def _run(self, what, *arguments, **options):
        began = time.perf_counter()
        found = what(*arguments, **options)
        self.clock[self.part] += time.perf_counter() - began
        return found

    def __call__(self, *arguments, **options):
        return self._run(self.conv, *arguments, **options)

    def plus(self, *arguments):
        return self._run(self.conv.plus, *arguments)


def _listen(program: Program, clock: Counter) -> None:
    def timed(kind: str, conv: FusedConv) -> _Timed:
        return _Timed(conv, clock, kind if kind in TAIL else "blocks")

    program.body = [(kind, timed(kind, conv)) for kind, conv in program.body]
    program.tail = [(kind, timed(kind, conv)) for kind, conv in program.tail]
    program.narrow = {g: timed("last", conv) for g, conv in program.narrow.items()}


def _multiplied(plan: Plan, size: tuple[int, int], M: int) -> Counter:
    """GFLOPs of one of M effects by part, with the zeros of the stream, which is multiplied whole.

    As everywhere, the first convolution is not counted.
    """
    (W, H), found = size, Counter()
    half = ((W + 1) // 2) * ((H + 1) // 2)
    chain = zip(plan.architecture.chain, plan.architecture.widths, strict=True)
    for k, (conv, (ins, outs)) in enumerate(chain):
        stream = len(plan.written if k < plan.cut else plan.read)
        if conv.kind == "first" or not (ins and outs):
            continue
        ins = stream if conv.kind in READ_THE_STREAM else ins
        outs = stream if conv.kind in WRITE_THE_STREAM else outs
        gflops = 18 * ins * outs * (half if conv.half else 4 * half) / 1e9
        if k < plan.cut:
            found["trunk, its share"] += gflops / M
        else:
            found[conv.kind if conv.kind in TAIL else "blocks"] += gflops
    return found


def anatomy(
    net: SearchNet,
    size: tuple[int, int],
    tasks,
    dtype: torch.dtype | None = None,
    rounds: int = 3,
) -> pd.DataFrame:
    """What one effect of M tasks takes on an image of (width, height), on the CPU: a row a part.

    Columns: part (PARTS), ms, and gflops, those that the engine multiplies, zeros of the stream
    included. The trunk counts 1 / M (Eq. 4), a head's parts their mean over the tasks; of tasks
    with the same channels one is timed. "around them" is what an effect takes beyond its 3 x 3
    convolutions: relay, copies, rounding. Of the rounds, after one to warm up, that of the median
    time counts.
    """
    memory.keep_large_blocks()  # as in latency.bench
    tasks, clock = [tuple(map(float, task)) for task in tasks], Counter()
    modulator, image, M, found = Modulator(net, "cpu", dtype), noise_image(size), len(tasks), []
    timed = kinds(modulator, tasks)
    for number in range(rounds + 1):
        began = time.perf_counter()
        modulator.load(image)
        taken = Counter({"trunk, its share": (time.perf_counter() - began) / M})
        for n, task in timed:
            clock.clear()
            began = time.perf_counter()
            modulator.run(task)
            clock["around them"] = time.perf_counter() - began - sum(clock.values())
            taken += Counter({part: n * seconds / M for part, seconds in clock.items()})
        if number == 0:
            for program in (modulator.trunk, *(modulator.head(task) for _, task in timed)):
                _listen(program, clock)
        else:
            found.append(taken)
    middle = sorted(found, key=lambda taken: sum(taken.values()))[len(found) // 2]
    gflops = sum((_multiplied(modulator.plan(task), size, M) for task in tasks), Counter())
    rows = [(part, 1e3 * middle[part], gflops[part] / M) for part in PARTS]
    return pd.DataFrame(rows, columns=["part", "ms", "gflops"])
