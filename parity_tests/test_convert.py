"""The convert command on files of PyTorch, with its own verification and against PyTorch here."""

import csv
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

import torch_reference
from flax_densenet import DenseNet, DenseNetConfig
from flax_densenet.cli import convert as convert_module
from flax_densenet.cli.main import main
from flax_densenet.weights.layouts import LAYOUTS, TORCH_LEAVES
from flax_densenet.weights.load import load_checkpoint
from flax_densenet.weights.table import correspondence, from_torch, to_arrays
from flax_densenet.weights.verify import Verified

BC = DenseNetConfig(depth=16, growth_rate=4, bottleneck=True, compression=0.5, in_channels=1)
IMAGENET = DenseNetConfig(
    blocks=(2, 1), growth_rate=4, bottleneck=True, compression=0.5, stem="imagenet", num_classes=7
)
BC_COLOR = dataclasses.replace(BC, in_channels=3)
PLAIN_HALVED = DenseNetConfig(depth=7, growth_rate=4, compression=0.5)
_NETWORKS = {  # of software that cannot build BC_COLOR
    "torchvision-2017": IMAGENET,
    "pytorchcv-plain": PLAIN_HALVED,
    "pytorchcv-imagenet": IMAGENET,
    "monai": IMAGENET,
    "monai-2020": IMAGENET,
}
TORCH_LAYOUTS = [name for name, layout in LAYOUTS.items() if layout.leaves is TORCH_LEAVES]
Printed = Callable[[], str]


@pytest.fixture
def printed(capsys: pytest.CaptureFixture[str]) -> Printed:
    def text() -> str:
        captured = capsys.readouterr()
        return captured.out + captured.err

    return text


def model_of(config: DenseNetConfig) -> torch_reference.DenseNet:
    torch.manual_seed(0)
    model = torch_reference.DenseNet(config).eval()
    for name, buffer in model.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_()
        elif name.endswith("running_var"):
            buffer.uniform_(0.5, 2)
    return model


def convert(*args: object) -> int:
    return main(["convert", *map(str, args)])


@pytest.fixture(params=[BC, IMAGENET], ids=["BC", "ImageNet"])
def model(request: pytest.FixtureRequest) -> torch_reference.DenseNet:
    return model_of(request.param)


@pytest.mark.parametrize("target", ["flax.safetensors", "orbax"])
def test_converted_network_gives_pytorchs_logits(
    model: torch_reference.DenseNet, target: str, tmp_path: Path, printed: Printed
) -> None:
    torch.save({"epoch": 3, "state_dict": model.state_dict()}, tmp_path / "model.pth")
    assert convert(tmp_path / "model.pth", tmp_path / target) == 0
    text = printed()
    assert "layout     torchvision or timm, under state_dict" in text
    assert f"network    {model.config.title}, blocks" in text
    assert "verified   logits of both networks differ by" in text
    checkpoint = load_checkpoint(tmp_path / target)
    assert checkpoint.config == model.config  # from the metadata
    image = np.random.default_rng(0).normal(size=(3, model.config.in_channels, 36, 33))
    with torch.no_grad():
        right = model(torch.from_numpy(image).float()).numpy()
    x = jnp.asarray(image.transpose(0, 2, 3, 1), jnp.float32)
    network = DenseNet(checkpoint.config)
    ours = np.asarray(network.apply(checkpoint.variables, x, train=False))
    np.testing.assert_allclose(ours, right, rtol=0, atol=1e-5 * np.abs(right).max())


def test_there_and_back_is_the_same_file_to_pytorch(
    model: torch_reference.DenseNet, tmp_path: Path
) -> None:
    torch.save(model.state_dict(), tmp_path / "before.pth")
    assert convert(tmp_path / "before.pth", tmp_path / "flax.safetensors") == 0
    assert convert(tmp_path / "flax.safetensors", tmp_path / "after.pth") == 0
    after = torch.load(tmp_path / "after.pth", weights_only=True)
    torch_reference.DenseNet(model.config).load_state_dict(after, strict=True)
    for key, tensor in model.state_dict().items():
        assert torch.equal(after[key], tensor), key


