"""A GPU that is lent for minutes: train on from what there is, then measure. Rehearse it on a CPU.

    python3 -m cirlib.cli.slot train full pack --steps 60000 --batch 64 --minutes 8
    python3 -m cirlib.cli.slot measure full cbsd68 --minutes 4

Needs only what such a machine has: torch, numpy, Pillow, safetensors and tqdm to train; pandas,
scikit-image and scipy, too, to measure. Everything is written under CIRLIB_OUTPUT, and both may
be called again: what is done is not done twice. run/README.md has the whole recipe.
"""

import argparse
import sys
import time
from collections.abc import Sequence

from cirlib import checkpoints
from cirlib.base import paths
from cirlib.base.device import fast_dtype, pick_device
from cirlib.base.files import UserError, say
from cirlib.cli.parse import parse_size
from cirlib.data.images import Size
from cirlib.run.loop import train_queue

SIZES = ((1280, 720), (2048, 1080), (3840, 2160))  # Table 1's


def train(profile: str, images: str, minutes: float, steps: int | None, batch: int | None) -> None:
    """The queue of all models, shipped ones gone on with, data made on the device, until the time
    is over.
    """
    options = {"steps": steps, "batch": batch, "on_device": True, "further": True}
    train_queue(profile, images, max_minutes=minutes, **options)


def measure(profile: str, images: str, minutes: float, sizes: Sequence[Size]) -> None:
    """Latencies as Table 1 has them, then Table 2 on whole photographs.

    Latencies are kept size by size, scores photo by photo; after so many minutes no further
    photograph is begun.
    """
    import pandas as pd

    from cirlib.base.provenance import load_csv, save_csv
    from cirlib.data.datasets import photographs
    from cirlib.measure import latency, quality

    began, device, folder = time.monotonic(), pick_device(), paths.RESULTS / profile
    models, csv = checkpoints.available(profile), folder / "latency_slot.csv"
    done = load_csv(csv) if csv.exists() else pd.DataFrame({"size": []})
    for size in sizes:
        told = "{}x{}".format(*size)
        if told in set(done["size"]):
            continue
        for kind, names in (("published", ["cresmd", "tsnet", "ta-tsnet"]), ("trained", models)):
            rows = latency.bench(size, names, 27, kind, profile, None, device)
            rows = pd.DataFrame(rows).drop(columns="times").assign(size=told, architecture=kind)
            done = pd.concat([done, rows], ignore_index=True)
        save_csv(done, csv, {"device": device} | latency.INPUT)
    photos = photographs(images)
    for k in range(1, len(photos) + 1):  # all models of a photograph, then the next
        for model in models:
            if time.monotonic() - began > 60 * minutes:
                say(f"{k - 1} of {len(photos)} photographs: call again")
                return
            quality.evaluate(
                checkpoints.load(model, profile), photos, device=device, keep=folder / model,
                share=(k, len(photos)), dtype=fast_dtype(device),
            )  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(prog="python3 -m cirlib.cli.slot", description=__doc__)
    parser.add_argument("what", choices=("train", "measure"))
    parser.add_argument("profile")
    parser.add_argument("images", help="a folder or data set: photographs of training, or of tests")
    parser.add_argument("--minutes", type=float, required=True)
    parser.add_argument("--steps", type=int, help="of each model, instead of the profile's")
    parser.add_argument("--batch", type=int, help="instead of the profile's")
    parser.add_argument(
        "--sizes", nargs="*", type=parse_size, default=SIZES, help="of the latencies"
    )
    try:
        asked = parser.parse_args()
        if asked.what == "train":
            train(asked.profile, asked.images, asked.minutes, asked.steps, asked.batch)
        else:
            measure(asked.profile, asked.images, asked.minutes, asked.sizes)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
