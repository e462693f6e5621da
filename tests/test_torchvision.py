"""The same networks as torchvision's: names, shapes and numbers, in both directions."""

import pytest
import torch
from reference import torchvision
from zoo import apart, randomise

from opsin import create_model
from opsin.convert import placed, places, rename, restore, tables
from opsin.families.inception_v3 import PUBLISHED
from opsin.families.mvit import TORCHVISION_BLOCK, TORCHVISION_ENDS, numbered
from opsin.families.vgg import TABLE_A_BN
from opsin.registry import builder, facts

# ours: (theirs, an input)
TWINS = {
    "swin_tiny_patch4_window7_224": ("swin_t", (1, 3, 64, 96)),
    "swin_small_patch4_window7_224": ("swin_s", (1, 3, 64, 96)),
    "swin_base_patch4_window7_224": ("swin_b", (1, 3, 64, 96)),
    "swinv2_tiny_window8_256": ("swin_v2_t", (1, 3, 96, 96)),
    "swinv2_small_window8_256": ("swin_v2_s", (1, 3, 96, 96)),
    "swinv2_base_window8_256": ("swin_v2_b", (1, 3, 96, 96)),
    "vit_base_patch16_224": ("vit_b_16", (1, 3, 224, 224)),
    "vit_base_patch32_224": ("vit_b_32", (1, 3, 224, 224)),
    "vit_large_patch16_224": ("vit_l_16", (1, 3, 224, 224)),
    "vit_large_patch32_224": ("vit_l_32", (1, 3, 224, 224)),
    "vit_huge_patch14_224": ("vit_h_14", (1, 3, 224, 224)),
    "mvit_v1_b": ("mvit_v1_b", (1, 3, 16, 224, 224)),
    "mvit_v2_s": ("mvit_v2_s", (1, 3, 16, 224, 224)),
}
SMALLEST = ("swin_tiny_patch4_window7_224", "swinv2_tiny_window8_256", "vit_base_patch32_224")


def rules(name: str) -> str:
    return tables(facts(name)["family"])["TORCHVISION"]


def both(name: str):
    build, variant = builder(name)
    return build(**variant), torchvision.models.get_model(TWINS[name][0])


@pytest.mark.parametrize("name", TWINS)
def test_names_and_shapes(name):
    with torch.device("meta"):
        ours, theirs = (net.state_dict() for net in both(name))
    there = placed(theirs, rules(name))
    assert {place for v in there.values() for place in places(v)} - {"0"} == set(ours)
    whole = {k: v for k, v in there.items() if v in ours}
    assert all(theirs[k].squeeze().shape == ours[v].squeeze().shape for k, v in whole.items())


@pytest.mark.parametrize("name", SMALLEST)
def test_same_numbers_in_both_directions(name):
    compare(*both(name), rules(name), TWINS[name][1])


def compare(ours, theirs, table: str, shape: tuple[int, ...]) -> None:
    """The same numbers from one set of random weights, theirs in ours and ours in theirs."""
    ours, theirs, x = ours.double().eval(), theirs.double().eval(), torch.randn(shape).double()
    computed = {k: v.clone() for k, v in theirs.named_buffers() if "coords" in k}
    randomise(theirs)
    theirs.load_state_dict(computed, strict=False)
    shapes, names = ours.state_dict(), theirs.state_dict()
    ours.load_state_dict({k: v.reshape(shapes[k].shape) for k, v in rename(names, table).items()})
    with torch.no_grad():
        assert apart(ours(x), theirs(x)) < 1e-9
    randomise(ours, seed=7)
    back = restore(ours.state_dict(), names, table)
    theirs.load_state_dict({k: v.reshape(names[k].shape) for k, v in back.items()}, strict=False)
    with torch.no_grad():
        assert apart(ours(x), theirs(x)) < 1e-9


# ---------------------------------------- heads that timm leaves out ----------------------------------------


def test_inception_v3_with_its_auxiliary_head():
    theirs = torchvision.models.inception_v3(init_weights=False, dropout=0.0).double()
    randomise(theirs)
    state = {k: v.clone() for k, v in theirs.state_dict().items()}
    ours = create_model("inception_v3", auxiliary=True).double()
    ours.load_state_dict(rename(state, PUBLISHED))
    assert sum(p.numel() for p in ours.parameters()) == 27_161_264
    x = torch.randn(1, 3, 299, 299).double()
    with torch.no_grad():
        assert apart(ours.eval()(x), theirs.eval()(x)) < 1e-9
        middle, _ = ours.backbone(x, (-2, -1)).maps
        assert apart(ours.head.auxiliary(middle), theirs.AuxLogits(middle)) < 1e-9
        logits, auxiliary = ours.train()(torch.randn(2, 3, 107, 107).double())
    assert logits.shape == auxiliary.shape == (2, 1000)


def test_vgg_with_its_fully_connected_layers():
    theirs = torchvision.models.vgg11_bn(num_classes=10).eval()
    theirs.classifier[0] = torch.nn.Linear(512 * 49, 64)
    theirs.classifier[3], theirs.classifier[6] = torch.nn.Linear(64, 64), torch.nn.Linear(64, 10)
    theirs = theirs.double()
    randomise(theirs)
    ours = create_model("vgg11_bn", num_classes=10, hidden=64).double().eval()
    state, own = rename(theirs.state_dict(), TABLE_A_BN), ours.state_dict()
    ours.load_state_dict({k: v.reshape(own[k].shape) for k, v in state.items()})
    x = torch.randn(1, 3, 224, 224).double()
    with torch.no_grad():
        assert apart(ours(x), theirs(x)) < 1e-9


def video(version: int, depths: tuple[int, ...]):
    """torchvision's MViT of a few narrow blocks, and what builds ours of the same sizes."""
    from torchvision.models.video.mvit import MSBlockConfig, MViT

    dims, settings = [16 * 2**s for s in range(len(depths))], []
    for s, depth in enumerate(depths):
        for b in range(depth):
            first, last = s > 0 and b == 0, b == depth - 1 and s + 1 < len(depths)
            cin = dims[s - 1] if first and version == 2 else dims[s]
            cout = dims[s + 1] if last and version == 1 else dims[s]
            strided = [1, 2, 2] if first else [1, 1, 1]
            kernel_q, stride_q = ([3, 3, 3], strided) if first or version == 2 else ([], [])
            kv = max(8 // 2**s, 1)
            settings.append(MSBlockConfig(2**s, cin, cout, kernel_q, [3, 3, 3], stride_q, [1, kv, kv]))
    two = version == 2
    given = dict(residual_pool=two, residual_with_cls_embed=not two, rel_pos_embed=two, proj_after_attn=two)
    theirs = MViT(spatial_size=(64, 64), temporal_size=4, block_setting=settings, num_classes=7, **given)
    name = "mvit_v2_s" if two else "mvit_v1_b"
    ours = builder(name)[0](depths=depths, dim=16, frames=4, img_size=64, num_classes=7)
    return ours, theirs


@pytest.mark.parametrize("version", [1, 2])
def test_video_networks_in_both_directions(version):
    depths = (1, 2, 1, 2)
    ours, theirs = video(version, depths)
    compare(ours, theirs, TORCHVISION_ENDS + numbered(depths, TORCHVISION_BLOCK), (2, 3, 4, 64, 64))
    still = torch.randn(1, 3, 64, 64).double()
    with torch.no_grad():
        assert torch.equal(ours(still), ours(still[:, :, None].expand(-1, -1, 4, -1, -1)))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mvit_v1_b", "mvit_v2_s"])
def test_whole_video_networks(name):
    compare(*both(name), rules(name), TWINS[name][1])
