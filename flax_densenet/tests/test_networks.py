"""Which networks other software can build, as its constructors say.

Read in torchvision 0.2.0, MONAI 0.3.0 and 1.6.1, pytorchcv 0.0.74, Keras 3.15.1, and the models of
andreasveit/densenet-pytorch, bamos/densenet.pytorch, bearpaw/pytorch-classification and
gpleiss/efficient_densenet_pytorch.
"""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from flax_densenet import VARIANTS, DenseNetConfig, InputError
from flax_densenet.cli.main import main
from flax_densenet.tests.tiny_checkpoints import GRAY, write_torchvision
from flax_densenet.weights.layouts import LAYOUTS
from flax_densenet.weights.networks import NETWORKS, check_layout

BC, IMAGENET = VARIANTS["densenet-bc-100-12"], VARIANTS["densenet121"]
PLAIN = VARIANTS["densenet-40-12"]
HALVED = dataclasses.replace(PLAIN, compression=0.5, stem_width=24)
_OF_CIFAR = ("andreasveit", "bamos", "bearpaw")
_OF_IMAGENET = (
    "torchvision-2017",
    "monai",
    "monai-2020",
    "flaxvision",
    "keras",
    "keras-2",
    "keras-3",
)


def changed(config: DenseNetConfig, **fields: Any) -> DenseNetConfig:
    return dataclasses.replace(config, **fields)


def test_every_layout_has_a_row_but_our_own() -> None:
    assert set(NETWORKS) == set(LAYOUTS) - {"torchvision", "flax"}


@pytest.mark.parametrize(
    ("config", "layouts"),
    [
        (BC, (*_OF_CIFAR, "gpleiss", "pytorchcv")),
        (changed(BC, in_channels=1), ("pytorchcv",)),
        (changed(BC, bottleneck_factor=2), ("gpleiss",)),
        (changed(BC, compression=1.0), (*_OF_CIFAR, "gpleiss")),
        (changed(BC, depth=None, blocks=(2, 3, 4)), ("gpleiss", "pytorchcv")),
        (changed(BC, depth=None, blocks=(2, 2)), ("gpleiss", "pytorchcv")),
        # One block has no transition, whatever its compression.
        (changed(BC, depth=None, blocks=(2,), compression=1.0), ("gpleiss", "pytorchcv")),
        (changed(BC, order="conv-norm-act"), ()),
        (PLAIN, ()),  # the paper's first convolution has 16 channels, theirs 2k
        (changed(PLAIN, stem_width=24), _OF_CIFAR),
        (HALVED, (*_OF_CIFAR, "pytorchcv-plain")),
        (IMAGENET, (*_OF_IMAGENET, "gpleiss", "pytorchcv-imagenet")),
        # Half of an odd number, rounded down, is written as another share, too.
        (
            changed(IMAGENET, blocks=(1, 1), growth_rate=3, stem_width=4, compression=3 / 7),
            (
                *("torchvision-2017", "monai", "monai-2020", "flaxvision"),
                *("gpleiss", "pytorchcv-imagenet"),
            ),
        ),
        (
            VARIANTS["densenet161"],
            (
                *("torchvision-2017", "monai", "monai-2020", "flaxvision"),
                *("gpleiss", "pytorchcv-imagenet"),
            ),
        ),
        (changed(IMAGENET, activation="prelu"), ("monai",)),
        (changed(IMAGENET, transition_pool="max"), ()),
    ],
    ids=lambda value: value.slug if isinstance(value, DenseNetConfig) else None,
)
def test_layout_takes_what_its_software_builds(
    config: DenseNetConfig, layouts: tuple[str, ...]
) -> None:
    for layout in LAYOUTS:
        if layout in (*layouts, "torchvision", "flax"):
            check_layout(config, layout)
        else:
            with pytest.raises(InputError, match=f"layout .='{layout}'. is for .* cannot build"):
                check_layout(config, layout)


@pytest.mark.parametrize(
    ("config", "layout", "message"),
    [
        (
            BC,
            "keras",
            "stem is cifar, there imagenet; growth_rate is 12, there 32; num_blocks is 3",
        ),
        (
            PLAIN,
            "pytorchcv",
            "bottleneck is False, there True; compression is 1, there 0.5; choose",
        ),
        (HALVED, "pytorchcv", "bottleneck is False, .*choose pytorchcv-plain or torchvision"),
        (HALVED, "gpleiss", "bottleneck is False, there True; choose torchvision"),
        (PLAIN, "bamos", "stem_width is 16, there 2 times the growth rate; choose torchvision"),
        (
            IMAGENET,
            "bearpaw",
            r"num_blocks is 4, there 3.*; blocks are \(6, 12, 24, 16\), there all",
        ),
        (
            changed(IMAGENET, activation="prelu"),
            "monai-2020",
            "activation is prelu, which it has not; choose monai or torchvision",
        ),
    ],
)
def test_what_is_lacking_is_named(config: DenseNetConfig, layout: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_layout(config, layout)


def test_nothing_is_written_that_the_software_cannot_load(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_torchvision(tmp_path / "gray.safetensors", GRAY)
    flags = ["--layout", "bamos", "--no_verify"]
    arguments = [str(tmp_path / "gray.safetensors"), str(tmp_path / "new.pth"), *flags]
    assert main(["convert", *arguments]) == 2
    assert (
        "in_channels is 1, there 3; stem_width is 16, there 2 times the" in capsys.readouterr().err
    )
    assert not (tmp_path / "new.pth").exists()