@pytest.mark.parametrize("layout", TORCH_LAYOUTS)
def test_every_layout_of_pytorch_can_be_written_and_read(layout: str, tmp_path: Path) -> None:
    config = _NETWORKS.get(layout, BC_COLOR)
    model = model_of(config)
    torch.save(model.state_dict(), tmp_path / "model.pth")
    other = tmp_path / "other.pth"
    assert convert(tmp_path / "model.pth", other, "--layout", layout) == 0
    keys = set(torch.load(other, weights_only=True))
    rows = correspondence(config, LAYOUTS[layout])
    assert keys == {row.key for row in rows} | {row.counter for row in rows if row.counter}
    assert convert(other, tmp_path / "back.safetensors") == 0
    assert convert(other, tmp_path / "again.pth") == 0
    again = torch.load(tmp_path / "again.pth", weights_only=True)
    for key, tensor in model.state_dict().items():
        assert torch.equal(again[key], tensor), key


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_type_is_as_asked_and_statistics_stay_wide(dtype: str, tmp_path: Path) -> None:
    model = model_of(BC)
    torch.save(model.state_dict(), tmp_path / "model.pth")
    for target in ("flax.safetensors", "again.pth"):
        assert convert(tmp_path / "model.pth", tmp_path / target, "--dtype", dtype) == 0
    arrays = load_checkpoint(tmp_path / "flax.safetensors").source_arrays
    wide = dtype if dtype == "float64" else "float32"
    for path, array in arrays.items():
        assert str(array.dtype) == (wide if path.startswith("batch_stats") else dtype), path
    kernel = model.state_dict()["features.conv0.weight"].to(getattr(torch, dtype))
    again = torch.load(tmp_path / "again.pth", weights_only=True)["features.conv0.weight"]
    assert torch.equal(again, kernel)


def test_report_has_a_row_for_each_array(tmp_path: Path) -> None:
    torch.save(model_of(BC).state_dict(), tmp_path / "model.pth")
    report = tmp_path / "report.csv"
    assert convert(tmp_path / "model.pth", tmp_path / "new", "--report", report) == 0
    with report.open() as file:
        rows = list(csv.DictReader(file))
    assert [row["source_key"] for row in rows] == [row.key for row in correspondence(BC)]
    stem = rows[0]
    assert (stem["target_key"], stem["axes"]) == ("params/conv0/kernel", "OIHW->HWIO")
    assert (stem["source_shape"], stem["target_shape"]) == ("8x1x3x3", "3x3x1x8")
    assert all(len(row["sha256"]) == 64 for row in rows)


def test_metadata_say_what_the_file_is(tmp_path: Path) -> None:
    torch.save(model_of(BC).state_dict(), tmp_path / "model.pth")
    flags = ("--batch_norm_epsilon", "0.001")
    assert convert(tmp_path / "model.pth", tmp_path / "new.safetensors", *flags) == 0
    checkpoint = load_checkpoint(tmp_path / "new.safetensors")
    assert checkpoint.config.batch_norm_epsilon == 0.001
    assert json.loads(checkpoint.metadata["config"])["growth_rate"] == 4
    assert checkpoint.metadata["source"] == "model.pth (torchvision or timm)"


