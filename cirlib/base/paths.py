"""Every path of the project, once.

Two environment variables move things: ``CIRLIB_DATA`` is where photographs and metric weights
are looked for and downloaded to (default ``data/``); ``CIRLIB_OUTPUT`` is the folder under which
results, figures and trained networks are written (default ``data/mine/``, which git ignores).
What is committed is only read; ``make publish`` and ``make index`` alone write there.
"""

import os
from pathlib import Path


def _folder(variable: str, default: Path) -> Path:
    # os.path: a home of nobody stays as it is written, and is told where it is not found
    return Path(os.path.expanduser(os.environ.get(variable) or default)).resolve()


ROOT = Path(__file__).resolve().parents[2]
DATA = _folder("CIRLIB_DATA", ROOT / "data")
OUTPUT = _folder("CIRLIB_OUTPUT", ROOT / "data" / "mine")

PAPER = ROOT / "data" / "paper"  # the published numbers
NOTEBOOKS = ROOT / "notebooks"
WEIGHTS = DATA / "weights"  # what the metrics LPIPS and NIQE need

# Committed, <profile>/...; a profile's results on fewer photographs are in <profile>-<data>/.
SHIPPED = ROOT / "data" / "checkpoints"  # trained networks that come with the repository
SHIPPED_RESULTS = ROOT / "data" / "results"
SHIPPED_FIGURES = ROOT / "figures"

# One's own, the same below each.
CHECKPOINTS = OUTPUT / "checkpoints"  # <profile>/<model>.safetensors, .json, .csv
RESULTS = OUTPUT / "results"  # <profile>/*.csv
FIGURES = OUTPUT / "figures"  # <profile>/table2.md, figure7.pdf, figure7.png
RUNS = OUTPUT / "runs"  # <profile>/<model>/: state of unfinished trainings
EXECUTED = OUTPUT / "executed"  # <profile>/*.ipynb
