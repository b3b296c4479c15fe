"""The small network of one task as an ONNX file, for other runtimes.

Input ``image`` and output ``restored``: float32, 1 x 3 x H x W, any H and W, in [0, 1]; the output
is not clipped.
"""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cirlib import compact
from cirlib.base.files import UserError, atomic, check_free
from cirlib.engine.modulator import task_metadata
from cirlib.search import SearchNet

LARGEST_DIFFERENCE = 1e-4  # of a range of 1: a fortieth of a grey level


class Whole(nn.Module):
    """Trunk and head of a task in one: B x 3 x H x W in [0, 1] -> the same, not clipped."""

    def __init__(self, net: SearchNet, task):
        super().__init__()
        plan = compact.plan(net.architecture(task))
        self.trunk, self.head = compact.trunk(net, plan), compact.head(net, plan, task)

    def forward(self, image: Tensor) -> Tensor:
        H, W = image.shape[-2:]
        # networks.pad_even without its question, which the exporter would follow for its example
        even = F.pad(image, (0, W % 2, 0, H % 2), mode="replicate")
        return self.head(self.trunk(compact.State(even)))[..., :H, :W]


def read_onnx_metadata(path: Path) -> dict[str, str]:
    """What the metadata of an ONNX file tell; empty where there are none that can be read."""
    import onnx

    try:
        told = onnx.load(path, load_external_data=False).metadata_props
    except Exception:  # whatever it is, we did not write it
        return {}
    return {entry.key: entry.value for entry in told}


def export(net: SearchNet, task, path: Path, about: dict[str, str]) -> float:
    """Write the network of a task; returns by how much ONNX Runtime's output differs at most.

    about: what the file's metadata shall tell beside the task, as for restore.

    Raises UserError when it differs by more than LARGEST_DIFFERENCE, the file cannot be written, or
    there is one that is no export of before.
    """
    import onnx
    import onnxruntime

    check_free(path, read_onnx_metadata)
    whole = Whole(net, task).cpu().eval()
    height, width = (torch.export.Dim(name, min=1) for name in ("h", "w"))
    example = torch.rand(1, 3, 33, 48, generator=torch.Generator().manual_seed(0))
    with atomic(path) as temporary:
        torch.onnx.export(
            whole, (example,), temporary, dynamo=True, external_data=False,
            verbose=False, input_names=["image"], output_names=["restored"],
            dynamic_shapes={"image": {2: height, 3: width}},
        )  # fmt: skip
        told = onnx.load(temporary)
        onnx.helper.set_model_props(told, task_metadata(about, task))
        onnx.save(told, temporary)
        session = onnxruntime.InferenceSession(temporary, providers=["CPUExecutionProvider"])
        difference = 0.0
        for size in ((33, 48), (50, 34), (35, 21)):  # the example's, and others even and odd
            image = np.random.default_rng(0).random((1, 3, *size), dtype=np.float32)
            (found,) = session.run(None, {"image": image})
            with torch.inference_mode():
                wanted = whole(torch.from_numpy(image)).numpy()
            difference = max(difference, float(abs(found - wanted).max()))
        if difference > LARGEST_DIFFERENCE:
            raise UserError(f"ONNX Runtime differs by {difference:.2g}: {path} is not written")
    return difference