def test_new_head_and_other_channels(tmp_path: Path, printed: Printed) -> None:
    model = model_of(BC)
    torch.save(model.state_dict(), tmp_path / "model.pth")
    target = tmp_path / "new.pth"
    flags = ("--num_classes", "3", "--new_head", "--in_channels", "3")
    assert convert(tmp_path / "model.pth", target, *flags) == 0
    text = printed()
    assert "new head   3 classes, initial weights" in text
    assert "channels   3 instead of 1" in text
    new = torch.load(target, weights_only=True)
    for key, tensor in model.state_dict().items():
        if key == "features.conv0.weight":
            assert torch.allclose(new[key].sum(1, keepdim=True), tensor)
        elif not key.startswith("classifier"):
            assert torch.equal(new[key], tensor), key
    assert new["classifier.weight"].shape[0] == 3


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--num_classes", "3"], "num_classes (=3) is not the 10 of"),
        (["--in_channels", "2", "--layout", "nothing"], "layout (='nothing') must be one of torch"),
        (
            ["--variant", "densenet121"],
            "where DenseNet-BC (L=121, k=32) was asked for: ",
        ),
        (["--layout", "torchvision"], "cannot be an Orbax directory, which holds Flax variables"),
        (["--depth", "22"], "depth (=22) is not the 16 of"),
        (["--growth_rate", "12"], "growth_rate (=12) is not the 4 of"),
        (["--weight_set", "ema"], "has no weights at 'ema'; choose one of ''"),
    ],
)
def test_wrong_request_is_one_message_and_writes_nothing(
    flags: list[str], message: str, tmp_path: Path, printed: Printed
) -> None:
    torch.save(model_of(BC).state_dict(), tmp_path / "model.pth")
    try:
        assert convert(tmp_path / "model.pth", tmp_path / "new", *flags) == 2
    except SystemExit as exit_request:
        assert exit_request.code == 2
    text = " ".join(printed().split())
    assert message in text, text
    assert [file.name for file in tmp_path.iterdir()] == ["model.pth"]


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("new.onnx", "target new.onnx ends in .onnx; wanted .pth or .pt (PyTorch), .safetensors"),
        ("model.pth", "exists; give another target, or replace it with --overwrite"),
        ("missing/new.pth", "is no directory; create it"),
    ],
)
def test_wrong_target_is_one_message(
    target: str, message: str, tmp_path: Path, printed: Printed
) -> None:
    torch.save(model_of(BC).state_dict(), tmp_path / "model.pth")
    before = (tmp_path / "model.pth").read_bytes()
    assert convert(tmp_path / "model.pth", tmp_path / target) == 2
    assert message in printed()
    assert (tmp_path / "model.pth").read_bytes() == before


def test_target_is_replaced_on_request(tmp_path: Path) -> None:
    torch.save(model_of(BC).state_dict(), tmp_path / "model.pth")
    for overwrite in ([], ["--overwrite"]):
        assert convert(tmp_path / "model.pth", tmp_path / "new", *overwrite) == 0


def test_source_is_never_its_own_target(tmp_path: Path, printed: Printed) -> None:
    torch.save(model_of(BC).state_dict(), tmp_path / "model.pth")
    before = (tmp_path / "model.pth").read_bytes()
    assert convert(tmp_path / "model.pth", tmp_path / "model.pth", "--overwrite") == 2
    assert "is the checkpoint itself; give another target" in printed()
    assert (tmp_path / "model.pth").read_bytes() == before


def test_too_large_values_for_a_type_are_refused(tmp_path: Path, printed: Printed) -> None:
    state = model_of(BC).state_dict()
    state["classifier.bias"][0] = 1e6
    torch.save(state, tmp_path / "model.pth")
    assert convert(tmp_path / "model.pth", tmp_path / "new", "--dtype", "float16") == 2
    assert "dtype (='float16') cannot hold values up to 1e+06; use float32" in printed()


