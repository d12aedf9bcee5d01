"""Modules that were saved whole are read without their code, or refused for what they compute."""

import collections
import dataclasses
import pickle
import random
import struct
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import jax
import numpy as np
import pytest
import torch
from torch import nn

from flax_densenet import DenseNet, InputError
from flax_densenet.data.outputs import Outputs
from flax_densenet.weights import load_checkpoint
from flax_densenet.weights.files import read_weights
from flax_densenet.weights.files.legacy_modules import readable
from parity_tests.halves import assert_close
from parity_tests.other_networks import torchvision_2018

pytestmark = pytest.mark.filterwarnings("ignore:Couldn't retrieve source code")

_TORCHVISION = "torchvision.models.densenet"
_FORMATS = {"zip": True, "legacy": False}
Network = torchvision_2018.DenseNet


@pytest.fixture(autouse=True)
def torchvision(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """Stands in for torchvision, which is not installed: the module that classes are saved from."""
    for name in ("torchvision", "torchvision.models", _TORCHVISION):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    module = sys.modules[_TORCHVISION]
    bases = {"DenseNet": Network, "_DenseLayer": torchvision_2018._DenseLayer}
    for name in ("DenseNet", "_DenseBlock", "_DenseLayer", "_Transition"):
        base: Any = bases.get(name, nn.Sequential)
        setattr(module, name, type(name, (base,), {"__module__": _TORCHVISION}))
    yield module


@pytest.fixture
def model(torchvision: ModuleType) -> Any:
    """Returns a network of torchvision's classes; its statistics are not the initial ones."""
    made = torchvision.DenseNet()
    for name, module in made.named_modules():
        last = name.rpartition(".")[2]
        for prefix, class_name in (("denseblock", "_DenseBlock"), ("transition", "_Transition")):
            if last.startswith(prefix):
                module.__class__ = getattr(torchvision, class_name)
        if last.startswith("denselayer"):
            module.__class__ = torchvision._DenseLayer
    made(torch.randn(4, 3, 32, 32))
    return made.eval()


def _save(content: Any, directory: Path, form: str) -> Path:
    path = directory / "whole.pth"
    torch.save(content, path, _use_new_zipfile_serialization=_FORMATS[form])
    return path


@pytest.mark.parametrize("form", _FORMATS)
@pytest.mark.parametrize(
    ("around", "where"),
    [
        (lambda net: net, ""),
        (lambda net: nn.DataParallel(net), "module."),
        (
            lambda net: {
                "model": nn.DataParallel(net),
                "best_loss": torch.tensor(0.3),
                "rng_state": torch.get_rng_state(),
                "LR": 0.01,
            },
            "model: module.",
        ),
    ],
)
def test_whole_modules_compute_the_same(
    form: str, around: Callable[[Any], Any], where: str, model: Any, tmp_path: Path, float64: None
) -> None:
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps, module.momentum = 1e-3, 0.2
    found = load_checkpoint(_save(around(model), tmp_path, form))
    assert found.where == where
    assert (found.config.batch_norm_epsilon, found.config.batch_norm_momentum) == (1e-3, 0.2)
    assert found.outputs == Outputs() and found.warnings == []
    assert found.counters == (1,) * len(found.counters or ())
    x = np.random.default_rng(0).normal(size=(2, 3, 32, 32))
    with torch.no_grad():
        theirs = model.double()(torch.from_numpy(x)).numpy()
    variables = jax.tree.map(lambda array: array.astype(np.float64), found.variables)
    network = DenseNet(dataclasses.replace(found.config, dtype="float64"))
    ours = np.asarray(network.apply(variables, x.transpose(0, 2, 3, 1), train=False))
    assert_close({"logits": ours}, {"logits": theirs}, 1e-12)


@pytest.mark.parametrize("form", _FORMATS)
@pytest.mark.parametrize(
    ("last", "reading"),
    [(nn.Sigmoid(), "several_labels"), (nn.LogSoftmax(1), "one_class"), (None, "one_class")],
)
def test_what_follows_the_classifier_says_how_outputs_are_read(
    form: str, last: Any, reading: str, model: Any, tmp_path: Path
) -> None:
    layers = [nn.Dropout(0.5), model.classifier, *([last] if last else [])]
    model.classifier = nn.Sequential(*layers)
    found = load_checkpoint(_save(model, tmp_path, form))
    assert found.outputs == Outputs(reading=reading)  # type: ignore[arg-type]
    told = ["a sigmoid follows the classifier: each output is read as a label by itself"]
    assert found.warnings == (told if reading == "several_labels" else [])


def _set(name: str, **settings: Any) -> Callable[[Any], Any]:
    def change(model: Any) -> Any:
        for setting, value in settings.items():
            setattr(model.get_submodule(name), setting, value)
        return model

    return change


def _replace(name: str, module: nn.Module | None) -> Callable[[Any], Any]:
    def change(model: Any) -> Any:
        parent, _, child = name.rpartition(".")
        model.get_submodule(parent)._modules[child] = module
        return model

    return change


def _hooked(model: Any) -> Any:
    model.features.norm5.register_forward_hook(nn.ReLU())
    return model


def _swapped(model: Any) -> Any:
    modules = model.features._modules
    modules["pool0"], modules["relu0"] = modules["relu0"], modules["pool0"]
    return model


def _one_epsilon(model: Any) -> Any:
    model.features.norm0.eps = 1e-3
    return model


_LAYER = "features.denseblock1.denselayer1"
_TRANSITION = "features.transition1"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_replace("features.relu0", nn.ELU()), r"names torch\.nn\.modules\.activation\.ELU, which"),
        (_replace("features.relu0", nn.Sigmoid()), r"relu0 \(Sigmoid\) stands where .* \(ReLU\)"),
        (
            _replace("features.pool0", None),
            r"denseblock1 \(_DenseBlock\) stands where a DenseNet has features\.pool0",
        ),
        (_swapped, r"features\.relu0 \(MaxPool2d\) stands where .* \(ReLU\)"),
        (_replace("aux", nn.ReLU()), r"aux \(ReLU\) stands where a DenseNet has nothing"),
        (_replace(f"{_TRANSITION}.pool", nn.MaxPool2d(2)), r"pool \(MaxPool2d\) stands where"),
        (_replace(f"{_TRANSITION}.pool", nn.AvgPool2d(3, 2)), "kernel_size 3, where .* has 2"),
        (_set("features.conv0", stride=(1, 1)), r"features\.conv0 has stride 1, where .* has 2"),
        (_set(f"{_LAYER}.conv2", padding=(0, 1)), r"conv2 has padding \(0, 1\), where .* has 1"),
        (_set(f"{_LAYER}.conv2", padding_mode="reflect"), "padding_mode reflect"),
        (_set("features.norm5", track_running_stats=False), "track_running_stats False"),
        (_set("features.pool0", ceil_mode=True), "ceil_mode True"),
        (_one_epsilon, "its batch normalizations have eps "),
        (_hooked, r"features\.norm5 calls functions in its forward pass \(hooks\)"),
        (lambda net: nn.Sequential(net), r"the network is in a torch.*container\.Sequential"),
        (
            lambda net: nn.Sequential(collections.OrderedDict(net.named_children())),
            r"its class is torch\.nn\.modules\.container\.Sequential",
        ),
        (
            lambda net: _replace("classifier", nn.Sequential(net.classifier, nn.ReLU()))(net),
            "its classifier is Linear, ReLU",
        ),
    ],
)
def test_another_network_is_refused(
    change: Callable[[Any], Any], message: str, model: Any, tmp_path: Path
) -> None:
    path = _save(change(model), tmp_path, "legacy")
    with pytest.raises(InputError, match=rf"{message}.*torch\.save\(model\.state_dict\(\), FILE\)"):
        load_checkpoint(path)


