"""What commands share: their options, checks of them, and how numbers are printed.

Numbers go to stdout, all else to stderr.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import tyro
from tyro.conf import arg

from cirlib.base.files import UserError, check_writable, say

app = tyro.extras.SubcommandApp()
ModelName = Annotated[
    str,
    arg(help="cresmd, tsnet, ta-tsnet, tsnet-m, ta-tsnet-m or an ablation", metavar="MODEL"),
]
ProfileName = Annotated[
    str,
    arg(
        help="smoke (tests), compact, full (the paper's size) or paper (GPUs)",
        metavar="PROFILE",
    ),
]
SizeName = Annotated[
    str | None,
    arg(
        help="full (the paper's size), or compact (several times as fast). Default: the largest "
        "there is of the model",
        metavar="PROFILE",
    ),
]
Rounds = Annotated[int, arg(help="the median of so many is taken")]
AlsoCsv = Annotated[Path | None, arg(help="also write the results there")]
AsJson = Annotated[bool, arg(help="print one JSON object")]


def check_result(path: Path | None, suffix: str) -> None:
    """Raises UserError before any work if a result that is wanted cannot be written there."""
    from cirlib.base.provenance import load_facts

    if path is not None:
        if path.suffix != suffix:  # it would be written over whatever file that is
            raise UserError(f"{path} must end in {suffix}")
        for file in (path, path.with_suffix(".json")) if suffix == ".csv" else ():
            if file.exists() and "commit" not in load_facts(path):
                raise UserError(f"{file} is there, and no result of ours: name another place")
        check_writable(path)


def report(facts: dict, as_json: bool) -> None:
    """Print numbers on stdout, as JSON or one to a line."""
    if as_json:
        print(json.dumps(facts))
        return
    for name, value in facts.items():
        value = "not measured" if value is None else value
        print(f"{name:20} {value:.6g}" if isinstance(value, float) else f"{name:20} {value}")


def report_rows(
    rows: list[dict], facts: dict, csv: Path | None, as_json: bool, line: Callable[[dict], str]
) -> None:
    """Write rows to a CSV if one is wanted, with the facts beside it, and print both or lines.

    Of a row's ``times``, one by one, the CSV has none.
    """
    import pandas as pd

    from cirlib.base import provenance

    if csv is not None:
        table = pd.DataFrame(rows).drop(columns="times", errors="ignore")
        provenance.save_csv(table, csv, facts)
    if as_json:
        report(facts | {"results": rows}, as_json=True)
        return
    for row in rows:
        print(line(row))


def check_amounts(least: int = 1, /, **amounts: int | None) -> None:
    """Of options by their names. Raises UserError unless each is missing or at least so much."""
    for name, number in amounts.items():
        if number is not None and number < least:
            raise UserError(f"--{name} must be {least} or more, not {number}")


def warn_of_slow(dtype, device) -> None:
    """Say so if a number format is emulated on a device."""
    import torch

    from cirlib.base.device import bfloat16_helps

    if dtype == torch.bfloat16 and not bfloat16_helps(device):
        say("no bfloat16 instructions here: this takes many times as long as float32")
