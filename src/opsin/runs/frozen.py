"""A network with frozen weights under ONNX Runtime: how fast it is at each input size, and its features."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..blocks import Network
from ..data.scan import threaded
from ..deploy.export import converted
from ..deploy.quantised import quantised
from ..evaluate.latency import quietest, session
from ..progress import track


class Frozen:
    """Pixels uint8 (N, H, W, C) to features (N, D), H and W free.

    The graph is exported at `base` pixels. Other sides run through the same graph, which is exact where they divide
    alike: multiples of the network's last stride, as `base` must be one.
    """

    def __init__(self, model: Network, record: dict[str, Any], base: int, path: Path):
        self.path = path
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            model.reset_classifier(0)
            proto = converted(model.eval(), {**record, "size": [base, base]}, "features", batch=1)
            free_sides(proto)
            path.write_bytes(proto.SerializeToString())
        self.sessions: dict[tuple[str, int], Any] = {}

    def run(self, pixels: NDArray[Any], threads: int, precision: str = "fp32") -> NDArray[np.float32]:
        if (precision, threads) not in self.sessions:
            path = self.path if precision == "fp32" else self.small(pixels)
            self.sessions[precision, threads] = session(path, threads)
        out: NDArray[np.float32] = self.sessions[precision, threads].run(None, {"pixels": pixels})[0]
        return out

    def small(self, pixels: NDArray[Any]) -> Path:
        """The file in 8 bits with ranges seen on any pixels: as fast as a good one, and for no other use."""
        path = self.path.with_suffix(".int8.onnx")
        if not path.is_file():
            import onnx

            path.write_bytes(quantised(onnx.load(self.path), [pixels]).SerializeToString())
        return path

    def latency(
        self, size: int, channels: int, threads: Sequence[int], seconds: float, precision: str = "fp32"
    ) -> dict[int, float]:
        """Median milliseconds of one picture for each number of threads, in "fp32" or "int8"."""
        pixels = np.random.default_rng(0).integers(0, 256, (1, size, size, channels), np.uint8)
        return {n: quietest(partial(self.run, pixels, n, precision), seconds)["latency_ms"] for n in threads}

    def features(self, images: NDArray[Any], label: str) -> NDArray[np.float32]:
        """Features (N, D) of images (N, H, W, C), on all cores, a picture on each."""
        made = threaded(lambda image: self.run(np.array(image)[None], 1), images)
        return np.concatenate(list(track(made, label, len(images))))


def free_sides(proto: Any) -> None:
    """Let a graph take pictures of any height and width: what was recorded for one size is forgotten."""
    dims = proto.graph.input[0].type.tensor_type.shape.dim
    dims[1].dim_param, dims[2].dim_param = "height", "width"
    del proto.graph.value_info[:]
