"""Others' models whose family is here: saved as our own networks, so that they load without the others' package."""

from __future__ import annotations

from typing import Any

from torch import nn

from opsin.build import build
from opsin.registry import OUTSIDE, UnsupportedArgument, facts, outside, table

from . import adapt, names
from .errors import WeightsError


def twin(model: Any) -> nn.Module:
    """Our own network with a wrapped model's weights; the model as it is where we have none that is equal."""
    config: dict[str, Any] = model.config
    theirs, others = config["architecture"], outside(config["architecture"])
    name = next((theirs.removeprefix(prefix) for prefix in OUTSIDE if theirs.startswith(prefix)), theirs)
    if others is None or name not in table():
        return model
    seen = {"num_classes": 1000, **config["arguments"]}
    try:
        made: Any = build(name, **{key: seen[key] for key in seen if key in facts(name)["arguments"]})
        state = names.ours(made, others.bare(model.state_dict()), None, theirs)
        adapt.pour(made, state, theirs, exact=True)
    except (UnsupportedArgument, WeightsError):
        return model
    made.config = {**config, "architecture": name, "arguments": made.config["arguments"], "widths": {}}
    return made.train(model.training)
