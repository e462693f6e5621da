"""timm's models in our contract: `timm:NAME` wherever a network's name is wanted."""

from __future__ import annotations

import functools
import inspect
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import torch
from torch import Tensor, nn

from .blocks.network import Network
from .blocks.stage import Features
from .errors import OpsinError
from .registry import UnknownName, UnsupportedArgument

PREFIX = "timm:"
SHARED = ("num_classes", "in_chans", "drop_rate", "drop_path_rate")
SIZED = ("img_size", "output_stride", "patch_size", "window_size", "global_pool")
OPERATORS = ("nms", "qnms")  # of torchvision's compiled part, which a torch of another build cannot load


@functools.cache
def package() -> Any:
    """timm itself, or an error that says how to get it.

    timm imports torchvision, which cannot be imported beside a torch of another build unless its operators are
    declared; timm's networks use none of them.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            declare()
            import timm
    except ImportError as error:
        raise OpsinError(f'{PREFIX}NAME needs timm ({error}): pip install "opsin[timm]"') from error
    return timm


@functools.cache
def declare() -> Any:
    """Schemas for torchvision's operators, as long as they are missing; kept alive by the cache."""
    library = torch.library.Library("torchvision", "FRAGMENT")
    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        for operator in OPERATORS:
            if not hasattr(torch.ops.torchvision, operator):
                library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    except ImportError:
        pass  # timm says what it misses
    return library


@dataclass
class TheirFeatures(Features):
    """Features with `final`, what timm's `forward_features` returns and its `forward_head` reads."""

    final: Any = None


class TheirBackbone(nn.Module):
    """A timm model's maps (B, C, H, W), whatever layout it computes in; its head stays inside, unused here"""

    def __init__(self, model: Any):
        super().__init__()
        self.model = model
        told = list(getattr(model.feature_info, "info", model.feature_info))
        self.widths, self.strides = [t["num_chs"] for t in told], [t["reduction"] for t in told]
        self.leading = int(getattr(model, "num_prefix_tokens", 0))
        if isinstance(getattr(model, "blocks", None), nn.Sequential) and len(model.blocks) == len(told):
            self.blocks = tuple(model.blocks)  # whoever explains a plain transformer looks in front of its last block

    def forward(self, x: Tensor, taps: Sequence[int] = (-1,)) -> TheirFeatures:
        if not taps:
            return self.features(self.model.forward_features(x), [], ())
        wanted = [tap % len(self.widths) for tap in taps]
        each = sorted(set(wanted))
        final, made = self.model.forward_intermediates(x, indices=each)
        maps = [made[each.index(tap)] for tap in wanted]
        if isinstance(final, Tensor) and final.ndim == 4 and each[-1] == len(self.widths) - 1:
            final, last = self.joined(final, maps[wanted.index(each[-1])])
            maps = [last if tap == each[-1] else m for tap, m in zip(wanted, maps)]
        return self.features(final, maps, wanted)

    def joined(self, final: Tensor, last: Tensor) -> tuple[Tensor, Tensor]:
        """What the head reads and the last map, the first made of the second where they are of one size.

        A map that was copied into another layout has no gradient: nothing behind it reads the copy.
        """
        told = getattr(self.model, "output_fmt", None)
        if str(getattr(told, "value", told)).upper() == "NHWC":
            view = final.movedim(-1, 1)
            return (view.movedim(1, -1), view) if view.shape == last.shape else (final, last)
        return final, final if final.shape == last.shape else last

    def features(self, final: Any, maps: list[Tensor], wanted: Sequence[int]) -> TheirFeatures:
        tokens = final if isinstance(final, Tensor) and final.ndim == 3 else None
        return TheirFeatures(maps, [self.strides[i] for i in wanted], tokens, self.leading, final=final)


class TheirHead(nn.Module):
    """A timm model's own head; the parameters belong to the backbone's `model`"""

    taps: tuple[int, ...] = ()

    def __init__(self, backbone: TheirBackbone):
        super().__init__()
        self.held = (backbone,)  # not registered a second time
        self.drop = nn.Identity()  # timm's heads drop by themselves

    @property
    def model(self) -> Any:
        return self.held[0].model

    @property
    def fc(self) -> nn.Module:
        made: nn.Module = self.model.get_classifier()
        return made

    @property
    def width(self) -> int:
        return int(getattr(self.model, "head_hidden_size", None) or self.model.num_features)

    def unpooled(self, features: TheirFeatures) -> Any:
        return features.final

    def vector(self, x: Any) -> Tensor:
        pooled: Tensor = self.model.forward_head(x, pre_logits=True)
        return pooled

    def forward(self, features: TheirFeatures) -> Tensor:
        logits: Tensor = self.model.forward_head(features.final)
        return logits

    def reset(self, num_classes: int) -> None:
        self.model.reset_classifier(num_classes)


