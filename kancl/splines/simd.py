"""Several numbers at a time, for Numba kernels: load, store, multiply, add, subtract.

Left to itself the compiler checks before every short loop whether the arrays in it
overlap, which costs more than the loop. A ``Vector`` has a constant number of lanes; LLVM
maps it to as many registers as that takes. Offsets count elements of a contiguous array
from its start and are not checked.
"""

from typing import Any

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic, models, register_model

CONTRACT = ("contract",)  # a product and a sum may become one fused instruction
INDEX = ir.IntType(32)
BYTES = ir.IntType(8).as_pointer()


class Vector(types.Type):
    """Numba type of a vector of so many ``scalar``."""

    def __init__(self, scalar: Any, lanes: int) -> None:
        self.scalar, self.lanes = scalar, lanes
        super().__init__(name=f"Vector({scalar}, {lanes})")

    @property
    def in_llvm(self) -> ir.VectorType:
        single = self.scalar == types.float32
        return ir.VectorType(ir.FloatType() if single else ir.DoubleType(), self.lanes)


@register_model(Vector)
class VectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, vector: Vector) -> None:
        super().__init__(manager, vector, vector.in_llvm)


@intrinsic(prefer_literal=True)
def load(typing: Any, array: Any, offset: Any, lanes: Any) -> Any:
    """``load(array, offset, lanes)``: so many elements from there on."""
    vector = Vector(array.dtype, lanes.literal_value)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = _address(context, builder, signature, args, vector.in_llvm)
        value = builder.load(pointer)
        value.align = array.dtype.bitwidth // 8
        return value

    return vector(array, types.int64, lanes), generate


@intrinsic
def store(typing: Any, array: Any, offset: Any, value: Any) -> Any:
    """``store(array, offset, value)``"""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = _address(context, builder, signature, args, value.in_llvm)
        written = builder.store(args[2], pointer)
        written.align = array.dtype.bitwidth // 8
        return context.get_dummy_value()

    return types.void(array, types.int64, value), generate


@intrinsic
def prefetch(typing: Any, array: Any, offset: Any) -> Any:
    """``prefetch(array, offset)``: have that element's cache line brought near."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = _address(context, builder, signature, args, ir.IntType(8))
        kinds = [BYTES, INDEX, INDEX, INDEX]
        function = builder.module.declare_intrinsic(
            "llvm.prefetch", [BYTES], ir.FunctionType(ir.VoidType(), kinds)
        )
        # For reading, into the second level of caches, as data
        numbers = [ir.Constant(INDEX, number) for number in (0, 2, 1)]
        builder.call(function, [pointer, *numbers])
        return context.get_dummy_value()

    return types.void(array, types.int64), generate


@intrinsic(prefer_literal=True)
def splat(typing: Any, number: Any, lanes: Any) -> Any:
    """``splat(number, lanes)``: the same number so many times."""
    vector = Vector(number, lanes.literal_value)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        undefined = ir.Constant(vector.in_llvm, ir.Undefined)
        first = builder.insert_element(undefined, args[0], ir.Constant(INDEX, 0))
        return builder.shuffle_vector(first, undefined, _numbers([0] * vector.lanes))

    return vector(number, lanes), generate


@intrinsic
def multiply(typing: Any, a: Any, b: Any) -> Any:
    """``multiply(a, b)``: ``a*b``"""
    return a(a, b), lambda _, builder, __, args: builder.fmul(*args, flags=CONTRACT)


@intrinsic
def subtract(typing: Any, a: Any, b: Any) -> Any:
    """``subtract(a, b)``: ``a - b``"""
    return a(a, b), lambda _, builder, __, args: builder.fsub(*args, flags=CONTRACT)


@intrinsic
def multiply_add(typing: Any, a: Any, b: Any, c: Any) -> Any:
    """``multiply_add(a, b, c)``: ``a*b + c``"""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        product = builder.fmul(args[0], args[1], flags=CONTRACT)
        return builder.fadd(product, args[2], flags=CONTRACT)

    return a(a, b, c), generate


@intrinsic
def total(typing: Any, a: Any) -> Any:
    """``total(a)``: the sum of all, in pairs; their number is a power of 2."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        value, n = args[0], a.lanes
        while n > 1:
            n //= 2
            halves = _numbers(range(n)), _numbers(range(n, 2 * n))
            low, high = (builder.shuffle_vector(value, value, h) for h in halves)
            value = builder.fadd(low, high)
        return builder.extract_element(value, ir.Constant(INDEX, 0))

    return a.scalar(a), generate


@intrinsic
def interleave(typing: Any, a: Any, b: Any, c: Any, d: Any) -> Any:
    """``interleave(a, b, c, d)``: ``a0, b0, c0, d0, a1, b1, ...``, four times as long."""
    n = a.lanes

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        ab = builder.shuffle_vector(args[0], args[1], _numbers(range(2 * n)))
        cd = builder.shuffle_vector(args[2], args[3], _numbers(range(2 * n)))
        order = [lane + n * which for lane in range(n) for which in range(4)]
        return builder.shuffle_vector(ab, cd, _numbers(order))

    return Vector(a.scalar, 4 * n)(a, b, c, d), generate


def _numbers(values: Any) -> ir.Constant:
    """A constant vector of indices."""
    return ir.Constant(ir.VectorType(INDEX, len(values)), list(values))


def _address(context: Any, builder: Any, signature: Any, args: Any, kind: Any) -> Any:
    """Where the element that the first two arguments name is, as a pointer to kind."""
    data = context.make_array(signature.args[0])(context, builder, args[0]).data
    return builder.bitcast(builder.gep(data, [args[1]]), kind.as_pointer())
