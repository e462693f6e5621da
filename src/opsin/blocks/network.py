"""The one class of all networks, and the names by which the ecosystem's tools call it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .stage import Blocks, Features

GROUP = re.compile(r"backbone\.(?:stages\.\d+\.(?:blocks\.\d+|\w+)|blocks\.\d+|\w+)|head")


class FeatureInfo(list[dict[str, Any]]):
    """One entry a tap: `num_chs` channels, `reduction` pixels a step, `index` for `out_indices`."""

    def channels(self) -> list[int]:
        return [entry["num_chs"] for entry in self]

    def reduction(self) -> list[int]:
        return [entry["reduction"] for entry in self]


def feature_info(backbone: Any, taps: Sequence[int]) -> FeatureInfo:
    return FeatureInfo({"num_chs": int(backbone.widths[i]), "reduction": backbone.strides[i], "index": i} for i in taps)


class Network(nn.Module):
    """head(backbone(x)): (B, C, H, W) images to whatever the head makes, class logits (B, num_classes) as a rule

    A backbone turns images and taps into `Features`, and has the `widths` and `strides` of all its taps. A head reads
    those of its `taps`, and has the parts of a `Classifier`: unpooled, pooled, vector, drop, fc, width and reset.
    `config` holds what rebuilds it: architecture, arguments, widths, and what came with its weights.
    """

    backbone: Any
    head: Any
    config: dict[str, Any]

    def __init__(self, backbone: nn.Module, head: nn.Module):
        super().__init__()
        self.backbone, self.head, self.config = backbone, head, {}
        for p in self.parameters():
            if p.ndim == 4:  # convolutions over maps are faster so, and transposed maps cost nothing
                p.data = p.data.contiguous(memory_format=torch.channels_last)

    def forward(self, x: Tensor, *told: Tensor) -> Tensor:
        """`told` is what a backbone takes beside images: the second of a pair, or a step and labels."""
        return self.head(self.backbone(x, self.head.taps, *told))

    # ------------------------------------------ features ------------------------------------------

    @property
    def num_features(self) -> int:
        """Channels of the pooled vector that the classifier reads."""
        return int(self.head.width)

    @property
    def feature_info(self) -> FeatureInfo:
        return feature_info(self.backbone, range(len(self.backbone.widths)))

    def forward_features(self, x: Tensor) -> Tensor:
        """The last features before pooling: a map (B, C, H, W), or tokens (B, P + N, C) with their prefix."""
        return self.head.unpooled(self.backbone(x, self.head.taps))

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """From `forward_features` to logits (B, num_classes), or to the pooled vector (B, num_features)."""
        return self.head.vector(x) if pre_logits else self.head.fc(self.head.drop(self.head.pooled(x)))

    def forward_intermediates(self, x: Tensor, indices: Sequence[int] | int | None = None) -> list[Tensor]:
        """Maps (B, C, H, W) of the taps `indices` (all, or the last n for an int)."""
        return self.backbone(x, tap_indices(self.backbone, indices)).maps

    # ------------------------------------------ classifier ------------------------------------------

    def get_classifier(self) -> nn.Module:
        return self.head.fc

    def reset_classifier(self, num_classes: int) -> None:
        """A new, randomly drawn classifier for that many classes; 0 leaves the pooled vector."""
        self.head.reset(num_classes)
        self.config.setdefault("arguments", {})["num_classes"] = num_classes
        self.config.pop("labels", None)

    # ------------------------------------------ training ------------------------------------------

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute the insides of blocks in the backward pass: less memory for about a third more time."""
        for m in self.modules():
            if isinstance(m, Blocks):
                m.checkpointing = enable

    def no_weight_decay(self) -> set[str]:
        """Names of parameters that decay would harm: vectors, and tables that their modules name in `no_decay`."""
        tables = {f"{path}.{name}" for path, m in self.named_modules() for name in getattr(m, "no_decay", ())}
        return tables | {name for name, p in self.named_parameters() if p.ndim <= 1}

    def layer_groups(self) -> list[list[str]]:
        """Parameter names from input to head, one list for each block, stem, change of resolution and head."""
        groups: dict[str, list[str]] = {}
        for name, _ in self.named_parameters():
            hit = GROUP.match(name)
            groups.setdefault(hit[0] if hit else name, []).append(name)
        return list(groups.values())

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """`layer_groups` as regular expressions, the form that other trainers take; coarse: one group a stage."""
        depth = r"^backbone\.stages\.(\d+)" if coarse else r"^backbone\.stages\.(\d+)\.(?:down|blocks\.(\d+))"
        return {"stem": r"^backbone\.(?:stem|positions|prefix)", "blocks": [(depth, None), (r"^head", (99999,))]}

    # ------------------------------------------ what came with the weights ------------------------------------------

    @property
    def pretrained_cfg(self) -> dict[str, Any]:
        """Preprocessing and provenance in the keys that timm's users expect."""
        seen = self.config.get("preprocessing") or {}
        size = seen.get("size")
        return {
            "architecture": self.config.get("architecture"),
            "num_classes": self.config.get("arguments", {}).get("num_classes", 1000),
            "input_size": (seen.get("channels", 3), *size) if size else None,
            **{key: seen[key] for key in ("mean", "std", "interpolation", "crop_pct", "crop_mode") if key in seen},
            "license": (self.config.get("licence") or {}).get("weights"),
        }


class FeatureMaps(nn.Module):
    """A backbone alone: images (B, C, H, W) to the list of maps of the chosen taps."""

    backbone: Any
    config: dict[str, Any]

    def __init__(self, network: Network, out_indices: Sequence[int] | int | None = None):
        super().__init__()
        self.backbone, self.config = network.backbone, network.config
        self.taps = tap_indices(self.backbone, out_indices)

    @property
    def feature_info(self) -> FeatureInfo:
        return feature_info(self.backbone, self.taps)

    def forward(self, x: Tensor) -> list[Tensor]:
        return self.backbone(x, self.taps).maps


def tap_indices(backbone: Any, wanted: Sequence[int] | int | None) -> list[int]:
    """Taps as indices from 0: all of them for None, the last n for an int.

    Raises:
        IndexError: a tap that the backbone does not have.
    """
    count = len(backbone.widths)
    wanted = range(count) if wanted is None else range(-wanted, 0) if isinstance(wanted, int) else wanted
    for i in wanted:
        if not -count <= i < count:
            raise IndexError(f"feature index {i}: this network has {count}, at strides {backbone.strides}")
    return [i % count for i in wanted]


__all__ = ["FeatureInfo", "FeatureMaps", "Features", "Network", "tap_indices"]