_PythonsOwn: Any = pickle._Pickler  # its methods are in Python


def test_the_class_of_torchxrayvision_says_several_labels(
    model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("torchxrayvision", "torchxrayvision.models"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    xray: Any = type("DenseNet", (Network,), {"__module__": "torchxrayvision.models"})
    monkeypatch.setattr(sys.modules["torchxrayvision.models"], "DenseNet", xray, raising=False)
    model.__class__ = xray
    model.upsample = nn.Upsample(size=(224, 224), mode="bilinear")  # as in the library of 2021
    found = load_checkpoint(_save(model, tmp_path, "legacy"))
    assert found.outputs == Outputs(reading="several_labels")
    assert found.class_names is None and found.preparation.shorter_side == 256
    assert found.warnings == ["the module's class says that this is a network of torchxrayvision"]
    model.pathologies = [f"label {index}" for index in range(9)] + [""]
    named = load_checkpoint(_save(model, tmp_path, "legacy"))
    assert named.class_names == tuple(model.pathologies)
    assert named.warnings[0].endswith("its labels are taken; 1 output not trained: 9")
    model.upsample = nn.Upsample(size=(512, 512), mode="bilinear")
    with pytest.raises(InputError, match=r"upsample \(Upsample\) stands where a DenseNet has noth"):
        load_checkpoint(_save(model, tmp_path, "legacy"))


class _Python2(_PythonsOwn):
    """Writes text as Python 2 does, as strings of bytes."""

    dispatch: ClassVar[Any] = dict(_PythonsOwn.dispatch)

    def save_text(self: Any, text: str) -> None:
        content = text.encode("latin1")
        if len(content) < 256:
            self.write(pickle.SHORT_BINSTRING + bytes([len(content)]) + content)
        else:
            self.write(pickle.BINSTRING + struct.pack("<i", len(content)) + content)
        self.memoize(text)

    dispatch[str] = save_text


class _Python2Number:
    """A number of NumPy as Python 2 pickles it: its bytes are a string."""

    def __reduce__(self) -> Any:
        scalar = np.float64(0).__reduce__()[0]
        return scalar, (np.dtype("f8"), np.float64(71.55).tobytes().decode("latin1"))


def _python_2() -> ModuleType:
    module = ModuleType("python_2")
    module.Pickler = _Python2  # type: ignore[attr-defined]

    def dump(content: Any, file: Any, protocol: int) -> None:
        _Python2(file, protocol).dump(content)

    module.dump = dump  # type: ignore[attr-defined]
    return module


def test_files_of_python_2_are_read(model: Any, tmp_path: Path) -> None:
    best = _Python2Number()
    for name, content in {
        "state.pth": {"state_dict": model.state_dict(), "best_prec1": best, "arch": "densenet161"},
        "whole.pth": {"model": nn.DataParallel(model), "best_prec1": best},
    }.items():
        path = tmp_path / name
        torch.save(content, path, pickle_module=_python_2(), _use_new_zipfile_serialization=False)
        assert b"X\x07\x00\x00\x00storage" not in path.read_bytes()  # as Python 3 has it
        contents = read_weights(path)
        assert contents.settings["best_prec1",] == 71.55
        found = load_checkpoint(path)
        kernel = model.features.conv0.weight.detach().numpy().transpose(2, 3, 1, 0)
        np.testing.assert_array_equal(found.variables["params"]["conv0"]["kernel"], kernel)


@pytest.fixture
def whole(model: Any, tmp_path: Path) -> bytes:
    """Returns a legacy file with a whole module in it."""
    return _save(model, tmp_path, "legacy").read_bytes()


_RELU = b"ctorch.nn.modules.activation\nReLU\n"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (b"cposix\nsystem\n", r"names posix\.system, which is not data; nothing in it was run"),
        (b"c__main__\nMine\n", r"names __main__\.Mine, which is not data"),
        (b"ccollections\nOrderedDict\n", "holds a module of no class"),
        (b"X\x03\x00\x00\x00abc", "holds a module of no class"),
        (b"cflax_densenet\nmodule_class\n", "holds a module of no class"),
    ],
)
def test_only_known_classes_stand_for_modules(
    name: bytes, message: str, whole: bytes, tmp_path: Path
) -> None:
    assert whole.count(_RELU) == 1
    path = tmp_path / "forged.pth"
    path.write_bytes(whole.replace(_RELU, name))
    with pytest.raises(InputError, match=message):
        read_weights(path)


