"""Eight numbers at a time, for Numba kernels: load, store, multiply, add, subtract.

Left to itself the compiler checks before every short loop whether the arrays in it
overlap, which costs more than the loop. A value of type ``Eight`` is a vector of eight
float32 or float64 that LLVM maps to whatever registers the processor has; offsets count
elements of a contiguous array from its start and are not checked.
"""

from typing import Any

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic, models, register_model

LANES = 8
CONTRACT = ("contract",)  # a product and a sum may become one fused instruction
INDEX = ir.IntType(32)


class Eight(types.Type):
    """Numba type of a vector of eight ``scalar``."""

    def __init__(self, scalar: Any) -> None:
        self.scalar = scalar
        super().__init__(name=f"Eight({scalar})")


@register_model(Eight)
class EightModel(models.PrimitiveModel):
    def __init__(self, manager: Any, eight: Eight) -> None:
        super().__init__(manager, eight, _vector_of(eight.scalar))


@intrinsic
def load(typing: Any, array: Any, offset: Any) -> Any:
    """``load(array, offset)``: eight elements from there on."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        value = builder.load(_address(context, builder, signature.args[0], *args[:2]))
        value.align = signature.args[0].dtype.bitwidth // 8
        return value

    return Eight(array.dtype)(array, types.int64), generate


@intrinsic
def store(typing: Any, array: Any, offset: Any, value: Any) -> Any:
    """``store(array, offset, value)``"""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        address = _address(context, builder, signature.args[0], *args[:2])
        written = builder.store(args[2], address)
        written.align = signature.args[0].dtype.bitwidth // 8
        return context.get_dummy_value()

    return types.void(array, types.int64, value), generate


@intrinsic
def splat(typing: Any, number: Any) -> Any:
    """``splat(number)``: the same number eight times."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        undefined = ir.Constant(_vector_of(signature.args[0]), ir.Undefined)
        first = builder.insert_element(undefined, args[0], ir.Constant(INDEX, 0))
        lanes = ir.Constant(ir.VectorType(INDEX, LANES), [0] * LANES)
        return builder.shuffle_vector(first, undefined, lanes)

    return Eight(number)(number), generate


@intrinsic
def multiply(typing: Any, a: Any, b: Any) -> Any:
    """``multiply(a, b)``: ``a*b``"""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.fmul(*args, flags=CONTRACT)

    return a(a, b), generate


@intrinsic
def add(typing: Any, a: Any, b: Any) -> Any:
    """``add(a, b)``: ``a + b``"""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.fadd(*args, flags=CONTRACT)

    return a(a, b), generate


@intrinsic
def subtract(typing: Any, a: Any, b: Any) -> Any:
    """``subtract(a, b)``: ``a - b``"""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.fsub(*args, flags=CONTRACT)

    return a(a, b), generate


@intrinsic
def multiply_add(typing: Any, a: Any, b: Any, c: Any) -> Any:
    """``multiply_add(a, b, c)``: ``a*b + c``"""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        product = builder.fmul(args[0], args[1], flags=CONTRACT)
        return builder.fadd(product, args[2], flags=CONTRACT)

    return a(a, b, c), generate


@intrinsic
def total(typing: Any, a: Any) -> Any:
    """``total(a)``: the sum of all eight, in pairs."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        parts = [
            builder.extract_element(args[0], ir.Constant(INDEX, lane))
            for lane in range(LANES)
        ]
        while len(parts) > 1:
            parts = [builder.fadd(a, b) for a, b in zip(parts[::2], parts[1::2])]
        return parts[0]

    return a.scalar(a), generate


def _vector_of(scalar: Any) -> ir.VectorType:
    element = ir.FloatType() if scalar == types.float32 else ir.DoubleType()
    return ir.VectorType(element, LANES)


def _address(context: Any, builder: Any, kind: Any, array: Any, offset: Any) -> Any:
    data = context.make_array(kind)(context, builder, array).data
    pointer = _vector_of(kind.dtype).as_pointer()
    return builder.bitcast(builder.gep(data, [offset]), pointer)
