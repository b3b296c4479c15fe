"""A profile is an architecture plus a schedule; this dict is the whole configuration system."""

from dataclasses import dataclass

from cirlib.base.files import UserError


@dataclass(frozen=True)
class Profile:
    """What is trained, and how long.

    The searched models start from the trained super network. Of their steps the first part
    (up to ``share_from``) searches task-specific channels only; then layers may become
    task-agnostic; from ``freeze_from`` on the architecture is fixed and the weights fine-tuned,
    at a rate that falls from ``search_rate`` to 0.
    """

    name: str
    blocks: int  # residual blocks of the super network
    channels: int  # of its residual stream
    steps: int  # of the super network
    search_steps: int  # of a searched model, on top
    ablation_steps: int  # the same for the models of section 5, which are compared with each other
    batch: int  # patches a step, over all processes
    learning_rate: float  # of Adam, for the super network
    search_rate: float  # for the weights of a searched model, which start from the super network's
    halve_at: tuple[float, ...]  # fractions of the super network's training: its rate is halved
    controller_rate: float  # learning rate of the architecture controller
    anneal_from: float = (
        1.0  # fraction from which on the super network's rate falls by half a cosine to 0
    )
    warm_up: int = 0  # steps in which rates rise to their full value
    block_scale: float = 1.0  # of a residual block of the super network at the start, about
    patch: int = 64  # pixels
    share_from: float = 0.3
    ablation_share_from: float = 0.3  # the same for the models of section 5
    freeze_from: float = 0.7
    alpha: float = 0.9  # Eq. 7: weight of this step in the moving average of preferences
    alpha_s: float = 0.05  # Eq. 9: in that of agreement (the paper's 0.9 forgets at once)
    gamma: float = 0.9  # Eqs. 8, 10: threshold of agreement
    lambda1: float = 5e-11  # per FLOP of a patch through the paper's super network
    lambda2: float = 1e-2
    tsnet_lambda1: float = 1  # the TSNet of Table 2 has so many times lambda1
    balance_lambda1: float = 1  # Table 4's middle has so many times lambda1,
    balance_lambda2: float = 1  # and so many times lambda2


PROFILES = {
    profile.name: profile
    for profile in (
        # Every part really trains, in seconds: for tests. Its lambda2 is such that some layers come
        # to be shared in so few steps.
        Profile("smoke", blocks=4, channels=16, steps=300, search_steps=200, ablation_steps=100,
                batch=8, learning_rate=4e-3, search_rate=4e-3, halve_at=(0.7,),
                controller_rate=1e-2, lambda2=3e-2, tsnet_lambda1=0.75),
        # A model of every row of the paper on two CPU cores, an hour or so each where they have
        # bfloat16. Layers come to be shared one after the other, 6% of them in 100 steps: short
        # trainings begin with it early. And few channels go in few steps: the middle of Table 4 has
        # more pressure than Table 2, and so comes near the paper's in shared layers and at M = 1.
        # At the whole of lambda1, after 16,000 steps, TSNet lost 0.22 dB at 28% of the FLOPs.
        Profile("compact", blocks=16, channels=32, steps=20_000, search_steps=24_000,
                ablation_steps=4_000, batch=16, learning_rate=1e-3, search_rate=5e-4,
                halve_at=(0.5, 0.7, 0.8, 0.9), controller_rate=2e-3,
                ablation_share_from=0.15, freeze_from=0.5, tsnet_lambda1=0.75,
                balance_lambda1=3, balance_lambda2=2),
        # The paper's own network, as long as some nights on a CPU last. With block scales of 1 its
        # 32 blocks explode at this rate in the second step. Where the training ends is open while
        # the rate is constant: --steps may change until then.
        Profile("full", blocks=32, channels=64, steps=40_000, search_steps=24_000,
                ablation_steps=4_000, batch=16, learning_rate=1e-3, search_rate=5e-4,
                halve_at=(), anneal_from=0.5, warm_up=200, block_scale=0.1,
                controller_rate=2e-3, freeze_from=0.5),
        # Section 7.3, for GPUs.
        Profile("paper", blocks=32, channels=64, steps=1_000_000, search_steps=1_000_000,
                ablation_steps=1_000_000, batch=64, learning_rate=1e-4, search_rate=1e-4,
                halve_at=(0.5,), controller_rate=1e-4),
    )
}  # fmt: skip


