"""`Preprocess` against timm's evaluation transform, and the fast path against the exact one."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from reference import timm

from opsin.data import DataError, Preprocess

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.3, 0.25)


def photograph(height, width, seed=0):
    """Smooth colours with fine noise on them."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (max(1, height // 20), max(1, width // 20), 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)).astype(int)
    return Image.fromarray((smooth + rng.integers(-12, 13, smooth.shape)).clip(0, 255).astype(np.uint8))


@pytest.mark.parametrize("shape", [(60, 80), (300, 300), (333, 500), (1, 1), (1, 50), (640, 227)])
@pytest.mark.parametrize("mode", ["center", "squash", "border"])
@pytest.mark.parametrize("size", [(96, 96), (64, 48)])
@pytest.mark.parametrize(
    ("pct", "interpolation"), [(0.875, "bicubic"), (1.0, "bilinear"), (0.9, "lanczos"), (1.1, "bicubic")]
)
def test_equal_to_timm(shape, mode, size, pct, interpolation):
    image = photograph(*shape)
    options = {"crop_pct": pct, "crop_mode": mode, "interpolation": interpolation, "mean": MEAN, "std": STD}
    theirs = timm.data.create_transform((3, *size), **options)(image)
    ours = Preprocess(size, **options)(image)
    assert ours.shape == (3, *size)
    assert torch.allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_files_equal_timm(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    photograph(400, 600).save(path)
    theirs = timm.data.create_transform((3, 224, 224), crop_pct=0.9, interpolation="bicubic", mean=MEAN, std=STD)
    ours = Preprocess((224, 224), 0.9, "center", "bicubic", MEAN, STD)
    assert torch.allclose(ours(path), theirs(Image.open(path).convert("RGB")), atol=1e-5)


def test_thin_images_that_are_not_resized_whole_stay_near_timm():
    image = photograph(100, 40_000)
    theirs = timm.data.create_transform((3, 224, 224), mean=(0, 0, 0), std=(1, 1, 1), interpolation="bicubic")(image)
    ours = Preprocess((224, 224), 0.875, "center", "bicubic", (0.0,) * 3, (1.0,) * 3)(image)
    levels = (ours - theirs).abs() * 255
    assert levels.max() < 2.01
    assert (levels > 0.5).float().mean() < 1e-3


@pytest.mark.parametrize(("shape", "mean", "worst"), [((300, 300), 0.01, 1.01), ((1500, 2000), 0.6, 8)])
def test_the_fast_path_stays_near(tmp_path, shape, mean, worst):
    """In levels of 255: only rounding where nothing is shrunk while decoding, little where it is."""
    photograph(*shape).save(tmp_path / "a.jpg", quality=90)
    exact, fast = (
        Preprocess((224, 224), exact=exact).pixels(tmp_path / "a.jpg").astype(int) for exact in (True, False)
    )
    assert np.abs(exact - fast).mean() < mean
    assert np.abs(exact - fast).max() <= worst


def test_what_it_takes(tmp_path):
    image = photograph(70, 90)
    image.save(tmp_path / "a.png")
    load = Preprocess((32, 32))
    expected = load(image)
    assert torch.equal(load(np.asarray(image)), expected)
    assert torch.equal(load(tmp_path / "a.png"), expected)
    assert torch.equal(load(str(tmp_path / "a.png")), expected)
    assert expected.is_contiguous()
    batch = np.stack([load.pixels(image)] * 2)
    maps = load.normalise(batch)
    assert maps.is_contiguous(memory_format=torch.channels_last)
    assert torch.allclose(maps[1], expected, atol=1e-6)
    with pytest.raises(DataError, match=r"array \(2,\) of float64"):
        load(np.zeros(2))


def test_depth_and_bands():
    deep = np.random.default_rng(0).integers(0, 65536, (40, 50, 5), dtype=np.uint16)
    settings = {"size": [20, 20], "mean": [0.5] * 5, "std": [0.25] * 5, "channels": 5}
    found = Preprocess.from_dict(settings)(deep)
    as_float = Preprocess.from_dict(settings)((deep / 65535).astype(np.float32))
    assert torch.allclose(found, as_float, atol=1e-4)
    assert Preprocess.from_dict({"size": [20, 20], "mean": [0], "std": [1], "channels": 1})(deep[..., 0]).shape == (
        1,
        20,
        20,
    )


def test_arrays_are_left_as_they_are():
    image = np.full((20, 20, 1), 0.5, np.float32)
    load = Preprocess((20, 20), 1.0, "center", "bilinear", (0.1,), (0.1,), 1)
    for _ in range(2):
        assert torch.allclose(load(image), torch.full((1, 20, 20), 4.0))
        assert torch.allclose(load.normalise(image[None]), torch.full((1, 1, 20, 20), 4.0))


def test_grey_files_are_repeated_with_the_same_result(tmp_path):
    grey = photograph(90, 90).convert("L")
    grey.save(tmp_path / "a.png")
    assert torch.equal(Preprocess((32, 32))(tmp_path / "a.png"), Preprocess((32, 32))(grey.convert("RGB")))


def test_description_survives_json():
    settings = {
        **{"size": [224, 192], "crop_pct": 0.9, "crop_mode": "squash", "interpolation": "bilinear"},
        **{"mean": [0.1, 0.2, 0.3], "std": [1.0, 2.0, 3.0], "channels": 3},
    }
    assert Preprocess.from_dict(json.loads(json.dumps(settings))).to_dict() == settings


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"size": [224]}, "is not"),
        ({"size": [0, 4]}, "is not"),
        ({"crop_pct": 0}, "crop_pct 0"),
        ({"crop_mode": "middle"}, "'middle' is none of center"),
        ({"interpolation": "random"}, "'random' is none of"),
        ({"mean": [0.5]}, "1 means and 3 stds for 3 channels"),
        ({"std": [0.0, 1, 1]}, "must be above 0"),
        ({"crop": 1}, "check crop"),
    ],
)
def test_wrong_descriptions(wrong, message):
    with pytest.raises(DataError, match=message):
        Preprocess.from_dict({"size": [8, 8], **wrong})
