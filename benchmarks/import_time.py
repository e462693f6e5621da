"""What `import opsin` costs beside `import torch` alone: fresh processes in turn, CPU time and wall time.

    python benchmarks/import_time.py [--repeats 15]

The promise is 5 % more at most.
"""

import argparse
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

SRC = Path(__file__).parent.parent / "src"


def seconds(package: str) -> tuple[float, float]:
    """CPU and wall seconds of a fresh process that imports a package."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, "-c", f"import {package}"], check=True, env={**os.environ, "PYTHONPATH": str(SRC)})
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, wall


def quartiles(values: np.ndarray) -> str:
    low, middle, high = np.percentile(values, (25, 50, 75))
    return f"{middle:.3f} [{low:.3f}, {high:.3f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=15)
    repeats = parser.parse_args().repeats
    for package in ("torch", "opsin"):  # compiles to bytecode, fills the disk's cache
        seconds(package)
    rounds = np.array([[seconds("torch"), seconds("opsin")] for _ in range(repeats)])
    for i, clock in enumerate(("CPU", "wall")):
        torch, opsin = rounds[:, 0, i], rounds[:, 1, i]
        print(f"{clock:4}  torch {quartiles(torch)} s   opsin {quartiles(opsin)} s   ratio {quartiles(opsin / torch)}")


if __name__ == "__main__":
    main()
