"""Layers trained by two processes at once, over gloo."""

import copy
import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from kancl import KAN
from kancl.models.grid_changes import resize

pytestmark = pytest.mark.skipif(
    not dist.is_available(), reason="needs torch.distributed"
)


def worker(rank: int, file: str, check: Callable[[int], None]) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{file}", rank=rank, world_size=2)
    torch.manual_seed(0)
    check(rank)
    if dist.is_initialized():
        dist.destroy_process_group()


def in_two_processes(check: Callable[[int], None], path: Path) -> None:
    words: Any = dict(args=(str(path / "meeting"), check), nprocs=2)
    torch.multiprocessing.start_processes(worker, start_method="fork", **words)


def same_everywhere(tensor: Tensor) -> bool:
    first = tensor.detach().clone()
    dist.broadcast(first, 0)
    equal = torch.tensor(torch.equal(first, tensor.detach()))
    both = [torch.empty_like(equal) for _ in range(2)]
    dist.all_gather(both, equal)
    return all(map(bool, both))


def step(model: nn.Module, x: Tensor) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model(x).square().mean().backward()
    optimizer.step()


def data_parallel(rank: int) -> None:
    network = KAN([4, 5, 3])
    for layer in network.layers:
        nn.init.normal_(layer.coefficients)
    alone = copy.deepcopy(network)
    model = DistributedDataParallel(network)
    samples = torch.rand(300, 4) ** 2  # the same in both processes
    mine = samples[:200] if rank == 0 else samples[200:]
    model(mine, update_grid=True)
    assert not network.layers[0].uniform
    assert all(map(same_everywhere, network.state_dict().values()))
    first = copy.deepcopy(alone.layers[0])
    dist.destroy_process_group()  # one process with all samples gets the same grids
    first.update_grid(samples)
    torch.testing.assert_close(network.layers[0].grid, first.grid)
    torch.testing.assert_close(network.layers[0].coefficients, first.coefficients)


def stays_alike(rank: int) -> None:
    network = KAN([4, 5, 3], input_grid="quantile")
    network.fit_input_grid(torch.rand(50 + rank, 4) ** (1 + rank))
    network.layers[1].fit_range(torch.rand(50, 5) * (1 + rank))
    model = DistributedDataParallel(network)
    for _ in range(3):
        step(model, torch.rand(9 + rank, 4))
    if rank == 0:  # buffers go from rank 0 to the others before each forward pass
        network.layers[1].grid[:, 5] += 0.05
    model(torch.rand(9, 4))
    assert not network.layers[1].uniform
    twin = copy.deepcopy(network)
    for layer in twin.layers:
        layer.implementation = "reference"
    x = torch.rand(9, 4)
    torch.testing.assert_close(network(x), twin(x))
    for layer in network.layers:
        resize(layer, 10)
    del model  # its hooks are on the parameters, which are wrapped anew
    gc.collect()
    model = DistributedDataParallel(network)
    step(model, torch.rand(9 + rank, 4))
    assert all(map(same_everywhere, network.state_dict().values()))


def sharded(rank: int) -> None:
    network = KAN([4, 6, 2], 8)
    alone = copy.deepcopy(network)
    for layer in network.layers:
        fully_shard(layer)
    fully_shard(network)
    x = torch.rand(20, 4)
    for _ in range(3):
        step(network, x)
        step(alone, x)
    with torch.no_grad():
        torch.testing.assert_close(network(x), alone(x))
    for sharded, whole in zip(network.parameters(), alone.parameters()):
        torch.testing.assert_close(sharded.full_tensor(), whole.data)  # type: ignore
    grid = network.layers[0].grid.clone()
    with pytest.raises(ValueError, match="pruned, reparametrized or sharded"):
        network.layers[0].update_grid(x)
    assert torch.equal(network.layers[0].grid, grid)


@pytest.mark.slow
@pytest.mark.parametrize("check", [data_parallel, stays_alike, sharded])
def test_two_processes(check: Callable[[int], None], tmp_path: Path) -> None:
    in_two_processes(check, tmp_path)
