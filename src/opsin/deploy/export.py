"""One ONNX file that takes pictures and gives probabilities, proved on real images before it is handed over."""

import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from opsin.data import Preprocess
from opsin.deploy.fuse import fuse
from opsin.deploy.graph import describe, prepend_resize
from opsin.deploy.pixels import Picture, cropped
from opsin.deploy.plain import plain
from opsin.deploy.quantised import quantised
from opsin.deploy.runtimes import Runtime
from opsin.errors import OpsinError
from opsin.evaluate.inference import evaluating
from opsin.evaluate.latency import quietest
from opsin.kernels.selective_scan import written_out


class ExportError(OpsinError):
    """A model that could not be exported, or whose file gives other answers; no file is left behind."""


@dataclass(frozen=True)
class Proof:
    """What the file did on real images, against torch from the same pixels.

    `max_difference` and `mean_difference` of probabilities, `agreement` (share of equal top-1 answers), latency of the
    file at batch 1 in milliseconds (median, p90; with the resize where the file does it), its size in megabytes.
    """

    path: str
    images: int
    max_difference: float
    mean_difference: float
    agreement: float
    tolerance: float
    latency_ms: float
    p90_ms: float
    threads: int | None
    any_size: bool
    size_mb: float
    precision: str = "fp32"

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


RESIZE = "; any_size=False leaves the resize out of the file and is exact, a larger tolerance= allows the difference"


class FromPixels(nn.Module):
    """model((pixels / 255 - mean) / std), pixels uint8 (N, H, W, C)

    Written as the norm that it is: ONNX Runtime turns a product and a sum back to channels last in 8-bit graphs, where
    they take a quarter of the whole time.
    """

    def __init__(self, model: nn.Module, record: dict[str, Any]):
        super().__init__()
        mean, std = (torch.tensor(record[key], dtype=torch.float32) for key in ("mean", "std"))
        self.norm = nn.BatchNorm2d(len(mean), eps=0.0)
        self.norm.load_state_dict(
            {
                "weight": 1 / (255 * std),
                "bias": -mean / std,
                "running_mean": torch.zeros_like(mean),
                "running_var": torch.ones_like(std),
                "num_batches_tracked": torch.tensor(0),
            }
        )
        self.model = model

    def forward(self, pixels: Tensor) -> Tensor:
        out: Tensor = self.model(self.norm(pixels.permute(0, 3, 1, 2).float()))
        return out


class Probabilities(nn.Module):
    """softmax(model(x) / temperature)"""

    def __init__(self, model: nn.Module, temperature: float):
        super().__init__()
        self.model, self.temperature = model, temperature

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.model(x)
        return (logits / self.temperature).softmax(-1)


def export(
    model: nn.Module,
    path: str | os.PathLike[str],
    *,
    images: Sequence[Picture],
    labels: Sequence[str] | None = None,
    preprocessing: dict[str, Any] | None = None,
    temperature: float = 1.0,
    facts: dict[str, Any] | None = None,
    any_size: bool = False,
    tolerance: float = 1e-3,
    threads: int | None = 1,
    seconds: float = 1.0,
    calibration: Sequence[Picture] = (),
    agreement: float = 0.95,
) -> Proof:
    """Write the model as one ONNX file and prove on `images` that it gives torch's answers.

    The file takes uint8 images (N, H, W, C) of the record's size, N free, normalises, and gives probabilities (N, K);
    `Runtime.predict` (or the caller, by the record in the metadata) resizes and crops. With `any_size` the file does
    that too, H and W free. Why not always: ONNX Runtime's resize takes as long as Pillow's, but a few of its pixels
    differ by 1 to 5 of 255, which moved probabilities of EfficientNet-Lite0 by up to 0.0035 on photographs, where
    the network alone stays within 0.000003. Labels and preprocessing default to those in `model.config`; `facts`
    (licence, provenance ...) travel along as JSON. `images`: files or uint8 arrays (H, W, C), a few dozen of the
    pictures that the model is for. With `calibration`, some dozen other such pictures, the file computes in 8 bits:
    its probabilities do differ, and it is proved by the share of images on which its answer is torch's.

    Raises:
        ExportError: torch cannot export the model, or a probability differs by more than `tolerance`, or in 8 bits
            fewer than `agreement` of the answers are the same.
        DataError: an image or a preprocessing record that cannot be read.
    """
    config = getattr(model, "config", None) or {}
    prepare = Preprocess.from_dict(preprocessing or config.get("preprocessing") or {})
    record = prepare.to_dict()
    if not len(images):
        raise ExportError("no images to prove the export on: give some that the model is for")
    expected = torch_answers(model, images, prepare, temperature)
    names = list(labels or config.get("labels") or map(str, range(expected.shape[1])))
    if len(names) != expected.shape[1]:
        raise ExportError(f"{len(names)} labels for a model of {expected.shape[1]} classes: give one name a class")
    proto = converted(Probabilities(model, temperature), record)
    if len(calibration):
        proto = quantised(proto, [cropped(picture, prepare)[None] for picture in calibration])
    if any_size:
        prepend_resize(proto, prepare)
    describe(
        proto,
        {
            "licence": config.get("licence"),
            "provenance": config.get("provenance"),
            **(facts or {}),
            "labels": names,
            "preprocessing": record,
            "temperature": temperature,
        },
    )
    path = Path(path)
    unproved = path.with_name(f"{path.name}.unproved")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        unproved.write_bytes(proto.SerializeToString())
        bounds = (1.0, agreement) if len(calibration) else (tolerance, 0.0)
        proof = prove(unproved, images, expected, *bounds, threads, seconds)
        unproved.replace(path)
    finally:
        unproved.unlink(missing_ok=True)
    return replace(proof, path=str(path), precision="int8" if len(calibration) else "fp32")


