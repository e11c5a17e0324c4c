"""Finding rows again in whatever Avalanche makes of a data set."""

import copy
import random
from typing import Any

import pytest
import torch
from avalanche.benchmarks.utils import AvalancheDataset, DataAttribute
from avalanche.benchmarks.utils.flat_data import FlatData
from avalanche.benchmarks.utils.utils import concat_datasets
from avalanche.training.storage_policy import (
    ClassBalancedBuffer,
    ExperienceBalancedBuffer,
    ParametricBuffer,
    ReservoirSamplingBuffer,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.data import DataLoader, default_collate

from kancl.data.rows import (
    RowsDataset,
    Store,
    StoredSamples,
    as_tensors,
    resolve_rows,
    rows_dataset,
)
from kancl.data.scaling import Scaling

SCALING = Scaling(0.5, 0.25)


def store(n_orders: int = 3) -> Store:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (40, 12), dtype=torch.uint8, generator=generator)
    orders = [torch.randperm(12, generator=generator) for _ in range(n_orders)]
    return Store(pixels, (1, 3, 4), SCALING, torch.stack(orders) if orders else None)


def experience(images: Store, k: int) -> RowsDataset:
    rows = torch.arange(k, 40, 3)
    leaf = StoredSamples(images, rows, rows % 4 + 4 * k, order=k)
    return rows_dataset([leaf], task_label=k)


def one_by_one(dataset: AvalancheDataset) -> list[Tensor]:
    """The slow, readable twin: samples as Avalanche itself gets them, collated."""
    return default_collate([dataset[i] for i in range(len(dataset))])


def assert_found(dataset: AvalancheDataset) -> None:
    found = resolve_rows([dataset])
    assert found is not None
    fast = found.batch(range(len(dataset)))
    slow = one_by_one(dataset)
    assert len(fast) == len(slow)
    for left, right in zip(fast, slow):
        assert left.dtype == right.dtype
        assert torch.equal(left, right)


def test_a_sample_is_its_scaled_and_permuted_row() -> None:
    images = store()
    dataset = experience(images, 2)
    x, y, task_label = dataset[3]
    row = images.values[2 + 3 * 3].float() / 255
    assert images.pixel_orders is not None
    expected = ((row - 0.5) / 0.25)[images.pixel_orders[2]].view(1, 3, 4)
    assert torch.equal(x, expected)
    assert (y, task_label) == (11 % 4 + 8, 2)
    assert list(dataset.targets) == [(2 + 3 * i) % 4 + 8 for i in range(13)]
    assert_found(dataset)


@st.composite
def trees(draw: st.DrawFn) -> list[tuple[str, Any]]:
    """A program of subsets and concatenations over three experiences."""
    steps = []
    for _ in range(draw(st.integers(1, 6))):
        if draw(st.booleans()):
            steps.append(("concat", draw(st.integers(0, 5))))
        else:
            shares = st.lists(st.floats(0, 0.999), min_size=1, max_size=8)
            steps.append(("subset", draw(shares)))
    return steps


@settings(max_examples=60, deadline=None)
@given(trees(), st.sampled_from([0, 3]))
def test_any_tree_of_subsets_and_concatenations_is_seen_through(
    steps: list[tuple[str, Any]], n_orders: int
) -> None:
    images = store(n_orders)
    made = [experience(images, k) for k in range(3)]
    current: AvalancheDataset = made[0]
    for operation, argument in steps:
        if operation == "concat":
            current = current.concat(made[argument % len(made)])
        else:
            current = current.subset([int(s * len(current)) for s in argument])
        made.append(current)
    assert_found(current)
    assert_found(current.train())
    assert_found(current.eval())


