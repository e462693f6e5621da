"""Networks on disk: a folder of `model.safetensors` and `config.json`, nothing else needed for the same answers."""

import copy
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from opsin.blocks import Network
from opsin.build import build
from opsin.convert import few
from opsin.registry import facts, outside, table
from opsin.width import narrow, widths

from . import adapt, cache, files, hub, names
from .entry import entries, entry
from .errors import WeightsError
from .source import Fetched, elsewhere, published
from .twin import twin

WEIGHTS, CONFIG = "model.safetensors", "config.json"


def fill(model: nn.Module, name: str | None = None, source: str | None = None, licence: str | None = None) -> None:
    """Load published weights into a network made by `create_model`, and tell its `config` what came with them.

    Args:
        name: of a published weight, `architecture.tag`; the architecture alone means its first one.
        source: a file, a folder or `hf-hub:organisation/name@revision` instead. Names of tensors may be ours, timm's,
            or any the family has a table for.
        licence: a gate on the licences of code and weights: "permissive", or SPDX identifiers parted by commas.

    Raises:
        WeightsError: no such weight (says what there is), not to be had offline (says what to fetch and where to put
            it), outside the gate, or a checkpoint of another network (lists what does not fit). Never random weights.
    """
    architecture = _config(model)["architecture"]
    source = source or _source(name or architecture)
    fetched = elsewhere(source, licence) if source else published(entry(name or architecture), licence)
    meant = fetched.config.get("architecture")
    if meant and meant != architecture.rpartition(":")[2]:
        raise WeightsError(f"{fetched.name} holds weights of {meant}, not {architecture}; create that network")
    _pour(model, fetched)


def _source(name: str) -> str | None:
    """Where a weight lies that has no entry here: by timm's habit, a network and a tag are a place on the hub."""
    if others := outside(name):
        place: str = others.published(name)
        return place
    architecture, _, tag = name.partition(".")
    return f"hf-hub:timm/{name}" if tag and name not in entries() and architecture in table() else None


def save(model: nn.Module, folder: str | Path) -> Path:
    """Write a network as a folder that `load` turns back into it; an older one there is replaced at once or not at all.

    A wrapped model of timm whose family is here is written as ours: it loads without timm.

    Raises:
        WeightsError: it was not made by `create_model`, its modules were changed so that its config does not rebuild
            it, or nothing can be written there.
    """
    from safetensors.torch import save as encode

    from opsin import __version__

    folder, _ = Path(folder), _config(model)
    model = twin(model)
    config = {**copy.deepcopy(_config(model)), "widths": _narrowed(model), "opsin": __version__}
    config = {"provenance": {}, **config}
    state = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in model.state_dict().items()}
    _rebuilds(config, state)
    if folder.exists() and not _ours(folder):
        raise WeightsError(f"{folder} exists and is no saved network; choose another folder or delete it")
    text = files.encode(config, f"the config of {config['architecture']}")
    with cache.atomic(folder) as temporary:
        temporary.mkdir()
        (temporary / CONFIG).write_text(text, encoding="utf-8")
        (temporary / WEIGHTS).write_bytes(encode(state, {"format": "pt"}))
    return folder


def load(source: str | Path, licence: str | None = None) -> Network:
    """A network with its weights, in eval mode, from a folder that `save` wrote.

    A folder in timm's layout is read too, and so is `hf-hub:organisation/name@revision`.

    Raises:
        WeightsError: no such folder, damaged, or weights and config that do not belong together.
        UnknownName: an architecture that is not here.
    """
    text = str(source)
    folder = Path(source).expanduser()
    if not text.startswith(hub.PREFIX) and not (folder / CONFIG).is_file():
        raise WeightsError(f"{folder} is no saved network: it has no {CONFIG}; give the folder that opsin.save wrote")
    fetched = elsewhere(text, licence)
    config = fetched.config
    if not isinstance(config.get("architecture"), str):
        raise WeightsError(f"{text}: its config names no architecture; give a folder that opsin.save wrote")
    if "provenance" in config:
        return _restore(config, fetched)
    arguments = {key: config["arguments"][key] for key in config["arguments"] if key in ("num_classes", "img_size")}
    model = build(config["architecture"], **arguments)
    _pour(model, fetched, exact=True)
    return model.eval()


