"""Fitting the estimator of engine/estimation.py to the stream of training patches.

python -m cirlib.run.estimator bsd432+clic    some minutes
"""

import json
import sys

import torch
from tqdm import tqdm

from cirlib.base import paths
from cirlib.base.files import UserError, atomic
from cirlib.base.provenance import provenance
from cirlib.checkpoints import write_tensors
from cirlib.data.datasets import fingerprint, photographs
from cirlib.engine.estimation import FILE, fresh_estimator, statistics
from cirlib.patches import Patches, batches
from cirlib.run.loop import default_workers

PATCH, BATCH, RATE = 96, 256, 2e-3  # of the fit: pixels a side, patches a step, step size


def fit(images: str, samples: int = 60_000, steps: int = 6000, seed: int = 0) -> None:
    """Fit the estimator and write it to the checkpoints, with how it was made beside it.

    images: a folder of photos or a data set, as for train. samples: patches, each degraded once;
    a tenth of them is held out to tell the error.
    """
    photos = photographs(images)
    patches = Patches([photo.read() for photo in photos], PATCH, seed)
    stream = batches(patches, range(samples), BATCH, default_workers())
    parts = [(statistics(degraded), t) for degraded, _, t in tqdm(stream, file=sys.stderr)]
    x, t = (torch.cat(part) for part in zip(*parts, strict=True))
    held = max(1, samples // 10)
    net = fresh_estimator(seed)
    net.mean.copy_(x.mean(0))
    net.deviation.copy_(x.std(0) + 1e-3)
    optimizer = torch.optim.AdamW(net.parameters(), RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    generator = torch.Generator().manual_seed(seed)
    for _ in tqdm(range(steps), unit="step", file=sys.stderr):
        some = torch.randint(held, samples, (BATCH,), generator=generator)
        error = (net(x[some]) - t[some]).square().mean()
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        errors = (net(x[:held]) - t[:held]).square().mean(0).sqrt()
    rms = dict(zip(("blur", "noise", "jpeg"), [round(e, 4) for e in errors.tolist()], strict=True))
    facts = provenance(
        images=images, photos=len(photos), fingerprint=fingerprint(photos), samples=samples,
        patch=PATCH, steps=steps, batch=BATCH, seed=seed, device="cpu", rms_error_held_out=rms,
    )  # fmt: skip
    path = paths.CHECKPOINTS / FILE
    write_tensors(path, net.state_dict(), {})
    with atomic(path.with_suffix(".json")) as temporary:
        temporary.write_text(json.dumps(facts, indent=2) + "\n")
    print(f"written: {path}; root-mean-square errors {rms}", file=sys.stderr)


if __name__ == "__main__":
    import tyro

    try:
        options = (tyro.conf.PositionalRequiredArgs,)
        tyro.cli(fit, prog="python -m cirlib.run.estimator", config=options)
    except UserError as error:
        sys.exit(f"error: {error}")