@dataclass(frozen=True)
class Model:
    """A row of Table 2, or of an ablation."""

    name: str
    label: str
    searched: bool  # channels chosen per task (Eqs. 5, 6)
    shared: bool  # early layers shared by all tasks (Eqs. 7-10)
    relative: bool  # trained on relative ground truth (Eq. 13)
    fixed: float | None = None  # without a search: the share of layers that is task-agnostic
    lambda1: float = 1  # times the profile's
    lambda2: float = 1  # times the profile's
    share_at_most: float = 1  # of the channel-selection points
    settles: bool = False  # its controller's rate falls to 0 while layers come to be shared

    @property
    def fine_tuned(self) -> bool:
        """Whether it starts from the trained CResMD."""
        return self.searched or self.fixed is not None


MODELS = {
    model.name: model
    for model in (
        Model("cresmd", "CResMD", searched=False, shared=False, relative=False),
        Model("tsnet", "TSNet", searched=True, shared=False, relative=False),
        Model("ta-tsnet", "TA+TSNet", searched=True, shared=True, relative=False,
              share_at_most=0.85),
        Model("tsnet-m", "TSNet-m", searched=True, shared=False, relative=True),
        Model("ta-tsnet-m", "TA+TSNet-m", searched=True, shared=True, relative=True,
              share_at_most=0.85),
    )
}  # fmt: skip

# Section 5, all trained for as many steps as each other. Table 4: TA+TSNet at other lambda1 (l) and
# lambda2 (d, for disagreement). All layers but the last may be shared, as the paper's 99% are. With
# a tenth of lambda2 there is just consent enough at the first layers, with a tenth of lambda1 all
# tasks prefer the same: at a constant rate of the controller layers were shared and lost in turns.
BALANCE = {
    model.name: model
    for model in (
        Model(f"ta-tsnet-l{one:g}-d{two:g}", f"TA+TSNet {one:g} x lambda1, {two:g} x lambda2",
              searched=True, shared=True, relative=False, lambda1=one, lambda2=two,
              share_at_most=0.99, settles=True)
        for one, two in ((1, 0.1), (1, 1), (1, 10), (0.1, 1), (10, 1))
    )
}  # fmt: skip

# Figure 7: TSNet under more pressure, and TA+TSNet trained just as long. Table 3: shared layers
# fixed, no channel removed.
SHORT = "ta-tsnet-short"
ABLATIONS = {
    model.name: model
    for model in (
        Model(SHORT, "TA+TSNet, as short as the ablations", searched=True, shared=True,
              relative=False, share_at_most=0.85),
        *(Model(f"tsnet-abl-{factor}", f"TSNet-Abl {factor}x", searched=True, shared=False,
                relative=False, lambda1=factor) for factor in (1, 2, 4, 8, 16)),
        *(Model(f"ta-tsnet-abl-{percent}", f"TA+TSNet-Abl {percent}%", searched=False, shared=True,
                relative=False, fixed=percent / 100) for percent in (0, 31, 62, 85, 99)),
        *BALANCE.values(),
    )
}  # fmt: skip


def steps_of(model: Model, profile: Profile) -> int:
    """How many steps the training of a model has."""
    if model.name in ABLATIONS:
        return profile.ablation_steps
    return profile.search_steps if model.fine_tuned else profile.steps


def share_from_of(model: Model, profile: Profile) -> float:
    """From which part of the training of a model on layers may become task-agnostic."""
    return profile.ablation_share_from if model.name in ABLATIONS else profile.share_from


def pressure_of(model: Model, profile: Profile) -> tuple[float, float]:
    """What multiplies the profile's lambda1 and lambda2 in the training of a model."""
    if not model.searched:
        return 0, 0
    one, two = model.lambda1, model.lambda2 if model.shared else 0
    if model.name in BALANCE:
        return profile.balance_lambda1 * one, profile.balance_lambda2 * two
    return profile.tsnet_lambda1 * one if model.name == "tsnet" else one, two


def get_profile(name: str) -> Profile:
    """Raises UserError for a name that is not in PROFILES."""
    if name not in PROFILES:
        raise UserError(f"no profile {name!r}: choose one of {', '.join(PROFILES)}")
    return PROFILES[name]


def get_model(name: str) -> Model:
    """Raises UserError for a name that is in neither MODELS nor ABLATIONS."""
    if name in MODELS:
        return MODELS[name]
    if name not in ABLATIONS:
        raise UserError(f"no model {name!r}: choose one of {', '.join(MODELS | ABLATIONS)}")
    return ABLATIONS[name]
