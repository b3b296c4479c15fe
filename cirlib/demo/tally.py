"""What versions of a photo take, by the same measure for the network in use and for CResMD."""

import statistics
from dataclasses import dataclass, field

from cirlib.data.images import Size
from cirlib.degradation import TASKS
from cirlib.demo.photos import Network
from cirlib.engine.modulator import Task


@dataclass
class Times:
    """Seconds of a network that is warm, on the photo as the page shows it, at rest.

    shared: what all versions have in common. effects: of tasks of the 27, each its first time, as
    when a slider moves.
    """

    size: Size
    shared: float
    effects: list[float] = field(default_factory=list)

    MOST, LEAST, ENOUGH = 5, 3, 2.0  # runs of CResMD, whose tasks cost the same; seconds for more

    @property
    def one(self) -> float:
        """Seconds of one more version: the median."""
        return statistics.median(self.effects)

    @property
    def all(self) -> float:
        """Seconds of the 27 versions."""
        return self.shared + len(TASKS) * self.one

    @property
    def whole(self) -> bool:
        """Whether each of the 27 was made."""
        return len(self.effects) >= len(TASKS)

    @property
    def enough(self) -> bool:
        runs = len(self.effects)
        return runs >= (self.LEAST if sum(self.effects) >= self.ENOUGH else self.MOST)


@dataclass(frozen=True)
class Facts:
    """What is known of the effect on the page. FLOPs, decibels; None: not known."""

    network: Network
    task: Task
    flops: int  # of the head: what this effect took
    trunk_flops: int  # once a photo
    cresmd_flops: int | None
    share: float | None  # of CResMD's FLOPs, in 27 versions
    before: float | None  # PSNR against the undamaged photo
    after: float | None
