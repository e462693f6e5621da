"""What a checkpoint's config says, checked and put in our words."""

from collections.abc import Mapping
from typing import Any

from .errors import WeightsError
from .licence import spdx

SIDE = 20_000  # pixels; more is a mistake or an attack
INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos", "box", "hamming", "random")
CROPS = ("center", "squash", "border")


def preprocessing(told: Any, name: str) -> dict[str, Any]:
    """A preprocessing record, checked: size, crop_pct, crop_mode, interpolation, mean, std, channels.

    Raises:
        WeightsError: a value that means nothing; `name` is what the message calls the file.
    """
    if not isinstance(told, Mapping):
        raise WeightsError(f"{name}: preprocessing should be an object, not {told!r}")
    checks = {
        "size": _numbers(told.get("size"), 2, lambda n: isinstance(n, int) and 1 <= n <= SIDE),
        "crop_pct": _numbers([told.get("crop_pct")], 1, lambda n: 0 < n <= 1),
        "crop_mode": told.get("crop_mode") in CROPS,
        "interpolation": told.get("interpolation") in INTERPOLATIONS,
        "channels": _numbers([told.get("channels")], 1, lambda n: isinstance(n, int) and 1 <= n <= 4096),
        "mean": _numbers(told.get("mean"), told.get("channels"), lambda n: abs(n) < 1e9),
        "std": _numbers(told.get("std"), told.get("channels"), lambda n: 0 < n < 1e9),
    }
    if wrong := [key for key, right in checks.items() if not right]:
        key = wrong[0]
        raise WeightsError(f"{name}: {key} = {told.get(key)!r} in its preprocessing means nothing; correct the config")
    return dict(told)


def timm(config: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A `config.json` in timm's layout as {"architecture", "arguments", "preprocessing", "licence", "labels"}.

    Raises:
        WeightsError: values that mean nothing.
    """
    seen = config.get("pretrained_cfg", config)
    if not isinstance(seen, Mapping):
        raise WeightsError(f"{name}: pretrained_cfg should be an object, not {seen!r}; correct the config")
    size = seen.get("input_size")
    given = config.get("model_args")
    out: dict[str, Any] = {"architecture": config.get("architecture"), "arguments": {}}
    if isinstance(given, Mapping):
        out["arguments"].update(given)
    if _numbers([config.get("num_classes")], 1, lambda n: isinstance(n, int)):
        out["arguments"]["num_classes"] = config["num_classes"]
    if isinstance(size, list) and len(size) == 3:
        record = {
            "size": size[1:],
            "crop_pct": seen.get("crop_pct", 0.875),
            "crop_mode": seen.get("crop_mode", "center"),
            "interpolation": seen.get("interpolation", "bilinear"),
            "mean": seen.get("mean"),
            "std": seen.get("std"),
            "channels": size[0],
        }
        out["preprocessing"] = preprocessing(record, name)
    licence = seen.get("license")
    out["licence"] = {"weights": spdx(licence) if isinstance(licence, str) else None}
    if labels(config.get("label_names")):
        out["labels"] = config["label_names"]
    return out


def ours(config: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A config that `save` wrote, the forms of its parts checked.

    Raises:
        WeightsError: parts of another form.
    """
    for key in ("arguments", "widths", "provenance"):
        if not isinstance(config.get(key), Mapping):
            raise WeightsError(f"{name}: {key} should be an object, not {config.get(key)!r}; correct the config")
    if not isinstance(config.get("licence") or {}, Mapping):
        raise WeightsError(f"{name}: licence should be an object, not {config['licence']!r}; correct the config")
    if "labels" in config and not labels(config["labels"]):
        raise WeightsError(f"{name}: labels should be a list of names, not {config['labels']!r}; correct the config")
    if config.get("preprocessing"):
        preprocessing(config["preprocessing"], name)
    return dict(config)


def labels(told: Any) -> bool:
    """Whether it is a list of class names."""
    return isinstance(told, list) and bool(told) and all(isinstance(label, str) for label in told)


def _numbers(values: Any, count: Any, right: Any) -> bool:
    if not isinstance(values, list | tuple) or len(values) != count:
        return False
    return all(isinstance(n, int | float) and not isinstance(n, bool) and right(n) for n in values)
