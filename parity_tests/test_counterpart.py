"""Other people's networks climb the whole ladder, and others than those asked for are refused.

`other_networks/` holds DenseNets in the manner of the known implementations.
"""

import dataclasses
import importlib
import sys
from collections.abc import Sequence
from typing import NamedTuple

import pytest

from flax_densenet import DenseNetConfig
from flax_densenet.errors import InputError
from flax_densenet.parity.divergence import find_divergence
from flax_densenet.parity.ladder import RUNGS
from flax_densenet.parity.theirs.counterpart import Counterpart, find_counterpart
from parity_tests.counterparts import BC, BC_TWO_BLOCKS, IMAGENET, NETWORKS, climb_with, halves

pytestmark = pytest.mark.usefixtures("float64")

_NUM_STEPS = 2


class Network(NamedTuple):
    """A function in `other_networks/`, the network that it builds, and what is noted of it."""

    against: str
    config: DenseNetConfig
    notes: tuple[str, ...] = ()


IMPLEMENTATIONS = [
    Network(
        "andreasveit.py:densenet",
        DenseNetConfig(depth=10, growth_rate=4, stem_width=8),
        ("dropout (rate 0.2) is switched off in training",),
    ),
    Network("bamos.py:DenseNet", BC, ("log-softmax of its classifier's output",)),
    Network("bearpaw.py:densenet", BC, ("dropout (rate 0.1) is switched off in training",)),
    Network("gpleiss.py:DenseNet", BC_TWO_BLOCKS),
    Network("pytorchcv.py:CIFARDenseNet", BC, ("dropout (rate 0.2) is switched off",)),
    Network("torchvision_2018.py:DenseNet", IMAGENET, ("dropout (rate 0.1) is switched off",)),
]


def _assert_climbs(counterpart: Counterpart, notes: Sequence[str]) -> None:
    both = halves(counterpart)
    checks = list(climb_with(both, _NUM_STEPS))
    assert [check.rung for check in checks] == list(RUNGS)
    for check in checks:
        assert check.agrees, (check.rung.title, str(find_divergence(check)))
    layers = {name.rpartition(".")[0] for name in both.theirs.parameters()}
    assert layers <= {row.name for row in checks[0].rows}  # every layer's output is compared
    assert len(both.theirs.notes) == len(notes)
    for note, wanted in zip(both.theirs.notes, notes, strict=True):
        assert wanted in note


@pytest.mark.parametrize(
    "network",
    [
        # These two differ from their neighbours in names alone.
        pytest.param(one, marks=pytest.mark.slow)
        if one.against.startswith(("bamos.py", "torchvision_2018.py"))
        else one
        for one in IMPLEMENTATIONS
    ],
    ids=lambda network: network.against,
)
def test_network_of_another_implementation_climbs_the_ladder(network: Network) -> None:
    counterpart = find_counterpart(str(NETWORKS / network.against), network.config)
    assert counterpart.config == dataclasses.replace(network.config, dropout_rate=0.0)
    assert counterpart.notes == []
    _assert_climbs(counterpart, network.notes)


@pytest.mark.parametrize("network", IMPLEMENTATIONS, ids=lambda network: network.against)
def test_its_configuration_is_found_without_being_told(network: Network) -> None:
    assert find_counterpart(str(NETWORKS / network.against)).config == network.config


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"growth_rate": 12},
            r"is DenseNet-BC \(L=11, k=4\), where DenseNet-BC \(L=11, k=12\) was asked for: "
            r"growth_rate is 4, not 12, stem_width is 8, not 24; leave the network's name and",
        ),
        ({"blocks": (2, 3)}, r"blocks is \(2, 2\), not \(2, 3\);"),
        ({"bottleneck": False, "stem_width": 8}, "bottleneck is True, not False;"),
        ({"compression": 1.0}, "compression is 0.5, not 1.0;"),
        ({"stem": "imagenet"}, "stem is cifar, not imagenet;"),
        ({"num_classes": 100}, "num_classes is 10, not 100;"),
        ({"in_channels": 1}, "in_channels is 3, not 1;"),
        ({"batch_norm_epsilon": 1e-3}, "batch_norm_epsilon is 1e-05, not 0.001;"),
    ],
    ids=str,
)
def test_network_other_than_the_one_asked_for_is_refused(
    change: dict[str, object], message: str
) -> None:
    asked = dataclasses.replace(BC_TWO_BLOCKS, **change)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=message):
        find_counterpart(f"{NETWORKS}/gpleiss.py:DenseNet", asked)


def test_compression_written_in_another_way_agrees() -> None:
    asked = dataclasses.replace(BC_TWO_BLOCKS, compression=0.51)  # 16 maps: 8, too
    assert find_counterpart(f"{NETWORKS}/gpleiss.py:DenseNet", asked).config == asked


@pytest.mark.parametrize("package", ["torchvision", "timm"])
def test_missing_package_is_told(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setitem(sys.modules, f"{package}.models.densenet", None)
    message = rf"{package} cannot be imported: .*; install the release that goes with torch 2\."
    with pytest.raises(InputError, match=message):
        find_counterpart(package, IMAGENET)


@pytest.mark.parametrize("package", ["torchvision", "timm"])
@pytest.mark.parametrize("dropout_rate", [0.0, 0.2])
def test_package_climbs_the_ladder(package: str, dropout_rate: float) -> None:
    pytest.importorskip(package)
    asked = dataclasses.replace(IMAGENET, dropout_rate=dropout_rate)
    counterpart = find_counterpart(package, asked)
    assert counterpart.title == f"{package} {importlib.import_module(package).__version__}"
    notes = ["dropout (rate 0.2) is switched off in training"] if dropout_rate else []
    _assert_climbs(counterpart, notes)


@pytest.mark.parametrize(
    ("package", "change", "message"),
    [
        ("torchvision", {"stem": "cifar"}, "stem is imagenet, not cifar;"),
        ("torchvision", {"in_channels": 1}, "in_channels is 3, not 1; torchvision has no other;"),
        ("torchvision", {"compression": 0.6}, "compression is 0.5, not 0.6;"),
        ("torchvision", {"bottleneck": False}, "bottleneck is True, not False;"),
        ("torchvision", {"batch_norm_epsilon": 1e-3}, "batch_norm_epsilon is 1e-05, not 0.001;"),
        ("torchvision", {"batch_norm_momentum": 0.2}, "batch_norm_momentum is 0.1, not 0.2;"),
        ("timm", {"stem_width": 9}, "stem_width is 8, not 9; timm has no other; compare without"),
    ],
)
def test_network_that_a_package_does_not_have_is_refused(
    package: str, change: dict[str, object], message: str
) -> None:
    pytest.importorskip(package)
    asked = dataclasses.replace(IMAGENET, **change)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=message):
        find_counterpart(package, asked)


@pytest.mark.parametrize(
    ("package", "change"),
    [
        ("torchvision", {"stem_width": 9, "bottleneck_factor": 2, "num_classes": 3}),
        ("timm", {"in_channels": 1, "bottleneck_factor": 2, "num_classes": 3}),
    ],
)
def test_every_network_that_a_package_has_is_built(package: str, change: dict[str, object]) -> None:
    pytest.importorskip(package)
    asked = dataclasses.replace(IMAGENET, **change)  # type: ignore[arg-type]
    assert find_counterpart(package, asked).config == asked
