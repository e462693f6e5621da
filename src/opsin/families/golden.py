"""The facts of every network: measured by building it, shipped, and held by the tests.

`python -m opsin.families.golden [FAMILY ...]` writes them anew after a family changed.
"""

from __future__ import annotations

import hashlib
import json
import pkgutil
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from .. import families
from ..blocks import Network
from ..blocks.pooling import pools
from ..registry import ABOUT, BUILDERS, arguments, natural, output_strides

FACTS = Path(__file__).with_name("facts")


def load_families() -> None:
    """Import every family file, which registers all networks."""
    for module in pkgutil.iter_modules(families.__path__):
        if module.name != "golden":
            import_module(f"opsin.families.{module.name}")


def measured(name: str) -> dict[str, Any]:
    """Facts of one network, from building and running it without contents (on the meta device)."""
    build, variant = BUILDERS[name]
    told = ABOUT[name]
    size = variant.get("img_size", told["native"])
    with torch.device("meta"):
        net: Network = build(**variant).eval()
        x = torch.empty(1, variant.get("in_chans", 3), size, size)
    return {
        "family": told["family"],
        "title": told["title"],
        "arxiv": told["arxiv"],
        "licence": told["licence"],
        "task": told["task"],
        "native": size,
        "multiple": told["multiple"],
        "params": sum(p.numel() for p in net.parameters()),
        "macs": macs(net, x),
        "strides": net.backbone.strides,
        "widths": [int(w) for w in net.backbone.widths],
        "features": net.num_features,
        "output_stride": output_strides(told, net.backbone.strides),
        "pool": pools(net),
        "arguments": [a for a in arguments(build) if a not in variant or a in ("img_size", "num_classes", "in_chans")],
        "names": digest(net),
    }


def macs(net: nn.Module, x: torch.Tensor) -> int:
    """Multiply-accumulates of one forward pass, counted by running it."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net(x)
    return int(counter.get_total_flops()) // 2


def digest(net: nn.Module) -> str:
    """Of the state dict's names and shapes: changes when checkpoints would no longer load."""
    text = json.dumps([[k, list(v.shape)] for k, v in net.state_dict().items()])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def main(chosen: list[str]) -> None:
    load_families()
    known = sorted({told["family"] for told in ABOUT.values()})
    if unknown := sorted(set(chosen) - set(known)):
        raise SystemExit(f"no family is called {', '.join(unknown)}; there are {', '.join(known)}")
    for family in chosen or known:
        names = sorted((name for name, told in ABOUT.items() if told["family"] == family), key=natural)
        rows = [f"{json.dumps(name)}: {json.dumps(measured(name))}" for name in names]
        (FACTS / f"{family}.json").write_text("{\n" + ",\n".join(rows) + "\n}\n")
        print(f"{family}: {len(rows)} networks")


if __name__ == "__main__":
    main(sys.argv[1:])
