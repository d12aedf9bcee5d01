"""Checkpoints without a classifier, or with one elsewhere."""

import csv
import dataclasses
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch import nn

import flax_densenet
import torch_reference
from flax_densenet import DenseNetConfig, InputError, from_torch
from flax_densenet.cli.main import main
from flax_densenet.network import variants
from flax_densenet.training import DataConfig, OptimizationConfig, RunConfig
from flax_densenet.training.config import FineTuningConfig
from flax_densenet.training.fine_tuning import open_source, start_variables
from flax_densenet.weights import load_checkpoint
from flax_densenet.weights.checkpoint import flat
from parity_tests.halves import assert_close

CONFIG = DenseNetConfig(
    blocks=(2, 1), growth_rate=4, bottleneck=True, compression=0.5, stem="imagenet", num_classes=3
)
WIDTH = 12  # maps that the classifier reads: (8 + 2 * 4) / 2 + 4
State = dict[str, torch.Tensor]
_IMAGE = np.random.default_rng(0).normal(size=(2, 3, 40, 40)).astype(np.float32)


@pytest.fixture(scope="module")
def model() -> torch_reference.DenseNet:
    """Returns a network; its statistics are not the initial ones."""
    torch.manual_seed(0)
    model = torch_reference.DenseNet(CONFIG)
    with torch.no_grad():
        model.train()(torch.from_numpy(_IMAGE))
    return model.eval()


def _features(model: nn.Module, prefix: str) -> State:
    return {f"{prefix}{k}": v for k, v in model.get_submodule("features").state_dict().items()}


def _in_a_list(model: nn.Module) -> State:
    """RadImageNet's nets: `self.backbone = nn.Sequential(*list(model.children())[:-1])`."""
    return {f"backbone.{k}": v for k, v in nn.Sequential(model.features).state_dict().items()}  # type: ignore[arg-type]


HEADLESS: dict[str, Callable[[nn.Module], State]] = {
    "features.": lambda model: _features(model, "features."),  # timm's num_classes=0
    "model.features.state_dict()": lambda model: _features(model, ""),
    "nn.Sequential(*children)": _in_a_list,
    "base.": lambda model: _features(model, "module.base."),
    # TIAToolbox's network, whose classifier reads the mean of norm5 without a ReLU
    "feat_extract.": lambda model: _features(model, "feat_extract.") | _linear("classifier"),
}


def _linear(name: str, outputs: int = 5, inputs: int = WIDTH) -> State:
    layer = nn.Linear(inputs, outputs)
    return {f"{name}.{key}": tensor for key, tensor in layer.state_dict().items()}


def _save(tree: Any, path: Path) -> Path:
    torch.save(tree, path)
    return path


def _without_head(variables: dict[str, Any]) -> dict[str, np.ndarray]:
    return {k: v for k, v in flat(variables).items() if not k.startswith("params/classifier")}


