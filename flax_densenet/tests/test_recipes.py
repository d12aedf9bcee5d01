"""Tests of flax_densenet/training/recipes.py."""

import pytest

from flax_densenet import VARIANTS, DenseNetConfig, InputError
from flax_densenet.data.load import Description
from flax_densenet.training import recipes
from flax_densenet.training.recipes import default_run

NETWORK = DenseNetConfig(blocks=(2, 3), growth_rate=5, num_classes=77, in_channels=4)


def test_digits_are_trained_10_epochs_without_augmentation() -> None:
    run = default_run("digits", None, NETWORK)
    assert (run.data.dataset, run.data.data_dir, run.data.augment) == ("digits", None, False)
    assert run.optimization.epochs == 10
    expected = DenseNetConfig(blocks=(2, 3), growth_rate=5, num_classes=10, in_channels=1)
    assert run.network == expected


def test_other_data_sets_are_trained_as_the_paper_trains_cifar(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = []

    def describe(name: str, data_dir: str | None) -> Description:
        asked.append((name, data_dir))
        return Description(num_classes=100, in_channels=3)

    monkeypatch.setattr(recipes, "describe_dataset", describe)
    run = default_run("tfds:cifar100", "/data", VARIANTS["densenet-40-12"])
    assert asked == [("tfds:cifar100", "/data")]
    assert (run.data.dataset, run.data.data_dir, run.data.augment) == (*asked[0], True)
    assert (run.network.num_classes, run.network.in_channels, run.network.depth) == (100, 3, 40)
    optimization = run.optimization
    assert (optimization.epochs, optimization.batch_size) == (300, 64)  # paper, section 4.2
    assert (optimization.learning_rate, optimization.weight_decay) == (0.1, 1e-4)


def test_unknown_data_set_is_refused() -> None:
    with pytest.raises(
        InputError, match=r"dataset \(='cifar'\) must be digits, cifar10, .*tfds:<name>"
    ):
        default_run("cifar", None, NETWORK)
