"""State spaces as their papers define them, one place at a time: the truth for every faster form."""

from __future__ import annotations

import torch
from torch import Tensor


def scan(u: Tensor, step: Tensor, a: Tensor, b: Tensor, c: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
    """h_t = exp(step_t A) h_{t-1} + step_t B_t u_t and y_t = sum over states of C_t h_t. Gu & Dao, arXiv:2312.00752

    u and step (S, L, W), A (S, N, W), B and C (S, L, N), first states (S, N, W); returns y and the last states.
    """
    h, y = start, []
    for u_t, step_t, b_t, c_t in zip(*(x.unbind(1) for x in (u, step, b, c))):
        h = torch.exp(step_t[:, None] * a) * h + (step_t * u_t)[:, None] * b_t[..., None]
        y.append((h * c_t[..., None]).sum(1))
    return torch.stack(y, 1), h


def dual(x: Tensor, step: Tensor, a: Tensor, b: Tensor, c: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
    """S_t = exp(step_t A) S_{t-1} + step_t x_t B_t^T and y_t = S_t C_t, one A a head. Dao & Gu, arXiv:2405.21060

    x (B, L, H, P), step (B, L, H), A (H), B and C (B, L, H, N), first states (B, H, P, N).
    """
    h, y = start, []
    for x_t, step_t, b_t, c_t in zip(*(t.unbind(1) for t in (x, step, b, c))):
        made = (step_t[..., None] * x_t)[..., None] * b_t[:, :, None]
        h = torch.exp(step_t * a)[..., None, None] * h + made
        y.append((h * c_t[:, :, None]).sum(-1))
    return torch.stack(y, 1), h
