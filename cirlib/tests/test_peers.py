"""Other methods beside ours: each improves what it is made for; the table says whose is whose."""

import numpy as np
import pytest

from cirlib.data.datasets import photographs
from cirlib.degradation import TASK_LEVELS
from cirlib.measure.peers import DAMAGES, peers
from cirlib.report.peers import peers_table


class Recorder:
    """A network that gives its input back, and remembers the task."""

    def __init__(self):
        self.tasks = []

    def load(self, image: np.ndarray) -> None:
        self.image = image

    def effect(self, task) -> np.ndarray:
        self.tasks.append(tuple(task))
        return self.image


@pytest.fixture(scope="module")
def measured():
    network = Recorder()
    return peers({"cresmd": network}, photographs("embedded")[:1], crop=96), network


def test_filters_restore_what_they_are_made_for(measured):
    psnr = measured[0].set_index(["damage", "method"])["psnr"]
    for damage, methods in {
        "noise 25": ("total variation", "non-local means"),
        "noise 50": ("total variation", "non-local means"),
        "blur 2": ("unsharp mask", "Richardson-Lucy"),
        "JPEG 10": ("total variation", "non-local means"),
    }.items():
        assert psnr[damage]["input"] < min(psnr[damage][method] for method in methods)
    assert (psnr[:, "cresmd"] == psnr[:, "input"]).all()


def test_networks_are_told_the_task_and_all_are_timed(measured):
    frame, network = measured
    assert network.tasks == [(0, 0.5, 0), (0, 1, 0), (0.5, 0, 0), (0, 0, 1)]
    assert set(DAMAGES.values()) <= set(TASK_LEVELS)  # points of the grid that is evaluated
    assert (frame.loc[frame["method"] != "input", "seconds"] > 0).all()


def test_published_numbers_stand_beside_their_damage_alone(measured):
    assert not any("published" in name for name in peers_table(measured[0], False)["method"])
    table = peers_table(measured[0], True).set_index("method")
    assert list(table.index[:2]) == ["input", "non-local means"] and "CResMD" in table.index
    published = table[table.index.str.endswith("(published)")]
    assert list(published.index[[0, -1]]) == ["CBM3D (published)", "DRUNet (published)"]
    assert (published["noise 25, dB"] != "").all()
    assert (published.drop(columns="noise 25, dB") == "").all(axis=None)
