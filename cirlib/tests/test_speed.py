"""Table 1's latencies beside the paper's, and the arithmetic of the roofline."""

import matplotlib.pyplot as plt
import pandas as pd
import pytest

from cirlib.measure import latency, roofline
from cirlib.report import latency as latency_report
from cirlib.report import roofline as roofline_report
from cirlib.tests.conftest import random_searched


def measured(
    device: str, threads: int, times: dict[str, float], size="1280x720", ours="oneDNN"
) -> pd.DataFrame:
    """Rows as measure() returns them; ours: the runtime of all that is not eager."""
    rows = [
        {"architecture": "published", "size": size, "threads": threads, "effects": 27,
         "device": device, "model": model, "runtime": runtime, "seconds_per_effect": seconds,
         "gflops_per_effect": flops, "dtype": "bfloat16", "date": "2026-11-24T01:02:03"}
        for (model, seconds), flops in zip(times.items(), (100, 20, 4), strict=True)
        for runtime in (ours, *(["eager"] if model == "cresmd" else []))
    ]  # fmt: skip
    return pd.DataFrame(rows)


@pytest.fixture
def two_machines():
    return pd.concat([
        measured("A, AVX2", 1, {"cresmd": 10, "tsnet": 4, "ta-tsnet": 0.5}),
        measured("B, AVX512-BF16", 1, {"cresmd": 2, "tsnet": 1, "ta-tsnet": 0.25}),
        measured("B, AVX512-BF16", 8, {"cresmd": 1, "tsnet": 0.5, "ta-tsnet": 0.2}),
    ], ignore_index=True)  # fmt: skip


def test_table1_keeps_machines_apart(two_machines):
    table = latency_report.table1(two_machines)
    single = table[(table["device"] == "CPU, one thread") & (table["image"] == "HD")]
    ratios = single[single["model"] == "TA+TSNet"].set_index("our machine")["ours, x"]
    assert dict(ratios) == {"A, AVX2": "20.0", "B, AVX512-BF16": "8.0"}
    multi = table[(table["device"] == "CPU, all cores") & (table["image"] == "HD")]
    assert set(multi["our machine"]) == {"B, AVX512-BF16, 8 threads"}
    assert set(single["FLOPs, x"]) == {"1.0", "5.0", "25.0"}


def test_table1_counts_the_networks_that_are_timed(two_machines):
    table = latency_report.table1(two_machines)
    flops = table[table["device"] == "FLOPs, M = 27"].set_index(["image", "model"])
    assert len(flops) == 9 and flops["ours"]["HD", "CResMD"] == "1124.3 G"
    for image in ("HD", "2K", "4K"):
        ours, theirs = (float(flops[side][image, "TA+TSNet"][:-2]) for side in ("ours", "paper"))
        assert ours == pytest.approx(theirs, rel=0.01)


def test_table1_says_what_was_not_measured(two_machines):
    table = latency_report.table1(two_machines)
    assert len(table) == (4 * 3 + 1) * 3  # as many rows as the paper's, and a second machine's
    missing = table[(table["image"] == "4K") & (table["device"] != "FLOPs, M = 27")]
    assert set(missing["our machine"]) == {"not measured here"} and set(missing["ours"]) == {""}


def test_a_gpu_is_one_whatever_its_name(two_machines):
    times = {"cresmd": 1, "tsnet": 0.5, "ta-tsnet": 0.1}
    both = pd.concat([two_machines, measured("Tesla T4", 1, times, ours="cuDNN")])
    table = latency_report.table1(both)
    gpu = table[(table["device"] == "GPU") & (table["image"] == "HD")]
    assert set(gpu["our machine"]) == {"Tesla T4"} and list(gpu["ours, x"]) == [
        "1.0",
        "2.0",
        "10.0",
    ]
    assert "Tesla T4" not in set(table["our machine"][table["device"] != "GPU"])


def test_bench_names_the_runtime_by_the_kind_of_device(monkeypatch):
    """Which tells the rows of Table 1 apart; a GPU of AMD is "cuda" to torch, too."""
    here = latency.Modulator  # a GPU need not be there
    monkeypatch.setattr(latency, "Modulator", lambda net, *_: here(net))
    net, image = random_searched("tsnet", 0, keep=1), latency.noise_image((16, 12))
    names = [latency.contestant(net, "tsnet", image, 1, None, on).runtime for on in ("cpu", "cuda")]
    rows = ({"runtime": name, "threads": 1} for name in names)
    assert [latency_report.column(row) for row in rows] == ["latency_cpu_single", "latency_gpu"]


def test_marks_of_table_1_stand_below_the_name_of_their_machine(two_machines):
    figure = latency_report.draw_table1(two_machines)
    (axis,) = figure.axes
    assert [text.get_text() for text in axis.texts] == ["A, AVX2", "B, AVX512-BF16"]
    labels = [label.get_text() for label in axis.get_yticklabels()]
    assert labels == ["HD, 1 thread", "HD, 1 thread", "HD, 8 threads"]
    plt.close(figure)


@pytest.fixture
def layers():
    """One layer that the bandwidth bounds, and one that the peak does."""
    row = {"layer": "conv1", "inputs": 8, "outputs": 8, "milliseconds": 2.0}
    return pd.DataFrame([
        row | {"model": "cresmd", "part": "head", "count": 3, "gflops": 80.0, "gbytes": 1.0},
        row | {"model": "ta-tsnet", "part": "trunk", "count": 27, "gflops": 20.0, "gbytes": 5.0},
        row | {"model": "ta-tsnet", "part": "head", "count": 1, "gflops": 20.0, "gbytes": 5.0},
    ])  # fmt: skip


def test_roof_is_the_lower_of_peak_and_bandwidth(layers):
    found = roofline_report.roofline(layers, peak=100e9, bandwidth=10e9)
    assert list(found["intensity"]) == [80, 4, 4]
    assert list(found["roof"]) == [100, 40, 40]
    assert list(found["reached"]) == [0.8, 0.5, 0.5]
    plt.close(roofline_report.draw_roofline(found, 100e9, 10e9))


def test_per_effect_follows_eq_4(layers):
    times = roofline_report.per_effect(roofline_report.roofline(layers, 100e9, 10e9), effects=27)
    assert times["cresmd", "measured"] == 6 and times["cresmd", "roof"] == pytest.approx(4.8)
    assert times["ta-tsnet", "measured"] == 4 and times["ta-tsnet", "roof"] == pytest.approx(2)


def test_layer_rates_count_what_a_sum_reads():
    import torch

    net = random_searched("tsnet", 0, keep=1)
    rows = {
        row["layer"]: row
        for row in roofline.layer_rates(net.architecture((1, 1, 1)), (16, 12), torch.float32, 1)
    }
    C, pixels = net.net.channels, 8 * 6
    moved = {kind: rows[kind]["gbytes"] * rows[kind]["milliseconds"] * 1e6 for kind in rows}
    assert moved["conv1"] == pytest.approx(4 * pixels * 2 * C)
    assert moved["conv2"] == pytest.approx(4 * pixels * 3 * C)
    assert roofline.copy_ceiling(torch.device("cpu"), megabytes=8) > 1e8
