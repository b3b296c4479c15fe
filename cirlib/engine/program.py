"""The small networks of compact.py in the form that runs fastest, for one image at a time.

compact.py gathers the channels that a convolution reads and scatters those it writes. On real
hardware moving channels costs more than multiplying by zero, so here every convolution reads and
writes the whole residual stream of its part (trunk or head), which holds live channels only, with
zeros in its weights for what is not selected. The rest is fused or avoided:

    bias, ReLU and the addition to the stream happen inside the convolution (oneDNN on CPUs)
    the stream is re-laid once, where the trunk hands over to a head, by a 1 x 1 convolution
    ``up`` writes its channels in an order in which PixelShuffle moves whole runs of memory
    ``last`` has 3 channels, which wastes vector registers: it computes 2, 4 or 5 pixels at once
    the tail, at full resolution, runs in strips of rows that stay in the cache
    task scales, 1/255 and 255 are folded into weights

Images are uint8; what comes out is the residual in grey levels (0..255 units).
"""

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from cirlib import compact
from cirlib.engine.convolution import (
    FusedConv,
    _phases_first,
    embed,
    pixels_together,
    shuffle,
    together,
)
from cirlib.networks import READ_THE_STREAM, WRITE_THE_STREAM, Kind

# Rows of the half-resolution stream that the tail works on at a time: what a cache holds, or on a
# GPU enough for a kernel to be worth its launch.
STRIP, STRIP_ON_GPU = 48, 1024
HALO = 2  # rows around a strip that its result depends on


class Features(NamedTuple):
    """What is known of an image after some convolutions; each B x C x height x width.

    stream at half resolution; hidden is the output of the last convolution that is not in the
    stream, at half or full resolution.
    """

    stream: Tensor | None = None
    hidden: Tensor | None = None


class Program:
    """A part (trunk or head) made ready to run.

    scale: of the residual, where ``last`` is not in this part (see compact.Head).
    """

    def __init__(self, part: compact.Part, dtype: torch.dtype, scale: Tensor | None = None):
        self.dtype = dtype
        self.scale = None if scale is None else 255 * scale  # of the residual: 1 x 3, or None
        self.entry = _relay(part, dtype)
        self.body: list[tuple[Kind, FusedConv]] = []
        self.tail: list[tuple[Kind, FusedConv]] = []
        self.narrow: dict[int, FusedConv] = {}  # ``last``, by the pixels it computes at once
        width, radius = part.width, 0
        for step in part.steps:
            kind, weight, bias = step.kind, step.weight, step.bias
            if kind in WRITE_THE_STREAM:
                weight, bias = (embed(x, 0, step.channels, width) for x in (weight, bias))
            elif kind in READ_THE_STREAM:
                weight = embed(weight, 1, step.channels, width)
            if kind == "first":
                weight = weight / 255
            if kind == "up":
                weight, bias = (_phases_first(x) for x in (weight, bias))
            if kind == "last":
                self.output = 255 * weight, 255 * bias
            steps = self.tail if kind in ("up", "post", "last") else self.body
            stride = (step.stride, step.stride)
            steps.append((kind, FusedConv(weight, bias, dtype, stride)))
            radius += 2 if kind in ("conv1", "conv2", "up") else 1
        self.radius = radius + radius % 2  # pixels that an output depends on, rounded up to even

    def features(
        self,
        image: Tensor | None,
        before: Features,
        progress: Callable[[float], None],
    ) -> Features:
        """Run all that comes before the tail: image 1 x 3 x H x W, even, in grey levels.

        progress: called with the share of the convolutions that is done, after each.
        """
        stream, hidden = before
        del before  # so that they go as soon as they have been read
        own = False  # whether the stream may be overwritten
        if stream is not None and self.entry is not None:
            stream, own = self.entry(stream), True
        for k, (kind, conv) in enumerate(self.body):
            if kind == "first":
                stream, own = conv(image), True
            elif kind == "conv1":
                hidden = conv(stream, relu=True)
            else:  # conv2; a block whose inner channels are all gone adds a constant
                stream, own = conv.plus(hidden, stream, own), True
                hidden = None
            progress((k + 1) / len(self.body))
        return Features(stream, hidden)

    def finish_features(self, features: Features) -> Features:
        """Run what of the tail belongs to this part and leave its output as features."""
        stream, hidden = features
        for kind, conv in self.tail:
            if kind == "up":
                hidden = shuffle(conv(stream))
            else:
                hidden = conv(hidden, relu=kind == "post")
        return Features(stream, hidden)

    def residual(self, features: Features) -> Iterator[tuple[int, Tensor]]:
        """Run the tail: strips of the residual, 1 x n x W x 3 grey levels, with their first row."""
        stream, hidden = features
        if not self.tail:  # all is shared: ``last`` has been run, and not in grey levels
            yield 0, (hidden.float() * self.scale[:, :, None, None]).permute(0, 2, 3, 1)
            return
        starts_at_half = self.tail[0][0] == "up"
        x = stream if starts_at_half else hidden
        rows, factor = x.shape[2], 2 if starts_at_half else 1
        most = STRIP if x.device.type == "cpu" else STRIP_ON_GPU
        strip = math.ceil(rows / math.ceil(rows / most))  # alike in size
        for top in range(0, rows, strip):
            bottom, start = min(top + strip, rows), max(0, top - HALO)
            first, y = self._strip(x[:, :, start : bottom + HALO], start, rows)
            yield factor * top, y[:, factor * top - first : factor * bottom - first]

    def _strip(self, x: Tensor, first: int, rows: int) -> tuple[int, Tensor]:
        """The tail of some rows of all that there are: the residual and its first row.

        first: of the rows given. Rows that would need others than these are not computed, or if
        these are the first or the last of all, dropped.
        """
        for kind, conv in self.tail:
            if kind == "last":
                conv = self._last(pixels_together(x.shape[3]))
            above, below = first > 0, first + x.shape[2] < rows
            x = conv(x, relu=kind == "post", inside=above and below)
            if not (above and below):
                x = x[:, :, int(above) : x.shape[2] - int(below)]
            first += above
            if kind == "up":
                x, first, rows = shuffle(x), 2 * first, 2 * rows
        B, C, H, W = x.shape
        return first, x.permute(0, 2, 3, 1).reshape(B, H, W * C // 3, 3)

    def _last(self, g: int) -> FusedConv:
        """``last`` for g pixels of a row at once: a kernel of 3 x (g + 2), g pixels apart."""
        if g not in self.narrow:
            self.narrow[g] = together(*self.output, g, self.dtype)
        return self.narrow[g]


def _relay(part: compact.Part, dtype: torch.dtype) -> FusedConv | None:
    """The 1 x 1 convolution from the incoming stream to the part's own; None: they are the same."""
    if part.taken is None and part.placed is None:
        return None
    one = torch.eye(part.incoming, device=next(part.buffers()).device)[..., None, None]
    weight = compact.scatter(compact.gather(one, part.taken), part.placed, part.width)
    weight = weight.transpose(0, 1).contiguous()
    return FusedConv(weight, weight.new_zeros(part.width), dtype, padding=0)
