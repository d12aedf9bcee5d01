"""Writes data/keras.json.gz, first with Keras 3 and then with tf_keras, which is Keras 2.

Each needs its own environment: `python -m flax_densenet.tests.make_keras_golden keras` with Keras
and JAX, and then the same with tf_keras and TensorFlow.
"""

import gzip
import importlib
import json
import os
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from flax_densenet.tests import keras_golden

_SHAPE = (keras_golden.IMAGE_SIZE, keras_golden.IMAGE_SIZE, 3)


def models(keras: Any, densenet: Any) -> dict[str, Any]:
    """Returns the models, by what is special in them."""
    layers = keras.layers

    def network(**arguments: Any) -> Any:
        arguments = {"weights": None, "input_shape": _SHAPE, **arguments}
        return densenet.DenseNet(list(keras_golden.BLOCKS), **arguments)

    application = network(classes=keras_golden.CLASSES)
    base = network(include_top=False)
    dropped = layers.Dropout(0.5)(layers.GlobalAveragePooling2D()(base.output))
    head = layers.Dense(keras_golden.CLASSES, activation="sigmoid")(dropped)
    flat = keras.Model(base.input, head)
    base, image = network(include_top=False), layers.Input(_SHAPE)
    pooled = layers.GlobalAveragePooling2D()(base(layers.RandomFlip()(image), training=False))
    nested = keras.Model(image, layers.Dense(keras_golden.CLASSES)(layers.Dropout(0.2)(pooled)))
    head = layers.Dense(keras_golden.CLASSES, activation="softmax")
    chain = keras.Sequential([network(include_top=False, pooling="avg"), head])
    described = application.get_config()
    for layer in described["layers"]:
        if layer["class_name"] == "BatchNormalization":
            layer["config"] |= {"epsilon": 0.01, "momentum": 0.9}
    epsilon = application.__class__.from_config(described)
    base = network(include_top=False, pooling="max")
    maximum = keras.Model(base.input, layers.Dense(keras_golden.CLASSES)(base.output))
    image = layers.Input(_SHAPE)
    scaled = layers.Rescaling(1 / 255)(image)
    rescaled = keras.Model(image, network(classes=keras_golden.CLASSES, input_tensor=scaled).output)
    return {
        "application": application,
        "flat": flat,
        "nested": nested,
        "chain": chain,
        "epsilon": epsilon,
        "maximum": maximum,
        "rescaled": rescaled,
    }


def weight_layers(model: Any) -> list[Any]:
    """Returns the layers with weights, those of inner models, too."""
    return [
        one
        for layer in model.layers
        for one in (weight_layers(layer) if hasattr(layer, "layers") else [layer])
        if one.weights
    ]


def fill(model: Any) -> dict[int, str]:
    """Sets the weights; returns the name of each array's values, by their hash."""
    names = {}
    for layer in weight_layers(model):
        arrays = []
        for weight in layer.weights:
            leaf = weight.name.rpartition("/")[2].removesuffix(":0")
            is_head = len(layer.kernel.shape) == 2 if hasattr(layer, "kernel") else False
            owner = "predictions" if is_head else layer.name.replace("conv1/", "conv1_")
            name = f"{owner}/{leaf}"
            arrays.append(keras_golden.values(name, tuple(weight.shape)))
            names[hash(arrays[-1].tobytes())] = name
        layer.set_weights(arrays)
    return names


def logits(keras: Any, model: Any) -> list[list[float]]:
    """Returns the logits: the last layer's function before its activation."""
    head = weight_layers(model)[-1]
    features = keras.Model(model.inputs, head.input).predict(keras_golden.images(), verbose=0)
    kernel, bias = (np.asarray(weight, np.float64) for weight in head.get_weights())
    return (np.asarray(features, np.float64) @ kernel + bias).tolist()


def stored(path: Path, names: dict[int, str]) -> dict[str, Any]:
    """Returns what a file holds, without the numbers."""
    model, source = None, path
    if path.suffix == ".keras":
        with zipfile.ZipFile(path) as archive:
            model = archive.read("config.json").decode()
            source = Path(archive.extract("model.weights.h5", path.parent / "unpacked"))
    groups: dict[str, Any] = {}
    arrays: dict[str, Any] = {}

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            weight = names[hash(item[()].astype(np.float32).tobytes())]
            arrays[name] = (weight, item.shape)
        else:
            groups[name] = {key: plain(value) for key, value in item.attrs.items()}

    with h5py.File(source) as file:
        groups[""] = {key: plain(value) for key, value in file.attrs.items()}
        file.visititems(visit)
    return {"groups": groups, "arrays": arrays, "model": groups[""].pop("model_config", model)}


def plain(value: Any) -> Any:
    """Returns an attribute as JSON has it."""
    if isinstance(value, np.ndarray):
        return [plain(item) for item in value.tolist()]
    return value.decode() if isinstance(value, bytes) else value


def main() -> None:
    """Writes the files of one of the two, and keeps those of the other one."""
    package = sys.argv[1]
    os.environ |= {"KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu", "JAX_ENABLE_X64": "1"}
    keras = importlib.import_module(package)
    densenet = importlib.import_module(f"{package}.src.applications.densenet")
    keras.backend.set_floatx("float64")
    data: dict[str, Any] = {"logits": {}, "files": {}}
    if keras_golden.DATA.exists():
        data = keras_golden.golden()
    version = f"keras {keras.__version__[0]}"
    with tempfile.TemporaryDirectory() as directory:
        for variant, model in models(keras, densenet).items():
            names = fill(model)
            data["logits"][f"{version}/{variant}"] = logits(keras, model)
            for ending in ("h5", "keras", "weights.h5", "legacy.h5"):
                path = Path(directory, f"{variant}.{ending}")
                if ending == "weights.h5" or (ending == "legacy.h5" and version == "keras 2"):
                    model.save_weights(path)
                elif ending == "legacy.h5":
                    module = f"{package}.src.legacy.saving.legacy_h5_format"
                    legacy = importlib.import_module(module)
                    with h5py.File(path, "w") as file:
                        legacy.save_weights_to_hdf5_group(file, model)
                else:
                    model.save(path)
                data["files"][f"{version}/{path.name}"] = stored(path, names)
    text = json.dumps(data, sort_keys=True).replace("float64", "float32")
    keras_golden.DATA.write_bytes(gzip.compress(text.encode(), mtime=0))


if __name__ == "__main__":
    main()
