"""What a network is made of, and where two differ; nothing is computed but shapes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

ROWS = ("stages", "trades", "model")  # children of a backbone whose own children are parts
TOLD = ("stride", "dilation", "groups", "heads", "p")  # settings of layers that their shapes do not show


def anatomy(net: nn.Module, shape: tuple[int, int, int]) -> list[dict[str, Any]]:
    """Each part from input to head: `part`, `shape` of what it returns, `params`, `macs`, and their `share` and `cost`.

    `net` lies on the meta device; `shape` is that of one image, (C, H, W).
    """
    found = dict(parts(net))
    seen: dict[str, list[int] | None] = {}
    hooks = [
        m.register_forward_hook(lambda m, inputs, out, part=part: seen.__setitem__(part, sizes(out)))
        for part, m in found.items()
    ]
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net.eval()(torch.empty(1, *shape, device="meta"))
    for hook in hooks:
        hook.remove()
    flops = counter.get_flop_counts()
    macs = {part: sum(flops.get(f"{type(net).__name__}.{path(part)}", {}).values()) // 2 for part in found}
    params = {part: sum(p.numel() for p in m.parameters()) for part, m in found.items()}
    whole = {key: max(1, sum(values.values())) for key, values in (("params", params), ("macs", macs))}
    return [
        {
            "part": part,
            "shape": seen.get(part),
            "params": params[part],
            "macs": macs[part],
            "share": params[part] / whole["params"],
            "cost": macs[part] / whole["macs"],
        }
        for part in found
    ]


def parts(net: Any) -> Iterator[tuple[str, nn.Module]]:
    """Stem, every stage, and the head, by their names inside the backbone; parts without parameters are left out."""
    for name, child in net.backbone.named_children():
        rows = child.named_children() if name in ROWS else [("", child)]
        yield from ((f"{name}.{n}".rstrip("."), m) for n, m in rows if next(m.parameters(), None) is not None)
    if next(net.head.parameters(), None) is not None:
        yield "head", net.head


def path(part: str) -> str:
    return part if part == "head" else f"backbone.{part}"


def sizes(out: Any) -> list[int] | None:
    """The shape of a part's result without its batch; of the first one where it returns several."""
    while isinstance(out, list | tuple) and out:
        out = out[0]
    return list(out.shape[1:]) if isinstance(out, Tensor) else None


def differences(first: nn.Module, second: nn.Module) -> list[dict[str, Any]]:
    """Layers that are not the same in two networks: `part` (numbers as `*`), `first`, `second`, how many `times`."""
    a, b = (dict(leaves(net)) for net in (first, second))
    changed = [(name, a.get(name), b.get(name)) for name in {**a, **b} if a.get(name) != b.get(name)]
    counted = Counter((re.sub(r"\.\d+(?=\.|$)", ".*", name), *rest) for name, *rest in changed)
    return [{"part": part, "first": x, "second": y, "times": n} for (part, x, y), n in counted.items()]


def leaves(net: nn.Module) -> Iterator[tuple[str, str]]:
    """Layers without children, and parameters that stand alone: name and what it is."""
    for name, m in net.named_modules():
        if next(m.children(), None) is None and not isinstance(m, nn.Identity):
            shapes = ["x".join(map(str, p.shape)) for p in m.parameters(recurse=False)]
            told = [*shapes, *(f"{key} {value}" for key, value in vars(m).items() if key in TOLD and plain(value))]
            yield name, " ".join([type(m).__name__, *told])


def plain(value: Any) -> bool:
    """Whether a setting is worth telling: a convolution's stride that is not 1 everywhere, and so on."""
    return value not in (1, (1, 1), 0, (0, 0), 0.0, None)
