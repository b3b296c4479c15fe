"""Section 4.2: the average best score among 27 effects.

Each test image is degraded in 26 ways (the 27 combinations of none, half and full strength, but
for the clean one). Every degraded input is restored by all 27 tasks, and of the 27 scores the
best one counts, separately for each metric, since a user would pick the best effect.

All of it, 68 whole photos, is four to nine hours of a CPU core for each compact model. With a
folder that keeps the scores of each photo a killed run goes on later, and machines can share the
photos.
"""

import math
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from cirlib import checkpoints
from cirlib.base import provenance
from cirlib.base.device import format_name
from cirlib.base.files import UserError, check_writable
from cirlib.data.datasets import Photograph, fingerprint
from cirlib.data.images import centre_crop
from cirlib.degradation import TASK_LEVELS, TASKS, Levels, degrade, sample_generator
from cirlib.engine.modulator import Modulator
from cirlib.measure import metrics, niqe


class Degraded(NamedTuple):
    """An input of the evaluation: number k > 0 of TASK_LEVELS done to a clean photo."""

    name: str
    k: int
    levels: Levels
    clean: np.ndarray
    image: np.ndarray


def degraded_inputs(
    photos: Sequence[Photograph],
    crop: int | None,
    seed: int,
    label: str,
    numbers: Iterable[int] | None = None,
    problems: list[str] | None = None,
) -> Iterator[Degraded]:
    """The 26 degraded versions of each photo, photo by photo, with a progress bar on stderr.

    numbers: of the photos that are wanted, from 0; default: all. The noise of an input depends on
    the seed, the number of its photo and its levels alone. problems: takes a line on each photo
    that cannot be read, which is then passed over; None: UserError.
    """
    numbers = range(len(photos)) if numbers is None else list(numbers)
    kinds = range(1, len(TASK_LEVELS))
    with tqdm(total=len(numbers) * len(kinds), desc=label, file=sys.stderr, mininterval=1,
              leave=False) as bar:  # fmt: skip
        for i in numbers:
            try:
                clean = centre_crop(photos[i].read(), crop)
            except UserError as error:
                if problems is None:
                    raise
                problems.append(str(error))
                continue
            for k in kinds:
                generator = sample_generator(seed, i * len(TASK_LEVELS) + k)
                degraded = degrade(clean, TASK_LEVELS[k], generator)
                yield Degraded(photos[i].name, k, TASK_LEVELS[k], clean, degraded)
                bar.update()


class Scores:
    """The four metrics of an image's effects; those without weights are left out."""

    def __init__(self, names: Sequence[str] = tuple(metrics.METRICS)):
        there = metrics.computable(names)
        self.names = [name for name in names if there[name]]
        self.niqe = niqe.NIQE() if "niqe" in self.names else None
        self.lpips = metrics.LPIPS() if "lpips" in self.names else None

    def __call__(self, effects: list[np.ndarray], reference: np.ndarray) -> dict[str, list[float]]:
        """Name of metric -> one score an effect (uint8 H x W x 3); NaN where it is not defined."""
        scores, least = {}, min(reference.shape[:2])
        nothing = [math.nan] * len(effects)
        if "psnr" in self.names:
            scores["psnr"] = [metrics.psnr(effect, reference) for effect in effects]
        if "ssim" in self.names:
            defined = least >= metrics.SSIM_WINDOW
            scores["ssim"] = metrics.ssims(effects, reference) if defined else nothing
        if self.niqe:
            defined = self.niqe.defined_for(*reference.shape[:2])
            scores["niqe"] = list(map(self.niqe, effects)) if defined else nothing
        if self.lpips:
            defined = least >= self.lpips.SMALLEST
            scores["lpips"] = self.lpips(effects, reference) if defined else nothing
        return scores


def best_scores(
    modulator: Modulator,
    photos: Sequence[Photograph],
    crop: int | None = None,
    seed: int = 0,
    names: Sequence[str] = tuple(metrics.METRICS),
    numbers: Iterable[int] | None = None,
    problems: list[str] | None = None,
    own: bool = False,
) -> pd.DataFrame:
    """One row for each degraded input of the photos, or of those with the given numbers.

    problems: as for degraded_inputs. own: the effect of an input's own task stands for the best of
    all 27, which takes a 27th of the time and is no better.

    Columns: image, r, sigma, q (missing: not compressed), input_psnr, and for each metric its best
    score among the 27 effects and, as ``best_<metric>``, which of the 27 tasks reached it.
    """
    score, rows = Scores(names), []
    for each in degraded_inputs(photos, crop, seed, modulator.net.model.name, numbers, problems):
        modulator.load(each.image)
        tasks = [each.k] if own else range(len(TASKS))
        scores = score(list(modulator.effects(TASKS[k] for k in tasks)), each.clean)
        row = {"image": each.name, **each.levels._asdict(),
               "input_psnr": metrics.psnr(each.image, each.clean)}  # fmt: skip
        for name, values in scores.items():
            if np.isnan(values).all():
                row |= {name: math.nan, f"best_{name}": None}
            else:
                best = int(np.nanargmax(values) if metrics.METRICS[name] else np.nanargmin(values))
                row |= {name: values[best], f"best_{name}": tasks[best]}
        rows.append(row)
    frame = pd.DataFrame(rows)
    return frame.astype({name: "Int64" for name in frame if name.startswith("best_")})


