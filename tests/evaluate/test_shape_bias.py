import math

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from opsin import OpsinError
from opsin.data.dataset import DataError
from opsin.evaluate.shape_bias import cue_conflicts, measure, shape_bias

RECORD = {"size": [32, 32], "crop_pct": 1.0, "mean": [0.0] * 3, "std": [1.0] * 3, "channels": 3}


def test_the_bias_is_the_share_of_shapes_among_decisions():
    told = shape_bias("aabbcaa", "abababa", "bababaa")  # b is a's texture and the other way round; the last agrees
    assert (told.shape, told.texture, told.neither, told.decisions) == (2, 3, 1, 5)
    assert told.bias == 2 / 5
    assert told.by_shape == {"a": 1 / 2, "b": 1 / 3}
    assert math.isnan(shape_bias("c", "a", "b").bias)
    with pytest.raises(ValueError, match="shorter"):
        shape_bias("aa", "ab", "b")


def picture(shape: str, texture: str, seed: int) -> np.ndarray:
    """A disc or a square, filled with stripes or dots, each pattern in its own direction of grey."""
    y, x = np.mgrid[:32, :32]
    at = 12 + seed % 8
    inside = (x - at) ** 2 + (y - at) ** 2 < 81 if shape == "disc" else np.maximum(abs(x - at), abs(y - at)) < 8
    fill = 90 + 120 * (y % 2) if texture == "stripes" else 90 + 120 * ((x + y) % 2)
    return np.where(inside, fill, 0).astype(np.uint8)[..., None].repeat(3, 2)


class Looks(nn.Module):
    """Answers disc or square by the outline, stripes or dots by neighbours in a row"""

    def __init__(self, by_shape: bool):
        super().__init__()
        self.by_shape, self.unused = by_shape, nn.Parameter(torch.zeros(1))

    def forward(self, x):
        grey, inside = x[:, 0], (x[:, 0] > 0).float()
        rows, columns = inside.sum(2), (inside.sum(1) > 0).sum(1)
        round_ = ((rows.amax(1) * columns) * 0.9 > inside.sum((1, 2))).float()  # a disc fills less of its box
        dotted = (grey[:, :, 1:] - grey[:, :, :-1]).abs().mean((1, 2)) * 20 > 1.5
        first = round_ if self.by_shape else 1 - dotted.float()
        return torch.stack([first, 1 - first], 1) * 9


def folder_of(tmp_path):
    cues = {"disc": "dots", "square": "stripes"}
    for i, (shape, texture) in enumerate([("disc", "dots"), ("square", "stripes")] * 3):
        Image.fromarray(picture(shape, texture, i)).save(tmp_path / f"{shape}{i}-{texture}{i}.png")
    return cues


def test_pictures_of_two_cues_are_measured(tmp_path):
    folder_of(tmp_path)
    found = cue_conflicts(tmp_path)
    assert [(p.shape, p.texture) for p in found] == [("disc", "dots")] * 3 + [("square", "stripes")] * 3
    groups = {"disc": [0], "square": [1], "stripes": [2], "dots": [3]}
    by_shape = nn.Sequential(Looks(True), nn.ConstantPad1d((0, 2), -9.0))
    by_texture = nn.Sequential(Looks(False), nn.ConstantPad1d((2, 0), -9.0))
    assert measure(by_shape, found, groups, preprocessing=RECORD).bias == 1.0
    assert measure(by_texture, found, groups, preprocessing=RECORD).bias == 0.0


def test_categories_of_several_classes_have_their_mean(tmp_path):
    folder_of(tmp_path)
    found = cue_conflicts(tmp_path)
    groups = {"disc": [0], "square": [1, 2, 3], "stripes": [4], "dots": [5]}

    class Says(nn.Linear):
        def forward(self, x):  # most of the mass lies in square's classes, none of which is as sure as disc's
            return torch.tensor([[0.3, 0.25, 0.25, 0.1, 0.05, 0.05]]).log()

    assert measure(Says(1, 1), found, groups, preprocessing=RECORD).by_shape == {"disc": 1.0}


def test_names_that_cannot_be_used_are_told(tmp_path):
    with pytest.raises(DataError, match="no pictures"):
        cue_conflicts(tmp_path)
    Image.fromarray(picture("disc", "dots", 0)).save(tmp_path / "disc1-dots2.png")
    with pytest.raises(OpsinError, match="no classes for dots"):
        measure(Looks(True), cue_conflicts(tmp_path), {"disc": [0]}, preprocessing=RECORD)
    Image.fromarray(picture("disc", "dots", 0)).save(tmp_path / "disc.png")
    with pytest.raises(DataError, match=r"cat7-bottle2\.png"):
        cue_conflicts(tmp_path)
