"""Every path of the project, once.

Two environment variables move things: ``CIRLIB_DATA`` is where photographs and metric weights
are looked for and downloaded to (default ``data/``); ``CIRLIB_OUTPUT`` is the folder under which
results, figures and trained networks are written (default: the repository); trained networks that
are not there are taken from those that the repository ships.
"""

import os
from pathlib import Path


def _folder(variable: str, default: Path) -> Path:
    # os.path: a home of nobody stays as it is written, and is told where it is not found
    return Path(os.path.expanduser(os.environ.get(variable) or default)).resolve()


ROOT = Path(__file__).resolve().parents[2]
DATA = _folder("CIRLIB_DATA", ROOT / "data")
OUTPUT = _folder("CIRLIB_OUTPUT", ROOT)

PAPER = ROOT / "data" / "paper"  # the published numbers
NOTEBOOKS = ROOT / "notebooks"
SHIPPED = ROOT / "data" / "checkpoints"  # trained networks that come with the repository
WEIGHTS = DATA / "weights"  # what the metrics LPIPS and NIQE need

RESULTS = OUTPUT / "data" / "results"  # <profile>/*.csv
CHECKPOINTS = OUTPUT / "data" / "checkpoints"  # <profile>/<model>.safetensors, .json, .csv
EXECUTED = OUTPUT / "data" / "executed"  # <profile>/*.ipynb: the notebooks as the batch ran them
RUNS = OUTPUT / "data" / "runs"  # <profile>/<model>/: state of unfinished trainings, ignored
FIGURES = OUTPUT / "figures"  # <profile>/table2.md, figure7.pdf, figure7.png
