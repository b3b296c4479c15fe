"""Section 7.3: the stream of training patches, degraded on the fly.

Sample i depends on the seed and on i alone. So the stream is the same whatever the number of
workers or processes, and a training that stops at step k resumes at sample k * batch.
"""

import signal
import sys
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from cirlib.degradation import (
    RADIUS,
    SCHEMES,
    degrade_pair,
    relative_task,
    sample_generator,
    sample_levels,
)


def crop(photo: np.ndarray, top: int, left: int, size: int) -> np.ndarray:
    """A size x size window of H x W x 3; outside the photo its edge is replicated."""
    H, W, _ = photo.shape
    rows = np.arange(top, top + size).clip(0, H - 1)
    columns = np.arange(left, left + size).clip(0, W - 1)
    return photo[rows[:, None], columns]


class Patches(Dataset):
    """Training samples (input, target, task) number 0, 1, 2, ...

    input, target: uint8 3 x patch x patch; task: float32 of 3 in [0, 1].
    Photos are drawn with equal probability for every pixel; each patch is flipped and transposed
    at random. The sampling schemes (see degradation.SCHEMES) take turns. With ``relative`` the
    target is a milder degradation (Eq. 13), else the clean patch.
    """

    def __init__(self, photos: Sequence[np.ndarray], patch: int, seed: int = 0,
                 relative: bool = False, schemes: Sequence[str] = SCHEMES):  # fmt: skip
        self.photos, self.patch, self.seed, self.relative = photos, patch, seed, relative
        self.schemes = schemes
        self.ends = np.cumsum([photo.shape[0] * photo.shape[1] for photo in photos])

    def clean(self, generator: torch.Generator) -> np.ndarray:
        """A random patch with a margin for the blur, (patch + 20) x (patch + 20) x 3."""
        draw = torch.rand(3, generator=generator, dtype=torch.float64).tolist()
        photo = self.photos[int(np.searchsorted(self.ends, draw[0] * self.ends[-1], "right"))]
        top, left = (
            int(u * (max(extent - self.patch, 0) + 1))
            for u, extent in zip(draw[1:], photo.shape, strict=False)
        )
        window = crop(photo, top - RADIUS, left - RADIUS, self.patch + 2 * RADIUS)
        turn = int(torch.randint(8, (), generator=generator))  # the 8 symmetries of the square
        if turn & 1:
            window = window[::-1]
        if turn & 2:
            window = window[:, ::-1]
        if turn & 4:
            window = window.transpose(1, 0, 2)
        return np.ascontiguousarray(window)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        generator = sample_generator(self.seed, index)
        scheme = self.schemes[index % len(self.schemes)]
        source, target = sample_levels(scheme, generator, self.relative)
        pair = degrade_pair(self.clean(generator), source, target, generator, margin=RADIUS)
        degraded, wanted = (torch.from_numpy(image).permute(2, 0, 1) for image in pair)
        return degraded, wanted, torch.tensor(relative_task(source, target))


def leave_interrupts_to_the_parent(worker: int) -> None:
    """Ctrl-C reaches all processes; the training ends its workers itself, without their noise."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def batches(patches: Patches, indices: Sequence[int], batch: int, workers: int) -> Iterable:
    """Batches of the given samples in order: uint8 B x 3 x P x P twice, float32 B x 3."""
    # Forked workers share the decoded photos; pickling them to each worker would copy them.
    context = "fork" if workers and sys.platform == "linux" else None
    return DataLoader(
        patches,
        batch_size=batch,
        sampler=indices,
        num_workers=workers,
        prefetch_factor=4 if workers else None,
        multiprocessing_context=context,
        worker_init_fn=leave_interrupts_to_the_parent,
        pin_memory=torch.cuda.is_available(),
    )
