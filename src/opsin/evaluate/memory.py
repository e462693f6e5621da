"""Print by how many megabytes this process grew to load a model and run it once: `... torch|onnx PATH ARGUMENTS`."""

import gc
import json
import sys
from pathlib import Path

import torch

from opsin.evaluate.latency import _example, _onnx, torch_threads


def resident(field: str) -> float:
    """A memory figure of this process in MB; unlike getrusage's, VmHWM forgets the process that started this one."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 1e3
    raise OSError(f"/proc/self/status has no {field}")


def main(kind: str, path: str, arguments: str) -> float:
    size, batch, threads = json.loads(arguments)
    torch.ones(64, 64) @ torch.ones(64, 64)  # the libraries' own start is no cost of the model
    if kind == "onnx":
        import onnxruntime  # noqa: F401
    gc.collect()
    before = resident("VmRSS")
    if kind == "onnx":
        call, _ = _onnx(Path(path), size, batch, threads)
        call()
        return resident("VmHWM") - before
    # The parent process wrote this file a moment ago into a private folder; mapped, its weights count once.
    model = torch.load(path, weights_only=False, mmap=True, map_location="cpu").eval()
    with torch.inference_mode(), torch_threads(threads):
        model(_example(model, batch, size))
    return resident("VmHWM") - before


if __name__ == "__main__":
    print(main(*sys.argv[1:]))
