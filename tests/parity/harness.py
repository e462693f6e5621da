"""Numbers from the authors' code: weights drawn from parameter names, inputs from seeds, outputs to agree with."""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from opsin.convert import placed, rename

HERE = Path(__file__).parent
TOLERANCE = 1e-6  # of the output's standard deviation, in float64


@dataclass
class Rebuilt:
    """Our form of an authors' network: the module, the rename table, and how to run it under the fixture's names."""

    module: nn.Module
    table: str
    run: Callable[[nn.Module, list[Tensor]], dict[str, Tensor]]


def cases(system: str) -> list[str]:
    return sorted(path.stem for path in (HERE / system).glob("*.json"))


def drawn(name: str, shape: list[int]) -> Tensor:
    x = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape)
    last = name.rpartition(".")[2]
    if last == "num_batches_tracked":
        return torch.zeros(shape, dtype=torch.int64)
    if last == "running_var":
        x = 1 + 0.1 * abs(x)
    elif len(shape) <= 1:
        x = 1 + 0.1 * x if last == "weight" else 0.1 * x
    else:
        x = x / math.sqrt(math.prod(shape[1:]))
    return torch.as_tensor(x)


def state(case: dict) -> dict[str, Tensor]:
    tied = case["tied"]
    return {name: drawn(tied.get(name, name), shape) for name, shape in case["weights"] if name not in case["constant"]}


def inputs(case: dict) -> list[Tensor]:
    out = []
    for entry in case["inputs"]:
        rng, shape = np.random.default_rng(entry["seed"]), entry["shape"]
        kind = entry.get("kind", "normal")
        made = {"normal": rng.standard_normal, "uniform": rng.random}.get(kind)
        out.append(torch.as_tensor(made(shape) if made else rng.integers(0, entry["high"], shape)))
    return out


def differences(system: str, name: str, rebuild: Callable[[dict, str], Rebuilt]) -> dict[str, float]:
    """For every output, the largest difference from the authors' as a share of its standard deviation."""
    case = json.loads((HERE / system / f"{name}.json").read_text())
    expected = np.load(HERE / system / f"{name}.npz")
    ours = rebuild(case["build"], name)
    load(ours.module, rename(state(case), ours.table), fixed=set(placed(case["constant"], ours.table).values()))
    ours.module.double().eval()
    with torch.no_grad():
        made = ours.run(ours.module, inputs(case))
    out = {}
    for key, told in case["outputs"].items():
        assert list(made[key].shape) == told["shape"], f"{key}: {list(made[key].shape)}, not {told['shape']}"
        ours_sampled = made[key].flatten()[:: told["step"]].numpy()
        out[key] = float(abs(ours_sampled - expected[key]).max() / told["std"])
    return out


def load(module: nn.Module, weights: dict[str, Tensor], fixed: Iterable[str] = ()) -> None:
    """Every weight finds its place and every place is filled, but for what the architecture fixes."""
    own = module.state_dict()
    shaped = {k: v.reshape(own[k].shape) if k in own and own[k].numel() == v.numel() else v for k, v in weights.items()}
    left = module.double().load_state_dict(shaped, strict=False)
    learned = [k for k in left.missing_keys if k in dict(module.named_parameters()) and k not in fixed]
    assert not learned, f"unfilled: {learned}"
    assert not left.unexpected_keys, f"unplaced: {left.unexpected_keys}"
