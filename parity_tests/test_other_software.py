"""Weights of MONAI and pytorchcv give the logits that these give, and go back under their names."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import torch

from flax_densenet import DenseNet, DenseNetConfig, InputError
from flax_densenet.cli.main import main
from flax_densenet.weights import load_checkpoint
from parity_tests.golden import image
from parity_tests.other_software import other_software, state_of

_IMAGENET = DenseNetConfig(
    blocks=(2, 1), growth_rate=4, bottleneck=True, compression=0.5, stem="imagenet", num_classes=5
)
_CIFAR = DenseNetConfig(depth=16, growth_rate=4, bottleneck=True, compression=0.5)
NETWORKS = {
    "monai": _IMAGENET,
    "monai prelu": dataclasses.replace(_IMAGENET, activation="prelu"),
    "monai-2020": _IMAGENET,
    "pytorchcv": _CIFAR,
    "pytorchcv-plain": DenseNetConfig(depth=10, growth_rate=4, compression=0.5, stem_width=8),
    "pytorchcv-imagenet": dataclasses.replace(_IMAGENET, blocks=(1, 1, 1, 1)),
}


def _save(tree: Any, path: Path) -> Path:
    torch.save(tree, path)
    return path


def _tensors(name: str) -> dict[str, torch.Tensor]:
    return {key: torch.from_numpy(array) for key, array in state_of(name).items()}


@pytest.mark.parametrize("name", NETWORKS)
def test_logits_are_those_of_the_software(name: str, tmp_path: Path) -> None:
    stored = other_software()[name]
    found = load_checkpoint(_save(_tensors(name), tmp_path / "theirs.pth"))
    assert (found.layout, found.warnings, found.unneeded) == (name.partition(" ")[0], [], [])
    assert found.config == NETWORKS[name]
    with jax.enable_x64(True):
        model = DenseNet(dataclasses.replace(found.config, dtype="float64"))
        x = image(stored["image_shape"]).transpose(0, 2, 3, 1)
        ours = np.asarray(model.apply(found.variables, x, train=False))
    right = np.array(stored["logits"])
    assert np.abs(ours - right).max() <= 1e-12 * np.abs(right).max()


@pytest.mark.parametrize("name", NETWORKS)
def test_what_is_written_has_the_softwares_names_shapes_and_order(
    name: str, tmp_path: Path
) -> None:
    """So that it loads there with `strict=True`."""
    before = _tensors(name)
    source = _save(before, tmp_path / "theirs.pth")
    flags = ["--layout", name.partition(" ")[0], "--dtype", "float64", "--no_verify"]
    assert main(["convert", str(source), str(tmp_path / "flax"), *flags[2:]]) == 0
    assert main(["convert", str(tmp_path / "flax"), str(tmp_path / "back.pth"), *flags]) == 0
    after = torch.load(tmp_path / "back.pth", weights_only=True)
    assert list(after) == list(before)
    for key, tensor in before.items():
        assert torch.equal(after[key], tensor), key


@pytest.mark.parametrize("wrap", ["model", "lightning"])
def test_monai_is_read_inside_other_checkpoints(wrap: str, tmp_path: Path) -> None:
    """As ignite's Checkpoint and Lightning save it."""
    state = _tensors("monai")
    lightning = {
        "epoch": 3,
        "pytorch-lightning_version": "2.6.6",
        "state_dict": {f"net.{key}": tensor for key, tensor in state.items()},
        "hyper_parameters": {"in_channels": 3},
        "optimizer_states": [],
    }
    tree = {"model": state, "epoch": 3} if wrap == "model" else lightning
    found = load_checkpoint(_save(tree, tmp_path / "theirs.pth"))
    assert (found.layout, found.config) == ("monai", _IMAGENET)


@pytest.mark.parametrize(
    ("axes", "kind"), [((3,), r"volumes \(3-D\)"), (None, r"sequences \(1-D\)")]
)
def test_monai_of_other_dimensions_is_refused_as_such(
    axes: tuple[int, ...] | None, kind: str, tmp_path: Path
) -> None:
    state = {
        key: tensor
        if tensor.ndim != 4
        else (tensor[..., 0] if axes is None else tensor[..., None].expand(*tensor.shape, *axes))
        for key, tensor in _tensors("monai").items()
    }
    with pytest.raises(InputError, match=rf"features\.conv0\.weight has .* a network for {kind}, "):
        load_checkpoint(_save(state, tmp_path / "theirs.pth"))


@pytest.mark.parametrize(
    ("absent", "message"),
    [
        # norm=("group", {"num_groups": 4}) and norm=("instance", {"affine": True})
        (("running_mean", "running_var", "tracked"), "has weights and biases of normalizations"),
        # norm="instance"
        (
            (
                *("running_mean", "running_var", "tracked"),
                *(f"norm{n}.{leaf}" for n in ("", 0, 1, 2, 5) for leaf in ("weight", "bias")),
            ),
            "has no normalization",
        ),
    ],
)
def test_monai_without_batch_normalization_is_refused_by_name(
    absent: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    state = {key: t for key, t in _tensors("monai").items() if not key.endswith(absent)}
    wanted = f"MONAI since 0.4, but it {message} and no running .*instance, group or layer"
    with pytest.raises(InputError, match=wanted):
        load_checkpoint(_save(state, tmp_path / "theirs.pth"))