def _pour(model: nn.Module, fetched: Fetched, exact: bool = False) -> None:
    state = names.ours(model, fetched.tensors(), fetched.names, fetched.name)
    with_classifier = adapt.pour(model, state, fetched.name, exact)
    config = _config(model)
    seen = fetched.config
    code = facts(config["architecture"]).get("licence")
    config["licence"] = {"code": code, "weights": None, "data": None, **(seen.get("licence") or {})}
    config["provenance"] = {**(seen.get("provenance") or {}), "name": fetched.name, **asdict(fetched.pin)}
    for key, known in (("preprocessing", True), ("labels", with_classifier)):
        config.pop(key, None)
        if known and seen.get(key):
            config[key] = copy.deepcopy(seen[key])


def _restore(config: dict[str, Any], fetched: Fetched) -> Network:
    """The network of one of our own folders; its config's sizes are compared with the file before memory is taken."""
    state = fetched.tensors()
    _check(config, state, fetched.name)
    _rebuilds(config, state, fetched.name)
    model: Any = build(config["architecture"], **config["arguments"])
    model = narrow(model, config["widths"]) if config["widths"] else model
    model.to(memory_format=torch.channels_last).load_state_dict(state)
    model.config = {key: value for key, value in config.items() if key != "opsin"}
    whole: Network = model.eval()
    return whole


def _check(config: Mapping[str, Any], state: Mapping[str, Tensor], name: str) -> None:
    """Raise for a config whose numbers are so large that building would never end."""
    most = {True: len(state), False: sum(tensor.numel() for tensor in state.values())}
    for width, size in config["widths"].items():
        if not isinstance(size, int) or isinstance(size, bool) or not 1 <= size <= most[False]:
            raise WeightsError(f"{name}: width {width} in its config should be a size its file holds, not {size!r}")
    for key, value in config["arguments"].items():
        if any(number > most[key.startswith("dep")] for number in _numbers(value)):
            raise WeightsError(f"{name}: {key} = {value!r} in its config is more than its file could hold")


def _numbers(value: Any) -> list[float]:
    """The numbers in a plain value, lists inside it included."""
    if isinstance(value, list | tuple):
        return [number for item in value for number in _numbers(item)]
    return [value] if isinstance(value, int | float) else []


def _rebuilds(config: Mapping[str, Any], state: Mapping[str, Tensor], name: str = "this network") -> None:
    """Raise unless the config alone leads to a network of exactly these tensors; no memory is taken to find out."""
    with torch.device("meta"):
        model = build(config["architecture"], **config["arguments"])
    model = narrow(model, config["widths"]) if config["widths"] else model
    wanted = {key: tensor.shape for key, tensor in model.state_dict().items()}
    held = {key: tensor.shape for key, tensor in state.items()}
    other = [key for key in {**wanted, **held} if wanted.get(key) != held.get(key)]
    if other:
        raise WeightsError(
            f"{name}: the config (architecture, arguments, widths) does not lead to its tensors; "
            f"{len(other)} differ: {few(sorted(other))}"
        )


def _narrowed(model: nn.Module) -> dict[str, int]:
    """The widths that are no longer what the builder made: {name: size}."""
    config = _config(model)
    with torch.device("meta"):
        whole = widths(build(config["architecture"], **config["arguments"]))
    return {name: int(width) for name, width in widths(model).items() if int(width) != int(whole.get(name, width))}


def _config(model: nn.Module) -> dict[str, Any]:
    config = getattr(model, "config", None)
    if not isinstance(config, dict) or not isinstance(config.get("architecture"), str):
        raise WeightsError(f"this {type(model).__name__} was not made by opsin.create_model: it has no config")
    return config


def _ours(folder: Path) -> bool:
    """A folder that may be replaced: empty, or holding a saved network and nothing else."""
    return folder.is_dir() and {item.name for item in folder.iterdir()} <= {WEIGHTS, CONFIG}
