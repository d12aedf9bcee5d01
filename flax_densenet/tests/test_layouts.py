"""Tests of layouts and inference on the keys and shapes that real software wrote.

data/state_dict_keys.json.gz: names, shapes and types of fifteen checkpoints made by torchvision
0.29.1, timm 1.0.31, Keras 3.15.1, pytorchcv and four repositories ("about" names their commits).
"""

import dataclasses
import gzip
import json
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
import pytest

from flax_densenet import VARIANTS, DenseNetConfig, InputError
from flax_densenet.network.layers import ArrayPath
from flax_densenet.weights import load as load_module
from flax_densenet.weights.files.contents import Contents
from flax_densenet.weights.heads import find_head
from flax_densenet.weights.infer import infer_config
from flax_densenet.weights.layouts import LAYOUTS, TORCH_LEAVES
from flax_densenet.weights.load import load_checkpoint
from flax_densenet.weights.recognize import find_weight_sets
from flax_densenet.weights.table import correspondence

with gzip.open(Path(__file__).parent / "data" / "state_dict_keys.json.gz") as _file:
    MODELS: dict[str, dict[str, tuple[list[int], str]]] = json.load(_file)["models"]


class Expected(NamedTuple):
    """What a checkpoint must be recognized as."""

    layout: str
    config: DenseNetConfig
    where: str = ""


def cifar(depth: int, **fields: object) -> DenseNetConfig:
    return DenseNetConfig(depth=depth, **fields)  # type: ignore[arg-type]


BC_28_12 = cifar(28, bottleneck=True, compression=0.5)
KERAS_121 = DenseNetConfig(
    blocks=(6, 12, 24, 16),
    growth_rate=32,
    bottleneck=True,
    compression=0.5,
    stem="imagenet",
    num_classes=10,
    batch_norm_epsilon=1.001e-5,  # keras/src/applications/densenet.py
    batch_norm_momentum=0.01,  # Keras's 0.99 is that of the old
)
EXPECTED = {
    **{
        f"torchvision/densenet{n}": Expected("torchvision", VARIANTS[f"densenet{n}"])
        for n in (121, 161, 169, 201)
    },
    "timm/densenet121": Expected("torchvision", VARIANTS["densenet121"]),
    "andreasveit/plain-22-12": Expected("andreasveit", cifar(22, stem_width=24)),
    "andreasveit/BC-28-12": Expected("andreasveit", BC_28_12),
    "bamos/BC-28-12": Expected("bamos", BC_28_12),
    "gpleiss/BC-28-12": Expected("gpleiss", BC_28_12),
    "bearpaw/BC-28-12": Expected("bearpaw", BC_28_12, "module."),
    "pytorchcv/densenet40_k12_bc_cifar10": Expected(
        "pytorchcv", cifar(40, bottleneck=True, compression=0.5)
    ),
    "keras 3.15.1/DenseNet121 10 classes, legacy .h5": (Expected("keras", KERAS_121)),
    "keras 3.15.1/DenseNet121 10 classes, .weights.h5": Expected("keras-3", KERAS_121),
}


def arrays_of(model: str, *outer: str) -> dict[ArrayPath, np.ndarray]:
    """Zeros of the model's shapes (a view each, so that they take no memory)."""
    separator = "/" if model.startswith("keras") else "\0"
    return {
        (*outer, *key.split(separator)): np.broadcast_to(np.zeros((), dtype), shape)
        for key, (shape, dtype) in MODELS[model].items()
    }


def test_every_model_is_expected_or_refused() -> None:
    assert set(MODELS) == set(EXPECTED) | {"timm/densenet264d", "timm/densenetblur121d"}


@pytest.mark.parametrize("model", EXPECTED)
def test_layout_and_network_are_recognized(model: str) -> None:
    expected = EXPECTED[model]
    (found,) = find_weight_sets(arrays_of(model))
    assert (found.layout, found.where, found.unknown) == (expected.layout, expected.where, [])
    layout = LAYOUTS[found.layout]
    shapes = {key: array.shape for key, array in found.arrays.items()}
    assert infer_config(found.parsed) == expected.config
    rows = correspondence(expected.config, layout)
    counters = {row.counter for row in rows} - {None}
    if layout.leaves is TORCH_LEAVES:  # the order of `parameters()`, which optimizers number by
        own = [key for key in shapes if key not in counters]
        assert [row.key for row in rows] == own
    assert {row.key: row.shape for row in rows} == {
        key: shape for key, shape in shapes.items() if key not in counters
    }
    assert {row.key for row in rows} | (counters & set(shapes)) == set(shapes)


