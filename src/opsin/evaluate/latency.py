"""What a model costs on this machine: milliseconds, pictures a second, memory."""

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from opsin.errors import OpsinError
from opsin.evaluate.count import count
from opsin.evaluate.inference import Size, evaluating, input_shape

WARMUP = 3  # first calls compile kernels and fill caches


def benchmark(
    model: nn.Module | str | Path,
    size: Size = None,
    *,
    batch: int = 1,
    threads: int | None = None,
    seconds: float = 2.0,
    memory: bool = True,
) -> dict[str, Any]:
    """Measure a module under torch (eager), or an .onnx file under ONNX Runtime, on random input.

    `latency_ms` (median of the calls in `seconds`, wall time of one batch), `p10_ms`, `p90_ms`, `runs`, `throughput`
    (images a second), `peak_memory_mb` (growth of a fresh process that loads and runs the model once; None where it
    cannot be measured: the module cannot be pickled, or no /proc), `params`, `macs`, `unknown_ops` (modules only),
    `size_mb`, `batch`, `threads`, `runtime`. `threads`: None leaves the runtime's own choice.
    """
    if batch < 1 or (threads is not None and threads < 1) or seconds <= 0:
        raise OpsinError(f"batch={batch}, threads={threads}, seconds={seconds}: all must be positive")
    if isinstance(model, nn.Module):
        shape = input_shape(model, size)
        facts = {**count(model, shape), "size_mb": _bytes(model) / 1e6, "runtime": f"torch {torch.__version__}"}
        with evaluating(model), torch_threads(threads):
            x = _example(model, batch, shape)
            facts["threads"] = torch.get_num_threads()
            times = measure({"": lambda: model(x)}, seconds)[""]
        peak = _peak_of_module(model, batch, shape, threads) if memory else None
    else:
        path = Path(model)
        call, facts = _onnx(path, size, batch, threads)
        times = measure({"": call}, seconds)[""]
        peak = _peak(["onnx", str(path), json.dumps([size, batch, threads])]) if memory else None
    median = summary(times)
    return {**median, "throughput": 1e3 * batch / median["latency_ms"], "batch": batch, "peak_memory_mb": peak, **facts}


def compare_latency(calls: Mapping[str, Callable[[], Any]], seconds: float = 5.0) -> dict[str, dict[str, Any]]:
    """Time several calls in turns, so that whatever else the machine does falls on all alike.

    For each name: `latency_ms`, `p10_ms`, `p90_ms`, `runs`, and `ratio` to the first call (median of the ratios of
    neighbours in time, below 1 is faster) with `ratio_interval`, a 95 % interval of that median.
    """
    if not calls:
        raise OpsinError("nothing to compare: give at least one call")
    times = measure(calls, seconds)
    first, found = next(iter(times.values())), {}
    for name, series in times.items():
        ratios = np.sort(series / first)
        low, high = _median_ranks(len(ratios))
        ratio = {"ratio": float(np.median(ratios)), "ratio_interval": [float(ratios[low]), float(ratios[high])]}
        found[name] = {**summary(series), **ratio}
    return found


def _median_ranks(n: int) -> tuple[int, int]:
    """Places in n sorted values that hold the median between them with 95 % confidence, whatever their spread."""
    half = 0.98 * n**0.5
    return max(0, int(n / 2 - half)), min(n - 1, int(n / 2 + half))


def measure(calls: Mapping[str, Callable[[], Any]], seconds: float) -> dict[str, np.ndarray]:
    """Wall milliseconds of each call, (runs,), taken in turns for `seconds` in all; at least 5 runs after warm-up."""
    names = list(calls)
    for name in names:
        for _ in range(WARMUP):
            calls[name]()
    times: dict[str, list[float]] = {name: [] for name in names}
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times[names[0]]) < 5:
        for name in names:
            start = time.perf_counter()
            calls[name]()
            times[name].append(1e3 * (time.perf_counter() - start))
        names.append(names.pop(0))  # nobody always comes after the same neighbour
    return {name: np.array(times[name]) for name in calls}


def quietest(call: Callable[[], Any], seconds: float, windows: int = 4) -> dict[str, Any]:
    """The summary of the fastest of several stretches: on a shared machine the others hold what somebody else took."""
    found = [summary(measure({"": call}, seconds / windows)[""]) for _ in range(windows)]
    return min(found, key=lambda told: float(told["latency_ms"]))


def summary(times: np.ndarray) -> dict[str, Any]:
    p10, median, p90 = (float(v) for v in np.quantile(times, (0.1, 0.5, 0.9)))
    return {"latency_ms": median, "p10_ms": p10, "p90_ms": p90, "runs": len(times)}


def machine() -> dict[str, Any]:
    """The machine that figures were measured on, in words."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        name = lines[0] if lines else name
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "cpu": name,
        "cores": cores,
        "gpu": gpu,
        "system": platform.platform(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


@contextmanager
def torch_threads(threads: int | None) -> Iterator[None]:
    """torch with that many threads inside an operator, for a while."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def session(path: Path, threads: int | None = None) -> Any:
    """An ONNX Runtime session on the CPU; a file that is no network raises OpsinError."""
    try:
        import onnxruntime
    except ImportError as error:
        raise OpsinError('running ONNX files needs ONNX Runtime: pip install "opsin[onnx]"') from error
    if not path.is_file():
        raise OpsinError(f"there is no file {path}")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions share no base of their own
        raise OpsinError(f"{path} cannot be run: {str(error).splitlines()[0][:300]}") from error


def _onnx(path: Path, size: Size, batch: int, threads: int | None) -> tuple[Callable[[], Any], dict[str, Any]]:
    import onnxruntime

    run = session(path, threads)
    sides = iter([size, size] if isinstance(size, int) else size or [])
    feeds = {}
    for node in run.get_inputs():
        shape = [batch, *(d if isinstance(d, int) else next(sides, 0) for d in node.shape[1:])]
        if 0 in shape:
            raise OpsinError(f"{path}: input {node.name} has the open shape {node.shape}: give size=(H, W)")
        kind = np.uint8 if node.type == "tensor(uint8)" else np.float32
        feeds[node.name] = np.random.default_rng(0).integers(0, 255, shape).astype(kind)
    facts = {
        "params": None,
        "macs": None,
        "size_mb": path.stat().st_size / 1e6,
        "threads": threads,
        "runtime": f"onnxruntime {onnxruntime.__version__}",
    }
    return lambda: run.run(None, feeds), facts


def _bytes(model: nn.Module) -> int:
    return sum(t.numel() * t.element_size() for t in (*model.parameters(), *model.buffers()))


def _example(model: nn.Module, batch: int, shape: tuple[int, ...]) -> torch.Tensor:
    like = next(model.parameters(), torch.empty(0))
    return torch.rand(batch, *shape, dtype=like.dtype, device=like.device)


def _peak_of_module(model: nn.Module, batch: int, shape: tuple[int, ...], threads: int | None) -> float | None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.pt")
        try:
            torch.save(model, path)
        except Exception:  # any object in the module may refuse in its own way
            return None
        return _peak(["torch", str(path), json.dumps([list(shape), batch, threads])])


def _peak(arguments: list[str]) -> float | None:
    """Megabytes, as a fresh interpreter measures them: this one's memory already holds much else."""
    paths = os.pathsep.join(filter(None, sys.path))
    done = subprocess.run(
        [sys.executable, "-m", "opsin.evaluate.memory", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": paths},
        stdin=subprocess.DEVNULL,
        check=False,
        timeout=300,
    )
    return float(done.stdout) if done.returncode == 0 and done.stdout.strip() else None
