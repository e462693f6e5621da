"""Multi-head self-attention. Vaswani et al., 2017, arXiv:1706.03762"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from ..layers.norm import LayerNorm
from ..width import Concat, Groups, Width


def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None, scale: float | None = None) -> Tensor:
    """softmax(scale q k^T + bias) v over (B, ..., N, d), scale 1 / sqrt(d) by default

    torch's fused kernel on CPUs takes values as wide as keys, biases that learn nothing, and (B, heads, N, d); what it
    does with others takes up to twice as long as the products do.
    """
    if q.device.type == "cpu" and (q.shape[-1] != v.shape[-1] or (bias is not None and bias.requires_grad)):
        logits = q * (scale or q.shape[-1] ** -0.5) @ k.mT
        return (logits if bias is None else logits + bias).softmax(-1) @ v
    if q.ndim == 4:
        return F.scaled_dot_product_attention(q, k, v, bias, scale=scale)
    q4, k4, v4 = (x.flatten(0, -4) for x in (q, k, v))
    y = F.scaled_dot_product_attention(q4, k4, v4, bias if bias is None else bias.flatten(0, -4), scale=scale)
    return y.unflatten(0, q.shape[:-3])


class Attention(nn.Module):
    """proj(softmax(q k^T / sqrt(d) + bias) v) over tokens (B, N, C); `bias` joins the logits

    Heads share the channels among themselves, unless each has its own `size`.
    """

    def __init__(self, dim: int, heads: int, qkv_bias: bool = True, proj_bias: bool = True, size: int | None = None):
        super().__init__()
        self.heads = heads if isinstance(heads, Width) else Width(heads, "heads")
        inner = Groups(self.heads, size or dim // heads)
        self.qkv = nn.Linear(dim, Concat(inner, inner, inner), bias=qkv_bias)
        self.proj = nn.Linear(inner, dim, bias=proj_bias)

    def mixed(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """What all heads gather (B, N, inner), before the last projection."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return attend(q, k, v, bias).transpose(1, 2).flatten(2)

    def forward(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        return self.proj(self.mixed(x, bias))


class NormedAttention(Attention):
    """proj(norm(softmax(q k^T / sqrt(d)) v)). Sub-LayerNorm, Wang et al., 2022, arXiv:2210.06423"""

    def __init__(self, dim: int, heads: int, eps: float = 1e-5):
        super().__init__(dim, heads)
        self.norm = LayerNorm(self.proj.in_features, eps=eps)

    def forward(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        return self.proj(self.norm(self.mixed(x, bias)))


class MapAttention(nn.Module):
    """Self-attention between all pixels of a (B, H, W, C) map"""

    def __init__(self, dim: int, heads: int, qkv_bias: bool = True, proj_bias: bool = True):
        super().__init__()
        self.attn = Attention(dim, heads, qkv_bias, proj_bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.attn(x.flatten(1, 2)).unflatten(1, x.shape[1:3])
