"""The kernels compiled for cards that are not here, just as the host code starts them.

``pytest -n0 -s -m proof tests/device/test_compiled_ahead.py`` prints the table of all cards
and types: registers, spilled bytes, shared memory and time to compile.
"""

import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from kancl import KAN
from tests.device.pretend_device import KERNELS, Launch, pretend_device

triton = pytest.importorskip("triton", reason="Triton comes with torch's CUDA builds")

CARDS = {80: "A100", 89: "L4, RTX 4090", 90: "H100", 100: "B200"}
MOST_REGISTERS = 200  # of a thread: two programs of 128 threads share a processor
MOST_SPILLED = 16  # bytes of a thread
MOST_SHARED = 48 * 2**10  # bytes of a program: what every card gives without asking
NAMES = {torch.float32: "fp32", torch.float64: "fp64", torch.bfloat16: "bf16"}
NAMES[torch.bool] = "i1"
# the KAN, kan_local, and layers of other degrees with everything on
LAYERS: list[dict[str, Any]] = [
    {"layers_hidden": [784, 64, 10]},
    {
        **{"layers_hidden": [784, 256, 10], "base": False, "anchor": 0.0},
        **{"input_grid_size": 1, "input_spline_order": 1, "input_anchor": 0.0},
        "enable_standalone_scale_spline": False,
    },
    {
        **{"layers_hidden": [20, 33, 2], "grid_size": 20, "spline_order": 2},
        **{"outside": "clamp", "anchor": 0.0},
    },
    {"layers_hidden": [16, 16, 16], "grid_size": 64, "outside": "linear"},
]


class Compiled(NamedTuple):
    kernel: str
    registers: int
    spilled: int
    shared: int
    seconds: float
    instructions: str  # PTX


def launches(layers: dict[str, Any], dtype: torch.dtype, batch: int) -> list[Launch]:
    """Kernels of a forward and backward pass, by the gradient of the inputs as well."""
    started: list[Launch] = []
    with pretend_device(started):
        network = KAN(**layers, implementation="triton").to("cuda", dtype)
        x = torch.zeros(batch, network.in_features, dtype=dtype, device="cuda")
        network(x.requires_grad_()).sum().backward()
        network.layers[0].spline_grid.idle(x)
    return started


def source(launch: Launch) -> Any:
    """What Triton's own launcher makes of the arguments; they decide what is compiled."""
    from triton.compiler import ASTSource

    from kancl.splines import kernels_gpu

    kernel = getattr(kernels_gpu, launch.kernel)
    language = kernels_gpu.tl
    *sizes, kind = launch.options["GRID"]
    options = launch.options | {"GRID": (*sizes, getattr(language, kind))}
    signature, constants, hints = {}, {}, {}
    for parameter, value in zip(kernel.params, launch.arguments):
        name, place = parameter.name, (parameter.num,)
        fixed = not parameter.do_not_specialize
        if isinstance(value, torch.dtype):
            signature[name] = f"*{NAMES[value]}"
            hints[place] = [["tt.divisibility", 16]]
        elif value == 1 and fixed:
            signature[name], constants[name] = "constexpr", 1
        else:
            signature[name] = "i32" if value < 2**31 else "i64"
            if value % 16 == 0 and fixed:
                hints[place] = [["tt.divisibility", 16]]
    for parameter in kernel.params[len(launch.arguments) :]:
        signature[parameter.name] = "constexpr"
        constants[parameter.name] = options[parameter.name]
    return ASTSource(kernel, signature, constants, hints)


def compiled(launch: Launch, card: int, folder: Path) -> Compiled:
    from triton.backends.compiler import GPUTarget

    start = time.perf_counter()
    options = {"enable_fp_fusion": launch.options["enable_fp_fusion"]}
    target = GPUTarget("cuda", card, 32)
    built = triton.compile(source(launch), target=target, options=options)
    seconds = time.perf_counter() - start
    (folder / "ptx").write_text(built.asm["ptx"])
    tools = Path(triton.__file__).with_name("backends") / "nvidia" / "bin"
    newest = tools / "ptxas-blackwell"  # since Triton 3.6
    assembler = newest if card >= 100 and newest.is_file() else tools / "ptxas"
    name = f"--gpu-name=sm_{card}{'a' * (card >= 90)}"
    command = [assembler, "-v", name, folder / "ptx", "-o", folder / "cubin"]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stderr
    registers = re.search(r"Used (\d+) registers", said)
    spilled = re.findall(r"(\d+) bytes spill", said)
    assert registers is not None and spilled, said
    most = max(map(int, spilled))
    sizes = int(registers[1]), most, built.metadata.shared
    return Compiled(launch.kernel, *sizes, seconds, built.asm["ptx"])


def all_compiled(
    layers: dict[str, Any], dtype: torch.dtype, card: int, folder: Path, batch: int = 64
) -> Iterator[Compiled]:
    different = {repr(launch): launch for launch in launches(layers, dtype, batch)}
    yield from (compiled(launch, card, folder) for launch in different.values())


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path


def check(kernel: Compiled) -> None:
    # Sums in an order of their own make equal inputs give unequal bits.
    assert not re.search(r"\b(atom|red)\.", kernel.instructions), kernel.kernel
    assert kernel.spilled <= MOST_SPILLED, kernel[:4]
    assert kernel.registers <= MOST_REGISTERS, kernel[:4]
    assert kernel.shared <= MOST_SHARED, kernel[:4]


def test_kernels_of_a_small_layer_compile_for_an_h100(folder: Path) -> None:
    layers = {"layers_hidden": [16, 10]}
    kernels = [*all_compiled(layers, torch.float32, 90, folder)]
    for kernel in kernels:
        check(kernel)
    assert {kernel.kernel for kernel in kernels} == {*KERNELS}


@pytest.mark.proof
@pytest.mark.parametrize("card", CARDS)
@pytest.mark.parametrize("dtype", [*NAMES][:3])
def test_all_kernels_compile_for_all_cards(
    dtype: torch.dtype, card: int, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for layers in LAYERS:
        for kernel in all_compiled(layers, dtype, card, folder):
            check(kernel)
            with capsys.disabled():
                print(
                    f"sm_{card} {NAMES[dtype]} {'-'.join(map(str, layers['layers_hidden'])):11}"
                    f"{kernel.kernel:21} {kernel.registers:3} registers "
                    f"{kernel.spilled:2} B spilled {kernel.shared:5} B shared "
                    f"{kernel.seconds:.1f} s"
                )
