"""The command line: python -m cirlib data|pack|train|cost|evaluate|rounding|bench|export|restore.

Numbers go to stdout, all else to stderr.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import tyro
from tyro.conf import Positional, arg

from cirlib.files import UserError, check_writable

app = tyro.extras.SubcommandApp()

ModelName = Annotated[
    str,
    arg(help="cresmd, tsnet, ta-tsnet, tsnet-m, ta-tsnet-m or an ablation", metavar="MODEL"),
]
ProfileName = Annotated[
    str, arg(help="smoke (tests), compact (shipped) or paper (GPUs)", metavar="PROFILE")
]
ArchitectureName = Annotated[
    Literal["published", "scattered", "trained"],
    arg(help="random weights with the paper's FLOPs (scattered: worst case), or the trained"),
]
Rounds = Annotated[int, arg(help="the median of so many is taken")]
TestImages = Annotated[
    str | None, arg(help="a folder of clean photos or a data set; default: cbsd68 or embedded")
]
Limit = Annotated[int | None, arg(help="only so many photos, evenly spaced")]
Crop = Annotated[int | None, arg(help="only the central square of so many pixels")]
NoiseSeed = Annotated[int, arg(help="of the noise")]
AlsoCsv = Annotated[Path | None, arg(help="also write the results there")]
AsJson = Annotated[bool, arg(help="print one JSON object")]


def say(text: str) -> None:
    print(text, file=sys.stderr)


def check_result(path: Path | None, suffix: str) -> None:
    """Raises UserError before any work if a result that is wanted cannot be written there."""
    if path is not None:
        if path.suffix != suffix:  # it would be written over whatever file that is
            raise UserError(f"{path} must end in {suffix}")
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
    """Write rows to a CSV if one is wanted, with the facts beside it, and print both or lines."""
    import pandas as pd

    from cirlib import provenance

    if csv is not None:
        provenance.save_csv(pd.DataFrame(rows), csv, facts)
    if as_json:
        report(facts | {"results": rows}, as_json=True)
        return
    for row in rows:
        print(line(row))


def check_amounts(*numbers: int | None) -> None:
    """Of --limit and --crop. Raises UserError unless each is missing or at least 1."""
    if any(number is not None and number < 1 for number in numbers):
        raise UserError("--limit and --crop must be 1 or more")


def parse_size(size: str) -> tuple[int, int]:
    """'1280x720' -> (1280, 720). Raises UserError."""
    try:
        width, height = (int(part) for part in size.lower().split("x"))
        if width < 1 or height < 1:
            raise ValueError
    except ValueError:
        raise UserError(f"a size is WIDTHxHEIGHT in pixels, as 1280x720, not {size!r}") from None
    return width, height


def parse_task(task: str) -> tuple[float, float, float]:
    """'0.5,0.5,0' -> (0.5, 0.5, 0.0). Raises UserError."""
    try:
        deblur, denoise, dejpeg = (float(part) for part in task.split(","))
        if not all(0 <= t <= 1 for t in (deblur, denoise, dejpeg)):
            raise ValueError
    except ValueError:
        raise UserError(
            f"a task is DEBLUR,DENOISE,DEJPEG, each from 0 to 1, as 0.5,0.5,0, not {task!r}"
        ) from None
    return deblur, denoise, dejpeg


def parse_names(names: str) -> list[str]:
    """'cresmd, tsnet' -> ['cresmd', 'tsnet']. Raises UserError."""
    found = [name.strip() for name in names.split(",") if name.strip()]
    if not found:
        raise UserError(f"name one or several models, as cresmd,ta-tsnet, not {names!r}")
    return found


def parse_share(share: str) -> tuple[int, int]:
    """'2/8' -> (2, 8). Raises UserError."""
    try:
        k, n = (int(part) for part in share.split("/"))
        if not 1 <= k <= n:
            raise ValueError
    except ValueError:
        raise UserError(f"a share is K/N with K from 1 to N, as 2/8, not {share!r}") from None
    return k, n


def warn_of_slow(dtype, device) -> None:
    """Say so if a number format is emulated on a device."""
    import torch

    from cirlib.device import bfloat16_helps

    if dtype == torch.bfloat16 and not bfloat16_helps(device):
        say("no bfloat16 instructions here: this takes many times as long as float32")


@app.command(name="data")
def data_command(
    names: Annotated[
        Positional[list[str]], arg(help="cbsd68, bsd432, div2k, div2k-valid, weights")
    ],
) -> None:
    """Download photographs and metric weights, verified, into data/ (or CIRLIB_DATA)."""
    from cirlib import datasets

    unknown = [name for name in names if name not in datasets.AVAILABLE]
    if unknown or not names:
        listing = "".join(f"\n  {name:12} {text}" for name, text in datasets.AVAILABLE.items())
        raise UserError(f"nothing called {' '.join(unknown)!r} to download; there are:{listing}")
    for name in names:
        say(f"{name}: {datasets.download(name)}")


@app.command(name="pack")
def pack_command(
    images: Annotated[Positional[str], arg(help="as for train, as bsd432+clic")],
    folder: Annotated[Positional[Path], arg(help="a new one")],
    megabytes: Annotated[float, arg(help="that it may take")] = 45,
) -> None:
    """Copy photographs into a folder of limited size, for machines without network."""
    from cirlib import datasets

    say(f"written: {datasets.pack(images, folder, megabytes)}")


@app.command(name="train")
def train_command(
    model: Annotated[
        str, arg(help="as elsewhere, or all: what is not done yet, one after the other")
    ] = "cresmd",
    profile: ProfileName = "compact",
    images: Annotated[
        str, arg(help="a folder of photos, or embedded, bsd432, clic, div2k; several joined by +")
    ] = "embedded",
    steps: Annotated[int | None, arg(help="of each model, instead of the profile's")] = None,
    max_minutes: Annotated[
        float | None, arg(help="stop then; the same command goes on later")
    ] = None,
    seed: int = 0,
    workers: Annotated[int | None, arg(help="processes that make data; default: cores - 1")] = None,
    fresh: Annotated[bool, arg(help="forget an unfinished training and start anew")] = False,
) -> None:
    """Train a model, or go on with its unfinished training. Searched models need cresmd first."""
    from cirlib import training

    options = {"steps": steps, "max_minutes": max_minutes, "seed": seed, "workers": workers}
    if model == "all":
        if fresh:
            raise UserError("--model all goes on with what is there: no --fresh")
        worked_on = training.train_queue(profile, images, **options)
        say(f"worked on: {', '.join(worked_on) or 'nothing, all is done'}")
        return
    path = training.train(model, profile, images, fresh=fresh, **options)
    say(f"written: {path}")


@app.command(name="cost")
def cost_command(
    model: ModelName = "cresmd",
    profile: ProfileName = "compact",
    size: Annotated[str, arg(help="of the image, WIDTHxHEIGHT")] = "1280x720",
    effects: Annotated[int, arg(help="M, how many effects share the trunk")] = 27,
    json: AsJson = False,
) -> None:
    """FLOPs of one imagery effect, averaged over the 27 tasks (Eq. 4)."""
    from cirlib import checkpoints
    from cirlib.cost import cost, full_architecture, live, shared_layers
    from cirlib.degradation import TASKS
    from cirlib.profiles import get_model, get_profile

    width_height, preset = parse_size(size), get_profile(profile)
    if effects < 1:
        raise UserError(f"the number of effects must be 1 or more, not {effects}")
    if get_model(model).fine_tuned:
        net = checkpoints.load(model, profile)
        architectures = [live(net.architecture(task)) for task in TASKS]
    else:
        architectures = [full_architecture(preset.blocks, preset.channels)] * len(TASKS)
    result = cost(architectures, width_height)
    report(
        {
            "model": model,
            "profile": profile,
            "size": size,
            "effects": effects,
            "gflops_per_effect": result.per_effect(effects) / 1e9,
            "gflops_trunk": result.trunk / 1e9,
            "gflops_head_mean": result.head_mean / 1e9,
            "shared_layers": shared_layers(architectures[0]),
        },
        json,
    )


@app.command(name="evaluate")
def evaluate_command(
    model: ModelName = "cresmd",
    profile: ProfileName = "compact",
    images: TestImages = None,
    limit: Limit = None,
    crop: Crop = None,
    seed: NoiseSeed = 0,
    csv: Annotated[Path | None, arg(help="also write the score of every input there")] = None,
    keep: Annotated[
        Path | None, arg(help="a folder for the scores of each photo; those there are not redone")
    ] = None,
    share: Annotated[
        str, arg(help="K/N: only photos K, K+N, K+2N, ... for one of N machines; needs --keep")
    ] = "1/1",
    metrics: Annotated[
        str, arg(help="some of them, joined by commas; those without weights are left out")
    ] = "psnr,ssim,niqe,lpips",
    dtype: Annotated[
        Literal["float32", "bfloat16"], arg(help="number format of the networks")
    ] = "float32",
    json: AsJson = False,
) -> None:
    """Average best score among 27 effects of 26 degradations of each photo (section 4.2).

    A run with --keep can be killed and repeated; after all shares one without --share merges.
    """
    import torch

    from cirlib import checkpoints, datasets, evaluation, provenance
    from cirlib.device import pick_device
    from cirlib.metrics import available

    names = [name.strip() for name in metrics.split(",")]
    available(names)  # raises for a name that is none
    number_format = getattr(torch, dtype)
    check_amounts(limit, crop)
    part = parse_share(share)
    if part != (1, 1) and keep is None:
        raise UserError("--share needs --keep, the folder in which the shares come together")
    check_result(csv, ".csv")
    net = checkpoints.load(model, profile)
    images = images or datasets.default_test_set()
    photos = datasets.spread(datasets.photographs(images), limit)
    device = pick_device()
    warn_of_slow(number_format, device)
    frame = evaluation.evaluate(net, photos, crop, seed, names, device, keep, part, number_format)
    facts = {
        "model": model,
        "profile": profile,
        "images": frame["image"].nunique(),
        "inputs": len(frame),
        "effects": 27,
        "crop": crop,
        "dtype": dtype,
        **evaluation.summary(frame),
    }
    if csv is not None:
        about = {"seed": seed, "data": images, "fingerprint": datasets.fingerprint(photos),
                 "weights": checkpoints.digest(net), "device": device}  # fmt: skip
        provenance.save_csv(frame, csv, facts | about)
    report(facts, json)


@app.command(name="rounding")
def rounding_command(
    models: Annotated[str, arg(help="some of them, joined by commas")] = "cresmd",
    profile: ProfileName = "compact",
    images: TestImages = None,
    limit: Limit = None,
    crop: Crop = None,
    seed: NoiseSeed = 0,
    csv: AlsoCsv = None,
    json: AsJson = False,
) -> None:
    """What shipping in float16 costs: PSNR beside that of the float32 weights in data/runs."""
    from cirlib import datasets, provenance, rounding
    from cirlib.device import pick_device

    check_amounts(limit, crop)
    check_result(csv, ".csv")
    names = parse_names(models)
    for name in names:
        rounding.unrounded(name, profile)  # before the first of them takes its time
    images = images or datasets.default_test_set()
    photos, device = datasets.spread(datasets.photographs(images), limit), pick_device()
    rows = [rounding.rounding(name, profile, photos, crop, seed, device) for name in names]
    facts = provenance.provenance(
        profile=profile, photos=len(photos), data=images, crop=crop, seed=seed,
        fingerprint=datasets.fingerprint(photos), device=device,
    )  # fmt: skip
    report_rows(rows, facts, csv, json, lambda row: (
        f"{row['model']:18}{row['float32']:9.4f} dB in float32{row['difference']:+9.4f} in "
        f"float16, at most {row['largest']:.4f} for one of {row['inputs']} inputs; "
        f"the same best effect {row['same_best']:.0%}"
    ))  # fmt: skip


bench = tyro.extras.SubcommandApp()


@bench.command(name="latency")
def latency_command(
    size: Annotated[str, arg(help="of the image, WIDTHxHEIGHT")] = "1280x720",
    threads: Annotated[int, arg(help="and as many cores, on a CPU")] = 1,
    effects: Annotated[int, arg(help="M, how many effects share the trunk")] = 27,
    dtype: Annotated[
        Literal["fastest", "float32", "bfloat16"], arg(help="number format of the networks")
    ] = "fastest",
    models: Annotated[str, arg(help="some of them, joined by commas")] = "cresmd,tsnet,ta-tsnet",
    architecture: ArchitectureName = "published",
    profile: ProfileName = "compact",
    on: Annotated[
        Literal["fastest", "cpu", "cuda"], arg(help="device; fastest: the GPU if there is one")
    ] = "fastest",
    rounds: Rounds = 5,
    csv: AlsoCsv = None,
    json: AsJson = False,
) -> None:
    """Seconds for one imagery effect, all models side by side (Table 1)."""
    import pandas as pd
    import torch

    from cirlib import latency, provenance
    from cirlib.device import fast_dtype, pick_device
    from cirlib.profiles import get_profile

    width_height, names = parse_size(size), parse_names(models)
    get_profile(profile)
    device = pick_device() if on == "fastest" else torch.device(on)
    if min(effects, threads, rounds) < 1:
        raise UserError("--effects, --threads and --rounds must be 1 or more")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UserError("--on cuda: torch finds no GPU here; leave it out")
    latency.use_threads(threads)
    number = fast_dtype(device) if dtype == "fastest" else getattr(torch, dtype)
    warn_of_slow(number, device)
    check_result(csv, ".csv")
    results = latency.bench(
        width_height, names, effects, architecture, profile, number, device, rounds
    )
    about = {"size": size, "threads": threads, "effects": effects, "architecture": architecture}
    if architecture == "trained":
        about["profile"] = profile
    facts = provenance.provenance(**about, device=device, rounds=rounds, **latency.INPUT)
    if csv is not None:
        rows = [about | row for row in results]
        provenance.save_csv(pd.DataFrame(rows), csv, facts)
    if json:
        report(facts | {"results": results}, as_json=True)
        return
    base = next((r["seconds_per_effect"] for r in results if r["model"] == "cresmd"), None)
    print(f"{facts['device']}, {threads} threads, {size}, M = {effects}, {architecture}; "
          f"a large matrix product reaches {results[0]['ceiling_gflops']:.0f} GFLOP/s")  # fmt: skip
    for row in results:
        ratio = f"{base / row['seconds_per_effect']:6.1f} x" if base else ""
        print(
            f"{row['model']:12}{row['dtype']:10}{row['runtime']:8}"
            f"{row['seconds_per_effect']:9.4f} s (IQR {row['iqr']:.4f}){ratio}"
            f"  {row['gflops_per_effect']:8.1f} GFLOPs, {row['share_of_ceiling']:.0%} of matmul"
        )


@bench.command(name="runtimes")
def runtimes_command(
    size: Annotated[str, arg(help="of the image, WIDTHxHEIGHT, both even")] = "640x360",
    threads: Annotated[int, arg(help="and as many cores")] = 1,
    models: Annotated[str, arg(help="some of them, joined by commas")] = "cresmd,ta-tsnet",
    architecture: ArchitectureName = "published",
    profile: ProfileName = "compact",
    rounds: Rounds = 5,
    csv: AlsoCsv = None,
    json: AsJson = False,
) -> None:
    """Seconds for one effect in PyTorch, other runtimes and ours, side by side."""
    import pandas as pd

    from cirlib import latency, provenance, runtimes

    width_height = parse_size(size)
    if min(threads, rounds) < 1 or width_height[0] % 2 or width_height[1] % 2:
        raise UserError("--threads and --rounds must be 1 or more, the sides of --size even")
    latency.use_threads(threads)
    check_result(csv, ".csv")
    found = runtimes.compare_runtimes(
        width_height, threads, parse_names(models), architecture, profile, rounds
    )
    about = {"size": size, "threads": threads, "architecture": architecture}
    facts = provenance.provenance(
        **about, profile=profile, device="cpu", rounds=rounds, **latency.INPUT
    )
    if csv is not None:
        provenance.save_csv(pd.DataFrame([about | row for row in found]), csv, facts)
    if json:
        report(facts | {"results": found}, as_json=True)
        return
    print(f"{facts['device']}, {threads} threads, {size}, {architecture}")
    for row in found:
        print(f"{row['model']:10}{row['runtime']:15}{row['dtype']:10}{row['seconds']:9.4f} s "
              f"(IQR {row['iqr']:.4f})   off by {row['off']:.3f} grey levels")  # fmt: skip


@bench.command(name="train")
def train_bench_command(
    profile: ProfileName = "compact",
    models: Annotated[str, arg(help="some of them, joined by commas")] = (
        "cresmd,tsnet,ta-tsnet,tsnet-m,ta-tsnet-m"
    ),
    images: Annotated[str, arg(help="as for train")] = "embedded",
    rounds: Annotated[int, arg(help="of ten steps a model and data worker")] = 6,
    csv: AlsoCsv = None,
    json: AsJson = False,
) -> None:
    """Seconds for one training step, models side by side, and the share of waiting for data."""
    from cirlib import provenance, step_time
    from cirlib.device import pick_device

    check_result(csv, ".csv")
    results = step_time.step_times(profile, parse_names(models), images, rounds)
    about = {"profile": profile, "data": images, "seed": 0, "rounds": rounds}
    facts = provenance.provenance(**about, device=pick_device())
    report_rows(results, facts, csv, json, lambda row: (
        f"{row['model']:12}{row['seconds_per_step']:9.4f} s{row['ratio']:7.2f} x"
        f"{row['gflops_per_second']:9.1f} GFLOP/s   waiting for data {row['waiting']:.0%}"
    ))  # fmt: skip


app.command(bench, name="bench", help="Measure speed, everything side by side in one run.")


@app.command(name="export")
def export_command(
    task: Annotated[str, arg(help="DEBLUR,DENOISE,DEJPEG, each 0 to 1")] = "0.5,0.5,0",
    output: Annotated[Path, arg(aliases=["-o"], help="where to write the network")] = Path(
        "restore.onnx"
    ),
    model: ModelName = "ta-tsnet",
    profile: ProfileName = "compact",
) -> None:
    """Write the small network of one task as ONNX, and check it with ONNX Runtime.

    Its input and output: float32, 1 x 3 x H x W, any H and W, in [0, 1]; the output is not clipped.
    """
    from cirlib import checkpoints, export

    wanted = parse_task(task)
    check_result(output, ".onnx")
    about = {"model": model, "profile": profile}
    difference = export.export(checkpoints.load(model, profile), wanted, output, about)
    say(f"written: {output} (ONNX Runtime differs by {difference:.1e} at most, of 1)")


@app.command(name="restore")
def restore_command(
    source: Annotated[Positional[Path], arg(help="a photo, or a folder of photos")],
    task: Annotated[
        str | None,
        arg(help="DEBLUR,DENOISE,DEJPEG, each 0 to 1, or auto: what seems to fit the photo. "
            "Default: 0.5,0.5,0"),
    ] = None,
    output: Annotated[
        Path | None,
        arg(aliases=["-o"], help="the result; a folder for several. Default: restored.png or "
            "restored"),
    ] = None,
    grid: Annotated[bool, arg(help="all 27 effects of none, half and full strength")] = False,
    model: ModelName = "ta-tsnet",
    profile: ProfileName = "compact",
) -> None:  # fmt: skip
    """Restore photos by a task; --grid writes 27 effects of each and a contact sheet.

    Results are upright, in sRGB with three channels of 8 bits, transparent parts over white, grey
    where the photo is. They keep the resolution in print and what the camera has written as EXIF:
    date, camera and lens, place.
    """
    from cirlib import checkpoints, restore
    from cirlib.device import pick_device
    from cirlib.modulation import Modulator

    if grid and task is not None:
        raise UserError("--grid writes all 27 effects: leave --task out")
    wanted = None if task == "auto" else parse_task("0.5,0.5,0" if task is None else task)
    modulator = Modulator(checkpoints.load(model, profile), pick_device())
    about = {"model": model, "profile": profile}
    problems = restore.restore(modulator, source, wanted, output, grid, about)
    several = grid or source.is_dir()
    say(f"written: {output or Path('restored' if several else 'restored.png')}")
    if problems:
        raise UserError("\n".join([f"{len(problems)} left out:", *problems]))


def main() -> int:
    """0, or 1 after a one-line error on stderr, or 130 when interrupted."""
    try:
        app.cli(prog="python -m cirlib", config=(tyro.conf.FlagCreatePairsOff,))
    except UserError as error:
        say(f"error: {error}")
        return 1
    except KeyboardInterrupt as stopped:
        say(str(stopped) or "interrupted")
        return 130
    except BrokenPipeError:
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
