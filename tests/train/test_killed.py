"""Real processes: killed at a random moment and resumed, and several that train together."""

import json
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from train.task import trained

HERE = Path(__file__).parent
TASK = HERE / "task.py"
ENV = {
    **os.environ, "OMP_NUM_THREADS": "1",
    "PYTHONPATH": os.pathsep.join(map(str, (HERE.parent.parent / "src", HERE.parent, *sys.path))),
}  # fmt: skip


def command(folder, slow=0.0, changes=None, **options):
    return [str(TASK), str(folder), str(slow), json.dumps(changes or {}), json.dumps(options)]


def finished(*args):
    return subprocess.run([sys.executable, *args], env=ENV, capture_output=True, text=True, check=True).stdout.split()


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_killed_at_any_moment_and_resumed_is_the_same_as_unbroken(tmp_path):
    """The plan of the killed run was fitted to the time; the unbroken run is given the same one."""
    broken, whole = tmp_path / "broken", tmp_path / "whole"
    slow = command(broken, 0.05, {"epochs": 1000}, deadline=6.0)
    process = subprocess.Popen([sys.executable, *slow], env=ENV, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not (broken / "last.safetensors").exists() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.005)
    time.sleep(random.uniform(0, 2))
    process.kill()
    _, errors = process.communicate()
    assert (broken / "last.safetensors").exists(), errors.decode()
    plan = json.loads((broken / "plan.json").read_text())
    (broken / "plan.json").write_text(json.dumps({**plan, "deadline": 1e6}))  # a busy machine must not end it early
    resumed = finished(*command(broken, 0.0, {"epochs": 1000}, deadline=6.0))
    whole.mkdir()
    shutil.copy(broken / "plan.json", whole)
    unbroken = trained(whole, 0.0, {"epochs": 1000}, {"deadline": 6.0})
    assert resumed == list(map(str, unbroken))
    assert 1 <= unbroken[1] < 100


def test_two_processes_train_as_one_with_twice_the_batch(tmp_path):
    plain = {"optimizer": "sgd", "mixup": 0.0, "cutmix": 0.0, "epochs": 2, "plain": True}
    alone, together = tmp_path / "alone", tmp_path / "together"
    trained(alone, 0.0, {**plain, "batch_size": 32}, {})
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    finished(*launch, *command(together, changes={**plain, "batch_size": 16}))
    one, two = (json.loads((folder / "model.json").read_text()) for folder in (alone, together))
    for name in one:
        assert np.allclose(one[name], two[name], atol=1e-5), name
    assert len((together / "metrics.jsonl").read_text().splitlines()) == 2
