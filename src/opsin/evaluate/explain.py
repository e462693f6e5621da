"""What a network looks at: heat maps over its input, for any network of the library."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from opsin.data import Preprocess
from opsin.data.preprocess import Pixels as Picture
from opsin.errors import OpsinError
from opsin.evaluate.inference import evaluating

# Dark blue over red to pale yellow: lightness rises all the way, so that it reads in grey and for the colour-blind.
HEAT = np.array([(0, 0, 30), (70, 10, 110), (165, 35, 100), (235, 85, 45), (252, 170, 40), (252, 250, 170)], float)


def explain(
    model: nn.Module,
    images: Sequence[Picture],
    method: str = "eigencam",
    *,
    preprocessing: dict[str, Any] | None = None,
    target: int | None = None,
    out: str | Path | None = None,
) -> list[dict[str, Any]]:
    """Heat maps of what the model looks at in each image (a file, or an array (H, W, C)).

    `method` is "eigencam" (no class, no gradient) or "gradcam" (for class `target`, by default the predicted one).
    One record an image: `prediction` (index), `label`, `probability`, `heat` (h, w) from 0 to 1, `overlay` uint8
    (H, W, 3) over the pixels that the network saw, and with `out`, a folder, `file`: the overlay as PNG there.

    Raises:
        OpsinError: an unknown method, a class that the model does not have, or a model that is none of opsin's.
    """
    if method not in METHODS:
        raise OpsinError(f"method {method!r} is unknown: use {' or '.join(METHODS)} (or erf, in `opsin explain`)")
    config = getattr(model, "config", None)
    if config is None or not hasattr(model, "backbone"):
        raise OpsinError(f"{type(model).__name__} has no backbone to look into: wrap it as an opsin Network")
    prepare = Preprocess.from_dict(preprocessing or config.get("preprocessing") or {})
    device = next(model.parameters()).device
    labels = config.get("labels") or []
    records = []
    for i, image in enumerate(images):
        pixels = prepare.pixels(image)
        x = prepare.normalise(pixels[None]).to(device)
        with evaluating(model):
            p = model(x)[0].softmax(-1)
            heat = METHODS[method](model, x, target)[0].float().cpu().numpy()
        guess = int(p.argmax())
        record: dict[str, Any] = {
            "prediction": guess,
            "label": labels[guess] if guess < len(labels) else str(guess),
            "probability": float(p[guess]),
            "heat": heat,
            "overlay": overlay(pixels, heat),
        }
        if out is not None:
            record["file"] = str(_written(record["overlay"], Path(out), i, image))
        records.append(record)
    return records


def eigencam(model: nn.Module, x: Tensor, target: int | None = None) -> Tensor:
    """Heat (B, h, w) of images (B, C, H, W): the last map along its first principal direction, which no class decides.

    Muhammad & Yeasin, 2020, arXiv:2008.00299. A direction has no sign of its own: it is turned so that the places with
    the larger activations come out hot.
    """
    maps = model.backbone(x).maps[-1]  # type: ignore[operator]
    flat = maps.flatten(2).mT.float()
    _, _, directions = torch.linalg.svd(flat, full_matrices=False)
    along = (flat @ directions[:, 0, :, None])[..., 0]
    size = flat.norm(dim=-1)
    sign = torch.where((along * size).sum(1, keepdim=True) < 0, -1.0, 1.0)
    return scaled((along * sign).unflatten(1, maps.shape[-2:]))


def gradcam(model: nn.Module, x: Tensor, target: int | None = None) -> Tensor:
    """Heat (B, h, w) of images (B, C, H, W): channels weighted by the class's mean gradient (arXiv:1610.02391).

    `target` is a class index; None takes each image's predicted class.
    """
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        logits, maps, source = _traced(model, x)
        if target is not None and not 0 <= target < logits.shape[1]:
            raise OpsinError(f"class {target} of {logits.shape[1]}: give an index from 0 to {logits.shape[1] - 1}")
        chosen = logits.argmax(1) if target is None else torch.full_like(logits[:, 0], target, dtype=torch.long)
        gradient = torch.autograd.grad(logits.gather(1, chosen[:, None]).sum(), source)[0]
    if source is not maps:  # tokens (B, P + N, C): those on the grid, as maps are
        grid = maps.shape[-2:]
        source, gradient = (t[:, -grid[0] * grid[1] :].mT.reshape(*t.shape[::2], *grid) for t in (source, gradient))
    return scaled((gradient.mean((2, 3), keepdim=True) * source).sum(1).detach())


def _traced(model: Any, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Logits, the last maps, and the tensor to differentiate by: the maps, or the tokens before the last block.

    Behind the last block of a plain transformer the class token has already read what it wanted from the others.
    """
    seen: list[Tensor] = []
    blocks = getattr(model.backbone, "blocks", None)
    hook = blocks[-1].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0])) if blocks else None
    try:
        features = model.backbone(x, model.head.taps or (-1,))
    finally:
        if hook:
            hook.remove()
    tokens = features.sequence is not None and bool(seen)
    return model.head(features), features.maps[-1], seen[0] if tokens else features.maps[-1]


def scaled(heat: Tensor) -> Tensor:
    """Negative values to 0, the largest of each map to 1."""
    heat = heat.clamp(min=0)
    return heat / heat.amax((1, 2), keepdim=True).clamp(min=1e-12)


def overlay(pixels: NDArray[Any], heat: NDArray[Any], strength: float = 0.6) -> NDArray[np.uint8]:
    """A picture (H, W, C) with a heat map (h, w) from 0 to 1 laid over it: uint8 (H, W, 3)."""
    from PIL import Image

    white = {"uint8": 255.0, "uint16": 65535.0}.get(pixels.dtype.name, 1.0)
    picture = pixels[..., :3] if pixels.shape[2] >= 3 else pixels[..., :1].repeat(3, 2)
    picture = (picture.astype(np.float32) / white).clip(0, 1)
    size = (pixels.shape[1], pixels.shape[0])
    large = np.asarray(Image.fromarray(heat.astype(np.float32)).resize(size, Image.Resampling.BICUBIC)).clip(0, 1)
    steps = np.linspace(0, 1, len(HEAT))
    colour = np.stack([np.interp(large, steps, HEAT[:, c]) for c in range(3)], -1) / 255
    alpha = strength * np.sqrt(large)[..., None]  # cold places stay as they are
    mixed = picture * (1 - alpha) + colour * alpha
    return np.asarray((mixed * 255).round(), np.uint8)


def _written(picture: NDArray[np.uint8], folder: Path, index: int, image: Picture) -> Path:
    from PIL import Image

    stem = Path(image).stem[:80] if isinstance(image, str | Path) else "image"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{index:03}_{stem}.png"
    Image.fromarray(picture).save(path)
    return path


METHODS = {"eigencam": eigencam, "gradcam": gradcam}