def test_fault_of_ours_is_found_and_leaves_no_target(
    tmp_path: Path, printed: Printed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrong permutation of a square kernel keeps every shape."""
    torch.save(model_of(BC).state_dict(), tmp_path / "model.pth")
    wrong = (TORCH_LEAVES["conv"][0]._replace(flax_axes="WHIO"),)
    monkeypatch.setitem(TORCH_LEAVES, "conv", wrong)
    assert convert(tmp_path / "model.pth", tmp_path / "new") == 1
    assert "was not equal to" in printed()
    assert not (tmp_path / "new").exists()


def test_conversion_without_torch_says_what_was_not_checked(
    tmp_path: Path, printed: Printed, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save(model_of(BC_COLOR).state_dict(), tmp_path / "model.pth")
    assert convert(tmp_path / "model.pth", tmp_path / "torch.safetensors", "--layout", "bamos") == 0

    def no_torch(name: str) -> None:
        assert name == "torch"

    monkeypatch.setattr(convert_module.importlib.util, "find_spec", no_torch)
    assert convert(tmp_path / "torch.safetensors", tmp_path / "new") == 0
    assert "not verified: that needs torch; install flax-densenet[torch]" in printed()


def test_verification_can_be_left_out(
    tmp_path: Path, printed: Printed, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any) -> Verified:
        raise AssertionError("verified")

    monkeypatch.setattr("flax_densenet.weights.verify.verify", fail)
    torch.save(model_of(BC).state_dict(), tmp_path / "model.pth")
    assert convert(tmp_path / "model.pth", tmp_path / "new", "--no_verify") == 0
    assert "verified" not in printed()


def test_keras_epsilon_is_shown_and_kept(tmp_path: Path, printed: Printed) -> None:
    variables = from_torch(model_of(IMAGENET).state_dict(), IMAGENET)
    keras_names = tmp_path / "keras.safetensors"
    save_file(to_arrays(variables, IMAGENET, LAYOUTS["keras"]), keras_names)
    assert convert(keras_names, tmp_path / "new", "--batch_norm_epsilon", "1e-5") == 0
    assert load_checkpoint(tmp_path / "new").config.batch_norm_epsilon == 1e-5


def test_work_directory_brings_its_configuration_along(tmp_path: Path, printed: Printed) -> None:
    """What files do not hold: epsilon, dropout, and what images are normalized with."""
    run = tmp_path / "run"
    flags = "--depth 7 --growth_rate 2 --epochs 1 --batch_norm_epsilon 1e-3 --dropout_rate 0.1"
    assert main(["train", *flags.split(), "--workdir", str(run)]) == 0
    printed()
    assert convert(run, tmp_path / "new.safetensors") == 0
    text = printed()
    assert "epsilon    0.001 in batch normalization" in text
    assert "pixels     mean 77.8217, standard deviation 95.8785 (of 0 to 255)" in text
    assert "layout     flax-densenet" in text and "wrote" in text
    (checkpoint,) = (run / "checkpoints").iterdir()
    assert convert(checkpoint, tmp_path / "new.pth", "--batch_norm_epsilon", "1e-3") == 0
    assert convert(run, tmp_path / "flax") == 0
    again = load_checkpoint(tmp_path / "flax")
    assert (again.config.batch_norm_epsilon, again.config.dropout_rate) == (1e-3, 0.1)
    assert again.statistics is not None
    assert [*again.statistics.mean, *again.statistics.std] == pytest.approx(
        [77.8216886, 95.8784926]
    )


def test_average_of_a_run_is_told_and_has_no_momentum(tmp_path: Path, printed: Printed) -> None:
    run = tmp_path / "run"
    flags = "--depth 7 --growth_rate 2 --epochs 1 --ema_decay 0.9".split()
    assert main(["train", *flags, "--workdir", str(run)]) == 0
    assert convert(run, tmp_path / "new.pth") == 0
    assert "warning: these weights are the moving average of the run's parameters" in printed()
    assert convert(run, tmp_path / "other.pth", "--optimizer") == 2
    assert "and the momentum belongs to the parameters; convert the weights alone" in printed()
    assert not (tmp_path / "other.pth").exists()


@pytest.mark.parametrize(
    ("config", "known"), [(IMAGENET, True), (BC, False)], ids=["ImageNet", "CIFAR"]
)
def test_pixels_are_imagenets_where_the_layout_tells(
    config: DenseNetConfig, known: bool, tmp_path: Path, printed: Printed
) -> None:
    torch.save(model_of(config).state_dict(), tmp_path / "model.pth")
    assert convert(tmp_path / "model.pth", tmp_path / "new.safetensors") == 0
    assert (
        "pixels     mean 123.675, 116.28, 103.53, standard deviation 58.395" in printed()
    ) == known
    statistics = load_checkpoint(tmp_path / "new.safetensors").statistics
    assert (statistics is not None) == known
    channels = config.in_channels
    flags = ("--mean", ",".join(["100"] * channels), "--std", ",".join(["50"] * channels))
    assert convert(tmp_path / "model.pth", tmp_path / "mine.safetensors", *flags) == 0
    mine = load_checkpoint(tmp_path / "mine.safetensors").statistics
    assert mine == ((100.0,) * channels, (50.0,) * channels)
    assert convert(tmp_path / "model.pth", tmp_path / "not", "--mean", "1,2,3,4") == 2
    assert "must both be" in printed()
