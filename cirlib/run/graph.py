"""A training step as one CUDA graph: a thousand small kernels cost one launch.

The graph is captured anew where the host decides something else than before: with each phase of
the search. What the device decides, phi among it, changes within the graph.
"""

import torch
from torch import Tensor

from cirlib.training import Training

WARM_UP = 3  # steps of a phase without a graph, in which libraries choose their kernels


class GraphedUpdate:
    """Training.update on a GPU, with the same arguments and results; batches of one size."""

    def __init__(self, training: Training):
        self.training, self.phase = training, None

    def __call__(self, *batch: Tensor) -> tuple[Tensor, ...]:
        training = self.training
        training.set_phase()
        phase = training.net.sharing, training.net.is_frozen
        if phase != self.phase:
            self.phase, self.steps, self.graph = phase, 0, None
        if self.steps < WARM_UP:
            self.steps += 1
            return self._apart(batch)
        if self.graph is None:
            self._capture(batch)
        for place, values in zip(self.inputs, batch, strict=True):
            place.copy_(values)
        self.graph.replay()
        training.step += 1
        return tuple(value.clone() for value in self.outputs)

    def _apart(self, batch: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """A step on a stream of its own, as a capture wants what comes before it."""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            outputs = self.training.update(*batch)
        torch.cuda.current_stream().wait_stream(stream)
        return outputs

    def _capture(self, batch: tuple[Tensor, ...]) -> None:
        self.inputs = tuple(values.clone() for values in batch)
        self.training.optimizer.zero_grad(set_to_none=True)  # the graph has gradients of its own
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.outputs = self.training.learn(*self.inputs)
