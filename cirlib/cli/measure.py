"""python -m cirlib cost|evaluate|bench: FLOPs, quality and time of trained networks."""

import time
from pathlib import Path
from typing import Annotated, Literal

import tyro
from tyro.conf import arg

from cirlib.base.files import UserError, say
from cirlib.cli.options import (
    AlsoCsv,
    AsJson,
    ModelName,
    ProfileName,
    Rounds,
    app,
    check_amounts,
    check_result,
    report,
    report_rows,
    warn_of_slow,
)
from cirlib.cli.parse import parse_names, parse_share, parse_size


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
    from cirlib.architecture import full_architecture, live, shared_layers
    from cirlib.cost import cost
    from cirlib.degradation import TASKS
    from cirlib.profiles import get_model, get_profile

    width_height, preset = parse_size(size), get_profile(profile)
    check_amounts(effects=effects)
    if get_model(model).fine_tuned:
        net = checkpoints.load(model, profile)
        architectures = [live(one) for one in net.architectures(TASKS)]
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
    images: Annotated[
        str | None, arg(help="a folder of clean photos or a data set; default: cbsd68 or embedded")
    ] = None,
    limit: Annotated[int | None, arg(help="only so many photos, evenly spaced")] = None,
    crop: Annotated[int | None, arg(help="only the central square of so many pixels")] = None,
    seed: Annotated[int, arg(help="of the noise")] = 0,
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
    own: Annotated[
        bool, arg(help="the effect of an input's own task, not the best of 27: a 27th of the time")
    ] = False,
    json: AsJson = False,
) -> None:
    """Average best score among 27 effects of 26 degradations of each photo (section 4.2).

    A run with --keep can be killed and repeated; after all shares one without --share merges.
    """
    import torch

    from cirlib import checkpoints
    from cirlib.base import provenance
    from cirlib.base.device import pick_device
    from cirlib.data import datasets
    from cirlib.measure import quality
    from cirlib.measure.metrics import computable

    names = parse_names(metrics)
    computable(names)  # raises for a name that is none
    number_format = getattr(torch, dtype)
    check_amounts(limit=limit, crop=crop)
    check_amounts(0, seed=seed)
    part = parse_share(share)
    if part != (1, 1) and keep is None:
        raise UserError("--share needs --keep, the folder in which the shares come together")
    check_result(csv, ".csv")
    net = checkpoints.load(model, profile)
    images = images or datasets.default_test_set()
    photos = datasets.spread(datasets.photographs(images), limit)
    device = pick_device()
    warn_of_slow(number_format, device)
    about = {"seed": seed, "data": images, "fingerprint": datasets.fingerprint(photos),
             "weights": checkpoints.digest(net), "device": device}  # fmt: skip
    problems: list[str] = []
    frame = quality.evaluate(
        net, photos, crop, seed, names, device, keep, part, number_format, problems, own
    )
    facts = {
        "model": model,
        "profile": profile,
        "images": frame["image"].nunique(),
        "inputs": len(frame),
        "effects": 1 if own else 27,
        "crop": crop,
        "dtype": dtype,
        **quality.summary(frame),
    }
    hours = {"core_hours": time.process_time() / 3600}  # not of photos that were done before
    if csv is not None:
        provenance.save_csv(frame, csv, facts | about | {"left_out": problems})
    report(facts | hours | ({} if json else {"crop": crop or "whole"}), json)
    if problems:
        raise UserError(f"{len(problems)} left out:", *problems)


bench_app = tyro.extras.SubcommandApp()


@bench_app.command(name="latency")
def latency_command(
    size: Annotated[str, arg(help="of the image, WIDTHxHEIGHT")] = "1280x720",
    threads: Annotated[int, arg(help="and as many cores, on a CPU")] = 1,
    effects: Annotated[int, arg(help="M, how many effects share the trunk")] = 27,
    dtype: Annotated[
        Literal["fastest", "float32", "bfloat16"], arg(help="number format of the networks")
    ] = "fastest",
    models: Annotated[str, arg(help="some of them, joined by commas")] = "cresmd,tsnet,ta-tsnet",
    architecture: Annotated[
        Literal["published", "scattered", "trained"],
        arg(help="random weights with the paper's FLOPs (scattered: worst case), or the trained"),
    ] = "published",
    profile: ProfileName = "compact",
    on: Annotated[
        Literal["fastest", "cpu", "cuda"], arg(help="device; fastest: the GPU if there is one")
    ] = "fastest",
    rounds: Rounds = 5,
    csv: AlsoCsv = None,
    json: AsJson = False,
) -> None:
    """Seconds for one imagery effect, all models side by side (Table 1)."""
    import torch

    from cirlib.base import provenance
    from cirlib.base.device import fast_dtype, pick_device
    from cirlib.measure import latency
    from cirlib.profiles import get_profile

    width_height, names = parse_size(size), parse_names(models)
    get_profile(profile)
    device = torch.device("cpu") if on == "cpu" else pick_device()
    check_amounts(effects=effects, threads=threads, rounds=rounds)
    if on == "cuda" and device.type != "cuda":
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
    say(f"{facts['device']}, {threads} threads, {size}, M = {effects}, {architecture}; "
        f"a large matrix product reaches {results[0]['ceiling_gflops']:.0f} GFLOP/s")  # fmt: skip
    report_rows(results, facts, csv, json, lambda row: (
        f"{row['model']:12}{row['dtype']:10}{row['runtime']:8}{row['seconds_per_effect']:9.4f} s "
        f"({row['seconds_low']:.4f} to {row['seconds_high']:.4f})"
        + (f"{row['times_faster']:6.1f} x" if row["times_faster"] else "")
        + f"  {row['gflops_per_effect']:8.1f} GFLOPs, {row['share_of_ceiling']:.0%} of matmul"
    ))  # fmt: skip


