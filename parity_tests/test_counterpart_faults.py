"""A mistake in somebody else's network is found in the first layer that it touches."""

from pathlib import Path
from typing import NamedTuple

import pytest

from flax_densenet.errors import InputError
from flax_densenet.parity.divergence import find_divergence
from flax_densenet.parity.theirs.counterpart import find_counterpart
from parity_tests.counterparts import BC_TWO_BLOCKS, NETWORKS, climb_with, halves

pytestmark = pytest.mark.usefixtures("float64")


class Fault(NamedTuple):
    """A mistake in one of the networks, and the first array in which it shows."""

    against: str
    right: str
    wrong: str
    rung: str
    first: str


_LAYER = "features.denseblock1.denselayer"
FAULTS = {
    "no ReLU inside a layer": Fault(
        "bamos.py:DenseNet", "self.conv2(F.relu(self.bn2(out)))", "self.conv2(self.bn2(out))",
        "output, evaluation", f"{_LAYER}1.conv2",
    ),
    "no ReLU at the end": Fault(
        "bamos.py:DenseNet", "F.relu(self.bn1(out)), 8", "self.bn1(out), 8",
        "output, evaluation", "classifier",
    ),
    "other order of concatenation": Fault(
        "bamos.py:DenseNet", "torch.cat((x, out), 1)", "torch.cat((out, x), 1)",
        "output, evaluation", f"{_LAYER}2.norm1",
    ),
    "softmax instead of log-softmax": Fault(
        "bamos.py:DenseNet", "log_softmax", "softmax", "output, evaluation", "logits",
    ),
    "dropout in evaluation": Fault(
        "andreasveit.py:densenet", "p=self.drop_rate, training=self.training", "p=self.drop_rate",
        "output, evaluation", f"{_LAYER}2.norm1",
    ),
    "SAME padding": Fault(
        "torchvision_2018.py:DenseNet", '("conv0", nn.Conv2d(3, channels, kernel_size=7, stride=2, '
        "padding=3, bias=False)),",
        '("pad0", nn.ZeroPad2d((2, 3, 2, 3))), ("conv0", nn.Conv2d(3, channels, kernel_size=7, '
        "stride=2, bias=False)),",
        "output, evaluation", "features.conv0",
    ),
    "average pooling in the stem": Fault(
        "torchvision_2018.py:DenseNet", "nn.MaxPool2d", "nn.AvgPool2d",
        "output, evaluation", f"{_LAYER}1.norm1",
    ),
    "layer cut off from the gradient": Fault(
        "bearpaw.py:densenet", "self.relu(self.bn1(x))\n        out = self.conv1(out)",
        "self.relu(self.bn1(x.detach()))\n        out = self.conv1(out)",
        "gradient, evaluation", "features.denseblock3.denselayer1.conv2.weight",
    ),
    "running statistics updated twice": Fault(
        "gpleiss.py:checkpointed", "", "", "running statistics", f"{_LAYER}1.norm1.running_mean",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_mistake_is_found_where_it_is(name: str, tmp_path: Path) -> None:
    fault = FAULTS[name]
    both = halves(find_counterpart(_with_fault(fault, tmp_path)))
    check = next(check for check in climb_with(both) if not check.agrees)
    divergence = find_divergence(check)
    assert divergence is not None
    assert (check.rung.title, divergence.first.name) == (fault.rung, fault.first)
    if name == "dropout in evaluation":
        assert both.theirs.notes == [
            "the PyTorch network drops activations (rate 0.2) in evaluation, too"
        ]


def _with_fault(fault: Fault, directory: Path) -> str:
    file, _, function = fault.against.partition(":")
    source = (NETWORKS / file).read_text()
    assert fault.right in source
    (directory / file).write_text(source.replace(fault.right, fault.wrong))
    return f"{directory / file}:{function}"


def _changed(tmp_path: Path, against: str, right: str, wrong: str) -> str:
    return _with_fault(Fault(against, right, wrong, "", ""), tmp_path)


def test_epsilon_of_one_layer_is_named(tmp_path: Path) -> None:
    right, wrong = "self.bn = nn.BatchNorm2d(", "self.bn = nn.BatchNorm2d(eps=1e-3, num_features="
    message = "the eps of its batch normalizations differs: 0.001 in 1, module.bn; 1e-05 in 14, mod"
    with pytest.raises(InputError, match=message):
        find_counterpart(_changed(tmp_path, "bearpaw.py:densenet", right, wrong))


def test_momentum_of_all_layers_is_taken_over_and_told(tmp_path: Path) -> None:
    right, wrong = "BatchNorm2d(", "BatchNorm2d(momentum=0.01, num_features="
    against = _changed(tmp_path, "gpleiss.py:DenseNet", right, wrong)
    counterpart = find_counterpart(against)
    assert counterpart.config.batch_norm_momentum == 0.01
    assert counterpart.notes == [
        "batch_norm_momentum is 0.01, taken over from the PyTorch network; PyTorch's default is 0.1"
    ]
    with pytest.raises(InputError, match=r"was asked for: batch_norm_momentum is 0.01, not 0.1; "):
        find_counterpart(against, BC_TWO_BLOCKS)


def test_momentum_none_is_refused(tmp_path: Path) -> None:
    right, wrong = "BatchNorm2d(", "BatchNorm2d(momentum=None, num_features="
    with pytest.raises(InputError, match="have momentum=None; wanted a number"):
        find_counterpart(_changed(tmp_path, "gpleiss.py:DenseNet", right, wrong))
