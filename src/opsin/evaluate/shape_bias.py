"""Whether a network names the shape or the texture of pictures in which they disagree. Geirhos et al., 2019

arXiv:1811.12231. A cue-conflict picture has the shape of one category and the texture of another. The shape bias is the
fraction of shape decisions among the decisions for either; those for neither do not count.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from opsin.data import Preprocess
from opsin.data.dataset import DataError
from opsin.errors import OpsinError
from opsin.evaluate.inference import evaluating

PICTURES = {".png", ".jpg", ".jpeg", ".webp", ".bmp"}


@dataclass(frozen=True)
class CueConflict:
    """A picture with the shape of one category and the texture of another."""

    file: Path
    shape: str
    texture: str


@dataclass(frozen=True)
class ShapeBias:
    """`bias` = shape / (shape + texture) over `decisions`, pictures named by either cue; nan without any.

    `by_shape` is the bias for each category of shapes that has decisions.
    """

    bias: float
    shape: int
    texture: int
    neither: int
    by_shape: dict[str, float]

    @property
    def decisions(self) -> int:
        return self.shape + self.texture


def shape_bias(predicted: Iterable[str], shapes: Iterable[str], textures: Iterable[str]) -> ShapeBias:
    """The bias from the category that a network named for each picture, that of its shape and of its texture.

    Pictures whose cues agree say nothing and are left out.
    """
    cues: Counter[str] = Counter()
    by_shape: dict[str, Counter[str]] = {}
    for named, shape, texture in zip(predicted, shapes, textures, strict=True):
        if shape != texture:
            cue = "shape" if named == shape else "texture" if named == texture else "neither"
            cues[cue] += 1
            by_shape.setdefault(shape, Counter())[cue] += 1
    biases = {shape: _share(told) for shape, told in sorted(by_shape.items()) if told["shape"] + told["texture"]}
    return ShapeBias(_share(cues), cues["shape"], cues["texture"], cues["neither"], biases)


def _share(cues: Counter[str]) -> float:
    told = cues["shape"] + cues["texture"]
    return cues["shape"] / told if told else float("nan")


def cue_conflicts(folder: str | Path) -> list[CueConflict]:
    """The pictures below a folder, named as the published ones: `cat7-bottle2.png` is a cat of a bottle's texture.

    Raises:
        DataError: no pictures, or a name that tells no two categories.
    """
    files = sorted(path for path in Path(folder).rglob("*") if path.suffix.lower() in PICTURES)
    if not files:
        raise DataError(f"{folder} holds no pictures: give the folder with files such as cat7-bottle2.png")
    found = []
    for file in files:
        shape, _, texture = (part.rstrip("0123456789") for part in file.stem.partition("-"))
        if not shape or not texture:
            raise DataError(f"{file} tells no shape and texture: name it as in cat7-bottle2.png")
        found.append(CueConflict(file, shape, texture))
    return found


def measure(
    model: Any,
    pictures: Sequence[CueConflict],
    categories: Mapping[str, Sequence[int]] | None = None,
    *,
    preprocessing: dict[str, Any] | None = None,
) -> ShapeBias:
    """The shape bias of a classifier on cue-conflict pictures.

    `categories` says which of the model's classes belong to each category; a category's probability is the mean of
    theirs, as in the paper. Without it the model's own labels are the categories.

    Raises:
        OpsinError: no categories, or pictures of a category that the model does not know.
    """
    config = getattr(model, "config", None) or {}
    labels = {name: [i] for i, name in enumerate(config.get("labels") or [])}
    groups = dict(categories or labels)
    unknown = sorted({cue for p in pictures for cue in (p.shape, p.texture)} - set(groups))
    if not groups or unknown:
        raise OpsinError(
            f"the model has no classes for {', '.join(unknown) or 'anything'}: give categories={{name: class indices}}"
        )
    prepare, names = Preprocess.from_dict(preprocessing or config.get("preprocessing") or {}), list(groups)
    device = next(model.parameters()).device
    predicted = []
    with evaluating(model):
        for picture in pictures:
            p = model(prepare(picture.file)[None].to(device))[0].softmax(-1)
            predicted.append(names[int(torch.stack([_mean(p, groups[name]) for name in names]).argmax())])
    return shape_bias(predicted, [p.shape for p in pictures], [p.texture for p in pictures])


def _mean(p: Tensor, classes: Sequence[int]) -> Tensor:
    return p[list(classes)].mean()
