"""The batch's settings, checked before anything runs, and one notebook of it as one line.

python -m cirlib.report.batch NOTEBOOK COPY PLACE PARAMETERS    as Snakefile calls it
"""

import json
import re
import subprocess
import sys
import time
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path

from cirlib.base import paths
from cirlib.base.files import UserError, expanded
from cirlib.data.datasets import default_test_set
from cirlib.profiles import get_profile

CELL_TIMEOUT = 12 * 3600  # seconds; all of CBSD68 on a CPU is one cell

# What is measured by default. limit: so many photographs, 0 for all. crop: their central pixels,
# 0 for all; the ablations are many models. Latencies of 2K and 4K take minutes.
# train_steps: of `snakemake trainings`, 0 for all of the profile's.
QUICK = {"limit": 1, "crop": 64, "ablation_crop": 48, "rounds": 1, "runs": 2, "train_steps": 0,
         "latency_sizes": "320x180"}  # fmt: skip
DEFAULTS = {
    "smoke": QUICK | {"runs": 1, "latency_sizes": "160x90"},
    "compact": QUICK,
    "full": QUICK,
    "paper": {"limit": 0, "crop": 0, "ablation_crop": 0, "rounds": 3, "runs": 3, "train_steps": 0,
              "latency_sizes": "1280x720,2048x1080,3840x2160"},
}  # fmt: skip
# The least of each that makes sense.
LEAST = {"limit": 1, "crop": 32, "ablation_crop": 32, "rounds": 1, "runs": 1, "train_steps": 1}
MAY_BE_ALL = ("limit", "crop", "ablation_crop", "train_steps")  # of which 0 means all


def settings(asked: Mapping[str, object], folder: Path) -> dict[str, object]:
    """What the batch measures: profile, images, train_images and the keys of DEFAULTS.

    asked: what --config gives; folder: where it was typed, which relative folders are in.

    Raises UserError for an unknown key, a wrong type, and an amount that makes no sense.
    """
    keys = ("profile", "images", "train_images", *DEFAULTS["smoke"])
    for key in asked:
        if key not in keys:
            near = get_close_matches(key, keys, 1, 0)[0]
            raise UserError(f"--config knows no {key!r}: did you mean {near!r}, "
                            f"of {', '.join(keys)}?")  # fmt: skip
    profile = get_profile(str(asked.get("profile", "compact"))).name
    chosen = DEFAULTS[profile] | {key: asked[key] for key in asked if key in DEFAULTS[profile]}
    for key, least in LEAST.items():
        number = chosen[key]
        if isinstance(number, bool) or not isinstance(number, int):
            raise UserError(f"--config {key}= takes a whole number, not {number!r}")
        if number < least and not (number == 0 and key in MAY_BE_ALL):
            zero = ", or 0 for all" if key in MAY_BE_ALL else ""
            raise UserError(f"--config {key}={number}: it must be {least} or more{zero}")
    for size in str(chosen["latency_sizes"]).split(","):
        if not re.fullmatch(r"[1-9]\d+x[1-9]\d+", size):
            raise UserError(
                f"--config latency_sizes= takes sizes as 1280x720,640x360, not {size!r}"
            )
    default = "embedded" if profile == "smoke" else default_test_set()
    images = {"images": default, "train_images": "embedded"}
    found = {key: located(key, asked.get(key, usual), folder) for key, usual in images.items()}
    return {"profile": profile} | found | chosen


def located(key: str, images: object, folder: Path) -> str:
    """The name of data sets and folders, those that are relative to ``folder`` made absolute."""
    if not isinstance(images, str | int) or isinstance(images, bool):
        raise UserError(f"--config {key}= takes a data set or a folder, not {images!r}")
    name = str(images)
    place = folder / expanded(name)
    if name and place.is_dir():
        return str(place.resolve())
    return "+".join(located(key, part, folder) for part in name.split("+")) if "+" in name else name


def check_parameters(notebook: Path, parameters: Mapping[str, object]) -> None:
    """Raises UserError for a name that is no parameter: papermill would only warn, and run."""
    from papermill import inspect_notebook  # here: it takes a second

    known = inspect_notebook(str(notebook))
    for name in parameters:
        if name not in known:
            raise UserError(f"{notebook.name} has no parameter {name!r}: choose from "
                            f"{', '.join(known) or 'none'}")  # fmt: skip


def run(notebook: Path, copy: Path, place: str, parameters: Mapping[str, object]) -> bool:
    """Execute a notebook into a copy; whether it went well. What papermill says is in its log.

    place: which of all notebooks it is, as 2/13.
    """
    log, began = copy.with_suffix(".log"), time.monotonic()
    log.parent.mkdir(parents=True, exist_ok=True)
    print(f"[{place:>5}] {notebook.stem:24}", end="", flush=True)
    command = [sys.executable, "-m", "papermill", notebook, copy, "--kernel", "python3",
               "--cwd", paths.NOTEBOOKS, "--no-progress-bar", "--log-output",
               "--execution-timeout", str(CELL_TIMEOUT),
               "--parameters_yaml", json.dumps(parameters)]  # fmt: skip
    with log.open("w", encoding="utf-8") as file:
        done = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT)
    minutes, seconds = divmod(round(time.monotonic() - began), 60)
    if done.returncode == 0:
        print(f"{minutes:3} min {seconds:2} s", flush=True)
        return True
    lines = [line for line in log.read_text(encoding="utf-8").splitlines() if line.strip()]
    print(f"failed after {minutes} min {seconds} s\n  {lines[-1] if lines else 'killed'}\n"
          f"  the whole log: {log}", flush=True)  # fmt: skip
    return False


if __name__ == "__main__":
    source, target, place, text = sys.argv[1:]
    sys.exit(not run(Path(source), Path(target).resolve(), place, json.loads(text)))
