"""A pretend GPU: tensors that say they are on ``cuda:0`` and compute on the CPU.

Inside ``pretend_device()`` torch finds one CUDA device, and kancl runs on it as it would on
a card: ``device=cuda`` is resolved, kernels of Triton are launched (their results are the
dense path's). What a card makes of it is written down, by place in the code: launches of
kernels, waits for the device (synchronisations), copies that block, and tensors of two
devices in one operator. What it can't know: time, memory, streams, graphs.
"""

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType, SimpleNamespace
from typing import Any, NamedTuple
from unittest import mock

import avalanche
import torch
from torch import Tensor
from torch.nn.functional import silu
from torch.utils._python_dispatch import (
    TorchDispatchMode,
    _disable_current_modes,
    return_and_correct_aliasing,
)
from torch.utils._pytree import tree_flatten, tree_map

import kancl
from kancl.splines import UniformGrid, dense_spline_sum, gpu, modes
from kancl.splines.uniform import grid_basis

CUDA, BEHIND = torch.device("cuda", 0), torch.device("lazy")
"""What the tensors say; and what torch's own code takes them for, which has no driver."""
CPU = torch.device("cpu")
GIB = 2**30

# Operators that start no kernel: views, and memory without values.
FREE = set(
    "empty empty_like empty_strided new_empty new_empty_strided detach detach_ alias "
    "lift_fresh lift view _unsafe_view _reshape_alias expand expand_as t transpose permute "
    "slice select unsqueeze squeeze split unbind as_strided view_as split_with_sizes unfold "
    "diagonal movedim narrow is_same_size sym_size resize_ set_ _local_scalar_dense".split()
)
# Operators after which the host waits: the size or the value of the result is read.
WAITING = set(
    "_local_scalar_dense nonzero masked_select _unique _unique2 unique_dim equal "
    "unique_consecutive unique_dim_consecutive bincount histc repeat_interleave "
    "_linalg_check_errors _linalg_eigh _linalg_svd linalg_lstsq linalg_qr".split()
)
# Kernels of operators that start several, about; all others start one.
SEVERAL = {"topk": 2, "sort": 4, "nonzero": 4, "_unique2": 6, "linalg_cholesky_ex": 3}
INDEXING = set("index index_put index_put_ _index_put_impl_ _unsafe_index".split())


class Event(NamedTuple):
    """Something that the device or its driver had to do."""

    kind: str  # launch, wait, copy (it blocks) or mixing
    what: str  # the operator or kernel
    place: str  # the innermost line of kancl's or Avalanche's
    phase: str  # iteration (of training), evaluation, checkpoint, experience, other
    iteration: int  # of training, from 0, in the whole run; -1: outside
    experience: int  # trained by then, from 0; -1: outside


@dataclass
class Log:
    """What was done, and how often."""

    events: Counter[Event] = field(default_factory=Counter)

    def add(self, kind: str, what: str, n: int = 1) -> None:
        if n:
            self.events[Event(kind, what, *_where())] += n

    def total(self, *kinds: str, **chosen: Any) -> int:
        """How many events of these kinds there are, of those with these fields."""
        return sum(self.places(*kinds, **chosen).values())

    def places(self, *kinds: str, **chosen: Any) -> Counter[tuple[str, str]]:
        """By operator and place."""
        found: Counter[tuple[str, str]] = Counter()
        for event, n in self.events.items():
            fits = all(getattr(event, k) == v for k, v in chosen.items())
            if event.kind in kinds and fits:
                found[event.what, event.place] += n
        return found

    def per_iteration(self, *kinds: str) -> list[int]:
        """Events of each training iteration, in order."""
        found: Counter[int] = Counter()
        for e, n in self.events.items():
            if e.phase == "iteration":
                found[e.iteration] += n * (e.kind in kinds)
        return [n for _, n in sorted(found.items())]

    def most(self, skip: int = 0) -> Counter[tuple[str, str, str]]:
        """Events of an iteration that does all that any one does, by kind and place.

        The most that an iteration of the last experience has, but its first ``skip``.
        """
        trained = [e for e in self.events if e.phase == "iteration"]
        last = max(e.experience for e in trained)
        first = min(e.iteration for e in trained if e.experience == last) + skip
        each: Counter[tuple[str, str, str, int]] = Counter()
        for e in trained:
            if e.iteration >= first:
                each[e.kind, e.what, e.place, e.iteration] += self.events[e]
        found: Counter[tuple[str, str, str]] = Counter()
        for (kind, what, place, _), n in each.items():
            found[kind, what, place] = max(n, found[kind, what, place])
        return found


