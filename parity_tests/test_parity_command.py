"""The parity command: what it finds equal, what it finds different, and how it tells."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import torch_reference.densenet
from flax_densenet import DenseNetConfig
from flax_densenet.cli.main import main
from flax_densenet.network.layers import weight_layers
from flax_densenet.parity.differences import Difference
from flax_densenet.parity.ladder import RUNGS, Check
from flax_densenet.parity.random_inputs import random_variables
from flax_densenet.parity.report import Layer, Section
from flax_densenet.parity.theirs.comparison import Comparison, Outcome
from flax_densenet.weights.layouts import LAYOUTS
from flax_densenet.weights.table import to_arrays

TINY = "--blocks 1,1 --growth_rate 3 --image_size 8 --batch_size 4".split()
CONFIG = DenseNetConfig(blocks=(1, 1), growth_rate=3)
# conv0; norm and conv of two layers; the transition; norm5; the classifier. By hand: 16 channels
# after the stem, 3 more in every block.
PARAMETERS = 3 * 16 * 9 + (32 + 16 * 27) + (38 + 19 * 27) + (38 + 19 * 19) + 2 * 22 + 22 * 10 + 10


def parity(*args: object) -> int:
    return main(["parity", *map(str, args)])


def report_of(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    return json.loads(capsys.readouterr().out)


def test_equal_networks(capsys: pytest.CaptureFixture[str]) -> None:
    assert parity(*TINY, "--json", "--steps", 3) == 0
    report = report_of(capsys)
    assert report["agrees"]
    assert [section["precision"] for section in report["sections"]] == ["float64", "float32"]
    for section in report["sections"]:
        assert [check["title"] for check in section["checks"]] == [rung.title for rung in RUNGS]
        assert all(check["agrees"] for check in section["checks"])
        losses = next(c for c in section["checks"] if c["quantity"] == "losses")
        assert [row["name"] for row in losses["rows"]] == [f"loss of step {n}" for n in (1, 2, 3)]
        assert all(len(row["values"]) == 2 for row in losses["rows"])
    layers = {layer["name"]: layer for layer in report["layers"]}
    names = {".".join(layer.path) for layer in weight_layers(CONFIG)}
    assert {f"features.{name}" for name in names - {"classifier"}} < set(layers)
    assert layers["logits"]["torch_parameters"] == PARAMETERS
    assert layers["logits"]["flax_parameters"] == PARAMETERS
    assert layers["features.denseblock2.denselayer1.conv1"]["shape"] == [4, 3, 4, 4]
    assert layers["features.denseblock2.denselayer1.conv1"]["flax_parameters"] == 19 * 3 * 9
    assert report["command"] == f"flax-densenet parity {' '.join(TINY)} --json --steps 3"


def test_table_and_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "new" / "page.html"
    assert parity(*TINY, "--precision", "float32", "--steps", 0, "--html", page) == 0
    text = capsys.readouterr().out
    for layer in weight_layers(CONFIG):
        assert any(line.startswith(f"{'.'.join(layer.path)} ") for line in text.splitlines())
    assert "momentum" not in text
    assert text.endswith(
        "equal: DenseNet (L=5, k=3) computes the same in Flax and in our PyTorch reference\n"
    )
    assert "DenseNet (L=5, k=3)" in page.read_text()


def test_options_are_flags(capsys: pytest.CaptureFixture[str]) -> None:
    flags = "--activation prelu --order conv-norm-act --transition_pool max --attention se"
    assert parity(*TINY, *flags.split(), "--precision", "float64", "--steps", 0) == 0
    text = capsys.readouterr().out
    assert "transition1.prelu " in text
    assert "denseblock1.denselayer1.attention.fc1 " in text
    title = "DenseNet (L=5, k=3, activation=prelu, order=conv-norm-act, transition_pool=max, atten"
    assert f"equal: {title}" in text


def test_fault_is_found_where_it_is(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    right = torch_reference.densenet._norm

    def wrong(config: DenseNetConfig, channels: int) -> torch.nn.BatchNorm2d:
        norm = right(config, channels)
        norm.eps = 1e-3 if channels == 19 else norm.eps  # after the first block
        return norm

    monkeypatch.setattr(torch_reference.densenet, "_norm", wrong)
    assert parity(*TINY, "--precision", "float64", "--steps", 1) == 1
    captured = capsys.readouterr()
    marked = [line for line in captured.out.splitlines() if "<- first to differ" in line]
    assert marked[0].startswith("transition1.norm ")
    assert marked[0].endswith("<- first to differ: out eval, out train")
    assert captured.err.startswith("error: NOT EQUAL: DenseNet (L=5, k=3) differs")
    assert "features.transition1.norm (4, 19, 8, 8) is the first of" in captured.err
    assert "a jump: before it no difference is above" in captured.err


@pytest.mark.parametrize("layout", ["torchvision", "andreasveit"])
def test_weights_of_a_file(layout: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    variables = random_variables(CONFIG, seed=3)
    arrays = to_arrays(variables, CONFIG, LAYOUTS[layout])
    file = tmp_path / "weights.pth"
    torch.save({key: torch.from_numpy(np.array(a)) for key, a in arrays.items()}, file)
    options = ["--precision", "float64", "--steps", 0, "--json"]
    assert parity("--weights", file, "--image_size", 8, "--batch_size", 2, *options) == 0
    report = report_of(capsys)
    assert report["title"] == CONFIG.title
    assert report["weights"] == str(file)
    assert report["layers"][-1]["flax_parameters"] == PARAMETERS
    # A name or flags say what the file must hold.
    assert parity("--weights", file, "--growth_rate", 4) == 2
    error = capsys.readouterr().err
    assert "weights.pth is DenseNet (L=5, k=3), where DenseNet (L=5, k=4) was asked for" in error
    assert "growth_rate is 3, not 4; leave the network's name and flags out" in error


def test_what_an_own_module_prints_is_not_in_the_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.py").write_text(
        "import torch_reference\n"
        "from flax_densenet import DenseNetConfig\n"
        "print('imported')\n"
        "class Net(torch_reference.DenseNet):\n"
        "    def __init__(self):\n"
        "        super().__init__(DenseNetConfig(blocks=(1, 1), growth_rate=3))\n"
        "    def forward(self, image):\n"
        "        print('called')\n"
        "        return super().forward(image)\n"
    )
    options = ["--precision", "float64", "--steps", 0, "--json", "--image_size", 8]
    assert parity("--against", f"{tmp_path}/mine.py:Net", *options) == 0
    captured = capsys.readouterr()
    report = json.loads(captured.out)
    assert report["against"] == f"{tmp_path}/mine.py:Net, with the names of torchvision or timm"
    assert report["title"] == CONFIG.title
    assert "imported" in captured.err and "called" in captured.err


def test_notes_and_default_precision(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--precision", "default", "--steps", 0, "--json", "--image_size", 4]
    assert parity(*TINY, "--dropout_rate", 0.2, *options) == 0
    report = report_of(capsys)
    dropout, values = report["notes"]
    assert dropout == "dropout (rate 0.2) is off in both: random bits cannot agree"
    assert values.startswith("the last block normalizes over 16 values per channel")
    (section,) = report["sections"]
    assert section["precision"] == "default"
    assert section["setting"] == "float32 as both frameworks compute it by default"


# Of two arrays rounding moves neither, one or both so far that nothing is decided.
@pytest.mark.parametrize(
    ("rounding", "relative", "status", "verdict"),
    [
        ((0.0, 0.7), (0.0, 0.6), 0, "equal: "),
        ((0.0, 0.7), (0.1, 0.6), 1, "error: NOT EQUAL: "),
        ((0.7, 0.7), (0.5, 0.6), 2, "error: NOT DECIDED: "),
    ],
)
def test_exit_status_follows_what_was_decided(
    rounding: tuple[float, ...],
    relative: tuple[float, ...],
    status: int,
    verdict: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows = [
        Difference(name, (1,), apart, apart, moved, 1e-5, None)
        for name, apart, moved in zip("ab", relative, rounding, strict=True)
    ]
    layers = [Layer("a", "conv", (1,), 1, 1)]
    outcome = Outcome([Section("float32", "", [Check(RUNGS[0], rows)])], layers, [])
    monkeypatch.setattr(Comparison, "run", lambda self, precisions: outcome)
    assert parity(*TINY) == status
    captured = capsys.readouterr()
    assert captured.out.splitlines()[-1].startswith(verdict.removeprefix("error: "))
    assert captured.err.startswith(verdict if status else "")
    assert ("1 of 2 arrays are not decided in float32" in captured.out) is (status != 2)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["densenet122"], "NAME (='densenet122') must be one of the following; perhaps"),
        (["--image_size", "2"], "image is 2x2 pixels, but DenseNet (L=40, k=12)"),
        (["--weights", "missing.pth"], "missing.pth"),
    ],
)
def test_wrong_input_is_one_line(
    args: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert parity(*args) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert "Traceback" not in error


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--steps", "-1"], "steps (=-1) must be an integer of at least 0"),
        (["--batch_size", "0"], "batch_size (=0) must be an integer of at least 1"),
        (["--seed", "-1"], "seed (=-1) must be an integer of at least 0"),
        (["--image_size", "0"], "image_size (=(0,)) must be one number of at least 1"),
        (["--precision", "float64,half"], "'half' is none of float64, float32, default"),
    ],
)
def test_wrong_value_is_told(
    args: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        parity(*args)
    assert stopped.value.code == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_page_that_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    options = ["--precision", "float64", "--steps", 0]
    assert parity(*TINY, *options, "--html", tmp_path / "file" / "page.html") == 1
    assert f"{tmp_path / 'file'} cannot be written (" in capsys.readouterr().err


def test_without_torch(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    importing = ("torch_reference", "flax_densenet.parity.theirs")
    for name in [name for name in sys.modules if name.startswith(importing)]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torch", None)
    assert parity("densenet121") == 2
    assert "torch is not installed; install flax-densenet[torch]" in capsys.readouterr().err


def test_another_implementation_is_compared_by_what_it_shows(
    capsys: pytest.CaptureFixture[str],
) -> None:
    flags = ["--depth", "7", "--growth_rate", "4", "--image_size", "8", "--precision", "float64"]
    assert main(["parity", *flags, "--steps", "2", "--implementation", "blocked", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["agrees"]
    note = "the blocked implementation shows no output before the classifier"
    assert any(one.startswith(note) for one in report["notes"])
    (section,) = report["sections"]
    rows = {check["title"]: check["rows"] for check in section["checks"]}
    outputs = {row["name"] for row in rows["output, training"]}
    assert outputs == {"classifier", "logits"}
    # The image, four convolutions of 3x3, two of 1x1, six normalizations, the classifier.
    assert len(rows["gradient, training"]) == 1 + 4 + 2 + 2 * 6 + 2
