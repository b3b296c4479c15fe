"""The same seed on the same machine: the same networks, logs and scores, byte for byte."""

import os
import subprocess
import sys

import pandas as pd
import pytest

RUN = """
from cirlib import checkpoints
from cirlib.base import paths, provenance
from cirlib.data import datasets
from cirlib.data.paper import image_sizes
from cirlib.measure import modulation, quality
from cirlib.report import cost
from cirlib.run import loop

paths.SHIPPED = paths.CHECKPOINTS  # not what notebooks have trained in this checkout
for model in ("cresmd", "ta-tsnet"):
    loop.train(model, "smoke", steps=6, seed=5, workers=1)
photos = datasets.photographs("embedded")[:1]
net = checkpoints.load("ta-tsnet", "smoke")
frame = quality.evaluate(net, photos, crop=48, seed=5, names=("psnr", "ssim"))
costs = cost.cost_table(cost.architectures("smoke"), image_sizes())
steps = modulation.modulation_scores(net, photos, crop=48, seed=5)
for name, table in (("best_scores", frame), ("cost", costs), ("steps", steps)):
    provenance.save_csv(table, paths.RESULTS / "smoke" / f"{name}.csv", {"seed": 5})
"""


@pytest.mark.slow
def test_two_runs_of_one_seed_give_the_same_files(tmp_path):
    folders = tmp_path / "one", tmp_path / "two"
    processes = [
        subprocess.Popen([sys.executable, "-c", RUN], env=os.environ | {"CIRLIB_OUTPUT": str(f)},
                         stderr=subprocess.PIPE, text=True)
        for f in folders
    ]  # fmt: skip
    for process in processes:
        errors = process.communicate()[1]
        assert process.returncode == 0, errors

    def both(name):
        return [folder / name for folder in folders]

    # cost: sizes, effects, models; steps: more with LPIPS
    for name, rows in (("best_scores", 26), ("cost", 4 * 2 * 2), ("steps", 100)):
        one, two = (path.read_bytes() for path in both(f"results/smoke/{name}.csv"))
        assert one == two and one.count(b"\n") > rows
    for model in ("cresmd", "ta-tsnet"):
        one, two = (p.read_bytes() for p in both(f"checkpoints/smoke/{model}.safetensors"))
        assert one == two, model
        one, two = (pd.read_csv(path) for path in both(f"checkpoints/smoke/{model}.csv"))
        assert len(one) and one.drop(columns="seconds").equals(two.drop(columns="seconds"))
