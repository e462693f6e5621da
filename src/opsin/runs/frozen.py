"""A network with frozen weights under ONNX Runtime: how fast it is at each input size, and its features."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..blocks import Network
from ..deploy.export import converted
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
            proto = converted(model.eval(), {**record, "size": [base, base]}, "features")
            free_sides(proto)
            path.write_bytes(proto.SerializeToString())
        self.sessions: dict[int, Any] = {}

    def run(self, pixels: NDArray[Any], threads: int) -> NDArray[np.float32]:
        if threads not in self.sessions:
            self.sessions[threads] = session(self.path, threads)
        out: NDArray[np.float32] = self.sessions[threads].run(None, {"pixels": pixels})[0]
        return out

    def latency(self, size: int, channels: int, threads: Sequence[int], seconds: float) -> dict[int, float]:
        """Median milliseconds of one picture for each number of threads."""
        pixels = np.zeros((1, size, size, channels), np.uint8)
        return {n: quietest(lambda n=n: self.run(pixels, n), seconds)["latency_ms"] for n in threads}  # type: ignore[misc]

    def features(self, images: NDArray[Any], threads: int, label: str) -> NDArray[np.float32]:
        """Features (N, D) of images (N, H, W, C)."""
        return np.concatenate([self.run(np.array(image)[None], threads) for image in track(images, label)])


def free_sides(proto: Any) -> None:
    """Let a graph take pictures of any height and width: what was recorded for one size is forgotten."""
    dims = proto.graph.input[0].type.tensor_type.shape.dim
    dims[1].dim_param, dims[2].dim_param = "height", "width"
    del proto.graph.value_info[:]