def torch_answers(
    model: nn.Module, pictures: Sequence[Picture], prepare: Preprocess, temperature: float = 1.0, batch: int = 16
) -> np.ndarray:
    """Probabilities (N, K) of files or arrays (H, W, C) by Pillow and torch."""
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    whole, out = FromPixels(Probabilities(model, temperature), prepare.to_dict()).to(device), []
    with evaluating(whole):
        for start in range(0, len(pictures), batch):
            pixels = np.stack([cropped(p, prepare) for p in pictures[start : start + batch]])
            out.append(whole(torch.from_numpy(pixels).to(device)).float().cpu().numpy())
    return np.concatenate(out)


def converted(model: nn.Module, record: dict[str, Any], output: str = "probabilities", batch: int | None = None) -> Any:
    """The ONNX model (a protobuf) from uint8 pixels (N, H, W, C) of the record's size to what the module makes of it.

    N is free, or `batch`, which takes torch half the time.

    Raises:
        ExportError: torch cannot export the module.
    """
    whole = FromPixels(plain(fuse(model)).float().cpu(), record).eval()
    example = torch.zeros(batch or 2, *record["size"], record["channels"], dtype=torch.uint8)
    try:
        with _hushed(), torch.no_grad(), written_out():
            program: Any = torch.onnx.export(
                _traced(whole, example, batch is None),
                dynamo=True,
                verbose=False,
                input_names=["pixels"],
                output_names=[output],
            )
    except ImportError as error:
        raise OpsinError('exporting needs ONNX: pip install "opsin[onnx]"') from error
    except Exception as error:  # whatever the tracer stumbled over
        raise ExportError(f"torch cannot export {type(model).__name__}: {str(error).strip()[:500]}") from error
    return program.model_proto


def _traced(whole: nn.Module, example: Tensor, free: bool) -> Any:
    """The graph; with a free batch the quick tracer takes `len(x)` for a constant, the strict one does not."""
    shapes = ({0: torch.export.Dim("batch", min=1)},) if free else None
    try:
        return torch.export.export(whole, (example,), dynamic_shapes=shapes)
    except Exception:  # the strict tracer's own error is the one to report
        return torch.export.export(whole, (example,), dynamic_shapes=shapes, strict=True)


def prove(
    path: Path,
    pictures: Sequence[Picture],
    expected: np.ndarray,
    tolerance: float,
    least: float,
    threads: int | None,
    seconds: float,
) -> Proof:
    """Run the file on the pictures and compare; raises ExportError where they differ by more than the tolerance, or
    less than the `least` share of answers is the same."""
    runtime = Runtime(path, threads)
    got = runtime.predict(pictures)
    difference = np.abs(got - expected)
    agreement = float((got.argmax(1) == expected.argmax(1)).mean())
    if not (difference.max() <= tolerance and agreement >= least):  # so that NaN fails too
        raise ExportError(
            f"the exported file gives other answers: probabilities differ by up to {difference.max():.2g} (allowed: "
            f"{tolerance:g}) and top-1 agrees on {agreement:.1%} of {len(pictures)} images (at least {least:.0%}); "
            "the file was removed" + RESIZE * runtime.any_size
        )
    ready = [runtime.prepared(picture)[None] for picture in pictures]
    turn = iter(range(10**9))
    times = quietest(lambda: runtime.run(ready[next(turn) % len(ready)]), seconds)
    return Proof(
        str(path),
        len(pictures),
        float(difference.max()),
        float(difference.mean()),
        agreement,
        tolerance,
        times["latency_ms"],
        times["p90_ms"],
        threads,
        runtime.any_size,
        path.stat().st_size / 1e6,
    )


@contextmanager
def _hushed() -> Iterator[None]:
    """Without the exporter's notes to its own developers."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir", "torch.export")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels):
            logger.setLevel(level)
