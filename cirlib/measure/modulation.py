"""Section 7.1, Figure 8 in numbers: how well a model modulates, where the paper has pictures.

(a) Evenness. A matched input is modulated from level 0 to 1 in ten equal steps. How much the image
changes at each (LPIPS between neighbours, and the change of PSNR) should be alike: we take the
coefficient of variation of the ten, and the largest over the mean. Both are small for even steps:
0 and 1.

(b) Artifacts under mismatch. A task asks for a type of restoration that the input does not need. We
take what that does to the PSNR, how often more than 1 dB is lost, how far the output goes from the
input, and by how many octaves it raises the energy of the gradients (over-sharpening and ringing
do; where it falls, which denoising should make it do, that counts as 0). Apart from that, a task
for one of the three things that an input needs (Figure 8a): its PSNR, and how often 1 dB is lost.

(c) Faithfulness. An input of level l restored by t < l should look like the image degraded to l - t
(Eq. 13). We take the PSNR and LPIPS between the two; input and milder image share their noise. What
the input itself, left as it is, has in PSNR is there to compare.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from cirlib.data.datasets import Photograph
from cirlib.data.images import centre_crop
from cirlib.degradation import Levels, degrade_pair, sample_generator, task_to_levels
from cirlib.engine.modulator import Modulator
from cirlib.measure import metrics
from cirlib.measure.intervals import bootstrap, positive

TYPES = {"blur": (1, 0, 0), "noise": (0, 1, 0), "JPEG": (0, 0, 1)}
MATCHED = TYPES | {"all three": (1, 1, 1)}
STEPS = 10  # from level 0 to 1
# Levels of the inputs of which faithfulness is asked, and the tasks by which they are restored.
RELATIVE = {1: (0.25, 0.5, 0.75), 0.5: (0.25,)}
HALF = (0.5, 0.5, 0.5)  # level of the input that needs all three
# quantity -> which way is better, and its name
QUANTITIES = {
    "step_lpips_cv": ("lower", "unevenness of the steps, LPIPS (std / mean)"),
    "step_lpips_peak": ("lower", "largest step / mean step, LPIPS"),
    "step_psnr_cv": ("lower", "unevenness of the steps, PSNR (std / mean)"),
    "step_psnr_peak": ("lower", "largest step / mean step, PSNR"),
    "mismatch_gain": ("higher", "change of PSNR under mismatch (dB)"),
    "mismatch_lost": ("lower", "share that loses more than 1 dB under mismatch (%)"),
    "mismatch_moved": ("lower", "distance from the input under mismatch (grey levels)"),
    "mismatch_sharpening": ("lower", "rise of the gradient energy under mismatch (octaves)"),
    "partial_gain": ("higher", "change of PSNR by one of three needed (dB)"),
    "partial_lost": ("lower", "share that loses more than 1 dB by one of three needed (%)"),
    "relative_psnr": ("higher", "PSNR against the milder image (dB)"),
    "relative_lpips": ("lower", "LPIPS against the milder image"),
}


def gradient_energy(image: np.ndarray) -> float:
    """Mean square of the differences between neighbouring pixels; uint8 H x W x 3."""
    x = image.astype(np.float32)
    return float(np.square(np.diff(x, axis=0)).mean() + np.square(np.diff(x, axis=1)).mean())


def detail_kept(image: np.ndarray, clean: np.ndarray) -> float:
    """How much of a clean photo's detail is in an image, in %: 100 of itself, 0 of a flat one.

    The slope b of the image's differences between neighbours over the clean photo's, least squares:
    noise, which has nothing to do with these, does not count. Both uint8 H x W x 3.
    """
    x, y = (np.concatenate([np.diff(a.astype(np.float32), axis=k).ravel() for k in (0, 1)])
            for a in (image, clean))  # fmt: skip
    return 100 * float(x @ y / (y @ y))


def evenness(steps: Sequence[float]) -> tuple[float, float]:
    """Coefficient of variation and largest over mean of the sizes of steps; nan if none moves."""
    sizes = np.abs(steps)
    mean = sizes.mean()
    return (float(sizes.std() / mean), float(sizes.max() / mean)) if mean else (np.nan, np.nan)


def _scaled(direction: Sequence[float], level: float) -> tuple[float, ...]:
    return tuple(level * d for d in direction)


def _even_steps(
    modulator: Modulator, clean: np.ndarray, direction: Sequence[float], lpips
) -> Iterator[tuple[str, float, float]]:
    """Quantity, level and value of (a), for the image that is loaded."""
    levels = np.linspace(0, 1, STEPS + 1)
    effects = list(modulator.effects(_scaled(direction, level) for level in levels))
    steps = {"psnr": np.diff([metrics.psnr(effect, clean) for effect in effects])}
    if lpips:
        steps["lpips"] = [lpips([b], a)[0] for a, b in zip(effects, effects[1:], strict=False)]
    for name, sizes in steps.items():
        cv, peak = evenness(sizes)
        yield f"step_{name}_cv", np.nan, cv
        yield f"step_{name}_peak", np.nan, peak
        for level, size in zip(levels[1:], sizes, strict=True):
            yield f"step_{name}", float(level), float(size)


def _unmatched(
    modulator: Modulator, degraded: np.ndarray, clean: np.ndarray, task: Sequence[float], kind: str
) -> Iterator[tuple[str, float, float]]:
    """Quantity, level and value of (b), for the image that is loaded; kind: mismatch or partial."""
    effect = modulator.effect(task)
    gain = metrics.psnr(effect, clean) - metrics.psnr(degraded, clean)
    moved = np.sqrt(np.mean(np.square(effect.astype(np.float32) - degraded)))
    yield f"{kind}_gain", np.nan, gain
    yield f"{kind}_lost", np.nan, 100 * float(gain < -1)
    yield f"{kind}_moved", np.nan, float(moved)
    ratio = (gradient_energy(effect) + 1e-3) / (gradient_energy(degraded) + 1e-3)  # flat: 1
    octaves = float(np.log2(ratio))
    yield f"{kind}_octaves", np.nan, octaves
    yield f"{kind}_sharpening", np.nan, max(octaves, 0.0)


def _relative(
    modulator: Modulator, clean: np.ndarray, direction, level, noise_seed: tuple[int, int], lpips
) -> Iterator[tuple[str, float, float]]:
    """Quantity, task and value of (c), for inputs of a level of RELATIVE; loads the input."""
    source = _scaled(direction, level)
    degraded, _ = degraded_pair(clean, source, (0, 0, 0), noise_seed)
    modulator.load(degraded)
    for t in RELATIVE[level]:
        _, milder = degraded_pair(clean, source, _scaled(direction, level - t), noise_seed)
        effect = modulator.effect(_scaled(direction, t))
        yield "relative_psnr", t, metrics.psnr(effect, milder)
        yield "relative_input", t, metrics.psnr(degraded, milder)
        if lpips:
            yield "relative_lpips", t, lpips([effect], milder)[0]


def degraded_pair(clean: np.ndarray, source, target, noise_seed: tuple[int, int]):
    """A photo at two points of the task space, with one sample of noise."""
    levels: list[Levels] = [task_to_levels(source), task_to_levels(target)]
    return degrade_pair(clean, *levels, sample_generator(*noise_seed))


def modulation_scores(
    net,
    photos: Sequence[Photograph],
    crop: int | None = None,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> pd.DataFrame:
    """Every measurement of one model: columns image, case, quantity, level, value.

    case: what the input needs and, under mismatch, what was asked of it, as ``blur -> noise``.
    Inputs are of level 1, but for (c) ``blur at 0.5``. level: of a single step or relative task;
    missing where a quantity sums up all levels. Quantities are those of QUANTITIES, the others of
    ``mismatch_`` for ``partial_``, the change of the gradients' energy with its sign as
    ``mismatch_octaves`` and ``partial_octaves``, ``step_lpips`` and ``step_psnr`` for each step,
    and ``relative_input``, the PSNR of the input against the milder image; LPIPS is left out where
    its weights are missing.
    """
    modulator = Modulator(net, device, torch.float32)
    lpips = metrics.LPIPS(device) if metrics.computable(["lpips"])["lpips"] else None
    rows = []

    def add(image: str, case: str, found) -> None:
        rows.extend((image, case, *values) for values in found)

    for i, photo in enumerate(tqdm(photos, desc=net.model.name, file=sys.stderr, leave=False)):
        clean = centre_crop(photo.read(), crop)
        for needs, direction in MATCHED.items():
            noise_seed = seed, i * (len(MATCHED) + 1) + list(MATCHED).index(needs)
            degraded, _ = degraded_pair(clean, direction, (0, 0, 0), noise_seed)
            modulator.load(degraded)
            add(photo.name, needs, _even_steps(modulator, clean, direction, lpips))
            for asked, task in TYPES.items():
                if needs in TYPES and asked != needs:
                    found = _unmatched(modulator, degraded, clean, task, "mismatch")
                    add(photo.name, f"{needs} -> {asked}", found)
            for level in RELATIVE:
                found = _relative(modulator, clean, direction, level, noise_seed, lpips)
                add(photo.name, needs if level == 1 else f"{needs} at {level}", found)
        noise_seed = seed, i * (len(MATCHED) + 1) + len(MATCHED)
        degraded, _ = degraded_pair(clean, HALF, (0, 0, 0), noise_seed)
        modulator.load(degraded)
        for asked, task in TYPES.items():
            found = _unmatched(modulator, degraded, clean, task, "partial")
            add(photo.name, f"all three -> {asked}", found)
    return pd.DataFrame(rows, columns=["image", "case", "quantity", "level", "value"])


def _means(frame: pd.DataFrame, keys: str | list[str], *quantities: str) -> pd.Series:
    """Mean of what is alike in these columns, of these quantities."""
    return frame[frame["quantity"].isin(quantities)].groupby(keys, sort=False)["value"].mean()


def modulation_table(frames: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Means over images with 95% intervals: columns quantity, model, value, low, high, images.

    frames: modulation_scores by model.
    """
    rows = []
    for quantity in QUANTITIES:
        for model, frame in frames.items():
            values = _means(frame, "image", quantity).dropna().to_numpy()
            if len(values):
                low, high = bootstrap(values)
                rows.append((quantity, model, values.mean(), low, high, len(values)))
    return pd.DataFrame(rows, columns=["quantity", "model", "value", "low", "high", "images"])


