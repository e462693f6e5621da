"""Which networks stand for all: the smallest variant of each code path, small inputs for it, weights to compare."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any
from unittest.mock import patch

import pytest
import torch
from torch import Tensor, nn

from opsin.families.golden import load_families
from opsin.registry import ABOUT, builder, facts, input_channels, list_models

# Mere sizes among arguments; the last two are none, but only giants have them: test_transformers.py has smaller ones.
SIZES = """
    ratio patch img_size growth last windows dim dims depths heads stem base trained window head_dim stride
    first frames kernel wide deep rows eps experts hidden squeezed size
    mlp widen ratios copies band share states layers dropout kernels columns key linear pattern square inner
"""


def code_path(name: str) -> tuple:
    """What tells apart networks that run different code: builder, and its arguments but for mere sizes."""
    build, variant = builder(name)
    return build.__qualname__, frozenset((k, kind(v)) for k, v in variant.items() if k not in SIZES.split())


def kind(value: Any) -> Any:
    if isinstance(value, functools.partial):
        return value.func.__qualname__, *(
            (k, kind(v)) for k, v in sorted(value.keywords.items()) if k not in SIZES.split()
        )
    if isinstance(value, tuple):
        return tuple(map(kind, value))
    return value.__qualname__ if callable(value) else repr(value) if isinstance(value, bool | str | dict) else None


def lean(name: str) -> dict[str, Any]:
    """Arguments under which a network is light enough to draw often."""
    once = {"depths": (1, 1, 1, 1)}
    lighter = {
        "vgg": {"hidden": 64},
        "lamamba_diff": {**once, "dim": 16, "middle": 1},
        "mhs_vm": {**once, "depths_up": (1, 1, 1, 1)},
    }
    return lighter.get(facts(name)["family"], {})


# What draws weights that are drawn anew: a half of the time that a network takes to build.
DRAWS = [name for name in dir(nn.init) if name.endswith("_") and not name.startswith("_")]

# Of code paths whose every part another representative has too: the sweep of all variants proves them.
ELSEWHERE = """
    levit_384_s8 glnet_16g glnet_stl i_revnet_b vit_base_patch32_clip_quickgelu_224
    vit_base_patch32_siglip_256 vit_base_patch16_siglip_gap_224 vit_base_patch32_siglip_gap_256
    vit_little_patch16_reg4_gap_256 vit_medium_patch16_gap_240 vit_base_patch16_reg4_gap_256
    vit_so150m_patch16_reg4_map_256 vit_so150m_patch16_reg4_gap_256 vit_so150m2_patch16_reg1_gap_256
    vit_base_patch16_plus_240 vit_base_patch16_224_miil vit_base_patch16_rpn_224 flexivit_small eva_large_patch14_196
    vit_intern300m_patch14_448 vit_base_patch16_radio_v3 vit_huge_patch16_radio_v3 vit_huge_patch16_radio_v4
    vit_giant_patch16_radio_v3 vit_base_patch14_reg1_tipsv2 vit_giant_patch14_reg1_tipsv2
    vit_small_patch16_36x1_224 aimv2_large_patch14_224 ecaresnet50d_pruned densenet264d hiera_base_abswin_256
    convformer_s18 convnext_atto_rms convnext_large_mlp convnext_step1_ratio convnext_step2_patchify
    convnext_step5_inverted convnext_step6_moved_up convnext_step8_gelu convnext_step9_one_act convnext_zepto_rms_ols
    dla46_c efficientnet_lite0 fasternet_t2
    gcvit_small halonet50ts identityformer_s12 legacy_seresnet50 mvit_v2_s pit_ti_224 repvgg_b1g4 resnet26 resnetaa50d
    resnext29_8x64d_cifar seresnet50 tf_efficientnet_cc_b0_4e tf_efficientnet_es tf_mixnet_s tf_mobilenetv3_small_075
    vgg11 vit_giant_patch14_reg4_dinov2 plainmamba_l2 msvmambav3_tiny vit_small_patch14_dinov2 wide_resnet50_2
    dla60_res2net dla102 dla102x eca_resnet18 eca_resnet50 ecaresnext26t_32x4d hrnet_w18 hrnet_w18_ssld nasnetalarge
    repvgg_d2se resnet50c resnetaa34d resnetaa50 resnetblur50 resnetblur50d resnext50d_32x4d senet154 legacy_senet154
    lmuformer spiking_attention mambascd_tiny mambabda_tiny
    revcol_huge seresnet50t seresnetaa50d seresnext50_32x4d seresnextaa101d_32x8d xception65p xception71
