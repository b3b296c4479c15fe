"""What effects of a session took, and what CResMD takes for the same."""

import statistics
from dataclasses import dataclass, field

from cirlib.data.images import Size
from cirlib.engine.modulator import Task


@dataclass
class Tally:
    """How long the session's effects took, and how long CResMD takes for one, by photo size."""

    seconds: float = 0.0  # shared features included
    effects: dict[Size, int] = field(default_factory=dict)
    cresmd: dict[Size, list[float]] = field(default_factory=dict)  # measured, up to RUNS

    RUNS, ENOUGH = 3, 1.0  # runs a size, fewer when they have taken so many seconds

    def add(self, size: Size, seconds: float, effects: int) -> None:
        self.seconds += seconds
        self.effects[size] = self.effects.get(size, 0) + effects

    @property
    def count(self) -> int:
        return sum(self.effects.values())

    def unmeasured(self) -> Size | None:
        """A size at which CResMD is to be run once more, the smallest first."""
        for size in sorted(self.effects, key=lambda size: size[0] * size[1]):
            times = self.cresmd.get(size, [])
            if len(times) < self.RUNS and sum(times) < self.ENOUGH:
                return size
        return None

    def cresmd_seconds(self, size: Size) -> float | None:
        """Of one effect; None before it was measured."""
        times = self.cresmd.get(size)
        return statistics.median(times) if times else None

    def cresmd_total(self) -> float | None:
        """What CResMD would have taken for all effects; None while a size is not measured."""
        if any(not self.cresmd.get(size) for size in self.effects):
            return None
        return sum(n * self.cresmd_seconds(size) for size, n in self.effects.items())


@dataclass(frozen=True)
class Facts:
    """What is known of the effect on the page. Seconds, FLOPs, decibels; None: not known."""

    model: str
    task: Task
    size: Size
    seconds: float
    flops: int  # of the head: what this effect took
    trunk_flops: int  # once a photo
    cresmd_flops: int | None
    before: float | None  # PSNR against the undamaged photo
    after: float | None
