"""Chains of steps, RandAugment, and mixing of batches."""

import numpy as np
import pytest
import torch

from opsin.data import DataError, Mix, augmentation
from opsin.data.randaugment import OPERATIONS

RNG = np.random.default_rng(0)
IMAGE = RNG.integers(0, 256, (48, 64, 3), dtype=np.uint8)
EVERYTHING = (
    "random_resized_crop(scale=(0.5, 1), ratio=(0.9, 1.1))|hflip|vflip(p=0.3)|rot90|colour_jitter(0.2, 0.3, 0.4)"
    "|randaugment(n=2, m=9)|random_erasing(p=0.9)"
)


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_whole_chain(channels):
    steps = augmentation(EVERYTHING, (32, 32))
    image = IMAGE[..., :channels]
    before = image.copy()
    results = [steps(image, rng(seed)) for seed in range(20)]
    assert all(r.shape == (32, 32, channels) and r.dtype == np.uint8 for r in results)
    assert np.array_equal(steps(image, rng(3)), results[3])
    assert len({r.tobytes() for r in results}) == 20
    assert np.array_equal(image, before)


def test_geometry_keeps_depth_and_bands():
    steps = augmentation("random_resized_crop|hflip|rot90|random_erasing(p=1)", (24, 24))
    for dtype in (np.uint16, np.float32):
        deep = (RNG.random((48, 48, 6)) * 60_000).astype(dtype)
        assert steps(deep, rng()).shape == (24, 24, 6)
        assert steps(deep, rng()).dtype == dtype
    with pytest.raises(DataError, match="randaugment needs 8-bit images of one or three bands, these are 6 x uint16"):
        augmentation("randaugment", (24, 24))(np.zeros((24, 24, 6), np.uint16), rng())


def test_flips_turns_and_crops():
    assert np.array_equal(augmentation("hflip(p=1)", (48, 64))(IMAGE, rng()), IMAGE[:, ::-1])
    assert np.array_equal(augmentation("vflip(p=1)", (48, 64))(IMAGE, rng()), IMAGE[::-1])
    assert np.array_equal(augmentation("hflip(p=0)", (48, 64))(IMAGE, rng()), IMAGE)
    assert np.array_equal(augmentation("center_crop", (40, 40))(IMAGE, rng()), IMAGE[4:44, 12:52])
    square = IMAGE[:, :48]
    turned = {augmentation("rot90", (48, 48))(square, rng(seed)).tobytes() for seed in range(40)}
    assert turned == {np.rot90(square, k).tobytes() for k in range(4)}
    padded = augmentation("random_crop(pad=4)", (48, 48))(square, rng())
    assert padded.shape == (48, 48, 3)
    assert augmentation("random_crop", (80, 80))(IMAGE, rng()).shape == (80, 80, 3)
    assert augmentation("", (20, 30))(IMAGE, rng()).shape == (20, 30, 3)


def test_crops_have_the_asked_area_and_ratio():
    """A ramp along each axis shows which part was taken."""
    y, x = np.mgrid[0:200, 0:200].astype(np.float32)
    ramps = np.stack([y, x], axis=2)
    steps = augmentation("random_resized_crop(scale=(0.2, 0.6), ratio=(0.5, 2), interpolation='bilinear')", (50, 50))
    areas, ratios = [], []
    for seed in range(200):
        part = steps(ramps, rng(seed))
        height, width = (np.ptp(part[..., i]) * 50 / 49 for i in range(2))
        areas.append(height * width / 200**2)
        ratios.append(width / height)
    assert 0.17 < min(areas) < 0.25
    assert 0.5 < max(areas) < 0.63
    assert 0.47 < min(ratios) < 0.6
    assert 1.6 < max(ratios) < 2.1
    assert abs(np.mean(areas) - 0.4) < 0.03


def test_erasing_erases_the_asked_share():
    steps = augmentation("random_erasing(p=1, area=(0.1, 0.2), ratio=(1, 1))", (48, 64))
    changed = [(steps(np.zeros_like(IMAGE), rng(seed)) > 0).any(axis=2).mean() for seed in range(50)]
    assert min(changed) > 0.08
    assert max(changed) < 0.21


def test_randaugment_draws_all_operations_at_the_asked_strength():
    assert len(OPERATIONS) == 14
    weak, strong = (augmentation(f"randaugment(n=1, m={m})", (48, 64)) for m in (0, 10))
    differences = [
        np.mean([np.abs(steps(IMAGE, rng(seed)).astype(int) - IMAGE).mean() for seed in range(100)])
        for steps in (weak, strong)
    ]
    assert differences[0] < 8 < 25 < differences[1]
    assert len({strong(IMAGE, rng(seed)).tobytes() for seed in range(300)}) > 15
    assert np.array_equal(augmentation("randaugment(n=0)", (48, 64))(IMAGE, rng()), IMAGE)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("hflp", "no augmentation 'hflp'; did you mean hflip"),
        ("hflip(q=1)", "unexpected keyword.*hflip takes p=0.5"),
        ("hflip(p=open('x'))", "hflip takes p=0.5"),
        ("hflip|", "cannot be read at column"),
        ("(lambda: 1)()", "is not the name of a step"),
        ("__import__('os').system('true')", "is not the name of a step"),
        ("random_resized_crop(scale=(0.9, 0.1))", r"scale=\(0.9, 0.1\) must be"),
        ("randaugment(m=30)", "m from 0 to 10"),
        ("colour_jitter(2)", "each must be from 0 to 1"),
        ("1 + 1", "is not the name of a step"),
    ],
)
def test_wrong_chains(text, message):
    with pytest.raises(DataError, match=message):
        augmentation(text, (32, 32))


def test_center_crop_of_small_images():
    with pytest.raises(DataError, match="48 x 64 cannot be cropped to 50 x 50"):
        augmentation("center_crop", (50, 50))(IMAGE, rng())


def batch():
    """Images that are their own class everywhere, so that pixels tell what the labels must be."""
    y = torch.eye(4)[torch.arange(8) % 4]
    return y[:, :, None, None].expand(8, 4, 20, 30).clone(memory_format=torch.channels_last), y


@pytest.mark.parametrize("mix", [Mix(mixup=0.5), Mix(cutmix=1.0), Mix(mixup=0.8, cutmix=1.0)])
def test_labels_are_mixed_as_the_pixels_are(mix):
    x, y = batch()
    seen = set()
    for seed in range(10):
        mixed, labels = mix(x, y, rng(seed))
        assert torch.allclose(mixed.mean(dim=(2, 3)), labels, atol=1e-5)
        assert torch.allclose(labels.sum(dim=1), torch.ones(8))
        assert mixed.is_contiguous(memory_format=torch.channels_last)
        assert torch.equal(mix(x, y, rng(seed))[0], mixed)
        seen.add(bool(((mixed == 0) | (mixed == 1)).all()))
    assert torch.equal(x, batch()[0])
    assert seen == ({True, False} if mix.mixup and mix.cutmix else {bool(mix.cutmix)})


def test_mixing_can_be_off():
    x, y = batch()
    assert Mix()(x, y, rng()) == (x, y)
    with pytest.raises(DataError, match="must be 0 or more"):
        Mix(mixup=-1)
