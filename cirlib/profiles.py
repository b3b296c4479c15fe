"""Sections 4, 5 and 7.3: which models there are, and how long a profile trains them.

A model is a row of Table 2 or of an ablation; a profile is a size of the super network plus
schedules. The dicts of both are the whole configuration system.
"""

from dataclasses import dataclass

from cirlib.base.files import UserError


@dataclass(frozen=True)
class Model:
    """A row of Table 2, or of an ablation."""

    name: str
    label: str
    searched: bool  # channels chosen per task (Eqs. 5, 6)
    shared: bool  # early layers shared by all tasks (Eqs. 7-10)
    relative: bool = False  # trained on relative ground truth (Eq. 13)
    fixed: float | None = None  # without a search: the share of layers that is task-agnostic
    lambda1: float = 1  # times the profile's
    lambda2: float = 1  # times the profile's
    short: bool = False  # trained for the profile's short steps

    @property
    def fine_tuned(self) -> bool:
        """Whether it starts from the trained CResMD."""
        return self.searched or self.fixed is not None


def _by_name(*entries):
    return {entry.name: entry for entry in entries}


MODELS = _by_name(
    Model("cresmd", "CResMD", searched=False, shared=False),
    Model("tsnet", "TSNet", searched=True, shared=False),
    Model("ta-tsnet", "TA+TSNet", searched=True, shared=True),
    Model("tsnet-m", "TSNet-m", searched=True, shared=False, relative=True),
    Model("ta-tsnet-m", "TA+TSNet-m", searched=True, shared=True, relative=True),
)  # fmt: skip

# Section 5, all trained for as many steps as each other. Table 4: TA+TSNet at other lambda1 (l) and
# lambda2 (d, for disagreement). Its middle is SHORT once more.
BALANCE = _by_name(*(
    Model(f"ta-tsnet-l{one:g}-d{two:g}", f"TA+TSNet {one:g} x lambda1, {two:g} x lambda2",
          searched=True, shared=True, lambda1=one, lambda2=two, short=True)
    for one, two in ((1, 0.1), (1, 1), (1, 10), (0.1, 1), (10, 1))
))  # fmt: skip

# Figure 7: TSNet under more pressure, and TA+TSNet trained just as long. Table 3: shared layers
# fixed, no channel removed.
SHORT = "ta-tsnet-short"
ABLATIONS = _by_name(
    Model(SHORT, "TA+TSNet, as short as the ablations", searched=True, shared=True, short=True),
    *(Model(f"tsnet-abl-{factor}", f"TSNet-Abl {factor}x", searched=True, shared=False,
            lambda1=factor, short=True) for factor in (1, 2, 4, 8, 16)),
    *(Model(f"ta-tsnet-abl-{percent}", f"TA+TSNet-Abl {percent}%", searched=False, shared=True,
            fixed=percent / 100, short=True) for percent in (0, 31, 62, 85, 99)),
    *BALANCE.values(),
)  # fmt: skip


@dataclass(frozen=True)
class Profile:
    """What is trained, and how long.

    The searched models start from the trained super network. Of their steps the first part
    (up to ``share_from``) searches task-specific channels only; then layers may become
    task-agnostic, and the controller's rate falls from ``controller_rate`` to 0: at a constant one
    the consent of the first layers came and went, and what froze was chance. From ``freeze_from``
    on the architecture is fixed and the weights fine-tuned, at a rate that falls from
    ``search_rate`` to 0.
    """

    name: str
    blocks: int  # residual blocks of the super network
    channels: int  # of its residual stream
    steps: int  # of the super network
    search: int  # steps of a model that starts from it, on top
    short: int  # the same for the models of section 5, which are compared with each other
    batch: int  # patches a step, over all processes
    learning_rate: float  # of Adam, for the super network
    search_rate: float  # for the weights of a searched model, which start from the super network's
    halve_at: tuple[float, ...]  # fractions of the super network's training: its rate is halved
    controller_rate: float  # learning rate of the architecture controller
    anneal_from: float = 1.0  # fraction: from there its rate falls to 0 by half a cosine
    warm_up: int = 0  # steps in which rates rise to their full value
    grown_from: str | None = None  # profile of a trained super network that it begins as
    patch: int = 64  # pixels
    share_from: float = 0.15  # fraction of a search's steps
    freeze_from: float = 0.7  # the same
    # Fraction of the selection points that a search may share. Table 3: shared by decree, 85% cost
    # the paper 0.11 dB, 99% cost 0.52.
    share_at_most: float = 0.85
    alpha: float = 0.9  # Eq. 7: weight of this step in the moving average of preferences
    alpha_s: float = 0.05  # Eq. 9: in that of agreement (the paper's 0.9 forgets at once)
    gamma: float = 0.9  # Eqs. 8, 10: threshold of agreement
    lambda1: float = 5e-11  # per FLOP of a patch through the paper's super network
    lambda2: float = 1e-2

    def steps_of(self, model: Model) -> int:
        """Of a model's training."""
        if not model.fine_tuned:
            return self.steps
        return self.short if model.short else self.search

    def pressure(self, model: Model) -> tuple[float, float]:
        """lambda1 (per FLOP of the paper's network) and lambda2; 0 where nothing presses."""
        if not model.searched:
            return 0, 0
        return self.lambda1 * model.lambda1, self.lambda2 * model.lambda2 if model.shared else 0


PROFILES = _by_name(
    # Every part really trains, in seconds: for tests. Its lambda2 is such that some layers come
    # to be shared in so few steps.
    Profile("smoke", blocks=4, channels=16, steps=300, search=200, short=100,
            batch=8, learning_rate=4e-3, search_rate=4e-3, halve_at=(0.7,),
            controller_rate=2e-2, lambda2=3e-2),
    # A model of every row of the paper on two CPU cores, an hour or so each where they have
    # bfloat16. Layers come to be shared one after the other, 6% of them in 100 steps.
    Profile("compact", blocks=16, channels=32, steps=20_000, search=24_000, short=4_000, batch=16,
            learning_rate=1e-3, search_rate=5e-4, halve_at=(0.5, 0.7, 0.8, 0.9),
            controller_rate=2e-3, freeze_from=0.5),
    # The paper's own network, as long as some nights on a CPU last. Where the training ends is
    # open while the rate is constant: --steps may change until then. A task keeps ten points of its
    # own, the last blocks and the tail: uncut they are 12% of the FLOPs, 15% of the points 17%.
    Profile("full", blocks=32, channels=64, steps=20_000, search=6_000, short=4_000, batch=16,
            learning_rate=5e-4, search_rate=5e-4,
            halve_at=(), anneal_from=0.5, warm_up=200, grown_from="compact",
            controller_rate=2e-3, freeze_from=0.5, share_at_most=0.9),
    # Section 7.3, for GPUs.
    Profile("paper", blocks=32, channels=64, steps=1_000_000, search=1_000_000,
            short=1_000_000, batch=64, learning_rate=1e-4, search_rate=1e-4,
            halve_at=(0.5,), controller_rate=1e-4),
)  # fmt: skip


def get_profile(name: str) -> Profile:
    """Raises UserError for a name that is not in PROFILES."""
    if name not in PROFILES:
        raise UserError(f"no profile {name!r}: choose one of {', '.join(PROFILES)}")
    return PROFILES[name]


def get_model(name: str) -> Model:
    """Raises UserError for a name that is in neither MODELS nor ABLATIONS."""
    known = MODELS | ABLATIONS
    if name not in known:
        raise UserError(f"no model {name!r}: choose one of {', '.join(known)}")
    return known[name]