@pytest.mark.parametrize("model", ["torchvision/densenet121", "bearpaw/BC-28-12"])
@pytest.mark.parametrize(
    ("outer", "prefix"),
    [
        (("state_dict",), ""),
        (("model",), "module."),
        ((), "module.densenet121."),
        (("checkpoint", "model_state_dict"), "_orig_mod.module.backbone."),
        ((), "net.model.base."),
    ],
)
def test_wrappers_in_any_nesting_are_found(model: str, outer: ArrayPath, prefix: str) -> None:
    arrays = {(*outer, prefix + keys[0]): array for keys, array in arrays_of(model).items()}
    (found,) = find_weight_sets(arrays)
    own = EXPECTED[model].where
    assert found.where == ": ".join(filter(None, ["/".join(outer), prefix + own]))
    assert (found.layout, found.unknown) == (EXPECTED[model].layout, [])
    assert set(found.paths.values()) == set(arrays)


def test_torchvision_before_2018_and_a_head_in_a_sequential() -> None:
    """As CheXNet's file: module.densenet121.features...norm.1, classifier.0, no counters."""
    arrays: dict[ArrayPath, np.ndarray] = {}
    for (key,), array in arrays_of("torchvision/densenet121").items():
        if key.endswith("num_batches_tracked"):
            continue
        old = key
        if "denselayer" in key:
            for part in ("norm1", "conv1", "norm2", "conv2"):
                old = old.replace(f".{part}.", f".{part[:-1]}.{part[-1]}.")
        old = old.replace("classifier.", "classifier.0.")
        arrays[("state_dict", f"module.densenet121.{old}")] = array
    (one,) = find_weight_sets(arrays)
    found, head = find_head(one, arrays)
    assert (found.layout, found.unknown) == ("torchvision-2017", [])
    assert {path[-1].rpartition(".")[0] for path in head.found} == {
        "module.densenet121.classifier.0"
    }
    assert found.where == "state_dict: module.densenet121."
    assert len(found.arrays) == 606  # all entries but the 121 counters
    assert infer_config(found.parsed) == VARIANTS["densenet121"]


def test_a_head_of_two_layers_is_no_classifier(monkeypatch: pytest.MonkeyPatch) -> None:
    arrays: dict[ArrayPath, np.ndarray] = {
        (key.replace("classifier.", "classifier.0."),): array
        for (key,), array in arrays_of("gpleiss/BC-28-12").items()
    }
    arrays[("classifier.2.weight",)] = np.zeros((3, 10), np.float32)
    message = r"found classifier\.0\.weight \[10, 90\], .*classifier\.2\.weight \[3, 10\]; wanted "
    with pytest.raises(InputError, match=message):
        load(arrays, monkeypatch)


def load(arrays: dict[ArrayPath, np.ndarray], monkeypatch: pytest.MonkeyPatch) -> object:
    contents = Contents("PyTorch zip", arrays, {}, {})
    monkeypatch.setattr(load_module, "read_weights", lambda path: contents)
    return load_checkpoint("my.pth")


@pytest.mark.parametrize("model", ["timm/densenet264d", "timm/densenetblur121d"])
def test_deep_stem_is_refused_by_name(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError) as caught:
        load(arrays_of(model), monkeypatch)
    message = str(caught.value)
    assert (
        "my.pth looks like torchvision or timm, but 10 arrays in it belong to no layer" in message
    )
    assert "features.conv1.weight, features.norm1.weight" in message
    assert "a stem of three convolutions (timm's ...d nets) is not supported" in message


