"""Files of weights from elsewhere: unwrapped, never trusted."""

import collections
import os
import pickle

import pytest
import torch
from safetensors.torch import save_file

from opsin.weights import files
from opsin.weights.errors import WeightsError

STATE = {"stem.weight": torch.arange(6.0).reshape(2, 3), "head.bias": torch.ones(2)}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


@pytest.mark.parametrize(
    "held",
    [
        STATE,
        {"state_dict": STATE, "epoch": 3},
        {"model": STATE, "optimizer": {"lr": 0.1}},
        {"model_state_dict": {f"module.{k}": v for k, v in STATE.items()}},
        {"state_dict": {"model": {f"_orig_mod.module.{k}": v for k, v in STATE.items()}}},
        {"state_dict": {k: v * 0 for k, v in STATE.items()}, "state_dict_ema": STATE},
        collections.OrderedDict((f"model.module.{k}", v) for k, v in STATE.items()),
    ],
)
def test_torch_files_are_unwrapped(tmp_path, held):
    torch.save(held, tmp_path / "x.pth")
    assert same(files.read(tmp_path / "x.pth"), STATE)
    assert same(files.parse((tmp_path / "x.pth").read_bytes(), "x"), STATE)


def test_old_torch_format_is_read(tmp_path):
    torch.save(STATE, tmp_path / "x.pth", _use_new_zipfile_serialization=False)
    assert same(files.read(tmp_path / "x.pth"), STATE)


def test_folders_prefer_safetensors(tmp_path):
    save_file(STATE, tmp_path / "model.safetensors")
    torch.save({"other": torch.ones(1)}, tmp_path / "pytorch_model.bin")
    assert same(files.read(tmp_path), STATE)
    (tmp_path / "model.safetensors").unlink()
    assert files.read(tmp_path).keys() == {"other"}


def test_a_folder_of_several_files_is_not_guessed(tmp_path):
    with pytest.raises(WeightsError, match="none"):
        files.read(tmp_path)
    for name in ("a.pth", "b.pth"):
        torch.save(STATE, tmp_path / name)
    with pytest.raises(WeightsError, match=r"a\.pth, b\.pth"):
        files.read(tmp_path)


class Code:
    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("old", [True, False])
def test_code_in_a_checkpoint_is_refused_and_not_run(tmp_path, old):
    held = {"state_dict": STATE, "extra": Code(tmp_path / "ran")}
    torch.save(held, tmp_path / "x.pth", _use_new_zipfile_serialization=not old)
    with pytest.raises(WeightsError, match=r"could run code.*mkdir"):
        files.read(tmp_path / "x.pth")
    assert not (tmp_path / "ran").exists()


def test_a_plain_pickle_with_code_is_refused(tmp_path):
    (tmp_path / "x.pth").write_bytes(pickle.dumps(Code(tmp_path / "ran")))
    with pytest.raises(WeightsError, match="refused"):
        files.read(tmp_path / "x.pth")
    assert not (tmp_path / "ran").exists()


def test_what_is_not_weights_is_named(tmp_path):
    cases = {
        "absent.pth": (None, "no file of weights"),
        "text.pth": (b"hello", "refused|not a readable"),
        "empty.pth": (b"", "not a readable"),
        "text.safetensors": (b"hello there, no header here", "not a readable safetensors"),
    }
    for name, (data, message) in cases.items():
        if data is not None:
            (tmp_path / name).write_bytes(data)
        with pytest.raises(WeightsError, match=message):
            files.read(tmp_path / name)
    torch.save({"epoch": 3, "lr": 0.1}, tmp_path / "log.pth")
    with pytest.raises(WeightsError, match="no state dict: at its top are epoch, lr"):
        files.read(tmp_path / "log.pth")
    torch.save([torch.ones(1)], tmp_path / "list.pth")
    with pytest.raises(WeightsError, match="holds list"):
        files.read(tmp_path / "list.pth")


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_every_truncation_is_an_error_of_ours(tmp_path, suffix):
    whole = tmp_path / f"whole.{suffix}"
    torch.save(STATE, whole) if suffix == "pth" else save_file(STATE, whole)
    data = whole.read_bytes()
    cut = tmp_path / f"cut.{suffix}"
    for size in range(0, len(data) - 1, max(1, len(data) // 60)):
        cut.write_bytes(data[:size])
        with pytest.raises(WeightsError):
            files.read(cut)
