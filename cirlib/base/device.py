"""Where to compute, and in which number format."""

import os

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
