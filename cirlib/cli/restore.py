"""python -m cirlib export|restore: networks for other runtimes, and effects of photos."""

from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from cirlib.base.files import UserError, say
from cirlib.cli.options import ModelName, SizeName, app, check_result
from cirlib.cli.parse import parse_task


@app.command(name="export")
def export_command(
    task: Annotated[str, arg(help="DEBLUR,DENOISE,DEJPEG, each 0 to 1")] = "0.5,0.5,0",
    output: Annotated[Path, arg(aliases=["-o"], help="where to write the network")] = Path(
        "restore.onnx"
    ),
    model: ModelName = "ta-tsnet",
    profile: SizeName = None,
) -> None:
    """Write the small network of one task as ONNX, and check it with ONNX Runtime.

    Its input and output: float32, 1 x 3 x H x W, any H and W, in [0, 1]; the output is not clipped.
    """
    from cirlib import checkpoints
    from cirlib.engine import export

    wanted = parse_task(task)
    check_result(output, ".onnx")
    net = checkpoints.load(model, profile)
    about = {"model": model, "profile": net.profile.name}
    difference = export.export(net, wanted, output, about)
    say(f"written: {output} (ONNX Runtime differs by {difference:.1e} at most, of 1)")


@app.command(name="restore")
def restore_command(
    sources: Annotated[Positional[list[Path]], arg(help="photos, or folders of photos")],
    task: Annotated[
        str | None,
        arg(help="DEBLUR,DENOISE,DEJPEG, each 0 to 1. Default: auto, what seems to fit the photo"),
    ] = None,
    output: Annotated[
        Path | None,
        arg(aliases=["-o"], help="the result; a folder for several. Default: restored.png or "
            "restored"),
    ] = None,
    grid: Annotated[bool, arg(help="all 27 effects of none, half and full strength")] = False,
    page: Annotated[
        int | None, arg(help="of files that have several, from 1. Default: the first picture")
    ] = None,
    model: ModelName = "ta-tsnet",
    profile: SizeName = None,
) -> None:  # fmt: skip
    """Restore photos by a task; --grid writes 27 effects of each and a contact sheet.

    Results are upright, in sRGB with three channels of 8 bits, transparent parts over white, grey
    where the photo is. They keep the resolution in print, EXIF (date, camera and lens, place,
    author), XMP, and in PNG the texts of a PNG.
    """
    from cirlib import checkpoints
    from cirlib.base.device import pick_device
    from cirlib.cli import photos
    from cirlib.engine.modulator import Modulator

    if not sources:
        raise UserError("name a photo, or a folder of photos")
    if grid and task is not None:
        raise UserError("--grid writes all 27 effects: leave --task out")
    wanted = None if task in (None, "auto") else parse_task(task)
    modulator = Modulator(checkpoints.load(model, profile), pick_device())
    about = {"model": model, "profile": modulator.net.profile.name}
    problems = photos.restore(modulator, sources, wanted, output, grid, about, page)
    several = grid or len(sources) > 1 or sources[0].is_dir()
    say(f"written: {output or Path('restored' if several else 'restored.png')}")
    if problems:
        raise UserError(f"{len(problems)} left out:", *problems)
