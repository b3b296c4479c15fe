"""A convolution with all that surrounds it fused in, on the layouts that hardware likes.

Bias, ReLU and the addition to the residual stream happen inside oneDNN's convolution; PixelShuffle
and the three channels of the last layer are laid out so that no memory is moved twice.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

# Pixels of a row that ``last`` may compute at once, the best first: 5 fill 15 places of a register
# of 16, 2 fill 6 of 8. All rows have an even number.
TOGETHER = (2,) if torch.backends.cpu.get_cpu_capability() == "AVX2" else (5, 4, 2)


def _packs(dtype: torch.dtype) -> bool:
    """Whether oneDNN has packed convolutions for a number format on this processor."""
    if not torch.backends.mkldnn.is_available():
        return False
    return dtype != torch.bfloat16 or torch.ops.mkldnn._is_mkldnn_bf16_supported()


class FusedConv:
    """A convolution with fused bias, ReLU or addition; weights packed for the device.

    oneDNN's blocks depend on the size of the input, above all on its width, and on the threads.
    Weights in other blocks are laid out anew at each call, which at a width of 32 takes three times
    as long as the convolution (64 channels, AVX2); so they are packed anew here for another width.
    """

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor,
        dtype: torch.dtype,
        stride: tuple[int, int] = (1, 1),
        padding: int = 1,
    ):
        self.stride, self.padding = list(stride), [padding, padding]
        self.constant = weight.numel() == 0  # nothing to read, or nothing to write
        self.bias = bias.to(dtype)
        self.packed = weight.device.type == "cpu" and _packs(dtype)
        self.weight = weight.to(dtype, memory_format=torch.channels_last)
        if self.packed and not self.constant:
            self.weight = self.weight.to_mkldnn()
        self.how = (self.stride, [1, 1], 1)
        self.packed_for = 0, 0  # width, threads

    def _weight_for(self, x: Tensor) -> Tensor:
        if self.packed_for != (met := (x.shape[-1], torch.get_num_threads())):
            self.packed_for = met
            self.weight = torch._C._nn.mkldnn_reorder_conv2d_weight(
                self.weight, self.padding, *self.how, list(x.shape)
            )
        return self.weight

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
                x, self._weight_for(x), self.bias, padding, *self.how, "relu" if relu else "none",
                [], "",
            )  # fmt: skip
        y = F.conv2d(x, self.weight, self.bias, self.stride, padding)
        return y.relu_() if relu else y

    def plus(self, x: Tensor, stream: Tensor, in_place: bool) -> Tensor:
        """stream + the convolution of x."""
        if self.constant:
            h = self.bias[:, None, None]
            return stream.add_(h) if in_place else stream + h
        if not self.packed:
            h = F.conv2d(x, self.weight, self.bias, self.stride, self.padding)
            return stream.add_(h) if in_place else h.add_(stream)
        how = (self._weight_for(x), self.bias, self.padding, *self.how, "add", 1.0, None, [], "")
        if in_place:
            return torch.ops.mkldnn._convolution_pointwise_.binary(stream, x, *how)
        return torch.ops.mkldnn._convolution_pointwise.binary(x, stream, *how)


def embed(tensor: Tensor, dim: int, positions: Tensor | None, width: int) -> Tensor:
    """Zeros of ``width`` along dim, with tensor at the positions; None: as it is."""
    if positions is None:
        return tensor
    size = list(tensor.shape)
    size[dim] = width
    return tensor.new_zeros(size).index_copy_(dim, positions, tensor)


def pixels_together(width: int) -> int:
    """How many pixels of a row of so many, an even number, ``last`` computes at once."""
    return next(g for g in TOGETHER if width % g == 0)


def together(weight: Tensor, bias: Tensor, g: int, dtype: torch.dtype) -> FusedConv:
    """A 3 x 3 convolution for g pixels of a row at once: H x W x 3 becomes H x W/g x 3g."""
    wide = weight.new_zeros(g, *weight.shape[:3], g + 2)  # weight: 3 x T x 3 x 3
    for k in range(g):
        wide[k, ..., k : k + 3] = weight
    return FusedConv(wide.flatten(0, 1), bias.repeat(g), dtype, (1, g))


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
