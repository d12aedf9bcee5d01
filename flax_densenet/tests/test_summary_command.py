"""Tests of `flax-densenet summary`: published numbers, JSON, text and messages."""

import json
import re
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from flax_densenet import VARIANTS
from flax_densenet.summary import published
from flax_densenet.summary.published import PUBLISHED, Published
from flax_densenet.tests.tiny_checkpoints import GRAY, write_torchvision

Printed = Callable[[], str]
Status = Callable[..., int]

# Parameters in millions: paper, Table 2; else torchvision 0.29.1: `num_params` and `_ops` (10^9).
PAPER = {
    "densenet-40-12": 1.0,
    "densenet-100-12": 7.0,
    "densenet-100-24": 27.2,
    "densenet-bc-100-12": 0.8,
    "densenet-bc-250-24": 15.3,
    "densenet-bc-190-40": 25.6,
}
TORCHVISION = {
    "densenet121": (7_978_856, 2.834),
    "densenet161": (28_681_000, 7.728),
    "densenet169": (14_149_480, 3.36),
    "densenet201": (20_013_928, 4.291),
}


@pytest.fixture
def summarized(status: Status, capsys: pytest.CaptureFixture[str]) -> Callable[..., dict[str, Any]]:
    """A function from the words after `summary` to what `--json` prints."""

    def run(*args: str) -> dict[str, Any]:
        assert status("summary", *args, "--json") == 0
        captured = capsys.readouterr()
        assert captured.err == ""
        return json.loads(captured.out)

    return run


