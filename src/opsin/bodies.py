"""Every operator in five bodies, tried out: `python -m opsin.bodies docs/operators.md` writes the table anew.

A body is a small network of a family; the operator takes the place of all its mixers, mlps, norms, activations or
gates. What is tried: it builds, one training step reaches all its parameters, the body narrows, and it exports.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from .blocks.graft import graft
from .blocks.network import Network
from .errors import OpsinError
from .factory import create_model
from .operators import OPERATORS
from .progress import track
from .width import narrow, widths

SIDE = 64  # pixels of the trial's images
ROLES = ("mixer", "mlp", "norm", "act", "gate")
BODIES: dict[str, tuple[str, dict[str, Any]]] = {
    "ConvNeXt": ("convnext_atto", dict(depths=(1, 1, 1, 1), dims=(32, 64, 96, 128))),
    "MetaFormer": ("poolformer_s12", dict(depths=(1, 1, 1, 1), dims=(32, 64, 96, 128))),
    "Swin": ("swin_tiny_patch4_window7_224", dict(depths=(1, 1, 1, 1), dim=32, heads=(1, 2, 4, 8))),
    "ViT": ("vit_tiny_patch16_224", dict(dim=64, depth=2, heads=2, img_size=SIDE)),
    "ResNet": ("resnet50", dict(depths=(1, 1, 1, 1))),
}
WHERE: dict[str, tuple[str, ...]] = {  # of each role, in the order of the bodies
    "mixer": ("stages.*.dwconv", "stages.*.mixer", "stages.*.mixer", "blocks.*.mixer", "stages.*.conv2.conv"),
    "mlp": ("stages.*.mlp", "stages.*.mlp", "stages.*.mlp", "blocks.*.mlp", "stages.*.conv3.conv"),
    "norm": ("stages.*.blocks.*.norm", "*.norm1", "*.norm1", "*.norm1", "stages.*.conv2.norm"),
    "act": ("*.mlp.act", "*.mlp.act", "*.mlp.act", "*.mlp.act", "stages.*.conv2.act"),
    "gate": ("stages.*.scale", "*.scale1", "*.scale1", "*.scale1", "stages.*.gate"),
}


def body(name: str) -> Network:
    network, arguments = BODIES[name]
    return create_model(network, num_classes=3, **arguments)


def where(name: str, role: str) -> str:
    """The modules of a body that operators of a role replace."""
    return WHERE[role][list(BODIES).index(name)]


def trial(name: str, call: str) -> dict[str, str]:
    """What a body does with an operator: {"builds" | "trains" | "narrows" | "exports": "" or why not}."""
    torch.manual_seed(0)
    told: Any = OPERATORS[call.partition("(")[0]]
    x = torch.randn(2, 3, SIDE, SIDE)
    try:
        net = graft(body(name), where(name, told.role), call)
    except OpsinError as error:
        return {"builds": str(error).partition("\n")[0]}
    return {
        "builds": "",
        "trains": trained(net, x),
        "narrows": told.stiff or narrowed(net.eval(), x),
        "exports": exported(net.eval(), x),
    }


def trained(net: Network, x: torch.Tensor) -> str:
    net.train()(x).square().mean().backward()
    still = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    return f"no gradient reaches {still[0]}" if still else ""


def narrowed(net: Network, x: torch.Tensor) -> str:
    with torch.no_grad():
        thin = narrow(net, {name: max(1, int(width) * 3 // 4) for name, width in widths(net).items()})
        return "" if thin(x).isfinite().all() else "its answers are not finite"


def exported(net: Network, x: torch.Tensor) -> str:
    program = torch.export.export(net, (x,), strict=False)
    with torch.no_grad():
        apart = float((program.module()(x) - net(x)).abs().max())
    return "" if apart < 1e-3 else f"the exported program differs by {apart:.2g}"


def measured(names: Iterable[str]) -> dict[str, dict[str, dict[str, str]]]:
    """The trials of operators in every body: {operator: {body: what it does}}."""
    return {name: {one: trial(one, name) for one in BODIES} for name in track(list(names), "trying operators")}


def table(found: Mapping[str, Mapping[str, Mapping[str, str]]]) -> str:
    """The guide's table: a row an operator, a column a body, and what does not work in words below."""
    lines = [f"| operator | for | takes | {' | '.join(BODIES)} |", f"| --- | --- | --- |{' --- |' * len(BODIES)}"]
    notes: dict[str, int] = {}
    for name, bodies in found.items():
        told: Any = OPERATORS[name]
        cells = []
        for trials in bodies.values():
            failed = [f"{what}: {why}" for what, why in trials.items() if why]
            marks = [str(notes.setdefault(text, len(notes) + 1)) for text in failed]
            cells.append("yes" if not marks else f"but for {', '.join(marks)}")
        lines.append(f"| `{name}` | {told.role} | {told.takes} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", *(f"{number}. {text}" for text, number in notes.items())])


def ordered() -> list[str]:
    """Operators by what they are for, then by name."""
    return [name for role in ROLES for name, told in sorted(OPERATORS.items()) if getattr(told, "role", "") == role]


def main(path: str) -> None:
    """Write the guide: the text that stands in front of its table, and the table."""
    guide = Path(path)
    before = guide.read_text().partition("| operator |")[0]
    guide.write_text(before + table(measured(ordered())) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
