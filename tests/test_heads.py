"""Heads for boxes and for pixels: equal to torchvision's with the same weights, and at work on backbones of ours."""

import math
from functools import partial

import pytest
import torch
from reference import torchvision
from torch import nn
from torchvision.models import detection, segmentation
from torchvision.models.detection import _utils as coder
from torchvision.models.detection import anchor_utils
from torchvision.models.segmentation import deeplabv3 as deeplab
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops import boxes as theirs_boxes
from torchvision.ops.feature_pyramid_network import LastLevelP6P7
from zoo import apart, randomise

from opsin import create_model
from opsin.heads import boxes
from opsin.heads.detect import FocalLoss, MultiBoxLoss, TruthError
from opsin.heads.fpn import FPN, Strided
from opsin.heads.retinanet import RetinaHead, retinanet
from opsin.heads.segment import ASPP, LRASPP, deeplabv3, lraspp, semantic_fpn
from opsin.heads.ssdlite import EXTRA, Extras, SSDLiteHead, norm, sides, ssdlite
from opsin.width import narrow, widths


def poured(theirs: nn.Module, ours: nn.Module) -> None:
    """Random weights in both, paired by order: the parts are listed alike."""
    randomise(theirs)
    given, own = theirs.state_dict(), ours.state_dict()
    assert [v.shape for v in given.values()] == [v.shape for v in own.values()]
    ours.load_state_dict(dict(zip(own, given.values())))


def drawn(*shapes: tuple[int, ...]) -> list[torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=draw, dtype=torch.float64) for shape in shapes]


def some_boxes(count: int, side: float = 100) -> torch.Tensor:
    at, size = torch.rand(2, count, 2, generator=torch.Generator().manual_seed(count), dtype=torch.float64)
    return torch.cat([at * side, at * side + 1 + size * side / 2], 1)


# ---------------------------------------------- boxes ----------------------------------------------


def test_overlaps_and_codes_equal_torchvisions():
    a, b = some_boxes(7), some_boxes(9)
    torch.testing.assert_close(boxes.iou(a, b), theirs_boxes.box_iou(a, b))
    scale = (10.0, 10.0, 5.0, 5.0)
    codes = boxes.encode(a, some_boxes(9)[:7], scale)
    torch.testing.assert_close(codes, coder.BoxCoder(scale).encode_single(a, some_boxes(9)[:7]))
    torch.testing.assert_close(boxes.decode(codes, some_boxes(9)[:7], scale), a)


def test_anchors_equal_torchvisions_default_boxes():
    places = [(20, 20), (10, 10), (5, 5), (3, 3), (2, 2), (1, 1)]
    wanted = anchor_utils.DefaultBoxGenerator([[2, 3]] * 6, min_ratio=0.2, max_ratio=0.95)
    images = torchvision.models.detection.image_list.ImageList(torch.zeros(1, 3, 320, 320), [(320, 320)])
    made = wanted(images, [torch.zeros(1, 1, *size) for size in places])[0]
    torch.testing.assert_close(boxes.anchors(places, sides((320, 320), 6), (320, 320)), made)


def test_matching_gives_every_box_its_best_anchors():
    anchors = torch.tensor([[0.0, 0, 10, 10], [0, 0, 12, 10], [50, 50, 60, 60], [0, 0, 20, 10], [80, 80, 90, 90]])
    truth = torch.tensor([[0.0, 0, 10, 10], [50, 56, 60, 66]])
    assert boxes.matched(truth, anchors, 0.4, 0.55).tolist() == [0, 0, 1, -2, -1]
    assert boxes.matched(truth[:0], anchors, 0.4, 0.55).tolist() == [-1] * 5


def test_suppression_keeps_the_best_of_each_class():
    at = torch.tensor([[0.0, 0, 10, 10], [1, 0, 11, 10], [1, 0, 11, 10], [40, 40, 50, 50]])
    kept = boxes.suppressed(at, torch.tensor([0.5, 0.9, 0.8, 0.1]), torch.tensor([0, 0, 1, 0]))
    assert kept.tolist() == [1, 2, 3]
    assert boxes.suppressed(at[:0], at[:0, 0], at[:0, 0]).tolist() == []


# ---------------------------------------------- equal to torchvision's ----------------------------------------------


@pytest.mark.parametrize("extra", [0, 2])
def test_the_pyramid_equals_torchvisions(extra):
    dims = [8, 16, 24]
    theirs = FeaturePyramidNetwork(dims, 12, LastLevelP6P7(24, 12) if extra else None).double()
    ours = FPN(dims, 12, 3 + extra, coarser=Strided).double()
    poured(theirs, ours)
    maps = drawn((2, 8, 15, 21), (2, 16, 8, 11), (2, 24, 4, 6))
    wanted = theirs({str(i): m for i, m in enumerate(maps)})
    assert max(apart(a, b) for a, b in zip(ours(maps), wanted.values(), strict=True)) < 1e-12


