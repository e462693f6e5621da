"""How RevCol is trained: classes and pixels are told after every quarter of the columns. Cai et al., 2022

arXiv:2212.11696. Early columns are kept from losing the image by having to paint it, late ones learn its class.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from ..blocks import Classifier, Features, Network
from ..blocks.columns import Columns
from ..channels.mlp import Mlp
from ..layers import LayerNorm
from ..layers.act import GELU
from .convnext import ConvNeXtBlock
from .revcol import BODY

SUPERVISIONS = 4


class Decoder(nn.Module):
    """The coarsest map (B, C, H, W) to an image (B, 3, 32 H, 32 W), through the widths of the finer ones"""

    def __init__(self, dims: Sequence[int], kernel: int = 3):
        super().__init__()
        sizes = list(pairwise(reversed(dims)))
        self.steps = nn.ModuleList(
            nn.Sequential(nn.Conv2d(cin, cout, 1), LayerNorm(cout, dim=1), GELU()) for cin, cout in sizes
        )
        self.blocks = nn.ModuleList(ConvNeXtBlock(cout, kernel, mlp=partial(Mlp, ratio=1.0)) for _, cout in sizes)
        self.paint = nn.Sequential(nn.Conv2d(dims[0], 48, 1), nn.PixelShuffle(4))

    def forward(self, x: Tensor) -> Tensor:
        for step, block in zip(self.steps, self.blocks):
            x = block(F.interpolate(step(x), scale_factor=2, mode="bilinear", align_corners=True))
        return self.paint(x)


class Painter(nn.Sequential):
    """The coarsest map to an image in one step, the published choice for more than 1000 classes"""

    def __init__(self, dims: Sequence[int]):
        conv = nn.Conv2d(dims[-1], 3 * 32 * 32, 1)
        super().__init__(LayerNorm(dims[-1], dim=1), conv, nn.PixelShuffle(32))


class Supervised(nn.Module):
    """Images to the logits and painted images of each quarter of the columns; the last only tells classes

    The network's own head is the last of them: train this, then use the network.
    """

    def __init__(self, network: Network, num_classes: int):
        super().__init__()
        columns: Columns = network.backbone
        if len(columns.blocks) % SUPERVISIONS:
            raise ValueError(f"{len(columns.blocks)} columns have no {SUPERVISIONS} equal parts: take a multiple")
        self.network, dims = network, columns.widths
        classify = (Classifier(dims[-1], num_classes, after=LayerNorm(dims[-1])) for _ in range(SUPERVISIONS - 1))
        self.heads = nn.ModuleList(classify)
        made = (Decoder(dims) if num_classes <= 1000 else Painter(dims) for _ in range(SUPERVISIONS - 1))
        self.decoders = nn.ModuleList(made)

    def forward(self, x: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        columns: Columns = self.network.backbone
        step = len(columns.blocks) // SUPERVISIONS
        states = columns.states(x, range(step, len(columns.blocks) + 1, step))
        last = [state[-1] for state in states]
        heads = [*self.heads, self.network.head]
        logits = [head(Features([m], columns.strides[-1:])) for head, m in zip(heads, last)]
        return logits, [decode(m) for decode, m in zip(self.decoders, last)]


def supervision(
    logits: Sequence[Tensor],
    images: Sequence[Tensor],
    labels: Tensor,
    pixels: Tensor,
    paint: float = 3.0,
    tell: float = 0.7,
) -> Tensor:
    """The sum of all tasks: painting counts less from quarter to quarter, telling the class more.

    Args:
        logits: of each quarter, (B, classes).
        images: of all quarters but the last, (B, 3, H, W), before a sigmoid.
        labels: (B,), or (B, classes) where they are mixed.
        pixels: what to paint, (B, 3, H, W) from 0 to 1.
    """
    n, target = len(images), pixels.clamp(0.01, 0.99)
    loss = F.cross_entropy(logits[-1], labels)
    for k, (told, image) in enumerate(zip(logits, images)):
        loss = loss + paint * (1 - k / n) * F.binary_cross_entropy_with_logits(image, target)
        loss = loss + tell * (k + 1) / (n + 1) * F.cross_entropy(told, labels)
    return loss


AUTHORS = (
    BODY.replace("-> backbone", "-> network.backbone")
    + """
    cls_blocks.3.classifier.0                           -> network.head.after
    cls_blocks.3.classifier.1                           -> network.head.fc
    cls_blocks.{k}.classifier.0                         -> heads.{k}.after
    cls_blocks.{k}.classifier.1                         -> heads.{k}.fc
    decoder_blocks.{k}.proj_layers.{i}                  -> decoders.{k}.steps.{i}
    decoder_blocks.{k}.normal_layers.{i}.0.pwconv{j}    -> decoders.{k}.blocks.{i}.mlp.fc{j}
    decoder_blocks.{k}.normal_layers.{i}.0.gamma        -> decoders.{k}.blocks.{i}.scale.gamma
    decoder_blocks.{k}.normal_layers.{i}.0              -> decoders.{k}.blocks.{i}
    decoder_blocks.{k}.projback                         -> decoders.{k}.paint
"""
)
AUTHORS_PAINTED = AUTHORS.replace("{k}.paint", "{k}")
"""Of networks for more than 1000 classes."""
