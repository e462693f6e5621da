"""From a name to a network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, overload

from .blocks.graft import grafted
from .blocks.network import FeatureMaps, Network
from .build import build


@overload
def create_model(
    name: str,
    pretrained: bool | str = False,
    *,
    features_only: Literal[False] = False,
    licence: str | None = None,
    **arguments: Any,
) -> Network: ...


@overload
def create_model(
    name: str,
    pretrained: bool | str = False,
    *,
    features_only: Literal[True],
    out_indices: Sequence[int] | int | None = None,
    licence: str | None = None,
    **arguments: Any,
) -> FeatureMaps: ...


def create_model(
    name: str,
    pretrained: bool | str = False,
    *,
    features_only: bool = False,
    out_indices: Sequence[int] | int | None = None,
    licence: str | None = None,
    **arguments: Any,
) -> Network | FeatureMaps:
    """A network by name: `create_model("convnext_tiny", num_classes=10)`.

    Args:
        name: architecture, or `architecture.tag` with the tag of a published weight.
        pretrained: True loads the weight of the tag (or the architecture's default one); a string names a source: a
            file, a folder, `hf-hub:org/name@revision`. Never falls back to random weights.
        features_only: return the backbone alone, which maps images to a list of maps (B, C, H, W).
        out_indices: which maps then; default all. An int means the last n.
        licence: a gate on pretrained weights, such as "permissive".
        **arguments: the builder's keywords: num_classes (0 = no classifier), in_chans, drop_rate, drop_path_rate, and
            where the network can mean them img_size, output_stride and pool: "avg", "max", "gem", "ggem(groups=8)",
            "map", "token", "levels" (`capabilities(name)` tells). `graft={"stages.2.*.mixer": "attention(heads=4)"}`
            swaps operators, behind the loading of weights.

    Returns:
        A Network: (B, in_chans, H, W) -> (B, num_classes); FeatureMaps with `features_only`.

    Raises:
        UnknownName: no such network or weight.
        UnsupportedArgument: a keyword or value that this network cannot mean.
    """
    architecture, _, tag = name.partition(".")
    wanted = arguments.pop("graft", ())
    net = build(architecture, **arguments)
    if pretrained or tag:
        from .weights.store import fill

        fill(net, name, source=pretrained if isinstance(pretrained, str) else None, licence=licence)
    net = grafted(net, wanted)
    return FeatureMaps(net, out_indices) if features_only else net
