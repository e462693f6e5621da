"""How far a network sees: effective receptive fields. Luo et al., 2016, arXiv:1701.04128

What a pixel contributes to the centre of a map is the size of the gradient of that centre by it; the measure of how far
it reaches is Ding et al.'s (2022, arXiv:2203.06717; 2024, arXiv:2410.08049).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from opsin.data import Preprocess
from opsin.data.preprocess import Pixels as Picture
from opsin.errors import OpsinError
from opsin.evaluate.explain import HEAT
from opsin.evaluate.inference import evaluating

SHARES = (0.2, 0.3, 0.5, 0.99)


def contributions(model: Any, x: Tensor, tap: int = -1) -> Tensor:
    """What each pixel of images (B, C, H, W) adds to the centre of a map: (B, H, W), not negative

    The gradient of the sum over channels of the map's centre by the pixels, where positive, added up over their
    channels. On maps of even sides the centre is the place right below it.

    Raises:
        OpsinError: a model without maps.
    """
    if not hasattr(model, "backbone"):
        raise OpsinError(f"{type(model).__name__} has no maps to look at: wrap it as an opsin Network")
    with evaluating(model), torch.enable_grad():
        x = x.detach().requires_grad_()
        [m] = model.backbone(x, (tap,)).maps
        [gradient] = torch.autograd.grad(m[:, :, m.shape[2] // 2, m.shape[3] // 2].sum(), x)
    return gradient.clamp(min=0).sum(1)


def receptive_field(model: nn.Module, images: Iterable[Tensor], tap: int = -1) -> NDArray[np.float64]:
    """The effective receptive field (H, W) of a map's centre: mean contributions over batches of images (B, C, H, W)

    All images have one size. `high_contribution` measures it, `contrasted` makes it a picture.
    """
    total: Tensor | None = None
    count = 0
    for batch in images:
        here = contributions(model, batch, tap).double().sum(0)
        total, count = here if total is None else total + here, count + len(batch)
    if total is None:
        raise OpsinError("no images: an effective receptive field is a mean over some")
    mean: NDArray[np.float64] = (total / count).cpu().numpy()
    return mean


def high_contribution(field: NDArray[Any], shares: Sequence[float] = SHARES) -> dict[float, float]:
    """Area ratio r of the smallest centred square that gathers each share of all contributions: {share: r}

    A square of side a in an image of H x W pixels has r = a^2 / (H W): the larger, the wider contributions are spread.
    Squares that reach beyond an oblong image's border count as cut there.
    """
    h, w = field.shape
    total = field.sum()
    if not total > 0:
        raise OpsinError("no pixel contributes to the centre: the map does not depend on the image")
    rows, columns = np.abs(np.arange(h) - h // 2), np.abs(np.arange(w) - w // 2)
    reach = np.maximum(rows[:, None], columns)  # half the side of the square that first holds a pixel
    gathered = np.cumsum(np.bincount(reach.ravel(), field.ravel())) / total
    area = np.cumsum(np.bincount(reach.ravel())) / (h * w)
    last = len(gathered) - 1
    return {share: float(area[min(int(np.searchsorted(gathered, share - 1e-12)), last)]) for share in shares}


def contrasted(field: NDArray[Any]) -> NDArray[np.float32]:
    """A field for the eye: log10(1 + contributions relative to the mean), from 0 to 1."""
    level = np.log10(1 + field / max(float(field.mean()), math.ulp(0)))
    return np.asarray(level / max(float(level.max()), math.ulp(0)), np.float32)


def draw(model: Any, images: Sequence[Picture], out: str | Path, tap: int = -1) -> list[Path]:
    """The field over pictures as `receptive_field.png`, and its area ratios in `receptive_field.json`, in folder `out`.

    Raises:
        OpsinError: no images, or a model without maps.
    """
    from PIL import Image

    prepare = Preprocess.from_dict((getattr(model, "config", None) or {}).get("preprocessing") or {})
    device = next(model.parameters()).device
    batches = (prepare.normalise(prepare.pixels(image)[None]).to(device) for image in images)
    field = receptive_field(model, batches, tap)
    ratios = {f"{share:.0%}": round(r, 6) for share, r in high_contribution(field).items()}
    level, steps = contrasted(field), np.linspace(0, 1, len(HEAT))
    colour = np.stack([np.interp(level, steps, HEAT[:, c]) for c in range(3)], -1).round().astype(np.uint8)
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    drawn, told = out / "receptive_field.png", out / "receptive_field.json"
    Image.fromarray(colour).save(drawn)
    record = {"images": len(images), "size": list(field.shape), "area_ratio_of_contributions": ratios}
    told.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return [drawn, told]
