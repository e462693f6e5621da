"""Images from noise by networks that predict it: the diffusion process backwards, by DDPM and DDIM.

Ho et al., 2020, arXiv:2006.11239, and Song et al., 2020, arXiv:2010.02502.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Denoiser = Callable[..., Tensor]  # net(x, t) or net(x, t, labels): noise in the first channels of its answer


def schedule(steps: int = 1000, first: float = 1e-4, last: float = 0.02) -> Tensor:
    """What share of an image's variance is left behind each step (steps), the noise added growing linearly."""
    return (1 - torch.linspace(first, last, steps, dtype=torch.float64)).cumprod(0)


def noised(x: Tensor, t: Tensor, noise: Tensor, left: Tensor) -> Tensor:
    """Images x (B, C, H, W) as they are behind steps t (B): what a network learns to find `noise` in."""
    share = left.to(x)[t].view(-1, 1, 1, 1)
    return share.sqrt() * x + (1 - share).sqrt() * noise


@torch.no_grad()
def sample(
    net: Denoiser,
    shape: Sequence[int],
    *,
    steps: int = 50,
    eta: float = 0.0,
    labels: Tensor | None = None,
    guidance: float = 1.0,
    left: Tensor | None = None,
    seed: int = 0,
) -> Tensor:
    """Images or latents of `shape` (B, C, H, W), in the units in which `net` was trained.

    DDIM in so many of the schedule's steps (`left` as `schedule` makes it); noise is drawn anew in between in the
    amount `eta`: 0 none, 1 as in DDPM, which takes all the steps. `labels` (B) are classes, `guidance` times as far
    from what no class would give (arXiv:2207.12598).

    Raises:
        ValueError: more steps than the schedule has, or none.
    """
    left = schedule() if left is None else left
    if not 1 <= steps <= len(left):
        raise ValueError(f"{steps} steps of a schedule that has {len(left)}: take 1 to {len(left)}")
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(*shape, generator=draw)
    times = torch.linspace(len(left) - 1, 0, steps).round().long().tolist()
    for now, after in zip(times, [*times[1:], None]):
        here, there = float(left[now]), 1.0 if after is None else float(left[after])
        noise = predicted(net, x, torch.full((len(x),), float(now)), labels, guidance)
        clean = (x - (1 - here) ** 0.5 * noise) / here**0.5
        fresh = eta * ((1 - there) / (1 - here) * (1 - here / there)) ** 0.5
        x = there**0.5 * clean + max(1 - there - fresh**2, 0.0) ** 0.5 * noise
        x = x + fresh * torch.randn(*shape, generator=draw) if fresh else x
    return x


def predicted(net: Denoiser, x: Tensor, t: Tensor, labels: Tensor | None, guidance: float) -> Tensor:
    """The noise in x: `guidance` of what the labels change of it."""
    noise = (net(x, t) if labels is None else net(x, t, labels))[:, : x.shape[1]]
    if labels is None or guidance == 1:
        return noise
    null = net(x, t)[:, : x.shape[1]]
    return null + guidance * (noise - null)