def unmatched_cases(frames: Mapping[str, pd.DataFrame], what: str) -> pd.DataFrame:
    """Means by what the input needs and what was asked of it: a column a model.

    what: "gain" (change of PSNR, dB) or "octaves" (change of the gradients' energy).
    """
    means = {model: _means(frame, "case", f"mismatch_{what}", f"partial_{what}")
             for model, frame in frames.items()}  # fmt: skip
    return pd.DataFrame(means).rename_axis("needs -> asked").reset_index()


def relative_cases(frames: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Mean PSNR (dB) against the milder image, case by case: the input's, and a column a model.

    Columns: input, restored by (the task, as a level), input left as it is, and the models.
    """
    keys, first = ["case", "level"], next(iter(frames.values()))
    columns = {"input left as it is": _means(first, keys, "relative_input")}
    columns |= {model: _means(frame, keys, "relative_psnr") for model, frame in frames.items()}
    names = {"case": "input", "level": "restored by"}
    return pd.DataFrame(columns).reset_index().rename(columns=names)


def against(frames: Mapping[str, pd.DataFrame], base: str, rival: str) -> pd.DataFrame:
    """Whether a rival is better than a base model, quantity by quantity, on the same images.

    Columns: quantity, base, rival (means), difference (rival - base), low, high (95% interval of
    the difference of pairs), better ("yes", "no", or "undecided" where the interval holds 0 or
    rests on a single image).
    """
    rows = []
    for quantity, (wanted, _) in QUANTITIES.items():
        one, two = (_means(frames[model], "image", quantity) for model in (base, rival))
        if one.empty or two.empty:
            continue
        pairs = (two - one).dropna().to_numpy()
        higher = positive(pairs)
        better = {None: "undecided", wanted == "higher": "yes"}.get(higher, "no")
        rows.append((quantity, one.mean(), two.mean(), pairs.mean(), *bootstrap(pairs), better))
    names = ["quantity", "base", "rival", "difference", "low", "high", "better"]
    return pd.DataFrame(rows, columns=names)
