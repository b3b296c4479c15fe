"""Where a number came from, written beside it.

A CSV holds numbers only, so that two equal runs give equal bytes; what differs between runs (date,
commit, machine) stands in a JSON file of the same name. Needs neither matplotlib nor, to state
facts, pandas.
"""

from __future__ import annotations

import json
import math
import os
import platform
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from cirlib.base import paths
from cirlib.base.files import UserError, atomic

if TYPE_CHECKING:
    import pandas as pd

# What numbers depend on. Results and figures are left out: what is published there changes none.
_SOURCES = ("cirlib", "notebooks", "data/paper")


def provenance(**facts: object) -> dict[str, object]:
    """Return where and when a result is made, together with ``facts`` (profile, seed, data ...).

    Keys: ``commit`` of this repository, with ``-dirty`` after it if code differs from it, or
    "unknown" outside git; ``date`` (UTC, ISO 8601); versions of ``python``, ``torch``, ``numpy``
    and ``pillow``, which makes the JPEG artifacts; ``device`` and ``threads`` (of torch, on the
    CPU). ``device`` is the GPU's name if there is one, else the CPU's with its vector instructions;
    a fact ``device`` ("cpu", "cuda:1", a torch.device) says which was really used. Facts win over
    what is found, so a provenance passed in again comes out unchanged.
    """
    import numpy as np
    import PIL
    import torch

    from cirlib.base.device import device_name

    device = facts.get("device", "cuda" if torch.cuda.is_available() else "cpu")
    found = {
        "commit": _commit(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "pillow": PIL.__version__,
        "threads": torch.get_num_threads(),
    }
    return {**found, **facts, "device": device_name(str(device))}


def save_csv(frame: pd.DataFrame, path: Path | str, facts: Mapping[str, object]) -> Path:
    """Write ``frame`` to ``path`` and ``provenance(**facts)`` to the JSON file beside it.

    Floats get nine significant digits: what a float32 holds, and less than the noise of summing
    in another order. The index is not written. Returns ``path``.

    Raises UserError if the files cannot be written; the previous ones then stay.
    """
    path = Path(path)
    with atomic(path) as temporary:
        frame.to_csv(
            temporary, index=False, float_format="%.9g", lineterminator="\n", encoding="utf-8",
            errors="backslashreplace",  # names of files may be no text
        )  # fmt: skip
    save_facts(path, facts)
    return path


def save_facts(path: Path | str, facts: Mapping[str, object]) -> Path:
    """Write ``provenance(**facts)`` to the JSON file beside the result ``path``; returns its path.

    Raises UserError if it cannot be written; the previous one then stays.
    """
    place = Path(path).with_suffix(".json")
    text = json.dumps(provenance(**facts), indent=2, default=_plain, ensure_ascii=False)
    with atomic(place) as temporary:
        # "\\udce9" instead of a letter that is none is JSON, too
        temporary.write_text(text + "\n", "utf-8", "backslashreplace", newline="\n")
    return place


def protocol(facts: Mapping[str, object]) -> str:
    """Return what was measured on: '10 of cbsd68, crop 128', '1280x720'; empty if nothing tells."""
    if "photos" not in facts:
        return str(facts.get("size", ""))
    crop = f"crop {facts['crop']}" if facts.get("crop") else "whole"
    return f"{facts['photos']} of {facts.get('data')}, {crop}"


def pixels(facts: Mapping[str, object]) -> int:
    """Return about how many pixels a run has measured; whole photographs count as CBSD68's."""
    if "size" in facts:
        return math.prod(int(side) for side in facts["size"].split("x"))
    crop = facts.get("crop")
    return facts.get("photos", 0) * (crop**2 if crop else 481 * 321)


def load_csv(path: Path | str) -> pd.DataFrame:
    """Return the frame that :func:`save_csv` wrote to ``path``; only empty cells are missing.

    Raises UserError if the file is missing or not a table, with the command that makes it.
    """
    import pandas as pd

    path = Path(path)
    if not path.exists():
        raise UserError(f"{path} is missing: make it with `{_command(path)}`")
    try:
        return pd.read_csv(path, keep_default_na=False, na_values=[""])
    except (pd.errors.EmptyDataError, pd.errors.ParserError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is damaged: delete it, then `{_command(path)}`") from error


def load_facts(path: Path | str) -> dict[str, object]:
    """Return the provenance beside the result ``path``; empty if there is none."""
    try:
        return json.loads(Path(path).with_suffix(".json").read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):  # of another's hand
        return {}


def _commit() -> str:
    try:
        top, commit = _git("rev-parse", "--show-toplevel", "HEAD").splitlines()
        # An installed copy may lie inside some other repository: that one's commit says nothing.
        if Path(top).resolve() != paths.ROOT.resolve():
            return "unknown"
        changed = _git("status", "--porcelain", "--", *_SOURCES)
    except (OSError, ValueError, subprocess.SubprocessError):
        return "unknown"
    return commit + ("-dirty" if changed else "")


def _git(*arguments: str) -> str:
    # Variables such as GIT_DIR, set while a hook runs, would point to another repository.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    return subprocess.run(
        ["git", "--no-optional-locks", "-C", str(paths.ROOT), *arguments],
        capture_output=True,
        text=True,
        check=True,
        timeout=10,
        env=environment,
    ).stdout.strip()


def _plain(value: object) -> object:
    """Return what JSON can hold of a NumPy number, or the text of anything else."""
    return value.item() if getattr(value, "shape", None) == () else str(value)


def _command(path: Path) -> str:
    """The command that makes a CSV of one's own results, or brings back a committed one."""
    path = path.resolve()
    if path.is_relative_to(paths.SHIPPED_RESULTS.resolve()):
        return f"git checkout {path}"
    return f"make reproduce PROFILE={path.parent.name}"
