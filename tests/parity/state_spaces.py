"""How the authors' state-space operators and networks are rebuilt here."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from opsin.kernels.selective_scan import selective_scan
from opsin.kernels.ssd import ssd
from opsin.mixers.mamba import LearnedStates, Mamba, Mamba2, ZeroStates

from .harness import Rebuilt


def single(module: nn.Module, given: list[Tensor]) -> dict[str, Tensor]:
    return {"out": module(*given)}


# ----------------------------------------------- operators -----------------------------------------------


def operator(build: dict, case: str) -> Rebuilt:
    if "op" not in build:
        return mixer(build)
    run = {"selective_scan": run_s6, "ssd": run_ssd}[build["op"]]
    return Rebuilt(nn.Identity(), "", lambda _, given: run(build, dict(zip(build["inputs"], given))))


def leaves(given: dict[str, Tensor]) -> dict[str, Tensor]:
    given["A"] = -given.pop("A_raw").exp()
    return {k: v.requires_grad_() for k, v in given.items() if k not in ("dy", "d_final")}


def run_s6(build: dict, given: dict[str, Tensor]) -> dict[str, Tensor]:
    given["delta"] = given["delta"] * build["delta_scale"]
    own = leaves(given)
    with torch.enable_grad():
        y, last = selective_scan(**own, delta_softplus=build["delta_softplus"])
        grads = torch.autograd.grad((y * given["dy"]).sum(), list(own.values()))
    return {"y": y.detach(), "last_state": last.detach(), **{f"d_{k}": g for k, g in zip(own, grads)}}


def run_ssd(build: dict, given: dict[str, Tensor]) -> dict[str, Tensor]:
    low, high = build["dt_limit"]
    own = leaves(given)
    with torch.enable_grad():
        limit = (low, math.inf if high is None else high)
        y, last = ssd(**own, dt_softplus=build["dt_softplus"], dt_limit=limit)
        total = (y * given["dy"]).sum() + ((last * given["d_final"]).sum() if "d_final" in given else 0)
        grads = torch.autograd.grad(total, list(own.values()))
    return {"y": y.detach(), "final_state": last.detach(), **{f"d_{k}": g for k, g in zip(own, grads)}}


MAMBA = """
    A_log        -> space.log_decay
    D            -> space.skip
    in_proj      -> proj
    conv1d       -> conv
    x_proj       -> space.read
    dt_proj      -> space.dt
    out_proj     -> out
"""
MAMBA2 = """
    A_log        -> log_decay
    D            -> skip
    dt_bias      -> dt_bias
    init_states  -> start.table
    in_proj      -> proj
    conv1d       -> conv
    norm         -> norm
    out_proj     -> out
"""


def mixer(build: dict) -> Rebuilt:
    if "headdim" not in build:
        names = {"d_state": "states", "d_conv": "kernel", "expand": "expand", "dt_rank": "rank"}
        return Rebuilt(
            Mamba(build["d_model"], **{names[k]: v for k, v in build.items() if k in names}), MAMBA, stepwise
        )
    names = {"d_state": "states", "headdim": "head_dim", "ngroups": "groups", "d_conv": "kernel", "expand": "expand"}
    start = LearnedStates if build.get("learnable_init_states") else ZeroStates
    given = {names[k]: v for k, v in build.items() if k in names}
    return Rebuilt(Mamba2(build["d_model"], **given, bias=build.get("bias", False), start=start), MAMBA2, single)


def stepwise(module: Mamba, given: list[Tensor]) -> dict[str, Tensor]:
    """The whole sequence at once, which must equal token by token, and the states that this ends with."""
    (x,) = given
    seen, state = module.start(len(x))
    made = []
    for token in x.unbind(1):
        y, seen, state = module.step(token, seen, state)
        made.append(y)
    out = module(x)
    assert float((torch.stack(made, 1) - out).abs().max()) < 1e-10
    return {"out": out, "conv_state": seen, "ssm_state": state.mT}


STATE_SPACES = {"selective_scan": operator}