@pytest.mark.parametrize(
    "make",
    [
        ReservoirSamplingBuffer,
        ExperienceBalancedBuffer,
        ClassBalancedBuffer,
        lambda size: ParametricBuffer(size, groupby="class"),
        lambda size: ParametricBuffer(size, groupby="task"),
    ],
)
def test_avalanches_buffers_are_seen_through(make: Any) -> None:
    images = store()
    buffer = make(14)
    random.seed(0)

    class Agent:
        experience: Any = None

    for k in range(3):
        Agent.experience = type("Experience", (), {"dataset": experience(images, k)})
        buffer.post_adapt(Agent, Agent.experience)
        assert len(buffer.buffer) in (13, 14)
        assert_found(buffer.buffer)


def test_several_data_sets_are_found_as_one() -> None:
    images = store()
    datasets = [experience(images, k) for k in (2, 0, 1)]
    found = resolve_rows(datasets)
    assert found is not None
    index = [30, 2, 15, 2]
    expected = one_by_one(concat_datasets(datasets))
    for left, right in zip(found.batch(index), expected):
        assert torch.equal(left, right[index])
    assert len(found) == len(concat_datasets(datasets))


def test_other_attributes_of_a_sample_come_along() -> None:
    dataset = experience(store(), 1)
    logits = [torch.full((2,), float(i)) for i in range(len(dataset))]
    attribute = DataAttribute(FlatData([logits]), "logits", use_in_getitem=True)
    with_logits = RowsDataset([dataset], data_attributes=[attribute]).subset([4, 1, 9])
    assert_found(with_logits)
    loaded = next(iter(DataLoader(with_logits, batch_size=3)))
    assert loaded[3].tolist() == [[4.0, 4.0], [1.0, 1.0], [9.0, 9.0]]


def test_a_plain_loader_gets_ordinary_samples() -> None:
    dataset = experience(store(), 1)
    loaded = next(iter(DataLoader(dataset, batch_size=5)))
    for left, right in zip(loaded, one_by_one(dataset)):
        assert left.dtype == right.dtype
        assert torch.equal(left, right[:5])
    assert isinstance(dataset.__getitems__([0, 1])[1][1], int)


def test_a_transform_is_honoured_not_skipped() -> None:
    dataset = experience(store(), 1)
    next(iter(DataLoader(dataset, batch_size=2)))  # rows are found and kept
    doubled = dataset.replace_current_transform_group((lambda x: 2 * x, None))
    assert resolve_rows([doubled]) is None
    expected = torch.stack([2 * dataset[i][0] for i in range(4)])
    assert torch.equal(next(iter(DataLoader(doubled, batch_size=4)))[0], expected)
    assert torch.equal(as_tensors(doubled)[0][:4], expected)


def test_a_changed_attribute_is_seen() -> None:
    dataset = experience(store(), 1)
    next(iter(DataLoader(dataset, batch_size=2)))
    labels = [7] * len(dataset)
    relabelled = dataset.update_data_attribute("targets_task_labels", labels)
    assert next(iter(DataLoader(relabelled, batch_size=3)))[2].tolist() == [7, 7, 7]
    assert dataset[0][2] == 1


def test_images_of_two_stores_are_not_mixed_up() -> None:
    first, second = experience(store(), 0), experience(store(), 0)
    assert resolve_rows([first, second]) is None
    assert resolve_rows([first.concat(second)]) is None
    assert resolve_rows([]) is None
    x, y, _ = as_tensors(first.concat(second))
    assert torch.equal(x[: len(first)], x[len(first) :])


def test_as_tensors_takes_samples_at_even_distances() -> None:
    dataset = experience(store(), 0)  # 14 samples
    whole = as_tensors(dataset)
    x, y, task_labels = as_tensors(dataset, limit=4)
    assert torch.equal(x, whole[0][[0, 3, 7, 10]])
    assert torch.equal(y, whole[1][[0, 3, 7, 10]])
    assert len(as_tensors(dataset, limit=100)[1]) == 14
    assert x.shape[1:] == (1, 3, 4) and x.dtype == torch.float32


def test_copies_are_independent_of_the_original() -> None:
    dataset = experience(store(), 0)
    next(iter(DataLoader(dataset, batch_size=2)))
    assert_found(copy.deepcopy(dataset))