def test_retinanets_towers_and_loss_equal_torchvisions():
    theirs = detection.retinanet.RetinaNetHead(16, 9, 5).double()
    ours = RetinaHead(16, 5).double()
    poured(theirs, ours)
    levels = drawn((2, 16, 9, 7), (2, 16, 5, 4))
    said = theirs(levels)
    logits, codes = ours(levels)
    assert apart(logits, said["cls_logits"]) < 1e-12
    assert apart(codes, said["bbox_regression"]) < 1e-12
    anchors = some_boxes(logits.shape[1])
    truths = [
        {"boxes": some_boxes(3), "labels": torch.tensor([0, 4, 2])},
        {"boxes": some_boxes(1), "labels": torch.tensor([1])},
    ]
    found = [boxes.matched(t["boxes"], anchors, 0.4, 0.5) for t in truths]
    wanted = sum(theirs.compute_loss(truths, said, [anchors] * 2, found).values())
    torch.testing.assert_close(FocalLoss()(logits, codes, anchors, truths), wanted)


def test_ssdlites_levels_and_towers_equal_torchvisions():
    theirs = detection.ssdlite.SSDLiteHead([24, 32], [6, 6], 5, norm).double()
    ours = SSDLiteHead([24, 32], 4).double()
    poured(theirs, ours)
    levels = drawn((2, 24, 9, 7), (2, 32, 5, 4))
    said = theirs.eval()(levels)
    logits, codes = ours.eval()(levels)
    assert apart(logits, said["cls_logits"]) < 1e-12
    assert apart(codes, said["bbox_regression"]) < 1e-12
    extra = nn.ModuleList(detection.ssdlite._extra_block(a, b, norm) for a, b in zip((32, *EXTRA), EXTRA)).double()
    more = Extras([24, 32]).double()
    poured(extra, more)
    wanted = list(levels)
    for block in extra.eval():
        wanted.append(block(wanted[-1]))
    assert max(apart(a, b) for a, b in zip(more.eval()(levels), wanted, strict=True)) < 1e-12


def test_the_loss_of_default_boxes_equals_torchvisions():
    truths = [
        {"boxes": some_boxes(2), "labels": torch.tensor([0, 3])},
        {"boxes": some_boxes(1), "labels": torch.tensor([1])},
    ]
    anchors = torch.cat([some_boxes(40), some_boxes(2) + 2])
    logits, codes = drawn((2, 42, 5), (2, 42, 4))
    found = [boxes.matched(t["boxes"], anchors, 0.5, 0.5) for t in truths]
    theirs = detection.ssd.SSD(nn.Identity(), anchor_utils.DefaultBoxGenerator([[2]]), (9, 9), 5, head=nn.Identity())
    marked = [{"boxes": t["boxes"], "labels": t["labels"] + 1} for t in truths]
    wanted = theirs.compute_loss(marked, {"cls_logits": logits, "bbox_regression": codes}, [anchors] * 2, found)
    torch.testing.assert_close(MultiBoxLoss()(logits, codes, anchors, truths), sum(wanted.values()))


def test_lraspp_equals_torchvisions():
    theirs, ours = segmentation.lraspp.LRASPPHead(8, 24, 5, 16).double(), LRASPP([8, 24], 5, 16).double()
    poured(theirs, ours)
    fine, deep = drawn((2, 8, 16, 12), (2, 24, 8, 6))
    assert apart(ours.eval()([fine, deep]), theirs.eval()({"low": fine, "high": deep})) < 1e-12


@pytest.mark.parametrize("rates", [(), (12, 24, 36)])
def test_atrous_pyramids_equal_torchvisions(rates):
    theirs, ours = deeplab.ASPP(24, rates, 16).double(), ASPP(24, 16, rates).double()
    poured(theirs, ours)
    (x,) = drawn((2, 24, 9, 7))
    assert apart(ours.eval()(x), theirs.eval()(x)) < 1e-12


# ---------------------------------------------- on backbones ----------------------------------------------

SMALL = {
    "mobilenetv2_035": {},
    "mobilenetv3_small_050": {},
    "emo2_1m_k5_hybrid": {},
    "resnet10t": {},
    "swin_tiny_patch4_window7_224": {"depths": (1, 1, 1, 1)},
}


