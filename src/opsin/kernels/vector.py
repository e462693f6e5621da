"""Vectors of sixteen float32 for functions that Numba compiles, where the compiler would not find them by itself.

`load`, `store`, `prefetch`, `spread`, `total`, `exp2`, and + and * between vectors. A processor without registers so
wide takes several for each.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic as undescribed
from numba.extending import models, overload, register_model

intrinsic: Any = undescribed  # called without the context that it is declared with
LANES = 16
FLOATS, INTS = (ir.VectorType(kind, LANES) for kind in (ir.FloatType(), ir.IntType(32)))
ROUNDS = 1.5 * 2**23  # added to a small float, leaves the nearest whole number in its lowest bits
LOWEST, HIGHEST = -125.0, 127.0
# 2^r = 1 + r (...) on [-1/2, 1/2], of the least largest error: 9e-8 of the power before rounding.
POWERS = (0.0013264727139729983, 0.009671512639961851, 0.05550733743471358, 0.2402224208537661, 0.6931469775989911, 1.0)


class VectorType(types.Type):
    """Sixteen float32"""

    def __init__(self) -> None:
        super().__init__("vector")


VECTOR = VectorType()


@register_model(VectorType)
class VectorModel(models.PrimitiveModel):
    """How they are held: as LLVM's vector"""

    def __init__(self, manager: Any, kind: Any):
        super().__init__(manager, kind, FLOATS)  # type: ignore[no-untyped-call]


def place(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    """The address of sixteen neighbours in an array, from its first two arguments: array and indices."""
    kind, indices = signature.args[:2]
    array = context.make_array(kind)(context, builder, args[0])
    steps = cgutils.unpack_tuple(builder, args[1], len(indices))
    pointer = cgutils.get_item_pointer(context, builder, kind, array, steps, wraparound=False)
    return builder.bitcast(pointer, FLOATS.as_pointer())


@intrinsic
def load(typing: Any, array: Any, indices: Any) -> Any:
    """Sixteen neighbours of a contiguous array, from those indices on."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load(place(context, builder, signature, args), align=4)

    return VECTOR(array, indices), generate


@intrinsic
def store(typing: Any, array: Any, indices: Any, value: Any) -> Any:
    """Write sixteen neighbours of a contiguous array."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.store(args[2], place(context, builder, signature, args), align=4)
        return context.get_dummy_value()

    return types.void(array, indices, VECTOR), generate


@intrinsic
def prefetch(typing: Any, array: Any, indices: Any) -> Any:
    """Ask for sixteen neighbours that will be loaded soon; they may lie behind the array's end."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [pointer, number, number, number])
        ask = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        where = builder.bitcast(place(context, builder, signature, args), pointer)
        builder.call(ask, [where, *(ir.Constant(number, value) for value in (0, 3, 1))])  # read, keep, data
        return context.get_dummy_value()

    return types.void(array, indices), generate


@intrinsic
def spread(typing: Any, x: Any) -> Any:
    """A number in all lanes."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        one = builder.insert_element(ir.Constant(FLOATS, ir.Undefined), args[0], ir.Constant(ir.IntType(32), 0))
        return builder.shuffle_vector(one, one, ir.Constant(INTS, [0] * LANES))

    return VECTOR(types.float32), generate


@intrinsic
def total(typing: Any, x: Any) -> Any:
    """The sum over the lanes."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = ir.FunctionType(ir.FloatType(), [ir.FloatType(), FLOATS])
        add = cgutils.get_or_insert_function(builder.module, kind, f"llvm.vector.reduce.fadd.v{LANES}f32")
        return builder.call(add, [ir.Constant(ir.FloatType(), -0.0), args[0]], fastmath=["reassoc"])

    return types.float32(VECTOR), generate


@intrinsic
def exp2(typing: Any, x: Any) -> Any:
    """2^x to 2e-7 of it for x in [-125, 127], clamped outside."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        def number(value: float) -> ir.Constant:
            return ir.Constant(FLOATS, [value] * LANES)

        (x,) = args
        x = builder.select(builder.fcmp_ordered("<", x, number(LOWEST)), number(LOWEST), x)
        x = builder.select(builder.fcmp_ordered(">", x, number(HIGHEST)), number(HIGHEST), x)
        moved = builder.fadd(x, number(ROUNDS))
        r = builder.fsub(x, builder.fsub(moved, number(ROUNDS)))
        power = number(POWERS[0])
        for coefficient in POWERS[1:]:
            power = builder.fadd(builder.fmul(power, r, flags=["contract"]), number(coefficient), flags=["contract"])
        whole = builder.shl(builder.bitcast(moved, INTS), ir.Constant(INTS, [23] * LANES))  # to the exponent's bits
        return builder.bitcast(builder.add(builder.bitcast(power, INTS), whole), FLOATS)

    return VECTOR(VECTOR), generate


def arithmetic(instruction: str) -> Callable[..., Any]:
    """Vectors under one instruction; a product and a sum behind it may become one."""

    @intrinsic
    def apply(typing: Any, x: Any, y: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return getattr(builder, instruction)(*args, flags=["contract"])

        return VECTOR(VECTOR, VECTOR), generate

    def between(x: Any, y: Any) -> Any:
        return apply(x, y)

    def choose(x: Any, y: Any) -> Any:
        return between if x == y == VECTOR else None

    return choose


overload(operator.add)(arithmetic("fadd"))
overload(operator.mul)(arithmetic("fmul"))
