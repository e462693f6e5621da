"""Wide depthwise convolutions with a quick gradient of their weights on processors.

oneDNN's compiled kernel for that gradient ends at three columns; wider windows fall to its reference loop, which takes
longer than the rest of the layer together. Here such a window is cut into strips of three columns, each of which the
compiled kernel takes. Values are those of `torch.nn.functional.conv2d`, gradients equal up to the order of the sums.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

STRIP = 3  # columns that the compiled kernel takes
aten = torch.ops.aten


class Depthwise(torch.autograd.Function):
    """conv2d with one filter a channel"""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, stride: Sequence[int], padding: Sequence[int]
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.padding, ctx.biased = stride, padding, bias is not None
        return F.conv2d(x, weight, bias, stride, padding, groups=len(weight))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,), (x, weight) = grads, ctx.saved_tensors
        seen, trained = ctx.needs_input_grad[:2]
        dx = gradient(grad, x, weight, ctx.stride, ctx.padding, 0) if seen else None
        dw = strips(grad, x, weight, ctx.stride, ctx.padding) if trained else None
        db = grad.sum((0, 2, 3)) if ctx.biased and ctx.needs_input_grad[2] else None
        return dx, dw, db, None, None


def gradient(grad: Tensor, x: Tensor, weight: Tensor, stride: Sequence[int], padding: Sequence[int], of: int) -> Tensor:
    """Of the input (`of` 0) or of the weight (1)."""
    wanted = [of == 0, of == 1, False]
    made = aten.convolution_backward(grad, x, weight, None, stride, padding, (1, 1), False, (0, 0), len(weight), wanted)
    return made[of]


def strips(grad: Tensor, x: Tensor, weight: Tensor, stride: Sequence[int], padding: Sequence[int]) -> Tensor:
    """The weight's gradient (C, 1, KH, KW), a strip of columns after the other.

    A strip from column j on is the window of a picture that begins j columns further right.
    """
    out = []
    for first in range(0, weight.shape[3], STRIP):
        part = weight[..., first : first + STRIP]
        left, width = padding[1] - first, (grad.shape[3] - 1) * stride[1] + part.shape[3]
        if left >= width or -left >= x.shape[3]:
            out.append(torch.zeros_like(part))  # it never saw anything but padding
            continue
        seen = F.pad(x, (left, width - left - x.shape[3]))
        out.append(gradient(grad, seen, part, stride, (padding[0], 0), 1))
    return torch.cat(out, 3)


def pays(x: Tensor, weight: Tensor, padding: Any, dilation: Any, groups: int) -> bool:
    """Whether a call is of a kind that is quicker here."""
    return (
        groups == len(weight) == x.shape[1]
        and x.ndim == 4
        and weight.shape[3] > STRIP
        and weight.requires_grad
        and x.device.type == "cpu"
        and x.dtype == torch.float32
        and not torch.is_autocast_enabled("cpu")
        and not isinstance(padding, str)
        and max(pair(dilation)) == 1
    )


def pair(value: Any) -> tuple[int, int]:
    rows, columns = (value, value) if isinstance(value, int) else value if len(value) == 2 else value * 2
    return rows, columns


class quick(TorchFunctionMode):
    """Within it, `conv2d` calls on processors take the quick gradient where it is quicker: `with quick(): model(x)`."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func is F.conv2d and torch.is_grad_enabled():
            return conv2d(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def conv2d(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1,
    groups: int = 1,
) -> Tensor:  # fmt: skip
    """`torch.nn.functional.conv2d`, (B, C, H, W) -> (B, C', H', W'), with the quick gradient where that is quicker."""
    if pays(x, weight, padding, dilation, groups):
        out: Tensor = Depthwise.apply(x, weight, bias, pair(stride), pair(padding))  # type: ignore[no-untyped-call]
        return out
    return F.conv2d(x, weight, bias, stride, padding, dilation, groups)