def test_average_beside_raw_weights_is_never_chosen_silently(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    raw = arrays_of("gpleiss/BC-28-12", "model")
    average = arrays_of("gpleiss/BC-28-12", "model_ema")
    with pytest.raises(
        InputError, match=r"holds 2 sets of weights: 'model' \(164 arrays\), 'model"
    ):
        load(raw | average, monkeypatch)


# Names as these networks' own code gives them.
RELATIVES = {
    "CondenseNet": {
        "features.init_conv.weight": (16, 3, 3, 3),
        "features.denseblock_1.denselayer_1.conv_1.norm.weight": (16,),
        "features.denseblock_1.denselayer_1.conv_1.conv.weight": (32, 16, 1, 1),
        "features.norm_last.weight": (64,),
        "classifier.weight": (10, 64),
    },
    "Dual Path": {
        "features.conv1_1.conv.weight": (64, 3, 7, 7),
        "features.conv2_1.c1x1_a.conv.weight": (96, 64, 1, 1),
        "features.conv5_bn_ac.bn.weight": (2688,),
        "classifier.weight": (1000, 2688, 1, 1),
    },
}


@pytest.mark.parametrize("relative", RELATIVES)
def test_relatives_are_refused_by_their_first_array(
    relative: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrays: dict[ArrayPath, np.ndarray] = {
        (key,): np.zeros(shape, np.float32) for key, shape in RELATIVES[relative].items()
    }
    first = next(iter(RELATIVES[relative]))
    with pytest.raises(InputError, match=f"holds no DenseNet .* the first, {first} of shape"):
        load(arrays, monkeypatch)


def test_volumes_instead_of_images_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    arrays = {
        keys: np.zeros((*array.shape, 3), np.float32) if array.ndim == 4 else array
        for keys, array in arrays_of("gpleiss/BC-28-12").items()
    }
    message = (
        r"conv0.weight has 5 axes, .* wanted 4 \(OIHW\); this is a network for volumes \(3-D\)"
    )
    with pytest.raises(InputError, match=message):
        load(arrays, monkeypatch)


def test_pruned_net_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    arrays = arrays_of("gpleiss/BC-28-12")
    pruned = ("features.denseblock2.denselayer3.conv1.weight",)
    arrays[pruned] = np.zeros((40, *arrays[pruned].shape[1:]), np.float32)
    with pytest.raises(InputError, match=rf"! {pruned[0]}: got \(40, 60, 1, 1\), wanted \(48, 60"):
        load(arrays, monkeypatch)


@pytest.mark.parametrize("layout", ["keras", "keras-3"])
def test_keras_file_is_read_from_the_disk(layout: str, tmp_path: Path) -> None:
    """A small net in the two forms that Keras writes: legacy names end in ":0"."""
    config = DenseNetConfig(
        blocks=(2, 1), growth_rate=3, bottleneck=True, compression=0.5, stem="imagenet"
    )
    suffix = ":0" if layout == "keras" else ""
    draw = np.random.default_rng(0)
    written = {}
    with h5py.File(tmp_path / "weights.h5", "w") as file:
        for row in correspondence(config, LAYOUTS[layout]):
            written[row.key] = draw.uniform(0.5, 1.5, row.shape).astype(np.float32)
            file[row.key + suffix] = written[row.key]
    checkpoint = load_checkpoint(tmp_path / "weights.h5")
    assert (checkpoint.layout, checkpoint.format) == (layout, "Keras HDF5")
    assert checkpoint.config == dataclasses.replace(
        config, batch_norm_epsilon=1.001e-5, batch_norm_momentum=0.01
    )
    stem = "conv1_conv/conv1_conv/kernel" if layout == "keras" else "layers/conv2d/vars/0"
    np.testing.assert_array_equal(checkpoint.variables["params"]["conv0"]["kernel"], written[stem])
    scale = "conv3_block1_0_bn/conv3_block1_0_bn/gamma"  # after norm0, two layers and a transition
    scale = scale if layout == "keras" else "layers/batch_normalization_6/vars/0"
    block = checkpoint.variables["params"]["denseblock2"]["denselayer1"]
    np.testing.assert_array_equal(block["norm1"]["scale"], written[scale])


@pytest.mark.parametrize("layout", ["keras", "keras-3"])
def test_keras_file_without_a_top_needs_a_new_one(layout: str, tmp_path: Path) -> None:
    """As include_top=False writes it, and RadImageNet publishes it."""
    config = DenseNetConfig(
        blocks=(2, 1), growth_rate=3, bottleneck=True, compression=0.5, stem="imagenet"
    )
    with h5py.File(tmp_path / "notop.h5", "w") as file:
        for row in correspondence(config, LAYOUTS[layout]):
            if row.layer.path != ("classifier",):
                file[row.key] = np.ones(row.shape, np.float32)
    found = load_checkpoint(tmp_path / "notop.h5", needs_head=False)
    assert (found.layout, found.has_head) == (layout, False)
    assert set(found.variables["params"]) == {
        *("conv0", "norm0", "denseblock1", "transition1", "denseblock2", "norm5")
    }
    name = "predictions/predictions" if layout == "keras" else "layers/dense/vars"
    with pytest.raises(InputError, match=rf"wanted {name}/\w+ \[9, classes\] and .*--new_head"):
        load_checkpoint(tmp_path / "notop.h5")
    with h5py.File(tmp_path / "notop.h5", "a") as file:
        del file[correspondence(config, LAYOUTS[layout])[3].key]  # truncated
    with pytest.raises(InputError, match="missing"):
        load_checkpoint(tmp_path / "notop.h5", needs_head=False)
