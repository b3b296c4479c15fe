"""The batch past one machine: jobs of a cluster, here processes, by the profile for Slurm."""

import os
import shlex
import signal
import threading

import pytest
from PIL import Image

from cirlib import checkpoints
from cirlib.base.paths import ROOT
from cirlib.data.datasets import photographs
from cirlib.measure import quality
from cirlib.run import loop
from cirlib.tests.conftest import move_output, noise
from cirlib.tests.test_batch import Batch

# Commands of Slurm, for a cluster that is this machine: a job is a process with no parent here.
SLURM = {
    "sbatch": """for script; do :; done
cd {folder}
echo "$*" >> asked
setsid sh -c 'sh "$0"; echo $? > $$.status' "$script" > "$(basename "$script").log" 2>&1 &
echo $! | tee -a submitted""",
    "sacct": """for job; do :; done
cd {folder}
if grep -q '^State:.[RSD]' /proc/$job/status 2> /dev/null; then echo RUNNING
elif test "$(cat $job.status 2> /dev/null)" = 0; then echo COMPLETED; else echo FAILED; fi""",
}


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="Linux only")
def test_jobs_on_a_cluster_are_done_again_when_killed_and_equal_those_done_here(
    tmp_path, monkeypatch
):
    """Shards of an evaluation, and a training: two at once, by the profile for Slurm."""
    (tmp_path / "photos").mkdir()
    for name, side in (("a", 32), ("b", 36)):
        Image.fromarray(noise(side, side, side)).save(tmp_path / "photos" / f"{name}.png")
    for name, script in SLURM.items():
        (tmp_path / name).write_text(
            "#!/bin/sh\n" + script.format(folder=shlex.quote(str(tmp_path)))
        )
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    submitted, killed, over = tmp_path / "submitted", [], threading.Event()

    def kill_the_second():
        """Once two are running."""
        while not over.wait(0.1):
            pids = submitted.read_text().split() if submitted.exists() else []
            pids = [int(pid) for pid in pids if os.path.exists(f"/proc/{pid}/status")]
            if len(pids) == 2 and os.getpgid(pids[1]) == pids[1]:  # setsid has made it a group
                os.killpg(pids[1], signal.SIGKILL)
                return killed.append(pids[1])

    killer = threading.Thread(target=kill_the_second)
    killer.start()
    scores = "runs/compact/full_table2/ta-tsnet"
    status, printed = Batch(tmp_path / "far").run(
        f"{scores}/a.csv", f"{scores}/b.csv", "runs/compact/cresmd.trained",
        "--profile", str(ROOT / "cirlib/run/slurm"), "--jobs", "2", "--set-threads", "training=1",
        "--seconds-between-status-checks", "1", "--latency-wait", "5",
        "--config", "profile=compact", "images=photos", "train_steps=2", typed_in=tmp_path,
    )  # fmt: skip
    over.set()
    killer.join()
    assert status == 0, printed
    assert len(killed) == 1 and len(submitted.read_text().split()) == 4
    asked = (tmp_path / "asked").read_text()
    assert asked.count("--job-name=full_scores --cpus-per-task=1 --mem=2000 --time=120") >= 2
    net, photos = checkpoints.load("ta-tsnet", "compact"), photographs(str(tmp_path / "photos"))
    here = quality.evaluate(net, photos, keep=tmp_path / "here")
    assert len(here) == 2 * 26
    for name in ("a", "b"):
        there = tmp_path / "far" / scores / f"{name}.csv"
        assert there.read_bytes() == (tmp_path / "here" / f"{name}.csv").read_bytes()
    far = checkpoints.files("cresmd", "compact", tmp_path / "far" / "checkpoints")["weights"]
    move_output(monkeypatch, tmp_path / "near")
    assert loop.train("cresmd", "compact", steps=2).read_bytes() == far.read_bytes()
