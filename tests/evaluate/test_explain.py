import numpy as np
import pytest
import torch
from PIL import Image

from opsin import OpsinError, create_model
from opsin.evaluate.explain import eigencam, explain, gradcam, overlay

RECORD = {"size": [64, 64], "crop_pct": 1.0, "mean": [0.5] * 3, "std": [0.5] * 3, "channels": 3}


def spot(x, y, side=64):
    pixels = np.full((side, side, 3), 40, np.uint8)
    pixels[y : y + 12, x : x + 12] = np.random.default_rng(0).integers(0, 256, (12, 12, 3))
    return pixels


def network(name="resnet18", **more):
    torch.manual_seed(0)
    model = create_model(name, num_classes=4, **more).eval()
    model.config.update(preprocessing=RECORD, labels=["a", "b", "c", "d"])
    return model


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("resnet18", {}),
        ("densenet121", {}),
        ("convnext_atto", {}),
        ("vit_tiny_patch16_224", {"img_size": 64}),
        ("deit_tiny_distilled_patch16_224", {"img_size": 64}),
        ("swin_tiny_patch4_window7_224", {"img_size": 64}),
    ],
)
@pytest.mark.parametrize("method", [eigencam, gradcam])
def test_every_kind_of_network_gives_a_map_of_its_grid(name, more, method):
    try:
        model = network(name, **more)
    except OpsinError:
        model = network(name)
    x = torch.rand(2, 3, 64, 64)
    heat = method(model, x)
    with torch.no_grad():
        assert heat.shape == (2, *model.backbone(x).maps[-1].shape[-2:])
    assert heat.min() >= 0
    assert torch.allclose(heat.amax((1, 2)), torch.ones(2)) or method is gradcam
    assert all(p.grad is None for p in model.parameters())


def test_eigencam_is_the_first_principal_direction():
    model, x = network(), torch.rand(1, 3, 96, 96)
    with torch.no_grad():
        maps = model.backbone(x).maps[-1][0].flatten(1).numpy()
    values, vectors = np.linalg.eigh(maps @ maps.T)
    along = np.abs(maps.T @ vectors[:, values.argmax()]).reshape(3, 3)  # behind a ReLU it has one sign
    assert np.allclose(eigencam(model, x)[0].detach(), along / along.max(), atol=1e-4)


def test_gradcam_equals_its_definition_where_the_head_is_linear():
    model, x = network(), torch.rand(1, 3, 96, 96)
    with torch.no_grad():
        maps = model.backbone(x).maps[-1]
    heat = (model.head.fc.weight[2][:, None, None] * maps[0]).sum(0).clamp(min=0)
    assert torch.allclose(gradcam(model, x, target=2)[0], (heat / heat.max()).detach(), atol=1e-4)


def test_the_heat_is_where_the_thing_is():
    model, size = network(), 128
    for x, y in ((8, 8), (100, 100)):
        pixels = spot(x, y, size)
        record = {**RECORD, "size": [size, size]}
        heat = explain(model, [pixels], preprocessing=record)[0]["heat"]
        background = explain(model, [np.full_like(pixels, 40)], preprocessing=record)[0]["heat"]
        change = np.abs(heat - background)
        assert (change.argmax() // 4 < 2) == (y < 64)


def test_records_and_pictures(tmp_path):
    Image.fromarray(spot(10, 20)).save(tmp_path / "<b>näme.png")
    model = network()
    model.train()
    found = explain(model, [tmp_path / "<b>näme.png", spot(3, 3)], "gradcam", out=tmp_path / "out")
    assert model.training
    assert [record["label"] in "abcd" for record in found] == [True, True]
    for record in found:
        assert np.array_equal(np.asarray(Image.open(record["file"])), record["overlay"])
        assert record["overlay"].shape == (64, 64, 3)
        assert 0.25 <= record["probability"] <= 1


def test_cold_places_keep_their_pixels():
    heat = np.zeros((4, 4), np.float32)
    heat[0, 0] = 1
    pixels = spot(40, 40)
    mixed = overlay(pixels, heat)
    assert np.array_equal(mixed[40:], pixels[40:])
    assert (np.abs(mixed[:8, :8].astype(int) - pixels[:8, :8]) > 30).any()
    assert overlay(pixels[..., :1].astype(np.uint16) * 257, heat).shape == (64, 64, 3)


def test_what_cannot_be_explained_says_why():
    with pytest.raises(OpsinError, match="eigencam or gradcam"):
        explain(network(), [], "magic")
    with pytest.raises(OpsinError, match="no backbone"):
        explain(torch.nn.Linear(2, 2), [])
    with pytest.raises(OpsinError, match="from 0 to 3"):
        gradcam(network(), torch.rand(1, 3, 64, 64), target=4)
