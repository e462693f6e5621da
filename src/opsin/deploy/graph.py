"""ONNX graphs: the resize in front, the facts beside, nothing that belongs to the machine that exported."""

import json
from typing import Any

from opsin.data import Preprocess
from opsin.errors import OpsinError

FILTERS = {"bicubic": "cubic", "bilinear": "linear"}  # Pillow's names and ONNX's


def prepend_resize(proto: Any, prepare: Preprocess) -> None:
    """Let the graph take uint8 images (N, H, W, C) of any size: resize, then crop, in integers as Pillow does.

    Works in place; the graph so far takes pixels of the size that `prepare` makes. Raises OpsinError for a crop or a
    filter that ONNX does not have.
    """
    from onnx import TensorProto, helper

    tall, wide = prepare.resized
    centre = prepare.crop_mode == "center" and tall == wide
    if not (centre or prepare.crop_mode == "squash") or prepare.crop_pct > 1 or prepare.interpolation not in FILTERS:
        raise OpsinError(
            f"{prepare.crop_mode!r} crop to {prepare.size} with {prepare.interpolation!r} interpolation "
            "cannot be put in the graph: export with any_size=False"
        )
    graph = proto.graph
    pixels, channels = graph.input[0].name, prepare.channels
    batch = graph.input[0].type.tensor_type.shape.dim[0].dim_param
    make = _Nodes()
    target = make.ints([tall, wide])
    if centre:
        sides = make("Shape", "images", start=1, end=3)
        target = make("Div", make("Mul", sides, target), make("ReduceMin", sides, keepdims=1))
    resized = make.resize("images", target, channels, FILTERS[prepare.interpolation])
    size = make.ints(list(prepare.size))
    start = make.half_to_even(make("Sub", target, size))
    out = make("Slice", resized, start, make("Add", start, size), make.ints([1, 2]))
    make("Identity", out, output=pixels)
    nodes = [*make.nodes, *graph.node]
    del graph.node[:], graph.input[:]
    graph.node.extend(nodes)
    graph.initializer.extend(make.constants)
    shape = [batch or 1, "height", "width", channels]
    graph.input.append(helper.make_tensor_value_info("images", TensorProto.UINT8, shape))


class _Nodes:
    """Writes nodes one after another, each named after its place."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def __call__(self, op: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        from onnx import helper

        output = output or f"resize/{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [output], **attributes))
        return output

    def ints(self, values: list[int]) -> str:
        from onnx import TensorProto, helper

        name = f"resize/constant{len(self.constants)}"
        self.constants.append(helper.make_tensor(name, TensorProto.INT64, [len(values)], values))
        return name

    def resize(self, images: str, sides: str, channels: int, mode: str) -> str:
        batch = self("Shape", images, start=0, end=1)
        sizes = self("Concat", batch, sides, self.ints([channels]), axis=0)
        return self(
            "Resize",
            images,
            "",
            "",
            sizes,
            mode=mode,
            antialias=1,
            coordinate_transformation_mode="half_pixel",
            cubic_coeff_a=-0.5,
        )

    def half_to_even(self, n: str) -> str:
        """round(n / 2) as Python rounds, in integers: n // 2, one more where n is odd and n // 2 is."""
        half = self("Div", n, self.ints([2]))
        odd = [self("Mod", value, self.ints([2])) for value in (n, half)]
        return self("Add", half, self("Mul", *odd))


def describe(proto: Any, facts: dict[str, Any]) -> None:
    """Keep `facts` as JSON in the file's metadata, and drop the exporter's notes (stack traces with local paths)."""
    del proto.metadata_props[:], proto.graph.metadata_props[:], proto.graph.value_info[:]
    proto.producer_name, proto.doc_string = "opsin", ""
    for part in (*proto.graph.node, *proto.graph.input, *proto.graph.output, *proto.graph.initializer):
        part.ClearField("doc_string")
        part.ClearField("metadata_props")
    for function in (*proto.functions,):
        for node in function.node:
            node.ClearField("metadata_props")
    for key, value in facts.items():
        proto.metadata_props.add(key=f"opsin.{key}", value=json.dumps(value, ensure_ascii=False))