def test_modules_that_contain_themselves_or_no_modules_are_refused(tmp_path: Path) -> None:
    inner = nn.Sequential()
    inner._modules["again"] = inner
    with pytest.raises(InputError, match="another thing than modules in it"):
        read_weights(_save(inner, tmp_path, "legacy"))
    wrong: Any = nn.Sequential()
    wrong._modules["text"] = "no module"
    with pytest.raises(InputError, match="another thing than modules in it, 'text'"):
        read_weights(_save(wrong, tmp_path, "zip"))
    wrong._modules = [1]
    with pytest.raises(InputError, match="a module without _modules"):
        read_weights(_save(wrong, tmp_path, "zip"))


def test_cut_and_damaged_files_are_refused(whole: bytes, tmp_path: Path) -> None:
    path = tmp_path / "damaged.pth"
    sizes = [*range(60, len(whole), len(whole) // 20), len(whole) - 1]
    for size in sizes:
        path.write_bytes(whole[:size])
        with pytest.raises(InputError) as caught:
            read_weights(path)
        assert str(caught.value).isprintable()
    draw = random.Random(0)
    for _ in range(40):
        content = bytearray(whole)
        content[draw.randrange(40, len(whole))] = draw.randrange(256)
        path.write_bytes(content)
        try:
            load_checkpoint(path)
        except InputError as error:
            assert all(line.isprintable() for line in str(error).splitlines())


def test_forged_lengths_take_no_memory(whole: bytes, tmp_path: Path) -> None:
    path = tmp_path / "forged.pth"
    for long in (b"X\xff\xff\xff\x7f", b"T\xff\xff\xff\x7f", b"r\xff\xff\xff\xff"):
        path.write_bytes(whole.replace(_RELU, long, 1))
        tracemalloc.start()
        with pytest.raises(InputError):
            read_weights(path)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 20 * len(whole)


def test_files_without_modules_are_not_rewritten(model: Any, tmp_path: Path) -> None:
    with _save(model.state_dict(), tmp_path, "legacy").open("rb") as file:
        assert readable(file) is file
