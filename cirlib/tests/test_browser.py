"""The slider demo in a real browser, as JupyterLab and as Voila serve it."""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager

import pytest

from cirlib.paths import NOTEBOOKS, ROOT

SCREENSHOTS = ROOT / "data" / "screenshots"  # ignored by git
TOKEN = "a-token-of-the-test"
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")

COMMANDS = {
    "lab": ["jupyterlab", "--no-browser", "--allow-root", f"--IdentityProvider.token={TOKEN}"],
    "voila": ["voila", "50_slider_demo.ipynb", "--no-browser", f"--token={TOKEN}"],
}


@contextmanager
def serving(kind, folder):
    """Serve a copy of the notebook on a free port of localhost; yields the page's address."""
    shutil.copy(NOTEBOOKS / "50_slider_demo.ipynb", folder)
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", *COMMANDS[kind], f"--port={port}"]
    log = folder / "server.log"
    path = "/lab/tree/50_slider_demo.ipynb" if kind == "lab" else "/"
    with open(log, "w") as output:
        server = subprocess.Popen(
            command, cwd=folder, stdout=output, stderr=subprocess.STDOUT,
            env=os.environ | {"PYTHONPATH": str(ROOT), "JUPYTER_CONFIG_DIR": str(folder / "config")},
        )  # fmt: skip
        try:
            for _ in range(300):
                try:
                    urllib.request.urlopen(f"http://localhost:{port}/api", timeout=1)
                except urllib.error.HTTPError:
                    break
                except OSError:
                    time.sleep(0.1)
                else:
                    break
            assert server.poll() is None, log.read_text()
            yield f"http://localhost:{port}{path}?token={TOKEN}"
        finally:
            server.terminate()
            server.wait(20)
