"""Files of half precision, and files that hold more than the network."""

import warnings
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import torch

import flax_densenet
import torch_reference
from flax_densenet import DenseNetConfig, InputError
from flax_densenet.cli.main import main
from flax_densenet.weights import load_checkpoint
from parity_tests.halves import assert_close

CONFIG = DenseNetConfig(blocks=(1, 1), growth_rate=4, bottleneck=True, num_classes=3)
_IMAGE = np.random.default_rng(0).normal(size=(4, 3, 8, 8)).astype(np.float32)


@pytest.fixture
def state() -> dict[str, torch.Tensor]:
    """Returns a state dict; its statistics are not the initial ones."""
    model = torch_reference.DenseNet(CONFIG)
    with torch.no_grad():
        model.train()(torch.from_numpy(_IMAGE))
    return model.state_dict()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(
    dtype: torch.dtype, state: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    path = tmp_path / "half.pth"
    half = {k: v.to(dtype) if v.is_floating_point() else v for k, v in state.items()}
    torch.save(half, path)
    name = str(dtype).removeprefix("torch.")
    with pytest.warns(UserWarning, match=f"are {name} in the file; they are taken as float32"):
        model, variables = flax_densenet.load(path)
    reference = torch_reference.DenseNet(CONFIG).eval()
    reference.load_state_dict({k: v.float() for k, v in half.items()})
    with torch.no_grad():
        theirs = reference(torch.from_numpy(_IMAGE)).numpy()
    image = jnp.asarray(_IMAGE.transpose(0, 2, 3, 1))
    ours: Any = model.apply(variables, image, train=False)
    assert ours.dtype == jnp.float32
    # Computed in float16, they would be 3e-4 off.
    assert_close({"logits": np.asarray(ours)}, {"logits": theirs}, 1e-5)


def test_commands_say_it_once(
    state: dict[str, torch.Tensor], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({k: v.half() for k, v in state.items()}, tmp_path / "half.pth")
    assert main(["convert", str(tmp_path / "half.pth"), str(tmp_path / "full")]) == 0
    printed = capsys.readouterr().out
    assert "dtype      float16" in printed
    assert printed.count("they are taken as float32") == 1


def test_momentum_of_half_precision_is_widened(
    state: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    model = torch_reference.DenseNet(CONFIG)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    model(torch.from_numpy(_IMAGE)).sum().backward()
    optimizer.step()
    saved = optimizer.state_dict()
    for one in saved["state"].values():
        one["momentum_buffer"] = one["momentum_buffer"].half()
    torch.save({"state_dict": state, "optimizer": saved}, tmp_path / "training.pth")
    found = load_checkpoint(tmp_path / "training.pth", optimizer=True).optimizer
    assert found is not None and found.momentum["conv0"]["kernel"].dtype == np.float32


@pytest.mark.parametrize("dtype", [torch.int8, torch.int64, torch.bool])
def test_weights_that_are_no_floats_are_refused(
    dtype: torch.dtype, state: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    state["features.conv0.weight"] = state["features.conv0.weight"].to(dtype)
    torch.save(state, tmp_path / "quantized.pth")
    message = rf"features\.conv0\.weight is of {str(dtype).removeprefix('torch.')}; wanted floating"
    with pytest.raises(InputError, match=message):
        load_checkpoint(tmp_path / "quantized.pth")


_BESIDE: dict[str, Any] = {
    # PyTorch's own ImageNet example saves its best accuracy as a tensor.
    "best_acc1": lambda net: {"state_dict": net, "best_acc1": torch.tensor(71.5)},
    "losses/0": lambda net: {"model": net, "losses": [torch.tensor(0.3), torch.tensor(0.2)]},
    "state_dict/criterion.pos_weight": lambda net: {
        "state_dict": {
            **{f"model.{k}": v for k, v in net.items()},
            "criterion.pos_weight": torch.ones(3),
        }
    },
    "val_auroc.confmat": lambda net: net | {"val_auroc.confmat": torch.zeros(5, 2, 2)},
    "criterion.weight": lambda net: net | {"criterion.weight": torch.ones(3)},
    "pos_weight": lambda net: net | {"pos_weight": torch.ones(3)},
    "n_averaged": lambda net: {
        **{f"module.{k}": v for k, v in net.items()},
        "n_averaged": torch.tensor(7),
    },
}


@pytest.mark.parametrize("name", _BESIDE)
def test_what_is_beside_the_network_is_told_and_left_out(
    name: str, state: dict[str, torch.Tensor], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "checkpoint.pth"
    torch.save(_BESIDE[name](state), path)
    with warnings.catch_warnings(action="error"):
        found = load_checkpoint(path)
    assert name in found.unneeded
    kernel = state["features.conv0.weight"].numpy().transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(found.variables["params"]["conv0"]["kernel"], kernel)
    assert main(["convert", str(path), str(tmp_path / "flax")]) == 0
    assert f"not taken  {name}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("features.extra", (3,)),  # inside the network's own names
        ("features.denseblock1.denselayer9.conv1.scale", (3,)),
        ("classifier.scale", (3,)),
        ("gate.fc.weight", (3, 3)),  # could be a layer
        ("last.running_mean", (3,)),
        ("group_norm.bias", (3,)),
        ("slopes.weight", (4,)),  # no weight for each of 3 classes
    ],
)
def test_what_may_be_a_part_of_the_network_is_an_error(
    name: str, shape: tuple[int, ...], state: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    torch.save(state | {name: torch.ones(shape)}, tmp_path / "more.pth")
    with pytest.raises(InputError, match=f"1 array in it belong to no layer of a .*{name}"):
        load_checkpoint(tmp_path / "more.pth")


def test_layers_under_another_prefix_are_left_out_on_request(
    state: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    path = tmp_path / "two_heads.pth"
    prefixed = {f"net.{k}": v for k, v in state.items()}
    torch.save(prefixed | {"projection.weight": torch.ones(8, 4)}, path)
    with pytest.raises(InputError, match=r"projection.weight; if .* with --weight_set 'net\.'"):
        load_checkpoint(path)
    assert load_checkpoint(path, weight_set="net.").unneeded == ["projection.weight"]


def test_create_chooses_a_set(tmp_path: Path) -> None:
    config = flax_densenet.VARIANTS["densenet-40-12"]
    nets = [torch_reference.DenseNet(config).state_dict() for _ in range(2)]
    torch.save({"model": nets[0], "ema": nets[1]}, tmp_path / "two.pth")
    _, variables = flax_densenet.create(
        "densenet-40-12", weights=tmp_path / "two.pth", weight_set="ema"
    )
    wanted = nets[1]["features.conv0.weight"].numpy().transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(variables["params"]["conv0"]["kernel"], wanted)


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda p: torch.optim.RMSprop(p, 0.1, momentum=0.9), "RMSprop or Adadelta .*square_avg"),
        (lambda p: torch.optim.Adadelta(p, 0.1), "RMSprop or Adadelta"),
        (lambda p: torch.optim.Adam(p, 0.1), "Adam or AdamW .*exp_avg_sq"),
        (lambda p: torch.optim.AdamW(p, 0.1), "Adam or AdamW"),
        (lambda p: torch.optim.Adagrad(p, 0.1), "Adagrad"),
        (lambda p: torch.optim.Adamax(p, 0.1), "Adamax"),
        (lambda p: torch.optim.Rprop(p, 0.1), "Rprop"),
        (lambda p: torch.optim.ASGD(p, 0.1), "ASGD"),
        (lambda p: torch.optim.Adafactor(p, 0.1), "unknown .*row_var"),
    ],
)
def test_another_optimizer_is_named(
    make: Any, name: str, state: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    model = torch_reference.DenseNet(CONFIG)
    optimizer = make(model.parameters())
    model(torch.from_numpy(_IMAGE)).sum().backward()
    optimizer.step()
    torch.save(
        {"state_dict": state, "optimizer": optimizer.state_dict()}, tmp_path / "training.pth"
    )
    load_checkpoint(tmp_path / "training.pth")
    with pytest.raises(InputError, match=f"the optimizer is {name}.*without --optimizer"):
        load_checkpoint(tmp_path / "training.pth", optimizer=True)