def backbone(name: str, **given) -> nn.Module:
    torch.manual_seed(0)
    return create_model(name, num_classes=0, **SMALL[name], **given)


@pytest.mark.parametrize("make", [retinanet, ssdlite])
@pytest.mark.parametrize("name", SMALL)
def test_detectors_stand_on_any_backbone(name, make):
    model = make(backbone(name), 3)
    x = torch.randn(2, 3, 224, 224)
    truths = [
        {"boxes": torch.tensor([[20.0, 30, 120, 140]]), "labels": torch.tensor([2])},
        {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.long)},
    ]
    model.loss(x, truths).backward()
    assert all(p.grad is not None for n, p in model.named_parameters() if not n.startswith("backbone"))
    found = model.eval().detect(x, score=0.0, most=7)
    assert [set(image) for image in found] == [{"boxes", "scores", "labels"}] * 2
    for image in found:
        assert image["boxes"].shape == (7, 4)
        assert (image["boxes"] >= 0).all()
        assert (image["boxes"] <= 224).all()
        assert (image["scores"].diff() <= 0).all()
        assert image["labels"].max() < 3


@pytest.mark.parametrize(("make", "rate", "overlap"), [(partial(retinanet, dim=32), 3e-3, 0.2), (ssdlite, 1e-3, 0.5)])
def test_a_detector_learns_where_a_square_is(make, rate, overlap):
    torch.manual_seed(0)
    model = make(create_model("mobilenetv2_035", num_classes=0), 2)
    x, at = torch.zeros(1, 3, 128, 128), torch.tensor([[32.0, 40, 96, 104]])
    x[:, :, 40:104, 32:96] = 1
    truths = [{"boxes": at, "labels": torch.tensor([1])}]
    for m in model.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.eval()  # one image has no statistics
    optimiser, losses = torch.optim.Adam(model.parameters(), rate), []
    for _ in range(60):
        loss = model.loss(x, truths)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    best = {name: values[0] for name, values in model.detect(x)[0].items()}
    assert losses[-1] < 0.7 * losses[0]
    assert best["labels"] == 1
    assert boxes.iou(best["boxes"][None], at) > overlap


def test_boxes_that_no_image_has_are_named():
    model = ssdlite(backbone("mobilenetv2_035"), 3)
    x = torch.randn(1, 3, 64, 64)
    with pytest.raises(TruthError, match=r"image 0: box \[5.0, 5.0, 5.0, 9.0\] has no area"):
        model.loss(x, [{"boxes": torch.tensor([[5.0, 5, 5, 9]]), "labels": torch.tensor([0])}])
    with pytest.raises(TruthError, match="there are 3 classes"):
        model.loss(x, [{"boxes": torch.tensor([[5.0, 5, 8, 9]]), "labels": torch.tensor([3])}])
    with pytest.raises(TruthError, match=r"\(G, 4\) and \(G,\) are needed"):
        model.loss(x, [{"boxes": torch.zeros(2, 3), "labels": torch.tensor([0])}])


DILATED = {"output_stride": 16}


@pytest.mark.parametrize(
    ("name", "make", "given"),
    [
        ("mobilenetv2_035", partial(deeplabv3, rates=()), DILATED),
        ("mobilenetv3_small_050", lraspp, DILATED),
        ("mobilenetv2_035", deeplabv3, DILATED),
        ("emo2_1m_k5_hybrid", semantic_fpn, {}),
    ],
)
def test_segmenters_stand_on_backbones_and_learn(name, make, given):
    model = make(backbone(name, **given), 2).train()
    x = torch.zeros(2, 3, 64, 96)
    x[:, :, 16:48, 32:64] = 1
    y = x[:, 0].long()
    optimiser = torch.optim.Adam(model.parameters(), 3e-3)
    losses = []
    for _ in range(12):
        logits = model(x)
        assert logits.shape == (2, 2, 64, 96)
        loss = nn.functional.cross_entropy(logits, y)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]
    assert math.isfinite(losses[-1])


@pytest.mark.parametrize("make", [retinanet, ssdlite, lraspp, deeplabv3, semantic_fpn])
def test_heads_are_narrowed_with_their_backbones(make):
    model = make(backbone("mobilenetv2_035"), 2).eval()
    thin = narrow(model, {name: max(1, w // 2) for name, w in widths(model).items()})
    out, wide = thin(torch.randn(1, 3, 64, 64)), model(torch.randn(1, 3, 64, 64))
    for a, b in zip(*((y if isinstance(y, tuple) else (y,)) for y in (out, wide))):
        assert a.shape == b.shape
    assert sum(p.numel() for p in thin.parameters()) < 0.6 * sum(p.numel() for p in model.parameters())