@pytest.mark.parametrize("name", HEADLESS)
def test_file_without_a_classifier_gets_a_new_one(
    name: str, model: torch_reference.DenseNet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = _save(HEADLESS[name](model), tmp_path / "features.pth")
    flags = ["--new_head", "--num_classes", "7", "--report", str(tmp_path / "report.csv")]
    is_verified = name == "features."
    flags += [] if is_verified else ["--no_verify"]
    assert main(["convert", str(path), str(tmp_path / "new.safetensors"), *flags]) == 0
    text = capsys.readouterr().out
    assert (
        "network    DenseNet-BC (L=9, k=4), blocks 2, 1, imagenet stem, 3 channels, no classif"
        in text
    )
    assert ("verified   logits of both networks differ by" in text) == is_verified
    assert (
        "warning: the file's own classifier is not taken: classifier.weight [5, 12]" in text
    ) == (name == "feat_extract.")
    new = load_checkpoint(tmp_path / "new.safetensors")
    assert (new.config.num_classes, new.variables["params"]["classifier"]["kernel"].shape) == (
        7,
        (WIDTH, 7),
    )
    ours, right = (
        _without_head(new.variables),
        _without_head(from_torch(model.state_dict(), CONFIG)),
    )
    assert set(ours) == set(right)
    for key, array in right.items():
        np.testing.assert_array_equal(ours[key], array)
    with (tmp_path / "report.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["source_shape"] == "" for row in rows if "classifier" in row["source_key"]} == {
        True
    }
    assert {row["source_shape"] == "" for row in rows if "conv" in row["source_key"]} == {False}


@pytest.mark.parametrize("name", HEADLESS)
def test_missing_classifier_is_told_where_one_is_needed(
    name: str, model: torch_reference.DenseNet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = _save(HEADLESS[name](model), tmp_path / "features.pth")
    found = "no layer beside the others"
    if name == "feat_extract.":
        found = "classifier.weight [5, 12], classifier.bias [5]"
    wanted = (
        f"holds DenseNet-BC (L=9, k=4) without a classifier that can be read: found {found}; "
        "wanted classifier.weight [classes, 12] and classifier.bias [classes]"
    )
    assert main(["convert", str(path), str(tmp_path / "new")]) == 2
    told = capsys.readouterr().err
    assert wanted in told
    assert ("TIAToolbox has no ReLU there" in told) == (name == "feat_extract.")
    assert (
        "give it a new one: convert FILE TARGET --new_head --num_classes N, train --init_" in told
    )
    assert main(["convert", str(path), str(tmp_path / "new"), "--new_head"]) == 2
    assert "--new_head needs --num_classes: " in capsys.readouterr().err
    for use in (flax_densenet.load, load_checkpoint, flax_densenet.image_reader):
        with pytest.raises(InputError, match=re.escape(wanted)):
            use(path)


def test_features_need_no_classifier(model: torch_reference.DenseNet, tmp_path: Path) -> None:
    path = _save(_features(model, "backbone."), tmp_path / "features.pth")
    network, variables = flax_densenet.load(path, head=False)
    image = jnp.asarray(_IMAGE.transpose(0, 2, 3, 1))
    features = jax.jit(partial(network.apply, train=False, method="features"))
    ours: Any = features(variables, image)
    with torch.no_grad():
        maps = torch.relu(model.features(torch.from_numpy(_IMAGE)))
    assert_close(
        {"pooled": np.asarray(ours["pooled"])}, {"pooled": maps.mean((2, 3)).numpy()}, 1e-5
    )
    with pytest.raises(InputError, match=r'no classifier; ask for features, .*method="features"\)'):
        network.apply(variables, image, train=False)


def test_load_leaves_a_classifier_out_on_request(
    model: torch_reference.DenseNet, tmp_path: Path
) -> None:
    path = _save(model.state_dict(), tmp_path / "whole.pth")
    _, variables = flax_densenet.load(path, head=False)
    assert "classifier" not in variables["params"]


def test_create_gives_a_classifier(
    model: torch_reference.DenseNet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(variants.VARIANTS, "tiny", CONFIG)
    path = _save(_features(model, ""), tmp_path / "features.pth")
    for classes in (5, 10):  # the latter is the number of a configuration without one
        with pytest.raises(InputError, match=r"have no classifier and .* give key=jax.random.key"):
            flax_densenet.create("tiny", num_classes=classes, weights=path)
        network, variables = flax_densenet.create(
            "tiny", num_classes=classes, weights=path, key=jax.random.key(0)
        )
        assert network.config.num_classes == classes
        assert variables["params"]["classifier"]["kernel"].shape == (WIDTH, classes)
    with pytest.raises(InputError, match="without a classifier that can be read"):
        flax_densenet.create("tiny", weights=path)


def test_training_starts_from_features(model: torch_reference.DenseNet, tmp_path: Path) -> None:
    path = _save(_features(model, ""), tmp_path / "features.pth")
    source = open_source(path)
    network = dataclasses.replace(source.checkpoint.config, num_classes=4)

    def run(*, new_head: bool) -> RunConfig:
        how = FineTuningConfig(init_from=str(path), new_head=new_head)
        return RunConfig(
            network=network,
            data=DataConfig(),
            optimization=OptimizationConfig(epochs=1, batch_size=8),
            fine_tuning=how,
        )

    variables = start_variables(run(new_head=True), tuple("abcd"))
    assert variables is not None
    assert variables["params"]["classifier"]["kernel"].shape == (WIDTH, 4)
    with pytest.raises(InputError, match=r"without a classifier that can be read: .*--new_head"):
        start_variables(run(new_head=False), tuple("abcd"))


@pytest.mark.parametrize(
    "name", ["conv0.weight", "denseblock1.denselayer2.norm2.bias", "norm5.bias"]
)
def test_a_truncated_file_stays_an_error(
    name: str, model: torch_reference.DenseNet, tmp_path: Path
) -> None:
    for prefix in ("features.", ""):
        state = _features(model, prefix)
        del state[f"{prefix}{name}"]
        path = _save(state, tmp_path / "cut.pth")
        with pytest.raises(InputError, match=rf"features\.{name.removesuffix('.weight')}\b"):
            load_checkpoint(path, needs_head=False)


def test_momentum_cannot_go_with_a_new_classifier(
    model: torch_reference.DenseNet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = _save(_features(model, ""), tmp_path / "features.pth")
    flags = ["--optimizer", "--new_head", "--num_classes", "5"]
    assert main(["convert", str(path), str(tmp_path / "new"), *flags]) == 2
    assert "--optimizer cannot go with --new_head" in capsys.readouterr().err


@pytest.mark.parametrize(
    "name", ["fc", "fc.0", "last_linear", "_fc", "head", "classifier.0", "classifier.1", "net.out"]
)
def test_a_linear_layer_elsewhere_is_the_classifier_and_told(
    name: str, model: torch_reference.DenseNet, tmp_path: Path
) -> None:
    head = _linear(name)
    beside = {"criterion.weight": torch.ones(5)}  # of a loss
    path = _save(_features(model, "features.") | head | beside, tmp_path / "head.pth")
    found = load_checkpoint(path)
    (warning,) = found.warnings
    assert warning.startswith(
        f"the classifier is read from {name}.weight [5, 12], {name}.bias [5]; what has no arrays"
    )
    assert found.unneeded == ["criterion.weight"]
    whole = model.state_dict() | {
        f"classifier.{leaf}": head[f"{name}.{leaf}"] for leaf in ("weight", "bias")
    }
    right = flat(from_torch(whole, dataclasses.replace(CONFIG, num_classes=5)))
    assert set(right) == set(flat(found.variables))
    for key, array in flat(found.variables).items():
        np.testing.assert_array_equal(array, right[key])


def test_classifier_is_the_nearest_one(model: torch_reference.DenseNet, tmp_path: Path) -> None:
    """Two networks of one file, each with its own."""
    state = {
        f"{who}.{key}": tensor
        for who in ("student", "teacher")
        for key, tensor in (_features(model, "features.") | _linear("fc")).items()
    }
    path = _save(state, tmp_path / "two.pth")
    for who in ("student", "teacher"):
        found = load_checkpoint(path, weight_set=f"{who}.")
        kernel = found.variables["params"]["classifier"]["kernel"]
        np.testing.assert_array_equal(kernel.T, state[f"{who}.fc.weight"].numpy())


def test_momentum_follows_the_order_of_the_file(tmp_path: Path) -> None:
    """A classifier that was made before the features is the first parameter."""

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(WIDTH, 3)
            self.features = torch_reference.DenseNet(CONFIG).features

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.fc(torch.relu(self.features(x)).mean((2, 3)))

    network = Network()
    optimizer = torch.optim.SGD(network.parameters(), 0.1, momentum=0.9)
    network(torch.from_numpy(_IMAGE)).square().sum().backward()
    optimizer.step()
    tree = {"state_dict": network.state_dict(), "optimizer": optimizer.state_dict()}
    found = load_checkpoint(_save(tree, tmp_path / "training.pth"), optimizer=True).optimizer
    assert found is not None
    head, stem = network.fc.weight.grad, network.get_submodule("features.conv0").weight.grad
    assert head is not None and isinstance(stem, torch.Tensor)
    np.testing.assert_array_equal(found.momentum["classifier"]["kernel"].T, head)
    np.testing.assert_array_equal(found.momentum["conv0"]["kernel"].transpose(3, 2, 0, 1), stem)


_FOREIGN: dict[str, tuple[State, str]] = {
    "two layers": (
        _linear("classifier.0", 6) | _linear("classifier.2", 5, 6),
        "classifier.0.weight [6, 12], classifier.0.bias [6], classifier.2.weight [5, 6]",
    ),
    "another width": (_linear("fc", inputs=2 * WIDTH), "fc.weight [5, 24], fc.bias [5]"),
    "its own name and another width": (
        _linear("classifier", inputs=2 * WIDTH),
        "classifier.weight [5, 24], classifier.bias [5]",
    ),
    "a convolution": (
        {"fc_0.weight": torch.ones(1, WIDTH, 1, 1), "fc_0.bias": torch.ones(1)},
        "fc_0.weight [1, 12, 1, 1], fc_0.bias [1]",
    ),
    "no bias": ({"classifier.weight": torch.ones(5, WIDTH)}, "classifier.weight [5, 12]; "),
    "several": (_linear("fc_0") | _linear("fc_1"), "fc_0.weight [5, 12], fc_0.bias [5], fc_1.w"),
    "a normalization before it": (
        {"head.0.weight": torch.ones(WIDTH), "head.0.bias": torch.ones(WIDTH)} | _linear("head.1"),
        "head.0.weight [12], head.0.bias [12], head.1.weight [5, 12]",
    ),
    "a decoder": (
        {f"decoder.{n}.conv.weight": torch.ones(4, 4, 3, 3) for n in range(60)},
        "decoder.0.conv.weight [4, 4, 3, 3], ",
    ),
}


@pytest.mark.parametrize("name", _FOREIGN)
def test_another_classifier_is_named_and_replaced_on_request(
    name: str, model: torch_reference.DenseNet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    head, text = _FOREIGN[name]
    path = _save(_features(model, "encoder.features.") | head, tmp_path / "head.pth")
    message = f"found {text}.*wanted classifier.weight [classes, 12] and .*--new_head"
    with pytest.raises(InputError, match=re.escape(message).replace(r"\.\*", ".*")):
        load_checkpoint(path)
    flags = ["--new_head", "--num_classes", "5", "--no_verify"]
    assert main(["convert", str(path), str(tmp_path / "new.pth"), *flags]) == 0
    told = capsys.readouterr().out
    assert f"warning: the file's own classifier is not taken: {text.removesuffix('; ')}" in told
    assert f"not taken  {next(iter(head))}" in told
    new = torch.load(tmp_path / "new.pth", weights_only=True)
    assert torch.equal(new["features.conv0.weight"], model.state_dict()["features.conv0.weight"])


def test_layers_beside_a_whole_network_stay_an_error(
    model: torch_reference.DenseNet, tmp_path: Path
) -> None:
    path = _save(model.state_dict() | _linear("fc"), tmp_path / "two_heads.pth")
    with pytest.raises(InputError, match=r"2 arrays in it belong to no layer .*fc.weight, fc.bias"):
        load_checkpoint(path, needs_head=False)
