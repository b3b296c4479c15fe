"""Where to compute, in which number format, and how the hardware is called."""

import os
import platform
from pathlib import Path

import torch


def pick_device() -> torch.device:
    """The GPU of this process if there is one, else the CPU.

    From then on float32 is float32 in the GPU's convolutions, process-wide; torch's default is the
    shorter TF32.
    """
    if torch.cuda.is_available():
        torch.backends.cudnn.allow_tf32 = False
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
    return torch.device("cpu")


def cores() -> int:
    """How many this process may use: in a container those of the container."""
    affinity = getattr(os, "sched_getaffinity", None)  # Linux alone has it
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def bfloat16_helps(device: torch.device) -> bool:
    """Whether the hardware has bfloat16 arithmetic; without, it would be slower than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()


def free_memory(device: torch.device) -> int:
    """Bytes that programs may still ask for on a device."""
    if device.type == "cuda":
        kept_by_torch = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + kept_by_torch
    import psutil  # not needed for training

    return psutil.virtual_memory().available


def format_name(dtype: torch.dtype) -> str:
    """'float32', 'bfloat16'."""
    return str(dtype).removeprefix("torch.")


def fast_dtype(device: torch.device) -> torch.dtype:
    """The number format in which networks run fastest on a device: bfloat16 or float32."""
    return torch.bfloat16 if bfloat16_helps(device) else torch.float32


def device_name(device: str) -> str:
    """A GPU's product name, a CPU's with its widest instructions ("AMD EPYC (25/17), AVX2").

    device: torch's name of it; any other text is returned as it is.
    """
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    return _cpu_name(_cpu_facts()) if device == "cpu" else device


def _cpu_facts() -> dict[str, str]:
    """What Linux tells of the first core; empty elsewhere."""
    facts: dict[str, str] = {}
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            key, _, value = line.partition(":")
            facts.setdefault(key.strip(), value.strip())
    except OSError:
        pass
    return facts


def _cpu_name(facts: dict[str, str]) -> str:
    """Product name and instructions; where a cloud hides the name's number, with family/model."""
    name = facts.get("model name") or platform.processor() or platform.machine() or "unknown"
    if "cpu family" in facts and "model" in facts and not any(map(str.isdigit, name)):
        name += f" ({facts['cpu family']}/{facts['model']})"
    return f"{name}, {_instructions(facts.get('flags', '').split())}"


def _instructions(flags: list[str]) -> str:
    """The widest that oneDNN finds here, by the kernel's flags; without any, what torch says."""
    if tiles := [kind for kind in ("bf16", "int8") if f"amx_{kind}" in flags]:
        return f"AMX ({', '.join(tiles)})"
    widest = {"avx512_bf16": "AVX512-BF16", "avx512f": "AVX512", "avx2": "AVX2"}
    found = (name for flag, name in widest.items() if flag in flags)
    return next(found, torch.backends.cpu.get_cpu_capability())
