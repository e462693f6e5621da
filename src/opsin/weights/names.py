"""Whose names a checkpoint uses, and which rename table leads from them to ours."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from torch import Tensor, nn

from opsin.convert import ConversionError, few, rename, tables
from opsin.registry import facts, outside

from .errors import WeightsError


def flat_efficientnet(model: nn.Module) -> str:
    """For checkpoints that number an EfficientNet's blocks through: `_blocks.{n}._expand_conv`."""
    parts = ("_expand_conv", "_bn0"), ("_depthwise_conv", "_bn1"), ("_project_conv", "_bn2")
    ends = {"_conv_stem": "stem.conv", "_bn0": "stem.norm"}
    head = {"_conv_head": "head.before.conv", "_bn1": "head.before.norm", "_fc": "head.fc"}
    rules = [f"{theirs} -> backbone.{ours}" for theirs, ours in ends.items()]
    rules += [f"{theirs} -> {ours}" for theirs, ours in head.items()]
    for n, (place, _) in enumerate(_blocks(model)):
        for (conv, norm), part in zip(parts, ("expand", "dwconv", "project")):
            rules += [f"_blocks.{n}.{conv} -> {place}.{part}.conv", f"_blocks.{n}.{norm} -> {place}.{part}.norm"]
    return "\n".join(rules)


def flat_mobilenet(model: nn.Module) -> str:
    """For torchvision's MobileNetV2, whose blocks are `features.{1 + n}.conv`: two or three parts in a row."""
    blocks = list(_blocks(model))
    last = len(blocks) + 1
    rules = ["features.0.0 -> backbone.stem.conv", "features.0.1 -> backbone.stem.norm", "classifier.1 -> head.fc"]
    rules += [f"features.{last}.0 -> head.before.conv", f"features.{last}.1 -> head.before.norm"]
    for i, (place, block) in enumerate(blocks, 1):
        theirs = f"features.{i}.conv"
        inner = ["dwconv"] if isinstance(block.expand, nn.Identity) else ["expand", "dwconv"]
        for j, part in enumerate(inner):
            rules += [f"{theirs}.{j}.0 -> {place}.{part}.conv", f"{theirs}.{j}.1 -> {place}.{part}.norm"]
        n = len(inner)
        rules += [f"{theirs}.{n} -> {place}.project.conv", f"{theirs}.{n + 1} -> {place}.project.norm"]
    return "\n".join(rules)


FLAT: dict[str, Callable[[nn.Module], str]] = {
    "flat_efficientnet": flat_efficientnet,
    "flat_mobilenet_v2": flat_mobilenet,
}


def ours(model: nn.Module, state: Mapping[str, Tensor], names: str | None, source: str) -> dict[str, Tensor]:
    """A checkpoint under our names: by the table called `names`, or by the first of all tables that fits.

    Raises:
        WeightsError: no table fits; tells what is wrong with the nearest.
    """
    if others := outside(_architecture(model)):
        named: dict[str, Tensor] = others.own_names(state)
        return named
    candidates = {names: _table(model, names)} if names else dict(_candidates(model))
    wanted = set(model.state_dict())
    nearest, found, best = "none of its names is known here", dict(state), 0
    for name, table in candidates.items():
        try:
            placed = rename(state, table) if table is not None else dict(state)
        except ConversionError as error:
            if not best:
                nearest = f"by the table {name}: {error}"
            continue
        shared = len(wanted & placed.keys())
        if shared > best:
            best, found = shared, placed
    if not best:
        told = few(sorted(state), 4)
        raise WeightsError(f"{source} does not belong to {_architecture(model)}: {nearest} (its names begin {told})")
    return found


def _candidates(model: nn.Module) -> Iterator[tuple[str, str | None]]:
    yield "ours", None
    yield from tables(_family(model)).items()
    for name, make in FLAT.items():
        if name == f"flat_{_family(model)}":
            yield name, make(model)


def _table(model: nn.Module, name: str) -> str:
    return FLAT[name](model) if name in FLAT else tables(_family(model))[name]


def _blocks(model: Any) -> Iterator[tuple[str, Any]]:
    """Place and module of every block, stage by stage."""
    for s, stage in enumerate(model.backbone.stages):
        for b, block in enumerate(stage.blocks):
            yield f"backbone.stages.{s}.blocks.{b}", block


def _architecture(model: nn.Module) -> str:
    return str(getattr(model, "config", {}).get("architecture"))


def _family(model: nn.Module) -> str:
    return str(facts(_architecture(model))["family"])