OURS = tuple(f"{Path(str(m.__file__)).parent}/" for m in (kancl, avalanche))
TESTS = f"{Path(__file__).parents[1]}/"


def _where() -> tuple[str, str, int, int]:
    """Place, phase, iteration and experience of what is being done."""
    frame: FrameType | None = sys._getframe(2)
    place, phase, strategy = "", "", None
    while frame is not None:
        file, name = frame.f_code.co_filename, frame.f_code.co_name
        ours = file.startswith(OURS)
        if not place and (ours or file.startswith(TESTS)) and file != __file__:
            place = f"{'/'.join(file.split('/')[-2:])}:{frame.f_lineno} {name}"
        if ours and not phase:
            phase = _phase(name, file)
            if phase in ("iteration", "experience"):
                strategy = frame.f_locals.get("self")
        frame = frame.f_back
    clock = getattr(strategy, "clock", None)
    numbers = (clock.train_iterations, clock.train_exp_counter) if clock else (-1, -1)
    return place, phase or "other", *numbers


def _phase(name: str, file: str) -> str:
    if "/observe/" in file and name in ("_measure", "evaluating"):
        return "evaluation"
    if name == "eval" and "/avalanche/" in file:
        return "evaluation"
    if "/checkpoint" in file and name == "write":
        return "checkpoint"
    if name == "training_epoch":
        return "iteration"
    if name in ("_train_exp", "_before_training_exp", "_after_training_exp"):
        return "experience"
    return ""


