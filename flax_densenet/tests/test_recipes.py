"""Tests of flax_densenet/training/recipes.py and presets.py against the paper's section 4."""

import re

import pytest

from flax_densenet import VARIANTS, DenseNetConfig, InputError
from flax_densenet.data.catalog import CATALOG
from flax_densenet.data.load import Description
from flax_densenet.training import RunConfig, recipes
from flax_densenet.training.recipes import PRESETS, RECIPES, default_run

NETWORK = DenseNetConfig(blocks=(2, 3), growth_rate=5, num_classes=77, in_channels=4)


@pytest.fixture
def described(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str | None]]:
    """What was asked of data sets, all of which have 100 classes and 3 channels."""
    asked = []

    def describe(name: str, data_dir: str | None) -> Description:
        asked.append((name, data_dir))
        return Description(num_classes=100, in_channels=3)

    monkeypatch.setattr(recipes, "describe_dataset", describe)
    return asked


def test_digits_are_trained_10_epochs_without_augmentation() -> None:
    run = default_run("digits", None, NETWORK)
    assert (run.data.dataset, run.data.data_dir, run.data.augment) == ("digits", None, "none")
    assert run.optimization.epochs == 10
    expected = DenseNetConfig(blocks=(2, 3), growth_rate=5, num_classes=10, in_channels=1)
    assert run.network == expected


@pytest.mark.parametrize("dataset", ["cifar100", "tfds:cifar100", "tfds:something"])
def test_cifar_and_unknown_data_sets_are_trained_as_cifar_plus(
    dataset: str, described: list[tuple[str, str | None]]
) -> None:
    run = default_run(dataset, "/data", VARIANTS["densenet-40-12"])
    assert described == [(dataset, "/data")]
    assert (run.data.dataset, run.data.data_dir, run.data.augment) == (dataset, "/data", "shift")
    assert (run.network.num_classes, run.network.in_channels, run.network.depth) == (100, 3, 40)
    assert_trained_as_cifar(run)
    assert run.network.dropout_rate == 0


def assert_trained_as_cifar(run: RunConfig) -> None:
    optimization = run.optimization
    assert (optimization.epochs, optimization.batch_size) == (300, 64)  # paper, section 4.2
    assert (optimization.learning_rate, optimization.weight_decay) == (0.1, 1e-4)
    assert (optimization.schedule, optimization.drops) == ("steps", (0.5, 0.75))


@pytest.mark.usefixtures("described")
def test_cifar_without_augmentation_has_dropout() -> None:
    run = default_run("cifar10", None, NETWORK, "none")
    assert_trained_as_cifar(run)
    assert (run.data.augment, run.network.dropout_rate) == ("none", 0.2)
    assert run.data.validation_images == 0  # the final run is on all images


@pytest.mark.usefixtures("described")
def test_svhn_has_40_epochs_dropout_and_6000_validation_images() -> None:
    run = default_run("svhn", None, NETWORK)
    assert (run.optimization.epochs, run.optimization.batch_size) == (40, 64)
    assert (run.data.augment, run.network.dropout_rate) == ("none", 0.2)
    assert run.data.validation_images == 6000


@pytest.mark.usefixtures("described")
def test_imagenet_has_90_epochs_batch_256_and_drops_at_30_and_60() -> None:
    run = default_run("imagenet2012", None, None)
    assert (run.optimization.epochs, run.optimization.batch_size) == (90, 256)
    assert [90 * share for share in run.optimization.drops] == pytest.approx([30, 60])
    assert run.optimization.learning_rate == 0.1
    assert (run.data.augment, run.data.image_size) == ("crop_color", 224)
    assert run.network.block_sizes == (6, 12, 24, 16)  # DenseNet-121


@pytest.mark.parametrize(
    ("stem", "augment", "size"), [("cifar", "shift", 32), ("imagenet", "crop", 224)]
)
@pytest.mark.usefixtures("described")
def test_own_folder_is_trained_as_its_stem_says(stem: str, augment: str, size: int) -> None:
    variant = {"cifar": "densenet-bc-100-12", "imagenet": "densenet121"}[stem]
    run = default_run("folder:/my/images", None, VARIANTS[variant])
    assert (run.data.augment, run.data.image_size) == (augment, size)


def test_unknown_data_set_is_refused() -> None:
    with pytest.raises(
        InputError, match=r"dataset \(='cifar'\) must be digits, cifar10, .*tfds:<name>"
    ):
        default_run("cifar", None, NETWORK)


@pytest.mark.parametrize("dataset", CATALOG)
def test_every_data_set_of_the_catalog_has_a_recipe(dataset: str) -> None:
    assert any(name == dataset for name, _ in RECIPES)
    run = default_run(dataset, None, None)
    assert run.network.num_classes == CATALOG[dataset].num_classes


def test_presets_are_the_cells_of_the_papers_tables() -> None:
    cifar = [name for name in PRESETS if "imagenet" not in name]
    assert len(cifar) == 5 * 5 + 2  # five nets on five columns, and BC (L=190, k=40) on C10+, C100+
    assert len(PRESETS) == 27 + 5
    for name, preset in PRESETS.items():
        assert preset.variant in VARIANTS
        assert name.startswith(f"{preset.variant}-{preset.dataset}")
        plus = {"+": "shift", "": "none"}["+" if name.endswith("+") else ""]
        assert preset.augment == ("crop_color" if preset.dataset == "imagenet2012" else plus)
    # The abstract and section 4.3 quote these.
    assert PRESETS["densenet-bc-190-40-cifar10+"].published_error == 3.46
    assert PRESETS["densenet-bc-190-40-cifar100+"].published_error == 17.18
    assert PRESETS["densenet-100-24-svhn"].published_error == 1.59
    assert PRESETS["densenet-bc-250-24-cifar10"].published_error == 5.19
    assert PRESETS["densenet-bc-250-24-cifar100"].published_error == 19.64


def test_preset_names_are_spelled_alike() -> None:
    pattern = r"densenet(-bc)?-?\d+(-\d+)?-(cifar10|cifar100|svhn|imagenet2012)\+?"
    assert all(re.fullmatch(pattern, name) for name in PRESETS)
