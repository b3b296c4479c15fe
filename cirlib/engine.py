"""The small networks of compact.py in the form that runs fastest, for one image at a time.

A head of several tasks makes a batch of their effects of the image.

compact.py gathers the channels that a convolution reads and scatters those it writes. On real
hardware moving channels costs more than multiplying by zero, so here every convolution reads and
writes the whole residual stream of its part (trunk or head), which holds live channels only, with
zeros in its weights for what is not selected. The rest is fused or avoided:

    bias, ReLU and the addition to the stream happen inside the convolution (oneDNN on CPUs)
    the stream is re-laid once, where the trunk hands over to a head, by a 1 x 1 convolution
    ``up`` writes its channels in an order in which PixelShuffle moves whole runs of memory
    ``last`` has 3 channels, which wastes vector registers: it computes 2, 4 or 5 pixels at once
    the tail, at full resolution, runs in strips of rows that stay in the cache
    task scales (of a single task), 1/255 and 255 are folded into weights

Images are uint8; what comes out is the residual in grey levels (0..255 units).
"""

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from cirlib import compact

# Rows of the half-resolution stream that the tail works on at a time: what a cache holds, or on a
# GPU enough for a kernel to be worth its launch.
STRIP, STRIP_ON_GPU = 48, 1024
HALO = 2  # rows around a strip that its result depends on
# Pixels of a row that ``last`` may compute at once, the best first: 5 fill 15 places of a register
# of 16, 2 fill 6 of 8. All rows have an even number.
TOGETHER = (2,) if torch.backends.cpu.get_cpu_capability() == "AVX2" else (5, 4, 2)


def _packs(dtype: torch.dtype) -> bool:
    """Whether oneDNN has packed convolutions for a number format on this processor."""
    if not torch.backends.mkldnn.is_available():
        return False
    return dtype != torch.bfloat16 or torch.ops.mkldnn._is_mkldnn_bf16_supported()