def test_network_of_a_checkpoint_is_summarized_and_flags_change_it(
    summarized: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    file = tmp_path / "tiny.safetensors"
    write_torchvision(file, GRAY)
    flags = "--depth 7 --growth_rate 2 --num_classes 3 --in_channels 1".split()
    assert summarized(str(file))["operations"] == summarized(*flags)["operations"]
    assert summarized(str(file), "--growth_rate", "3")["network"]["growth_rate"] == 3


@pytest.mark.parametrize("name", VARIANTS)
def test_counts_of_every_named_network_stand_beside_the_published_ones(
    name: str, summarized: Callable[..., dict[str, Any]]
) -> None:
    result = summarized(name)
    totals = result["totals"]
    numbers = {number["quantity"]: number for number in result["published"]}
    assert result["variant"] == name
    assert all(number["agrees"] for number in result["published"])
    if name in PAPER:
        assert set(numbers) == {"parameters"}
        assert numbers["parameters"]["value"] == pytest.approx(1e6 * PAPER[name])
        assert numbers["parameters"]["source"] == "paper, Table 2"
        assert round(totals["parameters"] / 1e6, 1) == PAPER[name]
    elif name in TORCHVISION:
        parameters, billions = TORCHVISION[name]
        assert totals["parameters"] == numbers["parameters"]["value"] == parameters
        assert numbers["multiply_adds"]["value"] == pytest.approx(1e9 * billions)
        assert round(totals["multiply_adds"] / 1e9, 3) == billions
    else:
        assert (name, numbers) == ("densenet264", {})


def test_every_published_number_belongs_to_a_named_network() -> None:
    assert set(PUBLISHED) == set(PAPER) | set(TORCHVISION) == set(VARIANTS) - {"densenet264"}


@pytest.mark.parametrize(
    ("value", "rounded_to", "count", "agrees"),
    [
        ("1.0e6", 100_000, 1_019_722, True),
        ("1.0e6", 100_000, 1_059_298, False),
        ("3.360e9", 1_000_000, 3_359_843_328, True),
        ("7978856", 1, 7_978_856, True),
        ("7978856", 1, 7_978_857, False),
    ],
)
def test_published_number_agrees_if_its_digits_do(
    value: str, rounded_to: int, count: int, agrees: bool
) -> None:
    number = Published("parameters", Decimal(value), "somebody")
    assert number.rounded_to == rounded_to
    assert number.agrees(count) == agrees


def test_json_has_what_is_documented(summarized: Callable[..., dict[str, Any]]) -> None:
    flags = "--blocks 1 --growth_rate 2 --in_channels 1 --num_classes 3 --batch_size 7"
    result = summarized(*flags.split(), "--image_size", "4,5", "--precision", "bfloat16")
    operations = result.pop("operations")
    assert operations[4] == {
        "name": "denseblock1.denselayer1.conv1",
        "operation": "convolution",
        "output": [4, 5, 2],
        "parameters": 288,
        "multiply_adds": 5760,
        "flops": 11520,
        "activation_bytes": 80,
        "kept_bytes": 0,
        "kept_bytes_with_remat": 0,
    }
    parameters = 144 + 32 + 288 + 36 + 57
    activations = 2 * 20 * (1 + 16 + 16 + 18 + 18) + 2 * 18  # image, conv0, relu1, concat, relu5
    with_remat = activations - 2 * 20 * 16
    memory = {name: 4 * parameters for name in ("parameters", "gradients", "momentum")}
    memory["statistics"] = 4 * 2 * (16 + 18)
    naive = memory | {"activations": 7 * activations, "working_set": 7 * 640}
    remat = memory | {"activations": 7 * with_remat, "working_set": 7 * 1280}
    assert result == {
        "title": "DenseNet (L=3, k=2)",
        "variant": None,
        "network": {
            "depth": None,
            "blocks": [1],
            "growth_rate": 2,
            "bottleneck": False,
            "bottleneck_factor": 4,
            "compression": 1.0,
            "stem": "cifar",
            "stem_width": None,
            "num_classes": 3,
            "in_channels": 1,
            "activation": "relu",
            "order": "norm-act-conv",
            "transition_pool": "avg",
            "kernel_size": 3,
            "groups": 1,
            "attention": "none",
            "attention_reduction": 16,
            "dropout_rate": 0.0,
            "batch_norm_momentum": 0.1,
            "batch_norm_epsilon": 1e-5,
            "dtype": "bfloat16",
        },
        "image": [4, 5, 1],
        "totals": {
            "parameters": parameters,
            "multiply_adds": 20 * (144 + 288) + 54,
            "flops": 40 * (144 + 288) + 108 + 3 + 20 * (3 + 1) * 34 + 2 * 34 + 20 * 18,
            "activation_bytes": sum(operation["activation_bytes"] for operation in operations),
            "kept_bytes": activations,
            "kept_bytes_with_remat": with_remat,
        },
        "batch_size": 7,
        "training_bytes": naive | {"total": sum(naive.values())},
        "training_bytes_with_remat": remat | {"total": sum(remat.values())},
        "published": [],
    }


def test_flags_change_a_named_network(summarized: Callable[..., dict[str, Any]]) -> None:
    changed = summarized("densenet121", "--num_classes", "10", "--image_size", "96")
    assert changed["title"] == "DenseNet-BC (L=121, k=32)"
    assert changed["image"] == [96, 96, 3]
    assert changed["totals"]["parameters"] == 7_978_856 - 990 * 1025
    assert (changed["variant"], changed["published"]) == (None, [])
    blocks = summarized("densenet-bc-100-12", "--blocks", "2,3")
    assert (blocks["network"]["depth"], blocks["network"]["blocks"]) == (None, [2, 3])


def test_network_without_a_name_is_recognized(summarized: Callable[..., dict[str, Any]]) -> None:
    flags = "--depth 100 --growth_rate 12 --bottleneck --compression 0.5 --dropout_rate 0.2"
    assert summarized(*flags.split())["variant"] == "densenet-bc-100-12"
    assert summarized()["variant"] == "densenet-40-12"


def test_multiply_adds_at_other_sizes_are_not_compared(
    summarized: Callable[..., dict[str, Any]],
) -> None:
    (number,) = summarized("densenet121", "--image_size", "192,224")["published"]
    assert number["quantity"] == "parameters"


def test_text_is_a_table_with_totals(status: Status, capsys: pytest.CaptureFixture[str]) -> None:
    assert status("summary", "densenet121") == 0
    lines = capsys.readouterr().out.splitlines()
    table, totals, training = "\n".join(lines).split("\n\n")
    header, *rows = table.splitlines()
    titles = "name operation output parameters FLOPs activation kept with remat"
    assert " ".join(header.split()) == titles
    cells = {row.split()[0]: " ".join(row.split()[1:]) for row in rows}
    assert cells["conv0"] == "convolution 112x112x64 9,408 236 M 3.06 MiB 3.06 MiB 3.06 MiB"
    assert cells["relu0"] == "ReLU 112x112x64 803 k 3.06 MiB 3.06 MiB 3.06 MiB"
    assert cells["classifier"] == "linear 1000 1,025,000 2.05 M 3.91 KiB"
    assert header.index("FLOPs") + len("FLOPs") == rows[1].index("236 M") + len("236 M")
    assert [" ".join(line.split()) for line in totals.splitlines()] == [
        "DenseNet-BC (L=121, k=32), one image of 224x224x3",
        "parameters 7,978,856 torchvision: 7,978,856, equal",
        "multiply-adds 2,834,161,664 torchvision: 2,834,000,000, equal after rounding",
        "FLOPs 5,733,436,072",
    ]
    assert training.startswith("one step of training, batch of 64, float32, estimated")
    assert " ".join(training.splitlines()[-1].split()) == "total 8.12 GiB 2.57 GiB"


def test_documentation_shows_real_output(
    status: Status, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (Path(__file__).parents[2] / "docs" / "summary.md").read_text()
    (example,) = re.findall(r"```\n(name .*?)```", page, re.DOTALL)
    start, end = example.split("...\n")
    assert status("summary", "densenet121") == 0
    output = capsys.readouterr().out
    assert output.startswith(start)
    assert output.endswith(end)


def test_published_number_that_differs_is_told(
    status: Status, printed: Printed, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = (Published("parameters", Decimal("1.1e6"), "nobody"),)
    monkeypatch.setitem(published.PUBLISHED, "densenet-40-12", wrong)
    assert status("summary") == 0
    assert "parameters 1,019,722 nobody: 1,100,000, different after rounding" in printed()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ("densenet122", "error: NAME (='densenet122') must be one of the following; perhaps you "),
        ("densenet122", "perhaps you meant densenet121; densenet-40-12, "),
        ("vgg", "NAME (='vgg') must be one of the following; densenet-40-12, "),
        (
            "--json densenet121",
            "error: 'densenet121' must come before all flags: flax-densenet summary densenet121",
        ),
        ("densenet121 --depth 40", "depth (=40) and blocks (=(6, 12, 24, 16)) are both given"),
        ("--depth 41", "depth (=41) must be 3n+4"),
        ("--stem imagenet", "blocks (=None) must be the number of layers of each block"),
        ("densenet121 --image_size 20", "image is 20x20 pixels, but DenseNet-BC (L=121, k=32)"),
        ("--image_size 0", "image_size (=(0,)) must be one number of at least 1, or two: HEIGHT"),
        ("--image_size 8,8,8", "image_size (=(8, 8, 8)) must be one number of at least 1, or two"),
        ("--image_size 8x8", "invalid literal for int() with base 10: '8x8'"),
        ("--batch_size 0", "batch_size (=0) must be an integer of at least 1"),
        ("--batch 8", "Unrecognized options: --batch"),
    ],
)
def test_wrong_input_is_one_message(
    args: str, message: str, status: Status, printed: Printed
) -> None:
    assert status("summary", *args.split()) == 2
    text = printed()
    assert message in text
    assert "Traceback" not in text


def test_help_names_every_flag(status: Status, printed: Printed) -> None:
    assert status("summary", "--help") == 0
    text = printed()
    assert text.startswith("usage: flax-densenet summary [-h] [OPTIONS] [NAME|CHECKPOINT]")
    for flag in ("image_size", "batch_size", "json", "depth", "growth_rate", "precision"):
        assert f"--{flag}" in text
