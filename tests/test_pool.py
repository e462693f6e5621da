"""Every pool in every network, and what each computes."""

import pytest
import torch
from reference import timm
from test_conformance import kept
from zoo import apart, image, randomise, representatives, small_size

import opsin
from opsin.blocks.latent_pool import LatentPool
from opsin.convert import rename
from opsin.families.vit import TIMM
from opsin.layers.pool import GeM, GGeM, GlobalAverage, GlobalMax
from opsin.registry import UnsupportedArgument, facts
from opsin.width import narrow

X = torch.rand(2, 12, 5, 4, generator=torch.Generator().manual_seed(0)).double() + 0.1
BODIES = ["resnet18", "efficientnet_lite0", "swin_tiny_patch4_window7_224", "deit_tiny_patch16_224"]


def test_one_is_the_mean_and_many_the_largest():
    assert apart(GeM(1.0).double()(X), GlobalAverage()(X)) < 1e-9
    assert apart(GeM(2000.0).double()(X), GlobalMax()(X)) < 0.1
    assert apart(GGeM(12, 12, 1.0).double()(X), GlobalAverage()(X)) < 1e-9


def test_one_group_is_gem():
    assert torch.equal(GGeM(12, 1).double()(X), GeM().double()(X))


def test_each_group_has_its_exponent():
    pool = GGeM(12, 3).double()
    pool.p.data = torch.tensor([1.0, 2.0, 5.0]).double()
    parts = [GeM(p).double()(x) for p, x in zip((1, 2, 5), X.chunk(3, 1))]
    assert apart(pool(X), torch.cat(parts, 1)) < 1e-9
    assert sum(p.numel() for p in pool.parameters()) == 3
    with pytest.raises(ValueError, match="divisor"):
        GGeM(12, 5)


def test_attention_pooling_sees_no_order():
    pool = LatentPool(12, heads=3).double()
    assert apart(pool(X), pool(X.flatten(2)[..., torch.randperm(20)].unsqueeze(-1))) < 1e-9


@pytest.mark.parametrize("name", BODIES)
@pytest.mark.parametrize("call", ["avg", "max", "gem(p=2)", "ggem(groups=4)", "map"])
def test_any_network_takes_any_pool(name, call):
    size = {"img_size": small_size(name)} if "img_size" in facts(name)["arguments"] else {}
    net = opsin.create_model(name, num_classes=4, pool=call, **size).eval()
    y = net(image(name))
    y.square().mean().backward()
    assert y.shape == (2, 4)
    assert all(p.grad is not None for p in net.head.parameters())
    assert narrow(net, kept(net, 3))(image(name)).shape == (2, 4)
    made = net.forward_features(image(name))
    assert apart(net.forward_head(made), net(image(name))) < 1e-5


@pytest.mark.parametrize("name", [n for n in representatives() if facts(n)["pool"] == ["own"]])
def test_a_head_of_its_own_says_so(name):
    with pytest.raises(UnsupportedArgument, match="takes own"):
        opsin.create_model(name, pool="gem")


def test_unknown_pools_and_settings_are_named():
    with pytest.raises(UnsupportedArgument, match="avg or max"):
        opsin.create_model("resnet18", pool="median")
    with pytest.raises(UnsupportedArgument, match="divisor"):
        opsin.create_model("resnet18", pool="ggem(groups=7)")
    with pytest.raises(UnsupportedArgument, match="unexpected keyword"):
        opsin.create_model("resnet18", pool="gem(q=7)")


@pytest.mark.parametrize("kind", ["avg", "max", "map"])
def test_same_numbers_as_timm(kind):
    ours = opsin.create_model("vit_tiny_patch16_224", pool=kind, img_size=64).double().eval()
    theirs = timm.create_model("vit_tiny_patch16_224", global_pool=kind, img_size=64).double().eval()
    randomise(theirs)
    ours.load_state_dict(rename(theirs.state_dict(), "attn_pool -> head.pool.pool\n" + TIMM))
    x = torch.randn(2, 3, 64, 64).double()
    with torch.no_grad():
        assert apart(ours(x), theirs(x)) < 1e-9
