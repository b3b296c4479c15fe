"""The command line: what a stranger types, what a script reads."""

import json
import os
import subprocess
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image

from cirlib import checkpoints
from cirlib.base import provenance
from cirlib.data.paper import value
from cirlib.engine import estimation
from cirlib.measure.first import PARTS
from cirlib.tests.conftest import noise, random_searched

LONG = "a" * 300
OWN = ("--model", "ta-tsnet", "--profile", "tiny")  # the network of trained()


@pytest.fixture
def trained(tmp_path):
    """A searched network in a profile of its own, and a photo."""
    net = random_searched("ta-tsnet", seed=3, shared_points=5)
    checkpoints.save(net, {"steps": 0}, "step,loss\n")
    (tmp_path / "photos").mkdir()
    Image.fromarray(noise(40, 50)).save(tmp_path / "photos" / "photo.png")
    return tmp_path


def test_cost_of_the_paper_network_is_the_published_one():
    """As a program; the other tests run commands in their own process."""
    arguments = ("cost", "--profile", "paper", "--size", "1280x720", "--effects", "27", "--json")
    command = [sys.executable, "-m", "cirlib", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    facts = json.loads(done.stdout)
    published = value("table1", method="cresmd", column="flops", resolution="HD")
    assert done.stderr == ""
    assert round(facts["gflops_per_effect"], 1) == published
    assert list(facts) == ["model", "profile", "size", "effects", "gflops_per_effect",
                           "gflops_trunk", "gflops_head_mean", "shared_layers"]  # fmt: skip


def test_cost_of_a_searched_network_adds_up(run, trained):
    arguments = ("cost", *OWN, "--size", "65x33", "--json")
    _, out, _ = run(*arguments)
    facts = json.loads(out)
    parts = facts["gflops_trunk"] / 27 + facts["gflops_head_mean"]
    assert facts["gflops_trunk"] > 0
    assert facts["gflops_per_effect"] == pytest.approx(parts)
    assert facts["shared_layers"] == pytest.approx(5 / 12)


def test_evaluate_prints_one_json_object(run, trained):
    arguments = ("evaluate", *OWN, "--images",
                 trained / "photos", "--limit", 1, "--crop", 32, "--csv", trained / "scores.csv",
                 "--json")  # fmt: skip
    status, out, _ = run(*arguments)
    facts = json.loads(out)
    assert status == 0
    assert (facts["images"], facts["inputs"], facts["effects"], facts["crop"]) == (1, 26, 27, 32)
    assert facts["psnr"] > 0
    assert facts["niqe"] is None  # not defined on so small a crop
    assert (trained / "scores.csv").exists() and (trained / "scores.json").exists()


def test_evaluate_some_metrics_in_another_number_format(run, trained):
    arguments = ("evaluate", *OWN, "--images",
                 trained / "photos", "--crop", 32, "--json")  # fmt: skip
    for dtype in ("float32", "bfloat16"):
        here = (*arguments, "--dtype", dtype, "--metrics", "psnr, ssim")
        status, out, _ = run(*here, "--keep", trained / dtype)
        facts = json.loads(out)
        assert status == 0 and facts["dtype"] == dtype
        assert facts["psnr"] > 0 and facts["ssim"] > 0 and facts["niqe"] is None
    status, _, err = run(*arguments, "--metrics", "psnr, ssim",
                         "--keep", trained / "bfloat16")  # fmt: skip
    assert status == 1 and "dtype bfloat16 there, float32 here" in err


def test_evaluate_keeps_what_is_scored_whatever_photos_are_called_or_hold(run, trained):
    photo, csv = trained / "photos" / "photo.png", trained / "scores.csv"
    try:
        photo.rename(os.fsdecode(os.fsencode(photo.parent) + b"/caf\xe9.png"))
    except OSError:
        photo.rename(photo.with_name("caf.png"))  # this file system has names of text only
    (photo.parent / "damaged.png").write_bytes(b"no image")
    for keep in ((), ("--keep", trained / "kept")):
        status, out, err = run("evaluate", *OWN, "--images",
            photo.parent, "--crop", 32, "--metrics", "psnr", "--csv", csv, *keep, "--json",
        )  # fmt: skip
        assert status == 1 and "error: 1 left out:\n" in err and "damaged.png" in err
        assert json.loads(out)["images"] == 1
        assert len(scores := provenance.load_csv(csv)) == 26
        assert scores["image"].str.startswith("caf").all()
        assert len(provenance.load_facts(csv)["left_out"]) == 1
        csv.unlink()


def test_restore_writes_the_effect_with_its_task(run, trained):
    source, target = trained / "photos" / "photo.png", trained / "restored.png"
    arguments = ("restore", source, "--task", "0.5,0.5,0", "-o", target, *OWN)
    status, out, _ = run(*arguments)
    with Image.open(target) as restored:
        assert restored.size == (50, 40)
        assert restored.text["task"] == "0.5,0.5,0"
    assert (status, out) == (0, "")


@pytest.mark.parametrize(
    "arguments", [(LONG,), ("photos", "-o", LONG), ("photos", "--grid", "-o", f"{LONG}/x")]
)
def test_restore_with_a_name_that_cannot_be_says_so_in_a_line(run, monkeypatch, trained, arguments):
    monkeypatch.chdir(trained)
    status, out, err = run("restore", *arguments, *OWN)
    assert (status, out) == (1, "") and "File name too long" in err and err.count("\n") == 1


@pytest.mark.parametrize("task", [(), ("--task", "auto")])
def test_restore_by_the_task_that_seems_to_fit_says_which(run, monkeypatch, trained, task):
    monkeypatch.setattr(estimation, "estimate", lambda image, device: (0.4, 0.104, 0.9))
    source, target = trained / "photos" / "photo.png", trained / "restored.png"
    status, out, err = run("restore", source, *task, "-o", target, *OWN)
    with Image.open(target) as restored:
        assert restored.text["task"] == "0.4,0.1,0.9"
    assert (status, out) == (0, "") and f"{source}: task 0.4,0.1,0.9\n" in err


def test_restore_makes_all_27_effects_and_a_sheet(run, trained):
    photo = trained / "photos" / "photo.png"
    assert run("restore", photo, *OWN, "-o", trained / "new", "--grid")[0] == 0
    assert len(list((trained / "new").iterdir())) == 28


@pytest.mark.parametrize(
    "arguments, cause",
    [
        (("cost", "--size", "big"), "WIDTHxHEIGHT"),
        (("cost", "--size", "0x5"), "WIDTHxHEIGHT"),
        (("cost", "--model", "nafnet"), "no model 'nafnet'"),
        (("cost", "--profile", "huge"), "no profile 'huge'"),
        (("cost", "--effects", 0), "1 or more"),
        (("restore", ""), "an argument is empty"),
        (("restore", "photo.png", "-o", ""), "an argument is empty"),
        (("restore", "-o", "out"), "name a photo, or a folder of photos"),
        (("restore", "photo.png", "--task", "1,2"), "DEBLUR,DENOISE,DEJPEG"),
        (("restore", "photo.png", "--task", "0,0,1.5"), "each from 0 to 1"),
        (("restore", "photo.png", "--task", "0,0,nan"), "each from 0 to 1"),
        (("restore", "photo.png", "--task", "auto", "--grid"), "leave --task out"),
        (("evaluate", "--limit", 0), "1 or more"),
        (("evaluate", "--seed", -1), "0 or more"),
        (("evaluate", "--metrics", ","), "name one or several, joined by commas"),
        (("train", "--batch", 0), "1 or more"),
        (("train", "--workers", -1), "0 or more"),
        (("train", "--seed", -1), "0 or more"),
        (("evaluate", "--metrics", "psnr,vif"), "no metric is called 'vif'"),
        (("evaluate", "--share", "3/2"), "K from 1 to N"),
        (("evaluate", "--share", "1/2"), "--share needs --keep"),
        (("bench", "latency", "--rounds", 0), "1 or more"),
        (("bench", "latency", "--threads", 4096), "cores"),
        (("bench", "first", "--rounds", 0), "1 or more"),
        (("bench", "folder", "--photos", 0), "1 or more"),
        (("bench", "latency", "--models", ","), "name one or several, joined by commas"),
        (("bench", "latency", "--profile", "huge"), "no profile 'huge'"),
        (("bench", "latency", "--csv", "/proc/x/y.csv"), "cannot write /proc/x/y.csv"),
        (("evaluate", "--csv", "/proc/x/y.csv"), "cannot write /proc/x/y.csv"),
        (("evaluate", "--keep", LONG), "File name too long"),
        (("train", "--images", "~nobody-here"), "folder is called '~nobody-here'"),
        (("train", "--images", LONG), "no data set or folder is called"),
        (("export", "-o", f"{LONG}.onnx"), "File name too long"),
        (("pack", "embedded", LONG), "File name too long"),
        (("data", "imagenet"), "nothing called 'imagenet'"),
        (("train", "--model", "tsnet", "--profile", "smoke"), "--model cresmd"),
        (("train", "--model", "tsnet", "--again", 3), "add --further"),
        (("train", "--model", "tsnet", "--press", 2), "--again: add that"),
        (("train", "--further", "--again", 0), "1 or more"),
        (("train", "--further", "--again", 3, "--press", 0), "over 0"),
    ],
)
def test_mistakes_get_one_line_that_names_the_cure(run, arguments, cause):
    status, out, err = run(*arguments)
    lines = [line for line in err.splitlines() if line.startswith("error: ")]
    assert status == 1 and out == ""
    assert len(lines) == 1 and cause in lines[0]
    assert "Traceback" not in err and r"\n" not in err


COMMANDS = "data pack train cost evaluate bench export restore".split()
BENCHES = ("bench latency", "bench first", "bench folder")


@pytest.mark.parametrize("command", ["", *COMMANDS, *BENCHES])
def test_help(run, command):
    status, out, _ = run(*command.split(), "--help")
    assert status == 0 and "usage: python -m cirlib" in out


def test_restore_a_folder_names_what_it_leaves_out(run, trained):
    photos, target = trained / "photos", trained / "out"
    (photos / "raw.dng").touch()
    status, out, err = run("restore", photos, "-o", target, *OWN)
    assert (status, out) == (0, "") and "left out: 1 file that is no photo we read (.dng)" in err
    (photos / "broken.jpg").write_bytes(b"no image")
    status, out, err = run("restore", photos, "-o", target, *OWN)
    assert status == 1 and out == "" and "error: 1 left out" in err and "broken.jpg" in err
    assert [path.name for path in target.iterdir()] == ["photo.png"]


def test_export_writes_a_network_that_onnx_runtime_runs_alike(run, trained):
    target = trained / "net.onnx"
    arguments = ("export", "--task", "1,0.5,0", "-o", target, *OWN)
    status, _, err = run(*arguments)
    assert status == 0 and "ONNX Runtime differs by" in err
    told = {entry.key: entry.value for entry in onnx.load(target).metadata_props}
    assert told == {"model": "ta-tsnet", "profile": "tiny", "task": "1,0.5,0"}
    net = checkpoints.load("ta-tsnet", "tiny")
    session = onnxruntime.InferenceSession(target, providers=["CPUExecutionProvider"])
    for height, width in ((24, 36), (25, 36), (24, 37), (25, 37), (1, 1), (1, 2)):
        image = np.random.default_rng(0).random((1, 3, height, width), dtype=np.float32)
        (found,) = session.run(None, {"image": image})
        with torch.inference_mode():
            wanted = net(torch.from_numpy(image), torch.tensor([(1, 0.5, 0)])).numpy()
        np.testing.assert_allclose(found, wanted, atol=1e-4)


def test_export_writes_over_exports_of_before_alone(run, monkeypatch, trained):
    target = trained / "net.onnx"
    arguments = ("export", "-o", target, *OWN)
    theirs = onnx.helper.make_model(onnx.helper.make_graph([], "theirs", [], []))
    onnx.helper.set_model_props(theirs, {"model": "nafnet"})
    monkeypatch.setattr("torch.onnx.export", lambda *_, **__: pytest.fail("at work"))
    for content in (theirs.SerializeToString(), b"no network", b""):
        target.write_bytes(content)
        status, _, err = run(*arguments)
        assert status == 1 and f"error: {target} is there, and no result of ours" in err
        assert target.read_bytes() == content
    onnx.helper.set_model_props(theirs, {"model": "cresmd", "profile": "compact", "task": "0,0,1"})
    onnx.save(theirs, target)  # as if it were ours
    with pytest.raises(pytest.fail.Exception, match="at work"):
        run(*arguments)


@pytest.mark.parametrize(
    "arguments, suffix", [(("export", "-o"), ".onnx"), (("evaluate", "--csv"), ".csv")]
)
def test_a_file_of_another_kind_is_not_written_over(run, tmp_path, arguments, suffix):
    photo = tmp_path / "photo.jpg"
    photo.write_text("a photo")
    status, _, err = run(*arguments, photo)
    assert status == 1 and err == f"error: {photo} must end in {suffix}\n"
    assert photo.read_text() == "a photo"


@pytest.mark.parametrize("suffix", [".csv", ".json"])
def test_a_table_that_is_not_ours_is_not_written_over(run, tmp_path, suffix):
    notes = tmp_path / f"notes{suffix}"
    notes.write_text("[1]")
    status, _, err = run("bench", "first", "--csv", tmp_path / "notes.csv")
    assert status == 1 and err.startswith(f"error: {notes} is there, and no result of ours")
    assert notes.read_text() == "[1]"


def test_bench_first_tells_the_parts_of_the_wait_and_the_memory(run):
    status, out, _ = run("bench", "first", "--sizes", "64x48", "--rounds", 1, "--json")
    (row,) = json.loads(out)["results"]
    assert status == 0 and row["first"] == pytest.approx(sum(row[part] for part in PARTS[1:-1]))
    assert row["start"] > row["first"] > 0 and 1e8 < row["peak_bytes"] < 2e9


def test_bench_folder_runs_all_ways(run, trained):
    arguments = ("bench", "folder", "--sizes", "64x48", "--photos", 2, "--rounds", 1, *OWN)
    status, out, _ = run(*arguments, "--csv", trained / "speed.csv", "--json")
    rows = json.loads(out)["results"]
    assert status == 0 and len(rows) == 3 == len(provenance.load_csv(trained / "speed.csv"))
    assert all(0 < row["low"] <= row["photos_per_minute"] <= row["high"] for row in rows)


def test_bench_latency_prints_one_json_object(trained):
    command = [sys.executable, "-m", "cirlib", "bench", "latency", "--size", "64x48", "--effects",
               "2", "--rounds", "1", "--on", "cpu", "--csv", str(trained / "latency.csv"),
               "--json"]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    facts = json.loads(done.stdout)
    assert (facts["size"], facts["threads"], facts["effects"]) == ("64x48", 1, 2)
    assert {"device", "torch", "commit"} <= facts.keys()
    assert [(row["model"], row["runtime"]) for row in facts["results"]] == [
        ("cresmd", "oneDNN"), ("cresmd", "eager"), ("tsnet", "oneDNN"), ("ta-tsnet", "oneDNN"),
    ]  # fmt: skip
    assert all(row["seconds_per_effect"] > 0 for row in facts["results"])
    assert (trained / "latency.csv").exists() and (trained / "latency.json").exists()


def test_pack_writes_a_folder_to_train_on(run, trained):
    status, _, err = run("pack", trained / "photos", trained / "new")
    assert status == 0 and err == f"written: {trained / 'new'}\n"
    assert [path.name for path in (trained / "new").iterdir()] == ["photo.png"]


def test_evaluate_in_shares_and_merged(run, trained):
    Image.fromarray(np.full((40, 40, 3), 90, np.uint8)).save(trained / "photos" / "grey.png")
    folders = ("--images", trained / "photos", "--keep", trained / "kept")
    arguments = ("evaluate", *OWN, *folders, "--crop", 32)
    images = []
    for share in ("1/2", "2/2", "1/1"):
        status, out, _ = run(*arguments, "--share", share, "--json")
        assert status == 0
        images.append(json.loads(out)["images"])
    assert images == [1, 1, 2]
    assert {path.name for path in (trained / "kept").glob("*.csv")} == {"photo.csv", "grey.csv"}