@bench_app.command(name="first")
def first_command(
    sizes: Annotated[
        str, arg(help="of the photo, joined by commas")
    ] = "481x321,1280x720,6000x4000",
    model: ModelName = "ta-tsnet",
    profile: ProfileName = "compact",
    rounds: Rounds = 3,
    csv: AlsoCsv = None,
    json: AsJson = False,
) -> None:
    """Seconds from opening a photo to its first effect, part by part, and the peak of memory."""
    from cirlib.base import provenance
    from cirlib.base.device import pick_device
    from cirlib.measure import first

    parsed = [parse_size(size) for size in parse_names(sizes)]
    check_amounts(rounds=rounds)
    check_result(csv, ".csv")
    rows = first.bench(parsed, model, profile, rounds)
    facts = provenance.provenance(
        model=model, profile=profile, rounds=rounds, device=pick_device(), data="embedded, scaled"
    )
    say(f"{facts['device']}, {facts['threads']} threads, {model} {profile}, seconds")
    report_rows(rows, facts, csv, json, lambda row: (
        f"{row['size']}: {row['first']:.2f} ({row['low']:.2f} to {row['high']:.2f}), of which "
        + ", ".join(f"{part} {row[part]:.3f}" for part in first.PARTS[1:-1])
        + f"; start {row['start']:.1f}, later {row['later']:.2f}, {row['peak_bytes'] / 1e9:.2f} GB"
    ))  # fmt: skip


@bench_app.command(name="folder")
def folder_command(
    sizes: Annotated[
        str, arg(help="of the photos, a folder of each, joined by commas")
    ] = "481x321,1280x720",
    photos: Annotated[int, arg(help="in each folder")] = 4,
    model: ModelName = "ta-tsnet",
    profile: ProfileName = "compact",
    rounds: Rounds = 3,
    csv: AlsoCsv = None,
    json: AsJson = False,
) -> None:
    """Photos a minute of `restore folder`: side by side against one after the other."""
    from tempfile import TemporaryDirectory

    import numpy as np
    import torch

    from cirlib import checkpoints
    from cirlib.base import provenance
    from cirlib.cli.photos import restore
    from cirlib.engine.modulator import Modulator
    from cirlib.measure.first import TASK, write_scaled

    parsed = [parse_size(size) for size in parse_names(sizes)]
    check_amounts(photos=photos, rounds=rounds)
    check_result(csv, ".csv")
    modulator, most = Modulator(checkpoints.load(model, profile)), torch.get_num_threads()
    rows = []
    for size in parsed:
        with TemporaryDirectory() as folder:
            files = [Path(folder, f"{k}.jpg") for k in range(photos)]
            for file in files:
                write_scaled(file, size)
            each, whole = {file: f"{file.stem}.png" for file in files}, {Path(folder): "all"}
            ways = {"one by one, one thread": (each, 1), "one by one, all threads": (each, most),
                    "side by side": (whole, most)}  # fmt: skip
            speeds: dict[str, list[float]] = {way: [] for way in ways}
            for _ in range(rounds + 1):  # the first to warm up
                for way, (jobs, threads) in ways.items():
                    torch.set_num_threads(threads)
                    with TemporaryDirectory() as results:
                        began = time.perf_counter()
                        for source, name in jobs.items():
                            restore(modulator, source, TASK, Path(results, name), False, {})
                        speeds[way].append(60 * photos / (time.perf_counter() - began))
            torch.set_num_threads(most)
        rows += [
            {"size": f"{size[0]}x{size[1]}", "photos": photos, "way": way,
             "photos_per_minute": float(np.median(found[1:])),
             "low": min(found[1:]), "high": max(found[1:])}
            for way, found in speeds.items()
        ]  # fmt: skip
    facts = provenance.provenance(
        model=model, profile=profile, rounds=rounds, device="cpu", threads=most,
        data="embedded, scaled",
    )  # fmt: skip
    say(f"{facts['device']}, {most} threads, {model} {profile}, photos a minute")
    report_rows(rows, facts, csv, json, lambda row: (
        f"{row['photos']:4} x {row['size']:11} {row['way']:26}"
        f"{row['photos_per_minute']:8.1f} ({row['low']:.1f} to {row['high']:.1f})"
    ))  # fmt: skip


app.command(bench_app, name="bench", help="Measure speed, everything side by side in one run.")
