"""How each authors' network is rebuilt here: one entry a system, `rebuild(build, case) -> Rebuilt`."""

from __future__ import annotations

import math

from torch import Tensor, nn

from opsin.families import ddrnet as ddr
from opsin.families import metaformer as meta
from opsin.registry import BUILDERS

from .harness import Rebuilt


def numbered(module: nn.Module, given: list[Tensor]) -> dict[str, Tensor]:
    """A list of outputs as out0, out1, ...; a single one as out0."""
    made = module(*given)
    return {f"out{i}": y for i, y in enumerate(made if isinstance(made, list | tuple) else [made])}


DDRNETS = {"DDRNet_23_slim": "ddrnet23_slim", "DDRNet_23": "ddrnet23", "DDRNet_39": "ddrnet39"}


def ddrnet(build: dict, case: str) -> Rebuilt:
    make, variant = BUILDERS[DDRNETS[build["variant"].replace("-", "_")]]
    names = {"layers": "depths", "planes": "dim", "spp_planes": "context", "head_planes": "hidden"}
    same = {"num_classes": "num_classes", "augment": "auxiliary"}
    given = {ours: build[theirs] for theirs, ours in {**names, **same}.items() if theirs in build}
    net = make(**{**variant, **given})
    return Rebuilt(net, ddr.AUTHORS_39 if variant.get("halves") == 2 else ddr.AUTHORS_23, numbered)


def metaformer(build: dict, case: str) -> Rebuilt:
    kind = build.get("kind", "")
    wide = kind in ("convformer", "caformer") or build.get("variant", "").startswith(("conv", "ca"))
    make, variant = BUILDERS[build.get("variant") or f"{kind}_{'s18' if wide else 's12'}"]
    given = {k: build[k] for k in ("depths", "dims", "num_classes") if k in build}
    if "random_tokens" in build:
        tokens = build["random_tokens"][-1]
        rows = next(n for n in range(math.isqrt(tokens), 0, -1) if tokens % n == 0)
        given["img_size"] = (32 * rows, 32 * tokens // rows)
    return Rebuilt(make(**{**variant, **given}), meta.AUTHORS_WIDENED if wide else meta.AUTHORS, single)


def single(module: nn.Module, given: list[Tensor]) -> dict[str, Tensor]:
    """One output under the name out."""
    return {"out": module(*given)}


SYSTEMS = {"ddrnet": ddrnet, "metaformer": metaformer}
