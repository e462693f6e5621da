"""The published weights on real photographs: the proof that names, shapes and preprocessing are all right."""

import io
import math
import re
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

import opsin
from opsin.weights import packaged
from opsin.weights.entry import entry
from opsin.weights.source import published

FOOLBOX = "foolbox", "3.3.4", "11049d515d38e765e206a73ace9cc648b81a0d6d1da9ad9057e149ee117989cb"


def pixels(image: Image.Image, seen: dict) -> torch.Tensor:
    """A picture as the network wants it, by the words of a preprocessing record."""
    height, width = seen["size"]
    side = math.floor(height / seen["crop_pct"])
    scale = side / min(image.size)
    filters = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
    resized = image.resize([round(n * scale) for n in image.size], filters[seen["interpolation"]])
    left, top = round((resized.width - width) / 2), round((resized.height - height) / 2)
    x = torch.from_numpy(np.array(resized.crop((left, top, left + width, top + height)))).float() / 255
    return ((x - torch.tensor(seen["mean"])) / torch.tensor(seen["std"])).permute(2, 0, 1)


@pytest.fixture(scope="module")
def photographs():
    """Twenty labelled pictures of ImageNet classes: [(picture, class)]."""
    wheel = packaged.wheel(*FOOLBOX)
    found = []
    for name in zipfile.ZipFile(wheel).namelist():
        if hit := re.fullmatch(r"foolbox/data/imagenet_\d+_(\d+)\.jpg", name):
            found.append((Image.open(io.BytesIO(packaged.member(wheel, name))).convert("RGB"), int(hit[1])))
    assert len(found) == 20
    return found


@pytest.mark.packages
@pytest.mark.parametrize(
    ("name", "right"),
    [
        ("tf_efficientnet_lite0.in1k", 18),
        ("tf_efficientnet_lite1.in1k", 18),
        ("tf_efficientnet_lite2.in1k", 18),
        ("mobilenetv2_100.tv_in1k", 17),
    ],
)
def test_photographs_are_recognised(photographs, name, right):
    model = opsin.create_model(name, pretrained=True).eval()
    seen = model.config["preprocessing"]
    batch = torch.stack([pixels(image, seen) for image, _ in photographs])
    with torch.inference_mode():
        told = model(batch).argmax(1).tolist()
    assert sum(a == b for a, (_, b) in zip(told, photographs)) >= right


@pytest.mark.packages
@pytest.mark.parametrize("name", ["tf_efficientnet_lite0.in1k", "mobilenetv2_100.tv_in1k"])
def test_answers_are_those_of_other_code_with_the_same_weights(photographs, name):
    """timm's network takes the Lite tensors in their order; torchvision's takes its own file as it is."""
    from reference import timm, torchvision

    held = published(entry(name)).tensors()
    if name.startswith("mobilenet"):
        theirs = torchvision.models.mobilenet_v2()
        theirs.load_state_dict(held)
    else:
        theirs = timm.create_model(entry(name).architecture)
        theirs.load_state_dict(dict(zip(theirs.state_dict(), held.values(), strict=True)))
    ours = opsin.create_model(name, pretrained=True).eval()
    x = torch.stack([pixels(image, ours.config["preprocessing"]) for image, _ in photographs[:4]])
    with torch.inference_mode():
        a, b = ours(x), theirs.eval()(x)
    assert (a - b).abs().max() <= 1e-5 * b.std()
