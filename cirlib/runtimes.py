"""The same network in several runtimes, side by side: why engine.py is the one we run.

    python -m cirlib bench runtimes --size 640x360 --threads 1

All restore one image by one task, trunk and head: PyTorch as it is (in float32 with channels first
and last, in float16, in the fastest number format of the machine), PyTorch compiled, ONNX Runtime,
OpenVINO, and ours. ONNX Runtime's CPU convolutions are float32 only. torch.compile needs a C++
compiler and OpenVINO is no package of ours: they are left out where they are missing.
"""

import importlib.util
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from cirlib import checkpoints, latency
from cirlib.device import fast_dtype, format_name
from cirlib.export import Whole, export
from cirlib.modulation import Modulator
from cirlib.profiles import PROFILES
from cirlib.search import SearchNet


def network(model: str, architecture: str, profile: str) -> SearchNet | latency.Untrained:
    """The network that is run: trained, or of the paper's size with random weights."""
    if architecture == "trained":
        return checkpoints.load(model, profile)
    preset = PROFILES["paper"]
    given = latency.published(model, architecture == "scattered")
    return latency.Untrained(preset.blocks, preset.channels, given)


def onnx_session(file: Path, threads: int):
    """An exported network in ONNX Runtime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])


def openvino_request(file: Path, threads: int, dtype: torch.dtype, shape: Sequence[int]):
    """An exported network in OpenVINO, compiled for images of one shape."""
    import openvino

    model = openvino.Core().read_model(file)
    model.reshape(list(shape))
    precision = {torch.float32: "f32", torch.bfloat16: "bf16"}[dtype]
    options = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1,
               "INFERENCE_PRECISION_HINT": precision}  # fmt: skip
    return openvino.compile_model(model, "CPU", options).create_infer_request()


def candidates(
    net, task, image: np.ndarray, threads: int, folder: Path
) -> dict[tuple[str, str], Callable[[], np.ndarray]]:
    """(runtime, number format) -> a function that restores the image, H x W x 3, grey levels."""
    fast = fast_dtype(torch.device("cpu"))
    found: dict[tuple[str, str], Callable] = {}
    x = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255

    def pytorch(whole, dtype, layout=torch.channels_last) -> Callable:
        whole = whole.to(dtype, memory_format=layout)
        given = x.to(dtype, memory_format=layout)

        @torch.inference_mode()
        def run() -> np.ndarray:
            return whole(given)[0].permute(1, 2, 0).float().mul(255).numpy()

        return run

    def ours(dtype) -> Callable:
        modulator = Modulator(net, dtype=dtype)

        def run() -> np.ndarray:
            modulator.load(image)
            return modulator.effect(task)

        return run

    def picture(y: np.ndarray) -> np.ndarray:
        return 255 * y[0].transpose(1, 2, 0)

    def openvino(dtype) -> Callable:
        request = None

        def run() -> np.ndarray:
            nonlocal request
            request = request or openvino_request(file, threads, dtype, x.shape)
            return picture(request.infer([x.numpy()])[0])

        return run

    file = folder / "net.onnx"
    export(net, task, file, {})
    for dtype in dict.fromkeys((torch.float32, fast)):
        name = format_name(dtype)
        found["PyTorch", name] = pytorch(Whole(net, task).eval(), dtype)
        if shutil.which("g++"):  # which torch.compile needs
            found["torch.compile", name] = pytorch(torch.compile(Whole(net, task).eval()), dtype)
        if importlib.util.find_spec("openvino"):
            found["OpenVINO", name] = openvino(dtype)
        found["ours", name] = ours(dtype)
    found["PyTorch", "float16"] = pytorch(Whole(net, task).eval(), torch.float16)
    found["PyTorch, NCHW", "float32"] = pytorch(
        Whole(net, task).eval(), torch.float32, torch.contiguous_format
    )
    session = onnx_session(file, threads)
    found["ONNX Runtime", "float32"] = lambda: picture(session.run(None, {"image": x.numpy()})[0])
    return found


def compare_runtimes(
    size: tuple[int, int],
    threads: int,
    models: Sequence[str],
    architecture: str,
    profile: str,
    rounds: int,
) -> list[dict]:
    """Seconds for one effect of an image of (width, height), both even, on the CPU.

    Keys: model, runtime, dtype, seconds (median), iqr, first (seconds of the first run, in which
    what compiles does so), off (mean difference from PyTorch's float32, grey levels, both rounded
    and clipped). The runtimes of a model take turns, after one round to warm up and compile.
    """
    image = latency.noise_image(size)
    device, rows = torch.device("cpu"), []
    for model in models:
        net = network(model, architecture, profile)
        with tempfile.TemporaryDirectory() as folder:
            runs = candidates(net, (0.5, 0.5, 0.5), image, threads, Path(folder))
            outputs, first = {}, {}
            for key, run in list(runs.items()):
                try:
                    began = time.perf_counter()
                    output = run()
                    first[key] = time.perf_counter() - began
                    outputs[key] = np.round(output.clip(0, 255))
                except Exception as error:
                    if key[0] != "torch.compile":
                        raise
                    print(f"torch.compile left out: {error}", file=sys.stderr)  # no compiler, say
                    del runs[key]
            times = {key: [] for key in runs}
            for _ in range(rounds):
                for key, run in runs.items():
                    times[key].append(latency.seconds(run, device))
        exact = outputs["PyTorch", "float32"]
        rows += [
            {
                "model": model,
                "runtime": key[0],
                "dtype": key[1],
                "seconds": float(np.median(taken)),
                "iqr": float(np.subtract(*np.percentile(taken, [75, 25]))),
                "first": first[key],
                "off": float(np.abs(outputs[key] - exact).mean()),
            }
            for key, taken in times.items()
        ]
    return rows