"""


@functools.cache
def representatives() -> list[str]:
    """The smallest network of every code path, but for those whose parts are proved elsewhere."""
    load_families()
    elsewhere = {code_path(name) for name in ELSEWHERE.split()}
    smallest: dict[tuple, str] = {}
    for name in sorted(list_models(), key=lambda n: (facts(n)["params"], n)):
        smallest.setdefault(code_path(name), name)
    return sorted(name for path, name in smallest.items() if path not in elsewhere)


def each_family() -> list[str]:
    """The smallest representative of every family."""
    first: dict[str, str] = {}
    for name in sorted(representatives(), key=lambda n: facts(n)["params"]):
        first.setdefault(facts(name)["family"], name)
    return sorted(first.values())


def with_slow(values: Sequence[Any], fast: Sequence[Any]) -> list[Any]:
    """Test parameters of which only the `fast` run by default, and the others in the exhaustive sweep."""
    return [value if value in fast else pytest.param(value, marks=pytest.mark.slow) for value in values]


UNPADDED = ("inception_v3", "inception_v4", "inception_resnet", "xception")  # their maps vanish on fewer pixels
# Patches that overlap, or of two sizes, make uneven strides on few pixels; windows that are a share of them, none.
SIDES = {"pit": 128, "crossvit": 240, "gcvit": 64, "lmuformer": 4, "lamamba_diff": 16, **dict.fromkeys(UNPADDED, 107)}


# Of drawn matrices: products of maps without norms between would grow beyond what floats hold.
GAINS = {"cas_vit": 0.5}


def small_size(name: str) -> int:
    """A side in pixels that is quick and legal."""
    if facts(name)["family"] in SIDES:
        return SIDES[facts(name)["family"]]
    multiple = ABOUT[name]["multiple"] if name in ABOUT else facts(name)["multiple"]
    return math.lcm(multiple, 32) if multiple * 4 > 32 else 64


def small(name: str, seed: int = 0, **given: Any) -> nn.Module:
    """A network with drawn weights: at most two blocks a stage, on a small grid if it has one."""
    return whole(name, seed, **{**cut(name), **given})


def cut(name: str) -> dict[str, Any]:
    """Arguments that leave at most two blocks a stage."""
    variant = builder(name)[1]
    return {key: shallow(variant[key]) for key in ("depth", "depths") if key in variant}


def whole(name: str, seed: int = 0, **given: Any) -> nn.Module:
    """A network with drawn weights and all its blocks, on a small grid if it has one."""
    build, variant = builder(name)
    if "img_size" in variant:
        given.setdefault("img_size", small_size(name))
    torch.manual_seed(seed)
    with patch.multiple("torch.nn.init", **dict.fromkeys(DRAWS, lambda tensor, *_, **__: tensor)):
        net = build(**{**variant, **lean(name), **given})
    randomise(net, seed, GAINS.get(facts(name)["family"], 1.0))
    return net


def shallow(depth: Any) -> Any:
    """Numbers of blocks, in tuples or alone, cut to two; a multiplier of depths stays."""
    if isinstance(depth, tuple):
        return tuple(map(shallow, depth))
    return min(depth, 2) if isinstance(depth, int) else depth


def image(name: str, batch: int = 2, chans: int | None = None, size: int | None = None, seed: int = 1) -> Tensor:
    size, chans = size or small_size(name), chans or input_channels(name)
    return torch.randn(batch, chans, size, size, generator=torch.Generator().manual_seed(seed))


def randomise(net: nn.Module, seed: int = 0, gain: float = 1.0) -> None:
    """Weights, statistics and gains drawn so that no part of a network is silent."""
    draw = torch.Generator().manual_seed(seed)
    for name, t in net.state_dict().items():
        if not t.is_floating_point():
            continue
        if name.endswith("running_var") or (t.ndim <= 1 and name.endswith(("weight", "gamma"))):
            t.copy_(1 + 0.1 * torch.randn(t.shape, generator=draw).abs())
        elif t.ndim <= 1:
            t.copy_(0.1 * torch.randn(t.shape, generator=draw))
        else:
            t.copy_(torch.randn(t.shape, generator=draw) * gain / math.sqrt(t[0].numel()))


def apart(a: Tensor, b: Tensor) -> float:
    """Largest difference as a share of the second's standard deviation."""
    return float((a - b).detach().abs().max() / b.detach().std())
