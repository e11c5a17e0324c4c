"""What is kept, how much of it, and how it is drawn."""

from collections import Counter
from types import SimpleNamespace

import pytest

from kancl.data.rows import as_tensors
from kancl.plugins.rehearsal.memory import GroupedExemplars, RehearsalPlugin


def kept(exemplars):
    """Kept rows as (point, target, task), with the number of each (task, target)."""
    x, y, tasks = as_tensors(exemplars.buffer)
    return x, Counter(zip(tasks.tolist(), y.tolist()))


@pytest.mark.parametrize("incremental", ["class", "domain", "task"])
def test_every_target_of_every_experience_has_its_share(incremental, points_benchmark):
    exemplars = GroupedExemplars(total=13)
    for t, experience in enumerate(points_benchmark(incremental).train_stream, 1):
        exemplars.update_from_dataset(experience.dataset)
        sizes = [len(group.buffer) for group in exemplars.buffer_groups.values()]
        assert len(sizes) == 2 * t and sum(sizes) == len(exemplars.buffer) == 13
        assert max(sizes) - min(sizes) <= 1
    fixed = GroupedExemplars(per_group=3)
    for t, experience in enumerate(points_benchmark(incremental).train_stream, 1):
        fixed.update_from_dataset(experience.dataset)
        sizes = [len(group.buffer) for group in fixed.buffer_groups.values()]
        assert sizes == [3] * (2 * t)


def test_exemplars_are_images_of_their_experience_with_their_labels(points_benchmark):
    benchmark = points_benchmark("task")
    exemplars = GroupedExemplars(per_group=4)
    known = {}
    for experience in benchmark.train_stream:
        exemplars.update_from_dataset(experience.dataset)
        for point, y, task in experience.dataset:
            known[tuple(point.tolist())] = (y, task)
    x, y, tasks = as_tensors(exemplars.buffer)
    assert len({tuple(point.tolist()) for point in x}) == 24
    for point, label in zip(x, zip(y.tolist(), tasks.tolist())):
        assert known[tuple(point.tolist())] == label


def test_all_images_have_the_same_chance(points_benchmark):
    experience = points_benchmark(n=10).train_stream[0]
    counts = Counter()
    for _ in range(300):
        exemplars = GroupedExemplars(total=4)
        exemplars.update_from_dataset(experience.dataset)
        counts.update(tuple(x.tolist()) for x in as_tensors(exemplars.buffer)[0])
    assert len(counts) == 10
    assert min(counts.values()) > 80 and max(counts.values()) < 160  # 120 expected


def test_small_memories_may_leave_a_group_empty(points_benchmark):
    exemplars = GroupedExemplars(total=3)
    for experience in points_benchmark().train_stream:
        exemplars.update_from_dataset(experience.dataset)
    assert len(as_tensors(exemplars.buffer)[0]) == 3


def test_memory_draws_every_exemplar_equally_often(points_benchmark):
    memory = RehearsalPlugin(mem_size=12)
    assert memory.n_kept == 0
    for experience in points_benchmark("task").train_stream:
        strategy = SimpleNamespace(experience=experience, device="cpu")
        memory.after_training_exp(strategy)
    assert memory.n_kept == 12
    counts = Counter()
    for _ in range(6):
        x, y, tasks = memory.draw(strategy, 4)
        assert x.shape == (4, 6) and not x.requires_grad
        counts.update(tuple(point.tolist()) for point in x)
        assert len(y) == len(tasks) == 4
    assert set(counts.values()) == {2} and len(counts) == 12
    assert len(memory.draw(strategy, 100)[0]) == 12


@pytest.mark.parametrize(
    "sizes, message",
    [
        ({}, "either in all or per class"),
        ({"total": 3, "per_group": 3}, "either in all or per class"),
        ({"total": 0}, "buffer size must be at least 1, not 0"),
        ({"per_group": -1}, "buffer size must be at least 1, not -1"),
    ],
)
def test_refuses_sizes(sizes, message):
    with pytest.raises(ValueError, match=message):
        GroupedExemplars(**sizes)
