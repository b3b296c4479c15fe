"""Cost and gain along sliders."""

import numpy as np
import pandas as pd
import pytest

from cirlib import checkpoints
from cirlib.architecture import live
from cirlib.cost import cost
from cirlib.data.datasets import photographs
from cirlib.measure.sliders import LEVELS, SLIDERS, along_sliders, bulge
from cirlib.report.sliders import draw_sliders
from cirlib.tests.conftest import random_searched


def test_bulge_is_what_lies_above_the_dearer_grid_point():
    flops = dict.fromkeys(LEVELS, 1.0) | {0.5: 2.0, 1: 3.0, 0.2: 2.2, 0.7: 3.6}
    rows = [("tsnet", "denoise", level, value, 0.0) for level, value in flops.items()]
    frame = pd.DataFrame(rows, columns=["model", "slider", "level", "GFLOPs", "gain"])
    assert bulge(frame)["tsnet", "denoise"] == pytest.approx(0.2)  # 3.6 of 3; 2.2 of 2 is less
    flat = frame.assign(GFLOPs=1.0)
    assert bulge(flat)["tsnet", "denoise"] == 0


def test_cost_is_that_of_the_task_and_gain_that_of_the_photo():
    net = random_searched("tsnet", seed=0)
    checkpoints.save(net, {}, "")
    photos = photographs("embedded")[:1]
    frame = along_sliders("tiny", ["tsnet"], photos, crop=16, size=(32, 32))
    assert len(frame) == len(SLIDERS) * len(LEVELS) and set(frame["slider"]) == set(SLIDERS)
    row = frame[(frame["slider"] == "denoise") & (frame["level"] == 0.45)].iloc[0]
    wanted = cost([live(net.architecture((0, 0.45, 0)))], (32, 32)).per_effect(1)
    assert row["GFLOPs"] == wanted / 1e9
    assert (frame[frame["level"] == 0]["GFLOPs"] == 0).all()
    damaged = frame.groupby("level")["gain"].count()
    assert damaged[0] == 0 and (damaged[0.1:] == len(SLIDERS)).all()
    assert np.isfinite(frame["gain"].dropna()).all()
    assert len(draw_sliders(frame).axes) == 6
