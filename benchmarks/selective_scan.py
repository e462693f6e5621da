"""The selective scan on a CPU: by Numba and by torch alone, against the plain loop, in turn in one process.

    python benchmarks/selective_scan.py [--seconds 6] [--threads N] [--all]

One line a shape: batch, inner channels, states, length; milliseconds of wall time forward, and forward with backward
(median, quartiles), with the median of the ratios of neighbours in time: how many times faster than the loop. "Whole"
is the loop with all decays and drives (B, D, L, N) made beforehand, as Mamba's own definition in torch has it. Then
what the process held at most beyond its inputs during forward and backward, against length.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parent.parent / "src"))
from opsin.kernels import plain, selective_scan

SHAPES = [(1, 192, 1, 3136), (1, 768, 1, 196), (1, 384, 16, 3136), (8, 384, 16, 196), (8, 192, 1, 784)]
MORE = [(b, d, n, length) for b in (1, 8) for d in (192, 768) for n in (1, 16) for length in (196, 784, 3136, 6084)]
LENGTHS = (784, 1568, 3136, 6272)
Form = Callable[..., tuple[Tensor, Tensor]]


def without_numba(*given: Tensor) -> tuple[Tensor, Tensor]:
    kept, selective_scan.backend = selective_scan.backend, lambda: "torch"
    try:
        return whole(selective_scan.scan)(*given)
    finally:
        selective_scan.backend = kept


def whole(form: Form) -> Form:
    def run(*given: Tensor) -> tuple[Tensor, Tensor]:
        y, last = form(*given)
        if y.requires_grad:
            y.sum().backward()
        return y.detach(), last

    return run


def at_once(u: Tensor, step: Tensor, a: Tensor, b: Tensor, c: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
    """All decays and drives first, (S, L, N, W), then the loop."""
    decay = torch.exp(torch.einsum("slw,snw->slnw", step, a))
    drive = torch.einsum("slw,sln,slw->slnw", step, b, u)
    h, y = start, []
    for decay_t, drive_t, c_t in zip(decay.unbind(1), drive.unbind(1), c.unbind(1)):
        h = decay_t * h + drive_t
        y.append(torch.einsum("snw,sn->sw", h, c_t))
    return torch.stack(y, 1), h


FORMS: dict[str, Form] = {"loop": whole(plain.scan), "whole": whole(at_once), "torch": without_numba}
if selective_scan.backend() == "numba":
    FORMS["numba"] = whole(selective_scan.scan)


def drawn(batch: int, channels: int, states: int, length: int, grad: bool) -> list[Tensor]:
    draw = torch.Generator().manual_seed(0)
    u, step, a, b, c, start = (
        torch.randn(shape, generator=draw)
        for shape in (
            *[(batch, length, channels)] * 2,
            (batch, states, channels),
            *[(batch, length, states)] * 2,
            (batch, states, channels),
        )
    )
    return [t.requires_grad_(grad) for t in (u, 0.1 * step.abs(), -a.exp(), b, c, start)]


def measure(shape: tuple[int, int, int, int], grad: bool, seconds: float) -> None:
    given = drawn(*shape, grad)
    taken: dict[str, list[float]] = {name: [] for name in FORMS}
    for form in FORMS.values():
        form(*given)
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(taken["loop"]) < 2:
        for name, form in FORMS.items():
            start = time.perf_counter()
            form(*given)
            taken[name].append(1e3 * (time.perf_counter() - start))
    loop = np.array(taken["loop"])
    sides = []
    for name, times in taken.items():
        low, mid, high = np.percentile(times, (25, 50, 75))
        ratio = "" if name == "loop" else f" x{np.median(loop / np.array(times)):.1f}"
        sides.append(f"{name} {mid:.1f} ({low:.1f} to {high:.1f}) ms{ratio}")
    what = "forward+backward" if grad else "forward"
    print(
        f"batch {shape[0]} inner {shape[1]} states {shape[2]} length {shape[3]}, {what}: " + "; ".join(sides),
        flush=True,
    )


def held(form: str, length: int) -> float:
    """MB that a forward and backward pass adds to the most that a fresh process held."""
    code = f"import sys; sys.argv=['x']; import selective_scan as s; print(s.peak({form!r}, {length}))"
    out = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent, capture_output=True, text=True)
    return float(out.stdout.split()[-1])


def most() -> float:
    """MB that this process held at most so far (its own: what `getrusage` tells begins with its parent's)."""
    status = Path("/proc/self/status").read_text()
    return float(status.partition("VmHWM:")[2].split()[0]) / 1e3


def peak(form: str, length: int) -> float:
    FORMS[form](*drawn(1, 384, 16, 64, True))  # compiles, starts threads
    given = drawn(1, 384, 16, length, True)
    before = most()
    FORMS[form](*given)
    return most() - before


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--all", action="store_true", help="every size of the table")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    print(f"torch {torch.__version__}, {given.threads} threads, backend {selective_scan.backend()}")
    for shape in MORE if given.all else SHAPES:
        for grad in (False, True):
            measure(shape, grad, given.seconds)
    print("peak memory of forward and backward, batch 1, inner 384, states 16, in MB:")
    for form in FORMS:
        print(f"  {form}: " + ", ".join(f"length {n}: {held(form, n):.0f}" for n in LENGTHS), flush=True)


if __name__ == "__main__":
    main()
