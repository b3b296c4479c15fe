"""python -m cirlib data|pack|train: photographs, and networks trained on them."""

from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from cirlib.base.files import UserError, say
from cirlib.cli.options import ProfileName, app, check_amounts


@app.command(name="data")
def data_command(
    names: Annotated[
        Positional[list[str]], arg(help="cbsd68, bsd432, div2k, div2k-valid, weights")
    ],
) -> None:
    """Download photographs and metric weights, verified, into data/ (or CIRLIB_DATA)."""
    from cirlib.data import download

    unknown = [name for name in names if name not in download.AVAILABLE]
    if unknown or not names:
        listing = [f"  {name:12} {text}" for name, text in download.AVAILABLE.items()]
        raise UserError(f"nothing called {' '.join(unknown)!r} to download; there are:", *listing)
    for name in names:
        say(f"{name}: {download.download(name)}")


@app.command(name="pack")
def pack_command(
    images: Annotated[Positional[str], arg(help="as for train, as bsd432+clic")],
    folder: Annotated[Positional[Path], arg(help="a new one")],
    megabytes: Annotated[float, arg(help="that it may take")] = 45,
) -> None:
    """Copy photographs into a folder of limited size, for machines without network."""
    from cirlib.data import datasets

    say(f"written: {datasets.pack(images, folder, megabytes)}")


@app.command(name="train")
def train_command(
    model: Annotated[
        str, arg(help="as elsewhere, or all: what is not done yet, one after the other")
    ] = "cresmd",
    profile: ProfileName = "compact",
    images: Annotated[
        str, arg(help="a folder of photos, or a data set (data/README.md); several joined by +")
    ] = "embedded",
    steps: Annotated[int | None, arg(help="of each model, instead of the profile's")] = None,
    max_minutes: Annotated[
        float | None, arg(help="stop then; the same command goes on later")
    ] = None,
    seed: int = 0,
    batch: Annotated[int | None, arg(help="patches a step, instead of the profile's")] = None,
    workers: Annotated[int | None, arg(help="processes that make data; default: cores - 1")] = None,
    fresh: Annotated[bool, arg(help="forget an unfinished training and start anew")] = False,
    further: Annotated[
        bool, arg(help="give a finished network, shipped ones too, more steps: --steps in all")
    ] = False,
    again: Annotated[
        int | None, arg(help="with --further: in so many of them the search is open once more")
    ] = None,
    press: Annotated[float, arg(help="with --again: lambda1 times so much")] = 1,
) -> None:
    """Train a model, or go on with its unfinished training. Searched models need cresmd first."""
    from cirlib.run import loop

    check_amounts(again=again, steps=steps, batch=batch)
    check_amounts(0, seed=seed, workers=workers)
    options = {"steps": steps, "max_minutes": max_minutes, "seed": seed}
    options |= {"batch": batch, "workers": workers}
    if model == "all":
        if fresh or further:
            raise UserError("--model all goes on with what is there: no --fresh, no --further")
        loop.train_queue(profile, images, **options)
        return
    if fresh and further:
        raise UserError("--fresh starts anew and --further goes on: leave one out")
    if again and not further:
        raise UserError("--again opens the search of a finished network: add --further")
    if press != 1 and not again:
        raise UserError("--press weighs the FLOPs of a search that is opened --again: add that")
    if not press > 0:
        raise UserError(f"--press must be over 0, not {press:g}")
    options |= {"fresh": fresh, "further": further, "again": again or 0, "press": press}
    path = loop.train(model, profile, images, **options)
    say(f"written: {path}")
