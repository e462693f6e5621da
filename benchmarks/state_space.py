"""State-space networks on a CPU beside a convolutional and a transformer network, in turn in one process.

    python benchmarks/state_space.py [--seconds 20] [--threads N] [--large]

Wall time of a forward pass in milliseconds at 224 x 224, batch 1 and 8 (median, quartiles), and the median of the
ratios of neighbours in time to ConvNeXt-T. `--large`: Vim-Ti against DeiT-Ti at 1,248 x 1,248, batch 1, with what each
adds to the memory of a fresh process; on a GPU the paper has Vim 2.8 times as fast with 86.8 % less memory.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parent.parent / "src"))
import opsin
from opsin.kernels.selective_scan import backend

NETWORKS = (
    "convnext_tiny",
    "deit_small_patch16_224",
    "vmamba_tiny_s1l8",
    "vim_small_patch16_224",
    "efficient_vmamba_small",
    "efficientvim_m2",
)
LARGE = {"deit_tiny_patch16_224": "DeiT-Ti", "vim_tiny_patch16_224": "Vim-Ti"}
SIDE = 1248


def turns(nets: dict[str, nn.Module], x: torch.Tensor, seconds: float, least: int = 3) -> dict[str, np.ndarray]:
    """Milliseconds a call, every network once a turn."""
    taken: dict[str, list[float]] = {name: [] for name in nets}
    with torch.inference_mode():
        for net in nets.values():
            net(x)
        end = time.perf_counter() + seconds
        while time.perf_counter() < end or len(taken[next(iter(nets))]) < least:
            for name, net in nets.items():
                start = time.perf_counter()
                net(x)
                taken[name].append(1e3 * (time.perf_counter() - start))
    return {name: np.array(times) for name, times in taken.items()}


def told(taken: dict[str, np.ndarray]) -> None:
    first = next(iter(taken.values()))
    for name, times in taken.items():
        low, mid, high = np.percentile(times, (25, 50, 75))
        ratio = np.median(times / first)
        print(f"  {name}: {mid:.1f} ({low:.1f} to {high:.1f}) ms, ratio {ratio:.2f}, {len(times)} calls", flush=True)


def added(name: str, threads: int) -> float:
    """MB that a forward pass at 1,248 x 1,248 adds to the most that a fresh process held."""
    code = f"import sys; sys.argv=['x']; import state_space as s; print(s.peak({name!r}, {threads}))"
    out = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent, capture_output=True, text=True)
    return float(out.stdout.split()[-1])


def most() -> float:
    """MB that this process held at most so far (its own: what `getrusage` tells begins with its parent's)."""
    status = Path("/proc/self/status").read_text()
    return float(status.partition("VmHWM:")[2].split()[0]) / 1e3


def peak(name: str, threads: int) -> float:
    torch.set_num_threads(threads)
    net = opsin.create_model(name, img_size=SIDE).eval()
    x = torch.randn(1, 3, SIDE, SIDE)
    with torch.inference_mode():
        opsin.create_model(name).eval()(torch.randn(1, 3, 224, 224))
        before = most()
        net(x)
    return most() - before


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--large", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    print(f"torch {torch.__version__}, {given.threads} threads, scans by {backend()}")
    if given.large:
        nets = {label: opsin.create_model(name, img_size=SIDE).eval() for name, label in LARGE.items()}
        told(turns(nets, torch.randn(1, 3, SIDE, SIDE), given.seconds))
        for name, label in LARGE.items():
            print(f"  {label}: {added(name, given.threads):.0f} MB", flush=True)
        return
    nets = {name: opsin.create_model(name).eval() for name in NETWORKS}
    for batch in (1, 8):
        print(f"batch {batch}")
        told(turns(nets, torch.randn(batch, 3, 224, 224), given.seconds))


if __name__ == "__main__":
    main()
