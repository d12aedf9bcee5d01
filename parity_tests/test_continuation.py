"""A training that goes on in the other framework equals one that stays in its own."""

import math
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import torch

import torch_reference
from flax_densenet import DenseNet, DenseNetConfig, InputError
from flax_densenet.cli.main import main
from flax_densenet.parity.random_inputs import random_variables
from flax_densenet.parity.tolerances import TOLERANCES
from flax_densenet.training import (
    DataConfig,
    OptimizationConfig,
    Preprocess,
    RunConfig,
    TrainState,
    WorkDir,
    create_state,
    sgd,
    train_step,
)
from flax_densenet.training.checkpoints import CheckpointStore
from flax_densenet.training.fine_tuning import continue_from
from flax_densenet.weights import load_checkpoint
from flax_densenet.weights.table import from_torch, to_torch_arrays
from parity_tests.halves import assert_close

CONFIG = DenseNetConfig(depth=10, growth_rate=4, bottleneck=True, dtype="float64")
STEPS = 4  # in each framework
RATE, DECAY = 0.01, 1e-2


def batch(step: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(step)
    pixels = random.integers(256, size=(6, 3, 8, 8)).astype(np.uint8)
    return pixels, random.integers(10, size=6).astype(np.int32)


def new_optimizer(model: torch.nn.Module) -> torch.optim.SGD:
    return torch.optim.SGD(
        model.parameters(), RATE, momentum=0.9, weight_decay=DECAY, nesterov=True
    )


def train_torch(model: torch.nn.Module, optimizer: torch.optim.SGD, steps: range) -> None:
    model.train()
    for step in steps:
        pixels, label = batch(step)
        logits = model((torch.from_numpy(pixels).double() - 128) / 64)
        loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(label).long())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def train_flax(state: TrainState, steps: range) -> TrainState:
    step_fn = jax.jit(train_step)
    for step in steps:
        pixels, label = batch(step)
        state, _ = step_fn(state, {"image": pixels.transpose(0, 2, 3, 1), "label": label})
    return state


def fresh_state() -> TrainState:
    preprocess = Preprocess((128.0,) * 3, (64.0,) * 3, "none")
    return create_state(DenseNet(CONFIG), sgd(RATE, DECAY), preprocess, seed=0)


def fresh_model() -> torch_reference.DenseNet:
    model = torch_reference.DenseNet(CONFIG).double()
    arrays = to_torch_arrays(random_variables(CONFIG), CONFIG)
    model.load_state_dict({key: torch.from_numpy(array) for key, array in arrays.items()})
    return model


@pytest.fixture(scope="module")
def straight() -> dict[str, np.ndarray]:
    """2 k steps in PyTorch."""
    model = fresh_model()
    train_torch(model, new_optimizer(model), range(2 * STEPS))
    return arrays_of(model)


def arrays_of(model: torch.nn.Module) -> dict[str, np.ndarray]:
    state = {key: value.numpy() for key, value in model.state_dict().items()}
    return {key: a for key, a in state.items() if not key.endswith("num_batches_tracked")}


def convert(*args: object) -> None:
    assert main(["convert", *map(str, args), "--optimizer", "--dtype", "float64"]) == 0


@pytest.fixture
def begun_in_torch(tmp_path: Path) -> Path:
    """A training checkpoint after k steps, as scripts save it."""
    model = fresh_model()
    optimizer = new_optimizer(model)
    train_torch(model, optimizer, range(STEPS))
    file = tmp_path / "begun.pth"
    saved = {"state_dict": model.state_dict(), "optimizer": optimizer.state_dict(), "step": STEPS}
    torch.save(saved, file)
    return file


@pytest.mark.parametrize("target", [None, "flax.safetensors", "orbax", "again.pth"])
def test_begun_in_pytorch_goes_on_in_flax(
    target: str | None, begun_in_torch: Path, straight: dict[str, np.ndarray], tmp_path: Path
) -> None:
    file = begun_in_torch
    if target is not None:
        convert(begun_in_torch, tmp_path / target)
        file = tmp_path / target
    with jax.enable_x64(True):
        state = continue_from(fresh_state(), load_checkpoint(file, optimizer=True))
        assert int(state.step) == STEPS
        state = train_flax(state, range(STEPS, 2 * STEPS))
        ours = to_torch_arrays({"params": state.params, "batch_stats": state.batch_stats}, CONFIG)
    ours = {key: array for key, array in ours.items() if key in straight}
    assert_close(ours, straight, TOLERANCES["float64"].training)