class TheirNetwork(Network):
    """A timm model as a Network: its parameters are `backbone.model.` and timm's own names."""

    def __init__(self, model: nn.Module):
        backbone = TheirBackbone(model)
        super().__init__(backbone, TheirHead(backbone))

    def forward_features(self, x: Tensor) -> Any:
        return self.backbone(x, ()).final

    def forward_head(self, x: Any, pre_logits: bool = False) -> Tensor:
        made: Tensor = self.backbone.model.forward_head(x, pre_logits=pre_logits)
        return made

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        self.backbone.model.set_grad_checkpointing(enable)

    def no_weight_decay(self) -> set[str]:
        model = self.backbone.model
        told = model.no_weight_decay() if hasattr(model, "no_weight_decay") else ()
        return super().no_weight_decay() | {f"backbone.model.{name}" for name in told}

    def layer_groups(self) -> list[list[str]]:
        from timm.models import group_parameters

        model = self.backbone.model
        groups = group_parameters(model, model.group_matcher(coarse=False))
        return [[f"backbone.model.{name}" for name in groups[key]] for key in sorted(groups)]

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        made: dict[str, Any] = self.backbone.model.group_matcher(coarse=coarse)
        return made


def build(name: str, **given: Any) -> TheirNetwork:
    """timm's model of that name (`timm:NAME`) with random weights, in our contract.

    Raises:
        UnknownName: timm has no such model; near names are suggested.
        UnsupportedArgument: a keyword or value that this model cannot mean.
    """
    if given.get("pool") is not None:
        raise UnsupportedArgument(f"{name} has no pool {given['pool']!r}: give timm's own global_pool= instead")
    model = known(name)
    try:
        made = package().create_model(model, **{"num_classes": 1000, **given})
    except (TypeError, ValueError, AssertionError, RuntimeError) as error:
        raise UnsupportedArgument(f"timm cannot build {name} with {given}: {error}") from error
    net = TheirNetwork(made)
    net.config = {"architecture": name, "arguments": dict(given), "widths": {}}
    return net


def known(name: str) -> str:
    """timm's own name in `timm:NAME`, checked."""
    timm, model = package(), name.removeprefix(PREFIX)
    if not timm.is_model(model):
        near = get_close_matches(model, timm.list_models(), 3, 0.6)
        hint = (
            f"did you mean {' or '.join(PREFIX + n for n in near)}?" if near else f"`opsin list '{PREFIX}*'` shows all"
        )
        raise UnknownName(f"timm has no model called {model!r}; {hint}")
    return model


def listed(pattern: str) -> list[str]:
    """Names of timm's models that fit a pattern `timm:...`."""
    return [PREFIX + name for name in package().list_models(pattern.removeprefix(PREFIX))]


@functools.cache
def facts(name: str) -> dict[str, Any]:
    """What `opsin.facts` tells of our networks, measured from timm's model without contents."""
    from torch.utils.flop_counter import FlopCounterMode

    timm, model = package(), known(name)
    with torch.device("meta"):
        net = build(name)
        told = net.backbone.model.pretrained_cfg
        channels, *sides = told.get("input_size", (3, 224, 224))
        x = torch.empty(1, channels, *sides)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            net.eval()(x)
    can = [*SHARED, *(key for key in SIZED if key in inspect.signature(type(net.backbone.model).__init__).parameters)]
    fixed = bool(told.get("fixed_input_size")) and "img_size" not in can
    return {
        "name": name,
        "family": "timm",
        "title": f"{model} of timm {timm.__version__}",
        "arxiv": None,
        "licence": "Apache-2.0",
        "task": "classify",
        "native": sides[0],
        "multiple": sides[0] if fixed else net.backbone.strides[-1],
        "params": sum(p.numel() for p in net.parameters()),
        "macs": int(counter.get_total_flops()) // 2,
        "strides": net.backbone.strides,
        "widths": net.backbone.widths,
        "features": net.num_features,
        "output_stride": [net.backbone.strides[-1]],
        "pool": ["own"],
        "arguments": can,
    }


def published(name: str) -> str:
    """Where timm keeps the weights of `timm:NAME` or `timm:NAME.TAG`: a source for `opsin.weights.fill`."""
    timm = package()
    known(name.partition(".")[0])
    told = timm.get_pretrained_cfg(name.removeprefix(PREFIX))
    if told is None or not told.hf_hub_id:
        raise UnknownName(f"timm publishes no weights called {name!r} on a hub; give a source: a file or a folder")
    return f"hf-hub:{told.hf_hub_id}"


def own_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A timm state dict under the wrapped network's names."""
    return {name if name.startswith("backbone.model.") else f"backbone.model.{name}": t for name, t in state.items()}


def bare(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The wrapped network's state dict under timm's names."""
    return {name.removeprefix("backbone.model."): t for name, t in state.items()}