class PretendTensor(Tensor):
    """A tensor on the pretend device."""

    _inner: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore

    @staticmethod
    def __new__(cls, inner: Tensor) -> "PretendTensor":
        assert type(inner) is Tensor, type(inner)
        made: PretendTensor = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            inner.size(),
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            layout=inner.layout,
            device=BEHIND,
        )
        made._inner = inner
        return made

    device = property(lambda self: CUDA)  # type: ignore[assignment]
    is_cuda = property(lambda self: True)  # type: ignore[assignment]
    is_cpu = property(lambda self: False)  # type: ignore[assignment]

    def get_device(self) -> int:
        return 0

    def __repr__(self) -> str:  # type: ignore[override]
        return f"PretendTensor({self._inner})"

    def __format__(self, spec: str) -> str:
        return format(self.item() if self.dim() == 0 else repr(self), spec)

    def to(self, *args: Any, **kwargs: Any) -> Tensor:
        """Torch's own, which is to know that the tensor is on CUDA already."""
        args = tuple(BEHIND if _is_ours(a) else a for a in args)
        if _is_ours(kwargs.get("device")):
            kwargs["device"] = BEHIND
        return Tensor.to(self, *args, **kwargs)

    def cuda(self, *args: Any, **kwargs: Any) -> Tensor:
        return self

    def tolist(self) -> Any:
        return self.cpu().tolist()

    def numpy(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError(
            "can't convert cuda:0 device type tensor to numpy: .cpu() first"
        )

    __array__ = numpy

    def pin_memory(self, *args: Any) -> Tensor:
        raise RuntimeError("cannot pin 'torch.cuda.FloatTensor'")

    def untyped_storage(self) -> Any:
        return self._inner.untyped_storage()

    def data_ptr(self) -> int:
        return self._inner.data_ptr()

    def __reduce_ex__(self, protocol: Any) -> Any:
        log().add("copy", "pickle")
        return PretendTensor, (self._inner.detach(),)

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        if id(self) not in memo:
            made = self.detach().clone().requires_grad_(self.requires_grad)
            if isinstance(self, torch.nn.Parameter):
                made._is_param = True  # type: ignore[attr-defined]
            memo[id(self)] = made
        return memo[id(self)]

    @classmethod
    def __torch_dispatch__(
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return _computed(func, args, kwargs or {})


class _Mode(TorchDispatchMode):
    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return _computed(func, args, kwargs or {})


_LOGS: list[Log] = []


def log() -> Log:
    return _LOGS[-1]


def _is_ours(device: Any) -> bool:
    """Whether a device, or its name, is the pretend one's."""
    if isinstance(device, str) and device.split(":")[0] in ("cuda", "lazy"):
        return True
    return isinstance(device, torch.device) and device.type in ("cuda", "lazy")


def _computed(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """An operator's result, and what it took written down."""
    tensors = [t for t in tree_flatten((args, kwargs))[0] if isinstance(t, Tensor)]
    ours = [t for t in tensors if isinstance(t, PretendTensor)]
    target = kwargs.get("device")
    if not ours and not _is_ours(target):
        return func(*args, **kwargs)
    name = func._schema.name.split("::")[1]
    if name == "_has_compatible_shallow_copy_type":  # may a parameter take the data?
        return args[0] is args[1]
    theirs = [t for t in tensors if not isinstance(t, PretendTensor)]
    inner_args, inner_kwargs = tree_map(_inner, (args, kwargs))
    if target is not None:
        inner_kwargs["device"] = CPU
    out = func(*inner_args, **inner_kwargs)
    moved = name == "_to_copy" and (not ours or target == CPU)
    if moved or (name == "copy_" and theirs):
        blocking = not (kwargs.get("non_blocking") or (args[2:] and args[2]))
        if blocking or target == CPU:
            log().add("copy", name)
        log().add("launch", "memcpy")
        if moved:
            return out if ours else PretendTensor(out)
        return args[0]
    if name in INDEXING:
        for index in args[1]:
            if index is not None and index.dtype in (torch.bool, torch.uint8):
                log().add("wait", f"{name} by booleans")
            if index is not None and not isinstance(index, PretendTensor):
                log().add("copy", f"{name} by an index of the host")
        theirs = [t for t in theirs if not any(t is index for index in args[1])]
    if any(t.dim() > 0 for t in theirs):
        log().add("mixing", name)
    if name in WAITING:
        log().add("wait", name)
    if name not in FREE:
        log().add("launch", name, SEVERAL.get(name, 1))
    if not isinstance(out, (Tensor, tuple, list)):
        return out
    return return_and_correct_aliasing(func, args, kwargs, tree_map(_outer, out))


def _inner(value: Any) -> Any:
    return value._inner if isinstance(value, PretendTensor) else value


def _outer(value: Any) -> Any:
    plain = isinstance(value, Tensor) and not isinstance(value, PretendTensor)
    return PretendTensor(value) if plain else value


# kernels of Triton


class Launch(NamedTuple):
    """A kernel as the host code starts it."""

    kernel: str
    programs: tuple[int, ...]
    arguments: tuple[int | torch.dtype, ...]  # numbers, and the types of tensors
    options: dict[str, Any]


class _Kernel:
    """Stands for a kernel of ``kernels_gpu``: counts, checks, and computes its results."""

    def __init__(self, name: str, launches: list[Launch]) -> None:
        self._name, self._launches = name, launches

    def __getitem__(self, programs: tuple[int, ...]) -> Callable[..., None]:
        return lambda *arguments, **options: self._run(programs, arguments, options)

    def _run(
        self, programs: tuple[int, ...], arguments: Any, options: dict[str, Any]
    ) -> None:
        tensors = [a for a in arguments if isinstance(a, Tensor)]
        log().add("launch", self._name)
        if any(not isinstance(t, PretendTensor) for t in tensors):
            log().add("mixing", self._name)
        shown = tuple(a.dtype if isinstance(a, Tensor) else a for a in arguments)
        self._launches.append(Launch(self._name, programs, shown, options))
        values = [_inner(a) for a in arguments]
        with _disable_current_modes(), torch.enable_grad():
            KERNELS[self._name](*values, **options)


def _grid(low: Tensor, cells: Tensor, anchor: Tensor, options: Any) -> UniformGrid:
    size, degree, outside, _ = options["GRID"]
    at = anchor if options["ANCHORED"] else None
    return UniformGrid(low, low + size / cells, size, degree, outside, at)


def _sum(x: Tensor, c: Tensor, scale: Tensor, weight: Tensor, o: Any, grid: Any) -> Any:
    """By the dense path, with the branch beside it."""
    y = dense_spline_sum(x, c, scale if o["SCALED"] else None, grid)
    return y + silu(x) @ weight.T if o["BASED"] else y


def _spline_sum(x: Any, *arguments: Any, **options: Any) -> None:
    low, cells, anchor, *splines, sums, _, _, _, _ = arguments
    splines = [t.detach() for t in splines]
    sums.zero_()
    grid = _grid(low, cells, anchor, options)
    sums[0] = _sum(x.detach(), *splines, options, grid)


def _gradients(x: Any, arguments: Any, options: Any) -> Any:
    """By x, coefficients, scale and base weights; None for what does not take part."""
    low, cells, anchor, *splines, grad = arguments
    leaves = [t.detach().clone().requires_grad_() for t in (x, *splines)]
    y = _sum(*leaves, options, _grid(low, cells, anchor, options))
    return torch.autograd.grad(y, leaves, grad.to(y.dtype), allow_unused=True)


def _input_gradient(x: Any, *arguments: Any, **options: Any) -> None:
    *known, grad_x, _, _, _ = arguments
    grad_x.copy_(_gradients(x, known, options)[0])


def _coefficient_gradient(x: Any, *arguments: Any, **options: Any) -> None:
    *known, of_coefficients, of_scale, of_base, _, _, _ = arguments
    _, coefficients, scale, base = _gradients(x, known, options)
    of_coefficients.copy_(coefficients)
    if options["SCALED"]:
        of_scale.zero_()
        of_scale[0] = scale
    if options["BASED"]:
        of_base.copy_(base)


def _idle_bases(x: Any, *arguments: Any, **options: Any) -> None:
    low, cells, anchor, idle, _, _ = arguments
    basis = grid_basis(x.detach(), _grid(low, cells, anchor, options))
    idle.copy_((basis == 0).all(0))


KERNELS: dict[str, Callable[..., None]] = {
    "spline_sum": _spline_sum,
    "input_gradient": _input_gradient,
    "coefficient_gradient": _coefficient_gradient,
    "idle_bases": _idle_bases,
}


# torch


def _cuda(launches: list[Launch]) -> dict[str, Any]:
    """What stands for functions of ``torch.cuda``."""
    generators = (torch.Generator(),)
    return {
        "_lazy_init": lambda: None,
        "_lazy_call": lambda call, **_: call(),
        "is_available": lambda: True,
        "is_initialized": lambda: True,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "default_generators": generators,
        "_exchange_device": lambda index: 0,
        "_maybe_exchange_device": lambda index: 0,
        "synchronize": lambda device=None: log().add("wait", "synchronize"),
        "mem_get_info": lambda device=None: (64 * GIB, 80 * GIB),
        "memory_allocated": lambda device=None: 0,
        "max_memory_allocated": lambda device=None: GIB,
        "reset_peak_memory_stats": lambda device=None: None,
        "memory_reserved": lambda device=None: 0,
        "set_sync_debug_mode": lambda mode: None,
        "get_device_name": lambda device=None: "pretend",
        "get_device_capability": lambda device=None: (9, 0),
    }


@contextmanager
def pretend_device(launches: list[Launch] | None = None) -> Iterator[Log]:
    """Inside, torch finds a CUDA device; gives what was done on it.

    Args:
        launches: takes every launch of a kernel of kancl's.
    """
    # Autograd starts threads for the devices that it finds when it is first used: were
    # this one among them, no process forked later could take gradients.
    one = torch.ones((), requires_grad=True)
    torch.autograd.grad(2 * one, one)
    launches = [] if launches is None else launches
    kernels = {name: _Kernel(name, launches) for name in KERNELS}
    types = SimpleNamespace(float32="float32", float64="float64")
    module = SimpleNamespace(**kernels, tl=types, INTERPRETED=False)
    with ExitStack() as stack:
        for name, stand_in in _cuda(launches).items():
            stack.enter_context(mock.patch.object(torch.cuda, name, stand_in))
        replaced: Sequence[tuple[Any, str, Any]] = (
            (torch.accelerator, "is_available", lambda *_: True),
            (torch.accelerator, "synchronize", torch.cuda.synchronize),
            (torch.cuda.random, "_lazy_call", torch.cuda._lazy_call),
            (torch.cuda.random, "current_device", torch.cuda.current_device),
            (gpu, "_kernels", lambda: module),
            (modes, "dispatch_modes", lambda: torch._C._len_torch_dispatch_stack() > 1),
        )
        for owner, name, stand_in in replaced:
            stack.enter_context(mock.patch.object(owner, name, stand_in))
        stack.enter_context(torch.serialization.safe_globals([PretendTensor]))
        modes.READABLE.add(PretendTensor)
        # On CUDA this is one kernel; elsewhere autograd would take it to pieces.
        library = torch.library.Library("aten", "IMPL", "AutogradLazy")
        library.impl("silu_backward", torch.library.fallthrough_kernel)
        torch._C._set_only_lift_cpu_tensors(True)
        torch._C._ensureCUDADeviceGuardSet()  # one that asks no driver, as FakeTensorMode's
        _LOGS.append(Log())
        try:
            with _Mode():
                yield _LOGS[-1]
        finally:
            _LOGS.pop()
            library._destroy()
            torch._C._set_only_lift_cpu_tensors(False)
            modes.READABLE.discard(PretendTensor)