def test_begun_in_flax_goes_on_in_pytorch(straight: dict[str, np.ndarray], tmp_path: Path) -> None:
    """Through a file that PyTorch's own `load_state_dict` takes, weights and optimizer."""
    with jax.enable_x64(True):
        variables = from_torch(fresh_model().state_dict(), CONFIG)
        state = fresh_state().replace(**jax.device_put(variables))
        state = jax.device_get(train_flax(state, range(STEPS)))
        with CheckpointStore(tmp_path / "run" / "checkpoints") as checkpoints:
            checkpoints.save(jax.device_put(state), [])
        how = OptimizationConfig(learning_rate=RATE, weight_decay=DECAY)
        run = RunConfig(network=CONFIG, data=DataConfig(), optimization=how)
        WorkDir(tmp_path / "run").write_config(run)
    convert(tmp_path / "run", tmp_path / "begun.pth")
    saved: dict[str, Any] = torch.load(tmp_path / "begun.pth", weights_only=True)
    assert saved["step"] == STEPS
    counters = [saved["state_dict"][key] for key in saved["state_dict"] if "num_batches" in key]
    assert len(counters) == 9 and all(counter == STEPS for counter in counters)
    model = torch_reference.DenseNet(CONFIG).double()
    model.load_state_dict(saved["state_dict"], strict=True)
    optimizer = new_optimizer(model)
    optimizer.load_state_dict(saved["optimizer"])
    (group,) = optimizer.param_groups
    assert (group["momentum"], group["nesterov"]) == (0.9, True)
    assert (group["lr"], group["weight_decay"]) == (RATE, DECAY)  # from config.json
    train_torch(model, optimizer, range(STEPS, 2 * STEPS))
    assert_close(arrays_of(model), straight, TOLERANCES["float64"].training)


def test_weights_alone_cannot_be_continued(tmp_path: Path) -> None:
    torch.save(fresh_model().state_dict(), tmp_path / "weights.pth")
    checkpoint = load_checkpoint(tmp_path / "weights.pth", optimizer=True)
    message = "the checkpoint holds weights alone; wanted the optimizer's momentum"
    with jax.enable_x64(True), pytest.raises(InputError, match=message):
        continue_from(fresh_state(), checkpoint)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["new", "--new_head"], "--optimizer cannot go with --new_head or --in_channels"),
        (["new.pth", "--layout", "bamos"], "--optimizer cannot go into new.pth as bamos/"),
        (["new.safetensors", "--layout", "torchvision"], "cannot go into new.safetensors as torch"),
    ],
)
def test_optimizer_where_it_cannot_go_is_refused(
    flags: list[str],
    message: str,
    begun_in_torch: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    target, *others = flags
    args = ["convert", str(begun_in_torch), str(tmp_path / target), "--optimizer", *others]
    assert main(args) == 2
    assert message in capsys.readouterr().err


def test_weights_without_momentum_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(fresh_model().state_dict(), tmp_path / "weights.pth")
    args = ["convert", str(tmp_path / "weights.pth"), str(tmp_path / "new"), "--optimizer"]
    assert main(args) == 2
    assert "holds no momentum of SGD; leave out --optimizer" in capsys.readouterr().err


def test_several_parameter_groups_are_refused(tmp_path: Path) -> None:
    model = fresh_model()
    parameters = list(model.parameters())
    optimizer = torch.optim.SGD(
        [{"params": parameters[:5]}, {"params": parameters[5:]}], RATE, momentum=0.9
    )
    train_torch(model, optimizer, range(1))
    saved = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
    torch.save(saved, tmp_path / "two.pth")
    message = r"the optimizer has 2 parameter group\(s\) and \d+ momentum"
    with pytest.raises(InputError, match=message):
        load_checkpoint(tmp_path / "two.pth", optimizer=True)
    assert math.isfinite(load_checkpoint(tmp_path / "two.pth").config.growth_rate)
