"""Parameters and multiply-accumulates, counted by running: there are no formulas to fall out of step with the code."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode, flop_registry

from opsin.evaluate.inference import Size, evaluating, input_shape

# What the field counts as no multiply-accumulate, beside views, pointwise operators and reductions.
MAKES = """arange empty empty_like empty_strided eye full full_like linspace new_empty new_full new_ones new_zeros ones
    ones_like scalar_tensor zeros zeros_like"""
MOVES = """_local_scalar_dense _reshape_alias _to_copy _unsafe_index _unsafe_view alias as_strided cat
    channel_shuffle col2im constant_pad_nd copy detach embedding expand fill flip gather im2col index
    index_select lift_fresh masked_fill meshgrid native_dropout pixel_shuffle pixel_unshuffle reflection_pad2d
    repeat repeat_interleave replication_pad2d roll scatter select slice sort stack topk tril triu unfold
    where zero"""
POOLS = """_adaptive_avg_pool2d adaptive_max_pool2d avg_pool2d max_pool2d_with_indices upsample_bicubic2d
    upsample_bilinear2d upsample_nearest2d _upsample_bicubic2d_aa _upsample_bilinear2d_aa"""
NORMALISES = """_log_softmax _native_batch_norm_legit _native_batch_norm_legit_no_training _safe_softmax _softmax cumsum
    native_batch_norm native_group_norm native_layer_norm"""
REDUCES = "amax amin argmax argmin linalg_vector_norm max mean min prod std sum var var_mean"
FREE = frozenset(f"{MAKES} {MOVES} {POOLS} {NORMALISES} {REDUCES}".split())


def count(model: nn.Module, size: Size = None) -> dict[str, Any]:
    """Parameters and multiply-accumulates of one forward pass at batch 1; nothing is computed where shapes suffice.

    `params` (a shared one counts once), `macs` (matrix products, convolutions, attention; biases, norms, activations
    and pooling are free, as in the field's tables), and `unknown_ops`: operators that carry no formula, with how often
    they ran, so that a wrong count is never silent. `size`: a side, (H, W) or (C, H, W).
    """
    shape = input_shape(model, size)
    with evaluating(model):
        try:
            seen, flops = _run(model, shape, "meta")
        except Exception:  # a forward that reads values, or makes tensors on a device of its own, needs real numbers
            seen, flops = _run(model, shape, next((str(p.device) for p in model.parameters()), "cpu"))
    return {"params": sum(p.numel() for p in model.parameters()), "macs": flops // 2, "unknown_ops": seen}


def _run(model: nn.Module, shape: tuple[int, int, int], device: str) -> tuple[dict[str, int], int]:
    tensors = [*model.named_parameters(), *model.named_buffers()]
    state = {name: t.to(device) for name, t in tensors}
    dtype = next((p.dtype for p in model.parameters()), torch.float32)
    missing = {op: formula for op, formula in FORMULAS.items() if op not in flop_registry}
    operators = _Operators()
    with operators, FlopCounterMode(display=False, custom_mapping=missing) as counter:
        torch.func.functional_call(model, state, torch.zeros(1, *shape, dtype=dtype, device=device))
    known = {*flop_registry, *FORMULAS}
    unknown = {str(op): n for op, n in operators.seen.items() if op.overloadpacket not in known and not _free(op)}
    return unknown, int(counter.get_total_flops())


def _free(op: Any) -> bool:
    tags = {str(tag).rpartition(".")[2] for tag in op.tags}
    name = op.overloadpacket.__name__.removesuffix("_")
    return op.namespace in ("aten", "prims") and (op.is_view or bool(tags & {"pointwise", "reduction"}) or name in FREE)


class _Operators(TorchDispatchMode):
    """Remembers every operator that reaches the kernels."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen: dict[Any, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen[func] = self.seen.get(func, 0) + 1
        return func(*args, **(kwargs or {}))


def _attention(query: Any, key: Any, value: Any, *rest: Any, **named: Any) -> int:
    batch, heads, queries, dim = query
    return int(2 * batch * heads * queries * key[2] * (dim + value[3]))


# torch has no formula for its own CPU attention before 2.15 and counts it as nothing.
FORMULAS: dict[Any, Callable[..., int]] = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention}
