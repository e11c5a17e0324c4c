"""Streams of one's own: uneven, repeated, ordered, blurred, online, graded."""

from typing import Any

import pytest
import torch

from kancl.benchmarks import joint_mnist, permuted_mnist, rotated_mnist, split_mnist
from kancl.benchmarks.plans import pixel_order
from kancl.data.rows import as_tensors, resolve_rows

SMALL: dict[str, Any] = {"train_samples": 60, "test_samples": 20}


def rows(experience: Any) -> torch.Tensor:
    found = resolve_rows([experience.dataset])
    assert found is not None
    return found.rows


def classes_of(benchmark: Any) -> list[list[int]]:
    return [list(group) for group in benchmark.info.experience_classes]


def test_classes_are_places_in_the_class_order() -> None:
    uneven = [[0, 1, 2], [3, 4], [5, 6, 7, 8, 9]]
    assert classes_of(split_mnist(classes=uneven, **SMALL)) == uneven
    order = [9, 8, 7, 6, 5, 4, 3, 2, 1, 0]
    benchmark = split_mnist(classes=uneven, class_order=order, **SMALL)
    assert classes_of(benchmark) == [[9, 8, 7], [6, 5], [4, 3, 2, 1, 0]]
    even = split_mnist(class_order=order[:4], n_experiences=2, **SMALL)
    assert classes_of(even) == [[9, 8], [7, 6]]
    dealt = split_mnist(classes=uneven, class_order="random", seed=2, **SMALL)
    (whole,) = classes_of(split_mnist(n_experiences=1, class_order="random", seed=2))
    assert sum(classes_of(dealt), []) == whole


def test_classes_may_come_again() -> None:
    for incremental in ("class", "domain", "task"):
        again = split_mnist(
            classes=[[0, 1], [2, 3], [0, 1]], incremental=incremental, **SMALL
        )
        first, _, last = again.train_stream
        assert first.classes_in_this_experience == last.classes_in_this_experience
        assert again.info.n_outputs == (4 if incremental == "class" else 2)
    overlapping = split_mnist(classes=[[0, 1], [1, 2]], incremental="task", **SMALL)
    assert as_tensors(overlapping.train_stream[1].dataset)[1].unique().tolist() == [
        0,
        1,
    ]


@pytest.mark.parametrize("build", [split_mnist, permuted_mnist, rotated_mnist])
def test_blurred_boundaries_move_samples_and_lose_none(build: Any) -> None:
    options = {"n_experiences": 5, "seed": 1, "incremental": "class", **SMALL}
    sharp, blurred = build(**options), build(**options, blurry_boundaries=0.2)
    own_targets = [as_tensors(e.dataset)[1] for e in sharp.train_stream]
    found, moved = [], []
    for k, experience in enumerate(blurred.train_stream):
        x, y, _ = as_tensors(experience.dataset)
        assert len(y) == 60
        is_own = torch.isin(y, own_targets[k])
        moved.append((~is_own).sum().item())
        found += [(int(t), image) for t, image in zip(y, x)]
    assert moved == [12] * 5
    before = [
        (int(t), image)
        for e in sharp.train_stream
        for image, t in zip(*as_tensors(e.dataset)[:2])
    ]

    def key(pair: Any) -> Any:
        return pair[0], pair[1].flatten().tolist()

    for one, other in zip(sorted(before, key=key), sorted(found, key=key)):
        assert one[0] == other[0] and torch.equal(one[1], other[1])
    for one, other in zip(sharp.test_stream, blurred.test_stream):
        assert torch.equal(as_tensors(one.dataset)[0], as_tensors(other.dataset)[0])


@pytest.mark.parametrize("incremental", ["class", "domain", "task"])
def test_an_online_stream_has_each_sample_once(incremental: str) -> None:
    options = {"n_experiences": 2, "incremental": incremental, **SMALL}
    whole = split_mnist(**options, validation=0.2)
    short = split_mnist(
        **options, validation=0.2, batches_per_experience=2, batch_size=12
    )
    assert [len(e.dataset) for e in short.train_stream] == [24, 24, 12] * 2
    assert short.info.n_experiences == len(short.test_stream) == 6
    for k, experience in enumerate(whole.train_stream):
        parts = [rows(e) for e in short.train_stream[3 * k : 3 * k + 3]]
        together = torch.cat(parts)
        assert torch.equal(together.sort().values, rows(experience).sort().values)
        assert not torch.equal(together, rows(experience))
        task_labels = k if incremental == "task" else 0
        for i in range(3 * k, 3 * k + 3):
            assert short.train_stream[i].task_labels == [task_labels]
            for stream in ("test", "validation"):
                again = short.streams[stream][i]
                assert torch.equal(rows(again), rows(whole.streams[stream][k]))


def test_an_online_stream_may_be_blurred_and_turned() -> None:
    short = rotated_mnist(
        n_experiences=2, blurry_boundaries=0.5, batches_per_experience=1, **SMALL
    )
    assert [len(e.dataset) for e in short.train_stream] == [60, 60]
    with pytest.raises(ValueError, match="batches_per_experience=1 makes 3,750 exper"):
        split_mnist(n_experiences=1, batches_per_experience=1, batch_size=16)


def test_a_share_of_the_pixels_changes_places() -> None:
    moved_before = torch.zeros(784, dtype=torch.bool)  # but for fixed points
    for share in (0.1, 0.5, 0.9):
        order = pixel_order(3, 1, 784, share)
        assert torch.equal(order.sort().values, torch.arange(784))
        moved = order != torch.arange(784)
        assert round(share * 784) - 6 <= moved.sum() <= round(share * 784)
        assert (moved_before & ~moved).sum() <= 6
        moved_before = moved
    assert (pixel_order(3, 1, 784) != torch.arange(784)).sum() > 777
    benchmark = permuted_mnist(n_experiences=2, seed=3, permuted_share=0.1, **SMALL)
    x, _, _ = as_tensors(benchmark.train_stream[1].dataset)
    images = joint_mnist(train_samples=1, test_samples=1).train_stream[0]
    pixels = resolve_rows([images.dataset]).store.values  # type: ignore[union-attr]
    expected = pixels[rows(benchmark.train_stream[1])][:, pixel_order(3, 1, 784, 0.1)]
    assert torch.equal(x.flatten(1), expected / 255)
    with pytest.raises(ValueError, match="permuted_share=0 must be a share"):
        permuted_mnist(permuted_share=0)


def test_too_much_is_refused_with_the_key_at_fault() -> None:
    with pytest.raises(ValueError, match="n_experiences=1000000 makes 1,000,000"):
        permuted_mnist(n_experiences=1_000_000)
    with pytest.raises(ValueError, match="pad=100000 takes .* GiB, twice"):
        joint_mnist(pad=100_000)
    with pytest.raises(
        ValueError, match="n_experiences=3 does not go with the 2 exper"
    ):
        split_mnist(n_experiences=3, classes=[[0], [1]])
