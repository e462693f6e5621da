"""Peak memory and time of reversible networks against their depth: activations rebuilt, or stored by plain autograd.

    python benchmarks/reversible.py [--network revcol] [--depths 4,8,16] [--batch 8] [--size 224] [--device cpu]

A step is forward, backward and SGD: of `revcol`, RevCol-T with as many columns, or of `i_revnet`, the bijective form
with as many blocks in each of its stages. On the CPU the peak is the process's resident memory above
what it has before the first step, each case in a fresh process whose allocator hands back what is freed; on a GPU the
allocator's. Gradients of weights grow with the columns either way: they are told apart. Time is the median of the
steps, with the fastest and slowest.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent.parent / "src"))
import opsin

PAGE = resource.getpagesize()
FREED = {"MALLOC_MMAP_THRESHOLD_": "65536"}  # else the heap's gaps grow with the columns, and hide what is measured


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


class Peak:
    """The most memory held while inside, in bytes above what was held before."""

    def __init__(self, device: str):
        self.cuda = device.startswith("cuda")

    def __enter__(self) -> "Peak":
        self.before = torch.cuda.memory_allocated() if self.cuda else resident()
        if self.cuda:
            torch.cuda.reset_peak_memory_stats()
            return self
        self.most, self.done = self.before, threading.Event()
        self.watcher = threading.Thread(target=self.watch)
        self.watcher.start()
        return self

    def watch(self) -> None:
        while not self.done.wait(0.001):
            self.most = max(self.most, resident())

    def __exit__(self, *error: object) -> None:
        if self.cuda:
            self.bytes = torch.cuda.max_memory_allocated() - self.before
            return
        self.done.set()
        self.watcher.join()
        self.bytes = self.most - self.before


NETWORKS = {
    "revcol": lambda depth: opsin.create_model("revcol_tiny", columns=depth, num_classes=10),
    "i_revnet": lambda depth: opsin.create_model("i_revnet_b", depths=(depth,) * 4, num_classes=10),
}


def measure(network: str, depth: int, reversible: bool, batch: int, size: int, device: str, repeats: int) -> dict:
    """Megabytes at the peak of a step, those of weights' gradients among them, and seconds a step."""
    torch.manual_seed(0)
    net = NETWORKS[network](depth).to(device).train()
    net.backbone.reversible = reversible
    optimiser, labels = torch.optim.SGD(net.parameters(), lr=1e-3), torch.arange(batch, device=device) % 10
    x, seconds, peaks = torch.randn(batch, 3, size, size, device=device), [], []
    for _ in range(repeats):
        optimiser.zero_grad(set_to_none=True)
        with Peak(device) as peak:
            start = time.perf_counter()
            torch.nn.functional.cross_entropy(net(x), labels).backward()
            optimiser.step()
            if peak.cuda:
                torch.cuda.synchronize()
            seconds.append(time.perf_counter() - start)
        peaks.append(peak.bytes)
    grads = sum(p.numel() * p.element_size() for p in net.parameters())
    return {"peak": max(peaks) / 1e6, "gradients": grads / 1e6, "seconds": seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", choices=list(NETWORKS), default="revcol")
    parser.add_argument("--depths", default="4,8,16")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--one", choices=["plain", "reversible"], help=argparse.SUPPRESS)
    given = parser.parse_args()
    depths = [int(n) for n in given.depths.split(",")]
    if given.one:
        shared = (given.batch, given.size, given.device, given.repeats)
        told = measure(given.network, depths[0], given.one == "reversible", *shared)
        print(json.dumps(told))
        return
    shared = [f"--{name}={getattr(given, name)}" for name in ("network", "batch", "size", "device", "repeats")]
    for depth in depths:
        for kind in ("plain", "reversible"):
            command = [sys.executable, __file__, f"--depths={depth}", f"--one={kind}", *shared]
            done = subprocess.run(command, check=True, capture_output=True, text=True, env={**os.environ, **FREED})
            told = json.loads(done.stdout)
            least, middle, most = np.percentile(told["seconds"], (0, 50, 100))
            rest = told["peak"] - told["gradients"]
            print(
                f"{given.network} {depth:3} deep  {kind:10}  peak {told['peak']:7.0f} MB, {rest:7.0f} MB without weights' "
                f"gradients, {middle:.2f} [{least:.2f}, {most:.2f}] s a step",
                flush=True,
            )


if __name__ == "__main__":
    main()