class Conv:
    """A convolution with fused bias, ReLU or addition; weights packed once for the device.

    scale: factors on its output in ``plus``, M x channels, for M effects; None: there are none.
    """

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor,
        dtype: torch.dtype,
        stride: tuple[int, int] = (1, 1),
        padding: int = 1,
        scale: Tensor | None = None,
    ):
        self.stride, self.padding = list(stride), [padding, padding]
        self.constant = weight.numel() == 0  # nothing to read, or nothing to write
        self.bias = bias.to(dtype)
        self.scale = None if scale is None else scale.to(dtype)[:, :, None, None]
        self.packed = weight.device.type == "cpu" and _packs(dtype)
        self.weight = weight.to(dtype, memory_format=torch.channels_last)
        if self.packed and not self.constant:
            self.weight = torch._C._nn.mkldnn_reorder_conv2d_weight(
                self.weight.to_mkldnn(), self.padding, self.stride, [1, 1], 1
            )
        self.how = (self.stride, [1, 1], 1)

    def __call__(self, x: Tensor, relu: bool = False, inside: bool = False) -> Tensor:
        """Convolve x (B x C x H x W, channels_last).

        inside: without the first and the last row, for which x lacks a neighbour.
        """
        if self.constant:
            H, W = (n // stride for n, stride in zip(x.shape[-2:], self.stride, strict=True))
            y = self.bias[None, :, None, None].expand(1, -1, H - 2 * inside, W)
            return (y.relu() if relu else y).contiguous(memory_format=torch.channels_last)
        padding = [0, self.padding[1]] if inside else self.padding
        if self.packed:
            return torch.ops.mkldnn._convolution_pointwise(
                x, self.weight, self.bias, padding, *self.how, "relu" if relu else "none", [], ""
            )
        y = F.conv2d(x, self.weight, self.bias, self.stride, padding)
        return y.relu_() if relu else y

    def plus(self, x: Tensor, stream: Tensor, in_place: bool) -> Tensor:
        """stream + the convolution of x, scaled for each effect."""
        if self.scale is not None:
            h = self.bias[:, None, None] if self.constant else self(x)
            in_place = in_place and len(stream) == len(self.scale)
            return torch.addcmul(stream, h, self.scale, out=stream if in_place else None)
        if self.constant:
            h = self.bias[:, None, None]
            return stream.add_(h) if in_place else stream + h
        if not self.packed:
            h = F.conv2d(x, self.weight, self.bias, self.stride, self.padding)
            return stream.add_(h) if in_place else h.add_(stream)
        how = (self.weight, self.bias, self.padding, *self.how, "add", 1.0, None, [], "")
        if in_place:
            return torch.ops.mkldnn._convolution_pointwise_.binary(stream, x, *how)
        return torch.ops.mkldnn._convolution_pointwise.binary(x, stream, *how)


class Features(NamedTuple):
    """What is known of an image after some convolutions; each B x C x height x width.

    stream at half resolution; hidden is the output of the last convolution that is not in the
    stream, at half or full resolution.
    """

    stream: Tensor | None = None
    hidden: Tensor | None = None


def spread(tensor: Tensor, dim: int, positions: Tensor | None, width: int) -> Tensor:
    """Zeros of ``width`` along dim, with tensor at the positions; None: as it is."""
    if positions is None:
        return tensor
    size = list(tensor.shape)
    size[dim] = width
    return tensor.new_zeros(size).index_copy_(dim, positions, tensor)


class Program:
    """A part (trunk or head) made ready to run.

    scale: of the residual, where ``last`` is not in this part (see compact.Head).
    """

    def __init__(self, part: compact.Part, dtype: torch.dtype, scale: Tensor | None = None):
        self.dtype = dtype
        self.scale = None if scale is None else 255 * scale  # of the residual: M x 3, or None
        self.entry = _relay(part, dtype)
        self.body: list[tuple[str, Conv]] = []
        self.tail: list[tuple[str, Conv]] = []
        self.narrow: dict[int, Conv] = {}  # ``last``, by the pixels it computes at once
        width, radius = part.width, 0
        for k, (kind, conv) in enumerate(zip(part.kinds, part.convs, strict=True)):
            channels = getattr(part, f"channels{k}")
            weight, bias, scale = conv.weight, conv.bias, None
            if kind in ("first", "conv2"):
                weight, bias = (spread(x, 0, channels, width) for x in (weight, bias))
                if conv.scale is not None:
                    scale = spread(conv.scale, 1, channels, width)
            elif kind in ("conv1", "up"):
                weight = spread(weight, 1, channels, width)
            if kind == "first":
                weight = weight / 255
            if kind == "up":
                weight, bias = (_phases_first(x) for x in (weight, bias))
            if kind == "last":
                self.output, self.scale = (255 * weight, 255 * bias), conv.scale
            stride = (2, 2) if kind == "first" else (1, 1)
            steps = self.tail if kind in ("up", "post", "last") else self.body
            steps.append((kind, Conv(weight, bias, dtype, stride, scale=scale)))
            radius += 2 if kind in ("conv1", "conv2", "up") else 1
        self.radius = radius + radius % 2  # pixels that an output depends on, rounded up to even

    def features(
        self,
        image: Tensor | None,
        before: Features,
        progress: Callable[[float], None] = lambda _share: None,
    ) -> Features:
        """Run all that comes before the tail: image 1 x 3 x H x W, even, in grey levels.

        progress: called with the share of the convolutions that is done, after each.
        """
        stream, hidden = before
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
        """Run the tail: strips of the residual, M x n x W x 3 grey levels, with their first row."""
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
        x = x.permute(0, 2, 3, 1).reshape(B, H, W * C // 3, 3)
        return first, x if self.scale is None else x * self.scale[:, None, None]

    def _last(self, g: int) -> Conv:
        """``last`` for g pixels of a row at once: a kernel of 3 x (g + 2), g pixels apart."""
        if g not in self.narrow:
            self.narrow[g] = together(*self.output, g, self.dtype)
        return self.narrow[g]


def pixels_together(width: int) -> int:
    """How many pixels of a row of so many, an even number, ``last`` computes at once."""
    return next(g for g in TOGETHER if width % g == 0)


def together(weight: Tensor, bias: Tensor, g: int, dtype: torch.dtype) -> Conv:
    """A 3 x 3 convolution for g pixels of a row at once: H x W x 3 becomes H x W/g x 3g."""
    wide = weight.new_zeros(g, *weight.shape[:3], g + 2)  # weight: 3 x T x 3 x 3
    for k in range(g):
        wide[k, ..., k : k + 3] = weight
    return Conv(wide.flatten(0, 1), bias.repeat(g), dtype, (1, g))


def _relay(part: compact.Part, dtype: torch.dtype) -> Conv | None:
    """The 1 x 1 convolution from the incoming stream to the part's own; None: they are the same."""
    if part.taken is None and part.placed is None:
        return None
    n = len(part.taken if part.taken is not None else part.placed)
    device = (part.taken if part.taken is not None else part.placed).device
    taken = torch.arange(n, device=device) if part.taken is None else part.taken
    placed = torch.arange(n, device=device) if part.placed is None else part.placed
    weight = torch.zeros(part.width, part.incoming, 1, 1, device=device)
    weight[placed, taken] = 1
    return Conv(weight, weight.new_zeros(part.width), dtype, padding=0)


def _phases_first(x: Tensor) -> Tensor:
    """Output channels (c, p, q) of a convolution before a PixelShuffle, as (p, q, c)."""
    return x.unflatten(0, (-1, 2, 2)).movedim(0, 2).flatten(0, 2)


def shuffle(x: Tensor) -> Tensor:
    """PixelShuffle(2) of channels ordered (p, q, c): B x 4C x H x W -> B x C x 2H x 2W.

    In channels_last memory the q and c of a row already lie as they must; only rows move.
    """
    B, C, H, W = x.shape
    x = x.permute(0, 2, 3, 1).reshape(B, H, W, 2, C // 2).transpose(2, 3).contiguous()
    return x.view(B, 2 * H, 2 * W, C // 4).permute(0, 3, 1, 2)
