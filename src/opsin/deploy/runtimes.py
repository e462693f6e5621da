"""Exported models at work: from pictures to probabilities."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from opsin.data import Preprocess
from opsin.deploy.pixels import Picture, Pixels, cropped, whole
from opsin.errors import OpsinError
from opsin.evaluate.latency import session

LARGEST_NOTE = 1 << 24  # characters of metadata that are parsed; a file can come from anybody


class Runtime:
    """An exported .onnx file, or the run folder that holds one as model.onnx, ready to answer under ONNX Runtime.

    `labels` (names of the classes), `preprocessing` (the record), `facts` (everything else that travels with it).
    `threads`: inside one operator; None lets ONNX Runtime take one for each core, which is slower than 1 as soon as
    anything else runs (small networks at batch 1: 1.5 to 2.3 times on a busy machine of two cores).

    Raises:
        OpsinError: the file is missing, broken, or not made by `opsin.deploy.export`.
    """

    def __init__(self, path: str | Path, threads: int | None = 1):
        path = Path(path)
        self.path = path / "model.onnx" if path.is_dir() else path
        self.session = session(self.path, threads)
        notes = self.session.get_modelmeta().custom_metadata_map
        self.facts = {
            key.removeprefix("opsin."): self._parsed(key, text)
            for key, text in notes.items()
            if key.startswith("opsin.")
        }
        if not isinstance(self.facts.get("preprocessing"), dict) or not isinstance(self.facts.get("labels"), list):
            raise OpsinError(f"{self.path} says neither its labels nor its preprocessing: export it with opsin again")
        self.labels: list[str] = [str(label) for label in self.facts["labels"]]
        self.preprocessing: dict[str, Any] = self.facts["preprocessing"]
        self.prepare = Preprocess.from_dict(self.preprocessing)
        self.any_size = not isinstance(self.session.get_inputs()[0].shape[1], int)

    def predict(self, images: Sequence[Picture], batch: int = 16) -> NDArray[np.float32]:
        """Probabilities (N, K) of files or uint8 arrays (H, W, C) of any size.

        Up to `batch` neighbours of one size go through the graph together.
        """
        ready: list[Pixels] = []
        out = []
        for image in images:
            pixels = self.prepared(image)
            if ready and (len(ready) == batch or ready[0].shape != pixels.shape):
                out.append(self.run(np.stack(ready)))
                ready = []
            ready.append(pixels)
        if ready:
            out.append(self.run(np.stack(ready)))
        return np.concatenate(out) if out else np.zeros((0, len(self.labels)), np.float32)

    def prepared(self, image: Picture) -> Pixels:
        """One picture as the graph takes it: as it is, or resized and cropped where the graph has a fixed size."""
        return whole(image, self.prepare.channels) if self.any_size else cropped(image, self.prepare)

    def run(self, pixels: Pixels) -> NDArray[np.float32]:
        """Probabilities (N, K) of uint8 pixels (N, H, W, C) that are `prepared`."""
        answer: NDArray[np.float32] = self.session.run(None, {self.session.get_inputs()[0].name: pixels})[0]
        return answer

    def _parsed(self, key: str, text: str) -> Any:
        try:
            if len(text) > LARGEST_NOTE:
                raise ValueError("too long")
            return json.loads(text)
        except (ValueError, RecursionError) as error:
            raise OpsinError(f"{self.path}: the note {key} cannot be read ({error}): export the model again") from error
