"""What keeps somebody else's network from being compared is told in one message."""

import sys
from pathlib import Path

import pytest

from flax_densenet.errors import InputError
from flax_densenet.parity.random_inputs import random_pixels
from flax_densenet.parity.theirs.counterpart import find_counterpart
from parity_tests.counterparts import BC_TWO_BLOCKS, NETWORKS, halves

pytestmark = pytest.mark.usefixtures("float64")

_PRELUDE = "import torch\nfrom torch import nn\nfrom torch.nn import functional as F\n"
FILES = {
    "does not run": ("1 / 0\n", "net", r"cannot be imported: ZeroDivisionError: division by zero "
                     r"\(line 4 of mine.py: 1 / 0\)"),
    "syntax": ("def net(:\n", "net", r"cannot be imported: SyntaxError: .* \(mine.py, line 4\)"),
    "parses arguments": ("import sys\nsys.exit(2)\n", "net", r"SystemExit: 2 \(line 5 of mine"),
    "no such function": (
        "def one(): ...\nclass Two: ...\n", "net", "has no 'net'; it has one, Two$"
    ),
    "nothing in it": ("", "net", "has no 'net'; it has no function at all"),
    "raises": (
        "def net():\n    raise ValueError('no depth')\n", "net",
        r"net of .*mine.py failed: ValueError: no depth \(line 5 of mine.py: raise ValueError",
    ),
    "needs arguments": (
        "def net(depth, k=12): ...\n", "net",
        r"needs arguments: depth; write a function without any that returns net\(...\)",
    ),
    "not a function": ("net = 3\n", "net", "net of .* is a int; wanted a function"),
    "no network": ("def net(): return 'x'\n", "net", "returns a str; wanted a torch.nn.Module"),
    "no DenseNet": (
        "def net(): return nn.Linear(3, 2)\n", "net",
        r"is no DenseNet whose names are known: of its 2 arrays, the first is weight of .*2, 3.*; "
        "wanted those of one of torchvision or timm, torchvision before 2018, gpleiss",
    ),
    "TorchScript": (
        "import warnings\n"
        "def net():\n"
        "    warnings.simplefilter('ignore')\n"
        "    return torch.jit.script(nn.Linear(3, 2))\n", "net",
        "is a TorchScript program, whose layers cannot be looked into; give the torch.nn.Module",
    ),
    "no arrays": ("def net(): return nn.ReLU()\n", "net", "of its 0 arrays, it has none"),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_what_is_wrong_with_a_file_is_told(name: str, tmp_path: Path) -> None:
    source, function, message = FILES[name]
    (tmp_path / "mine.py").write_text(_PRELUDE + source)
    with pytest.raises(InputError, match=message):
        find_counterpart(f"{tmp_path}/mine.py:{function}")


@pytest.mark.parametrize(
    ("against", "message"),
    [
        ("/nowhere/mine.py:net", "there is no file /nowhere/mine.py; wanted FILE.py:NAME"),
        ("keras", r"against \(='keras'\) must be torchvision, timm or FILE.py:NAME"),
        ("torchvision", "against torchvision, name the network, such as densenet121, or give"),
    ],
)
def test_what_cannot_be_compared_with_is_refused(against: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        find_counterpart(against)


def test_file_that_is_no_python_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("hello")
    with pytest.raises(InputError, match=r"mine.txt is no Python file; wanted FILE.py:NAME"):
        find_counterpart(f"{tmp_path}/mine.txt:net")


def test_file_may_import_its_neighbors_and_hold_a_built_network(tmp_path: Path) -> None:
    (tmp_path / "neighbor_of_mine.py").write_text((NETWORKS / "gpleiss.py").read_text())
    (tmp_path / "mine.py").write_text(
        "import neighbor_of_mine\nmodel = neighbor_of_mine.DenseNet()"
    )
    before = list(sys.path)
    assert find_counterpart(f"{tmp_path}/mine.py:model").config == BC_TWO_BLOCKS
    assert sys.path == before


_GPLEISS = "from parity_tests.other_networks.gpleiss import DenseNet\n"
WRAPPERS = {
    "two networks": (
        "class Net(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.one, self.two = DenseNet(), DenseNet()\n",
        "holds 2 DenseNets: 'one.', 'two.'; write a function that returns the one",
    ),
    "an array beside the network": (
        "class Net(DenseNet):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.attention = nn.Linear(2, 2)\n",
        r"has the names of gpleiss.*, but attention.weight, attention.bias \(2 arrays\) belong to "
        "no layer of a DenseNet",
    ),
    "an array behind a prefix": (
        "class Net(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.model, self.scale = DenseNet(), nn.Parameter(torch.ones(1))\n",
        r"but scale \(1 arrays\) belong to no layer",
    ),
    "a bias": (
        "def Net():\n"
        "    net = DenseNet()\n"
        "    net.features.conv0.bias = nn.Parameter(torch.zeros(8))\n"
        "    return net\n",
        r"but features.conv0.bias \(1 arrays\) belong to no layer",
    ),
    "part of a network": (
        "def Net():\n    net = DenseNet()\n    del net.features.conv0\n    return net\n",
        "has the names of gpleiss.*, but features.conv0 is missing; wanted all layers of",
    ),
    "a layer without its weight": (
        "def Net():\n"
        "    net = DenseNet()\n"
        "    net.features.norm_final = nn.BatchNorm2d(16, affine=False)\n"
        "    return net\n",
        r"2 missing \(-\)(.|\n)* - features.norm_final.weight",
    ),
    "another kernel": (
        "def Net():\n"
        "    net = DenseNet()\n"
        "    net.features.conv0 = nn.Conv2d(3, 8, 5, bias=False)\n"
        "    return net\n",
        "features.conv0.weight is a kernel of 5x5 pixels; wanted 3x3",
    ),
    "a shared layer": (
        "def Net():\n"
        "    net = DenseNet()\n"
        "    block = net.features.denseblock1\n"
        "    block.denselayer2.conv2 = block.denselayer1.conv2\n"
        "    return net\n",
        r"features.denseblock1.denselayer2.conv2.weight is a buffer or shared with another",
    ),
    "a normalization of another kind": (
        "def Net():\n"
        "    net = DenseNet()\n"
        "    for module in net.modules():\n"
        "        if isinstance(module, nn.BatchNorm2d):\n"
        "            del module.eps\n"
        "    return net\n",
        "its batch normalizations have no eps, which the Flax network takes over",
    ),
}


@pytest.mark.parametrize("name", WRAPPERS)
def test_what_keeps_a_network_from_being_compared_is_told(name: str, tmp_path: Path) -> None:
    source, message = WRAPPERS[name]
    (tmp_path / "mine.py").write_text(_PRELUDE + _GPLEISS + source)
    with pytest.raises(InputError, match=message):
        find_counterpart(f"{tmp_path}/mine.py:Net")


FORWARDS = {
    "returns a tuple": ("return super().forward(x), x", "returns a tuple; wanted one tensor"),
    "returns features": (
        "return self.features(x)",
        r"returns shape \(4, 16, 16, 16\) for 4 images",
    ),
    "fails": (
        "return super().forward(x.float())",
        r"failed in evaluation, on images \[B, C, H, W\] of 4x3x32x32: RuntimeError: .* \(line ",
    ),
    "fails backward": (
        "x = super().forward(x).exp()\n        y = x * 1\n        x += 1\n        return y",
        "failed in evaluation.*RuntimeError: one of the variables needed for gradient computation",
    ),
    "does not use a layer": (
        "return self.classifier(x.new_ones(4, 16))",
        r"the loss does not depend on image, features",
    ),
    "does not call a layer": (
        "x = F.relu(self.features(x)).mean((2, 3))\n"
        "        return F.linear(x, self.classifier.weight, self.classifier.bias)",
        "does not call classifier in its forward pass",
    ),
}


@pytest.mark.parametrize("name", FORWARDS)
def test_what_keeps_a_pass_from_being_compared_is_told(name: str, tmp_path: Path) -> None:
    body, message = FORWARDS[name]
    source = f"class Net(DenseNet):\n    def forward(self, x):\n        {body}\n"
    (tmp_path / "mine.py").write_text(_PRELUDE + _GPLEISS + source)
    _, theirs, batch = halves(find_counterpart(f"{tmp_path}/mine.py:Net"))
    with pytest.raises(InputError, match=message):
        theirs.observe(batch, train=False)


def test_frozen_parameter_is_told_in_training(tmp_path: Path) -> None:
    source = (
        "def net():\n"
        "    net = DenseNet()\n"
        "    net.features.conv0.requires_grad_(False)\n"
        "    return net\n"
    )
    (tmp_path / "mine.py").write_text(_PRELUDE + _GPLEISS + source)
    theirs = halves(find_counterpart(f"{tmp_path}/mine.py:net")).theirs
    with pytest.raises(InputError, match=r"does not depend on features.conv0.weight .* frozen"):
        theirs.train(random_pixels(theirs.config, (4, 3, 32, 32), 1))