def summary(frame: pd.DataFrame) -> dict[str, float | None]:
    """Mean of each metric over the inputs (a row of Table 2); None where it was not measured."""
    means = {}
    for name in metrics.METRICS:
        values = frame[name] if name in frame else pd.Series(dtype=float)
        means[name] = None if values.isna().any() or values.empty else float(values.mean())
    return means


def evaluate(
    net,
    photos: Sequence[Photograph],
    crop: int | None = None,
    seed: int = 0,
    names: Sequence[str] = tuple(metrics.METRICS),
    device: torch.device | str = "cpu",
    keep: Path | None = None,
    share: tuple[int, int] = (1, 1),
    dtype: torch.dtype = torch.float32,
    problems: list[str] | None = None,
    own: bool = False,
) -> pd.DataFrame:
    """best_scores of a trained network.

    keep: a folder for one CSV a photo. Photos that have one there already are passed over, so
    that an interrupted run goes on, and a run over all photos merges what its shares have done.
    share: (k, n) evaluates photos k, k + n, k + 2n, ... only, counted from 1.
    dtype: of the networks' arithmetic. In bfloat16, where the hardware has it, they take half the
    time, and means of PSNR over inputs differ by less than 0.01 dB.

    problems: takes a line on each photo that cannot be read, while the others are scored; None: the
    first one raises UserError. own: as for best_scores.

    Raises UserError without photographs that can be read, or if the folder has scores of other
    settings.
    """
    if not photos:
        raise UserError("no photographs to evaluate on: --limit must be 1 or more")
    numbers = range(share[0] - 1, len(photos), share[1])
    if not numbers:
        raise UserError(f"share {share[0]}/{share[1]} of {len(photos)} photographs is empty")
    modulator = Modulator(net, device, dtype)
    if keep is None:
        frame = best_scores(modulator, photos, crop, seed, names, numbers, problems, own)
        return _some(frame, problems)
    settings = {"model": net.model.name, "profile": net.profile.name,
                "weights": checkpoints.digest(net), "crop": crop, "seed": seed,
                "metrics": Scores(names).names, "dtype": format_name(dtype),
                "effects": 1 if own else len(TASKS)}  # fmt: skip
    if not os.path.isdir(keep):
        check_writable(Path(keep) / "scores.csv")  # else each photo would say that it cannot be
    parts = []
    for i in numbers:
        path = Path(keep) / f"{photos[i].name}.csv"
        wanted = settings | {"photo": i, "fingerprint": fingerprint(photos[i : i + 1])}
        if not _is_done(path, wanted):
            try:
                check_writable(path.with_name(f"{photos[i].name}.json"))  # its longest name
            except UserError as error:
                if problems is None:
                    raise
                problems.append(str(error))
                continue
            frame = best_scores(modulator, photos, crop, seed, names, [i], problems, own)
            if frame.empty:
                continue
            provenance.save_csv(frame, path, wanted | {"device": device})
        # Read back even what was just computed: a resumed run gives the same digits.
        parts.append(provenance.load_csv(path).assign(image=photos[i].name))
    merged = _some(pd.concat([pd.DataFrame(), *parts], ignore_index=True), problems)
    return merged.astype({name: "Int64" for name in merged if name.startswith("best_")})


def _some(frame: pd.DataFrame, problems: list[str] | None) -> pd.DataFrame:
    """The frame. Raises UserError where no photo is in it."""
    if frame.empty:
        raise UserError("no photograph could be read:", *problems)
    return frame


def _is_done(path: Path, wanted: dict) -> bool:
    """Whether a photo's scores are there. Raises UserError if they are of other settings."""
    found = provenance.load_facts(path) if os.path.exists(path) else {}
    changed = [key for key in wanted if found and found.get(key) != wanted[key]]
    if changed:
        raise UserError(
            f"{path} holds scores of other settings ("
            + ", ".join(f"{key} {found.get(key)} there, {wanted[key]} here" for key in changed)
            + "): keep these in another folder, or delete that one"
        )
    return bool(found)


def ssim_variants(
    modulator: Modulator, photos: Sequence[Photograph], crop: int | None = None, seed: int = 0
) -> pd.DataFrame:
    """SSIM by several definitions, of each degraded input restored by its own task.

    One row an input, a column a definition: that of metrics.ssim; of the luma; with a uniform
    window of 7 x 7; and with the constants for values from -1 to 1, which scikit-image long took
    of floats in [0, 1] when no range was named.
    """
    rows = []
    for each in degraded_inputs(photos, crop, seed, "SSIM"):
        modulator.load(each.image)
        effect = modulator.effect(TASKS[each.k])
        rows.append({
            "as in Table 2": metrics.ssim(effect, each.clean),
            "of the luma": metrics.ssim_of(metrics.luma(effect), metrics.luma(each.clean), 255),
            "uniform window": metrics.ssim_of(effect, each.clean, 255, gaussian_weights=False),
            "range of 2": metrics.ssim_of(effect / 255, each.clean / 255, 2),
        })  # fmt: skip
    return pd.DataFrame(rows)
