"""What is in the streams, checked against the MNIST files by direct indexing."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.functional import rotate

from kancl.benchmarks import joint_mnist, permuted_mnist, rotated_mnist, split_mnist
from kancl.benchmarks.plans import pixel_order
from kancl.data.images import load_images
from kancl.data.rows import as_tensors, resolve_rows

MNIST = load_images()
TRAIN_COUNTS = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
TEST_COUNTS = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
SMALL: dict[str, Any] = {"train_samples": 30, "test_samples": 20}


def rows(experience: Any) -> torch.Tensor:
    """Rows of train images followed by test images."""
    found = resolve_rows([experience.dataset])
    assert found is not None
    return found.rows


def targets(experience: Any) -> torch.Tensor:
    return as_tensors(experience.dataset)[1]


def labels_of(experience: Any) -> torch.Tensor:
    return torch.cat([MNIST.train_labels, MNIST.test_labels])[rows(experience)]


def test_split_has_every_image_once() -> None:
    benchmark = split_mnist()
    assert [len(e.dataset) for e in benchmark.train_stream] == [
        TRAIN_COUNTS[2 * k] + TRAIN_COUNTS[2 * k + 1] for k in range(5)
    ]
    assert [len(e.dataset) for e in benchmark.test_stream] == [
        TEST_COUNTS[2 * k] + TEST_COUNTS[2 * k + 1] for k in range(5)
    ]
    seen = torch.cat([rows(e) for e in benchmark.train_stream])
    assert torch.equal(seen.sort().values, torch.arange(60_000))
    seen = torch.cat([rows(e) for e in benchmark.test_stream])
    assert torch.equal(seen.sort().values, torch.arange(60_000, 70_000))
    assert not hasattr(benchmark, "validation_stream")


def test_split_images_are_the_files_bytes_over_255() -> None:
    experience = split_mnist().train_stream[3]
    x, y, _ = as_tensors(experience.dataset)
    expected = MNIST.train_x[rows(experience)].float().div(255)
    assert torch.equal(x, expected)
    assert torch.equal(y, MNIST.train_labels[rows(experience)])
    image, target, task_label = experience.dataset[5]
    assert torch.equal(image, x[5])
    assert (target, task_label) == (int(y[5]), 0)


@pytest.mark.parametrize("n_experiences", [1, 2, 5, 10])
def test_class_incremental_split_keeps_the_digits(n_experiences: int) -> None:
    benchmark = split_mnist(n_experiences=n_experiences, **SMALL)
    width = 10 // n_experiences
    for k, experience in enumerate(benchmark.train_stream):
        digits = list(range(k * width, (k + 1) * width))
        assert experience.classes_in_this_experience == digits
        assert experience.classes_seen_so_far == list(range((k + 1) * width))
        assert targets(experience).unique().tolist() == digits
        assert experience.task_labels == [0]
    assert benchmark.info.n_outputs == 10
    assert benchmark.info.head == "single"


def test_domain_incremental_split_tells_even_from_odd() -> None:
    benchmark = split_mnist(incremental="domain", **SMALL)
    for stream in benchmark.streams.values():
        for experience in stream:
            assert torch.equal(targets(experience), labels_of(experience) % 2)
            assert experience.classes_in_this_experience == [0, 1]
            assert experience.task_labels == [0]
    assert (benchmark.info.n_outputs, benchmark.info.head) == (2, "single")


def test_task_incremental_split_adds_the_task_label() -> None:
    benchmark = split_mnist(incremental="task", **SMALL)
    for k, experience in enumerate(benchmark.test_stream):
        _, y, task_labels = as_tensors(experience.dataset)
        assert torch.equal(y, labels_of(experience) % 2)
        assert task_labels.tolist() == [k] * 20
        assert (experience.task_label, experience.task_labels) == (k, [k])
    assert (benchmark.info.n_outputs, benchmark.info.head) == (2, "multi")


def test_targets_within_an_experience_follow_the_random_class_order() -> None:
    benchmark = split_mnist(incremental="domain", class_order="random", seed=3, **SMALL)
    groups = benchmark.info.experience_classes
    assert sorted(sum(groups, ())) == list(range(10))
    assert any(list(group) != sorted(group) for group in groups)
    for group, experience in zip(groups, benchmark.train_stream):
        for label, target in zip(labels_of(experience), targets(experience)):
            assert group[target] == label


def test_random_class_order_follows_the_seed() -> None:
    def order(seed: int, **options: Any) -> Any:
        benchmark = split_mnist(class_order="random", seed=seed, **SMALL, **options)
        return sum(benchmark.info.experience_classes, ())

    assert order(0) == order(0)
    assert order(0) == order(0, n_experiences=2, incremental="task")
    assert len({order(seed) for seed in range(6)}) == 6
    assert order(0) != tuple(range(10))
    assert split_mnist(seed=9, **SMALL).info.experience_classes[0] == (0, 1)


def test_permuted_pixels_equal_direct_indexing() -> None:
    benchmark = permuted_mnist(n_experiences=3, seed=5, **SMALL)
    flat = torch.cat([MNIST.train_x, MNIST.test_x]).flatten(1).float() / 255
    for stream in benchmark.streams.values():
        for k, experience in enumerate(stream):
            order = torch.arange(784) if k == 0 else pixel_order(5, k, 784)
            assert torch.equal(order.sort().values, torch.arange(784))
            expected = flat[rows(experience)][:, order].view(-1, 1, 28, 28)
            assert torch.equal(as_tensors(experience.dataset)[0], expected)
            for index in (0, 7):
                assert torch.equal(experience.dataset[index][0], expected[index])


def test_permuting_the_first_experience_is_an_option() -> None:
    first = permuted_mnist(n_experiences=1, permute_first=True, **SMALL).train_stream[0]
    flat = MNIST.train_x.flatten(1).float() / 255
    expected = flat[rows(first)][:, pixel_order(0, 0, 784)]
    assert torch.equal(as_tensors(first.dataset)[0].flatten(1), expected)


def test_permutations_depend_on_seed_and_experience_only() -> None:
    def images(n_experiences: int, seed: int, k: int) -> torch.Tensor:
        benchmark = permuted_mnist(n_experiences=n_experiences, seed=seed, **SMALL)
        return as_tensors(benchmark.test_stream[k].dataset)[0]

    assert torch.equal(images(3, 1, 2), images(7, 1, 2))
    assert not torch.equal(images(3, 1, 2), images(3, 2, 2))
    assert not torch.equal(pixel_order(1, 2, 784), pixel_order(1, 3, 784))


def test_padding_comes_before_permuting() -> None:
    benchmark = permuted_mnist(n_experiences=2, pad=2, permute_first=True, **SMALL)
    experience = benchmark.train_stream[1]
    padded = torch.zeros(len(experience.dataset), 32, 32)
    padded[:, 2:30, 2:30] = MNIST.train_x[rows(experience)].squeeze(1) / 255
    expected = padded.flatten(1)[:, pixel_order(0, 1, 1024)]
    assert torch.equal(as_tensors(experience.dataset)[0].flatten(1), expected)
    assert benchmark.info.in_features == 1024
    assert benchmark.info.image_shape == (1, 32, 32)


@pytest.mark.parametrize("build", [permuted_mnist, rotated_mnist])
def test_targets_of_transformed_images(build: Any) -> None:
    for incremental, n_outputs in (("class", 30), ("domain", 10), ("task", 10)):
        benchmark = build(n_experiences=3, incremental=incremental, **SMALL)
        assert benchmark.info.n_outputs == n_outputs
        assert {len(c) for c in benchmark.info.experience_classes} == {10}
        for k, experience in enumerate(benchmark.train_stream):
            y = targets(experience)
            offset = 10 * k if incremental == "class" else 0
            assert y.unique().tolist() == list(range(offset, offset + 10))
            assert experience.task_labels == [k if incremental == "task" else 0]


def test_rotated_images_are_those_of_pil() -> None:
    angles = [0, 30, -75]
    # padded so far that no ink meets the edge, where PIL and torchvision differ
    benchmark = rotated_mnist(n_experiences=3, angles=angles, pad=6, seed=1, **SMALL)
    unturned = permuted_mnist(n_experiences=3, seed=1, **SMALL)  # the same rows
    padded = torch.nn.functional.pad(MNIST.train_x, (6, 6, 6, 6)).squeeze(1)
    for k, angle in enumerate(angles):
        images = as_tensors(benchmark.train_stream[k].dataset)[0].squeeze(1) * 255
        for image, row in zip(images, rows(unturned.train_stream[k])):
            expected = Image.fromarray(padded[row].numpy()).rotate(
                angle, Image.Resampling.BILINEAR
            )
            difference = image - torch.from_numpy(np.array(expected)).float()
            # PIL truncates where torchvision rounds: up to one grey level
            assert difference.abs().max() < 1.01
            if angle == 0:
                assert difference.abs().max() < 0.01


def test_rotation_is_counter_clockwise_in_equal_steps() -> None:
    benchmark = rotated_mnist(n_experiences=3, max_angle=180, seed=1, **SMALL)
    rows_of = permuted_mnist(n_experiences=3, seed=1, **SMALL)
    for k, turns in enumerate([0, 1, 2]):
        images = MNIST.test_x[rows(rows_of.test_stream[k]) - 60_000].squeeze(1)
        expected = torch.rot90(images, turns, dims=(1, 2)).float() / 255
        x = as_tensors(benchmark.test_stream[k].dataset)[0].squeeze(1)
        assert torch.allclose(x, expected, atol=1.01 / 255)
    plain = rotate(MNIST.test_x[:1], 90.0)[0, 0]
    assert torch.equal(plain, torch.rot90(MNIST.test_x[0, 0]))


@pytest.mark.parametrize(
    "normalize, low, high",
    [
        ("none", 0.0, 1.0),
        ("unit", -1.0, 1.0),
        ("standard", -0.1307 / 0.3081, (1 - 0.1307) / 0.3081),
    ],
)
def test_pixel_range(normalize: str, low: float, high: float) -> None:
    benchmark = joint_mnist(normalize=normalize, train_samples=500, test_samples=10)
    assert benchmark.info.input_range == pytest.approx((low, high), abs=1e-6)
    x, _, _ = as_tensors(benchmark.train_stream[0].dataset)
    assert (x.min().item(), x.max().item()) == benchmark.info.input_range


def test_standardised_pixels_have_mean_0_and_std_1() -> None:
    x, _, _ = as_tensors(joint_mnist(normalize="standard").train_stream[0].dataset)
    assert x.mean().item() == pytest.approx(0, abs=1e-3)
    assert x.std().item() == pytest.approx(1, abs=1e-3)


def test_padding_is_black_whatever_the_range() -> None:
    benchmark = joint_mnist(normalize="unit", pad=3, **SMALL)
    x, _, _ = as_tensors(benchmark.test_stream[0].dataset)
    assert x.shape[1:] == (1, 34, 34)
    assert torch.equal(x[:, :, :3], torch.full_like(x[:, :, :3], -1))


def test_joint_is_one_experience_of_everything() -> None:
    benchmark = joint_mnist()
    assert len(benchmark.train_stream) == len(benchmark.test_stream) == 1
    assert len(benchmark.train_stream[0].dataset) == 60_000
    assert len(benchmark.test_stream[0].dataset) == 10_000
    assert benchmark.info.n_outputs == 10


@pytest.mark.parametrize("build", [split_mnist, permuted_mnist])
def test_validation_is_a_stratified_share_of_the_training_images(build: Any) -> None:
    whole = build(n_experiences=2, seed=4)
    benchmark = build(n_experiences=2, seed=4, validation=0.1)
    for k in range(2):
        train = rows(benchmark.train_stream[k])
        validation = rows(benchmark.validation_stream[k])
        everything = rows(whole.train_stream[k])
        assert torch.equal(
            torch.cat([train, validation]).sort().values, everything.sort().values
        )
        assert len(validation) == round(0.1 * len(everything))
        counts = MNIST.train_labels[everything].bincount(minlength=10)
        held_out = MNIST.train_labels[validation].bincount(minlength=10)
        assert ((held_out - 0.1 * counts).abs() < 1).all()
        test = rows(benchmark.test_stream[k])
        assert torch.equal(test, rows(whole.test_stream[k]))
        assert test.min() >= 60_000 > validation.max()
    other = build(n_experiences=2, seed=5, validation=0.1)
    assert not torch.equal(
        rows(other.validation_stream[0]), rows(benchmark.validation_stream[0])
    )


def test_caps_keep_the_classes_in_proportion() -> None:
    benchmark = joint_mnist(train_samples=1000, test_samples=50, validation=0.5)
    counts = labels_of(benchmark.train_stream[0]).bincount()
    assert counts.sum() == 1000
    expected = torch.tensor(TRAIN_COUNTS) / 60
    assert ((counts - expected).abs() < 1.1).all()
    assert len(benchmark.test_stream[0].dataset) == 50
    assert len(benchmark.validation_stream[0].dataset) == 30_000
    assert len(split_mnist(train_samples=10**6).train_stream[0].dataset) == 12_665


def test_experiences_share_one_copy_of_the_images() -> None:
    benchmark = permuted_mnist(n_experiences=10, **SMALL)
    stores = {
        resolve_rows([experience.dataset]).store  # type: ignore[union-attr]
        for stream in benchmark.streams.values()
        for experience in stream
    }
    assert len(stores) == 1
    assert stores.pop().values.numel() == 70_000 * 784


BAD = [
    (
        split_mnist,
        {"n_experiences": 3},
        "n_experiences=3 .*expected one of .1, 2, 5, 10",
    ),
    (split_mnist, {"n_classes": 9, "n_experiences": 2}, "9 classes evenly.*.1, 3, 9"),
    (split_mnist, {"n_classes": 11}, "n_classes=11 is more than the 10"),
    (split_mnist, {"n_experiences": 0}, "n_experiences=0 .*1 or more"),
    (split_mnist, {"n_experiences": 2.0}, "n_experiences=2.0 .*whole number"),
    (split_mnist, {"incremental": "clas"}, "incremental='clas' .*'class'"),
    (split_mnist, {"class_order": "sorted"}, "class_order='sorted' .*fixed, random"),
    (split_mnist, {"normalize": "standart"}, "normalize='standart' .*'standard'"),
    (split_mnist, {"pad": -1}, "pad=-1 .*0 or more"),
    (split_mnist, {"validation": 1.0}, "validation=1.0 .*below 1"),
    (split_mnist, {"validation": -0.1}, "validation=-0.1"),
    (split_mnist, {"train_samples": 0}, "train_samples=0 .*1 or more"),
    (split_mnist, {"test_samples": -5}, "test_samples=-5"),
    (split_mnist, {"seed": -1}, "seed=-1 .*0 or more"),
    (split_mnist, {"device": "gpu"}, "device='gpu' is not a device"),
    (joint_mnist, {"dataset": "mnits"}, "Did you mean 'mnist'"),
    (permuted_mnist, {"n_experiences": True}, "n_experiences=True"),
    (rotated_mnist, {"angles": [0, 90]}, "gives 2 angles for n_experiences=5"),
    (rotated_mnist, {"max_angle": 1000}, "max_angle=1000 .*360"),
]


@pytest.mark.parametrize("build, options, message", BAD)
def test_bad_values_are_refused_before_data_are_read(
    build: Any, options: dict[str, Any], message: str
) -> None:
    # a folder without data, that reading would complain of
    with pytest.raises(ValueError, match=message):
        build(**{"data_dir": "/dev/null/nothing", **options})


def test_a_share_too_small_for_one_image_is_refused() -> None:
    with pytest.raises(ValueError, match="validation=1e-06 leaves experience 1 of the"):
        split_mnist(validation=1e-6)


def test_info_is_complete() -> None:
    info = permuted_mnist(n_experiences=2, incremental="task", pad=1, **SMALL).info
    assert dataclasses.asdict(info) == {
        "name": "permuted_mnist",
        "dataset": "mnist",
        "incremental": "task",
        "n_experiences": 2,
        "n_outputs": 10,
        "in_features": 900,
        "image_shape": (1, 30, 30),
        "input_range": (0.0, 1.0),
        "head": "multi",
        "experience_classes": (tuple(range(10)), tuple(range(10))),
        "class_names": tuple("0123456789"),
        "pixels_permuted": True,
        "function": None,
    }
