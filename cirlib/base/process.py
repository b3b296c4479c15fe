"""What is measured in a process of its own, where nothing is warm."""

import json
import subprocess
import sys

from cirlib.base.files import UserError


def told_by(*arguments: str) -> dict:
    """What `python -m ...` prints as JSON. Raises UserError with its last line when it fails."""
    command = [sys.executable, "-m", *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        told = done.stderr.strip().splitlines() or [f"killed by signal {-done.returncode}"]
        raise UserError(f"{' '.join(command[1:])} failed: {told[-1]}")
    return json.loads(done.stdout)
