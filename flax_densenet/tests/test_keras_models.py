"""What Keras files say of their network is compared with ours, on files of Keras itself."""

import dataclasses
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import jax
import ml_dtypes
import numpy as np
import pytest

from flax_densenet import DenseNet, DenseNetConfig, InputError
from flax_densenet.network.layers import weight_layers
from flax_densenet.tests import keras_golden
from flax_densenet.weights.checkpoint import Checkpoint, flat
from flax_densenet.weights.keras.layers import keras_name
from flax_densenet.weights.layouts import LAYOUTS
from flax_densenet.weights.load import load_checkpoint

CONFIG = DenseNetConfig(
    blocks=keras_golden.BLOCKS,
    growth_rate=32,  # all that keras.applications has
    bottleneck=True,
    compression=0.5,
    stem="imagenet",
    num_classes=keras_golden.CLASSES,
    batch_norm_epsilon=1.001e-5,  # keras/src/applications/densenet.py
    batch_norm_momentum=0.01,  # Keras's 0.99 is that of the old
)
VERSIONS = ("keras 2", "keras 3")
ENDINGS = ("h5", "keras", "weights.h5", "legacy.h5")
WHOLE = ("h5", "keras")
MODEL = "keras 3/application.h5"


_NAMES: dict[str, dict[str, tuple[str, str]]] = {  # ours, and Keras's with its axes
    "conv": {"kernel": ("kernel", "HWIO")},
    "linear": {"kernel": ("kernel", "IO"), "bias": ("bias", "O")},
    "norm": {
        "scale": ("gamma", "C"),
        "bias": ("beta", "C"),
        "mean": ("moving_mean", "C"),
        "var": ("moving_variance", "C"),
    },
}


def expected_variables() -> dict[str, np.ndarray]:
    """The weights of all the files, by our paths."""
    found = {}
    for layer in weight_layers(CONFIG):
        for ours, (theirs, axes) in _NAMES[layer.kind].items():
            collection = "batch_stats" if ours in ("mean", "var") else "params"
            shape = tuple(layer.axes[axis] for axis in axes)
            name = f"{keras_name(layer, LAYOUTS['keras'])}/{theirs}"
            found["/".join((collection, *layer.path, ours))] = keras_golden.values(name, shape)
    return found


EXPECTED = expected_variables()


def logits(checkpoint: Checkpoint) -> np.ndarray:
    with jax.enable_x64(True), jax.default_matmul_precision("highest"):
        variables = jax.tree.map(lambda a: a.astype(np.float64), checkpoint.variables)
        model = DenseNet(dataclasses.replace(checkpoint.config, dtype="float64"))
        apply = jax.jit(lambda x: model.apply(variables, x, train=False))
        return np.asarray(apply(keras_golden.images()))


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("variant", ["application", "flat", "nested", "chain"])
def test_every_file_of_keras_gives_the_same_network(
    version: str, variant: str, ending: str, tmp_path: Path
) -> None:
    checkpoint = load_checkpoint(keras_golden.write(f"{version}/{variant}.{ending}", tmp_path))
    assert checkpoint.config == CONFIG
    variables = flat(checkpoint.variables)
    assert variables.keys() == EXPECTED.keys()
    for path, array in EXPECTED.items():
        np.testing.assert_array_equal(variables[path], array)
    told = " ".join(checkpoint.warnings)
    assert ("Dropout" in told) == (variant in ("flat", "nested"))
    is_inside = variant in ("nested", "chain") and ending == "legacy.h5"
    assert ("are taken to be those of" in told or "are assumed" in told) == (ending not in WHOLE)
    assert ("inside of its model" in told or "are assumed" in told) == is_inside
    assert ("a sigmoid" in told) == (variant == "flat" and ending in WHOLE)


@pytest.mark.parametrize("variant", ["application", "epsilon"])
def test_logits_are_those_of_keras(variant: str, tmp_path: Path) -> None:
    checkpoint = load_checkpoint(keras_golden.write(f"keras 3/{variant}.keras", tmp_path))
    is_other = variant == "epsilon"
    assert checkpoint.config.batch_norm_epsilon == (0.01 if is_other else 1.001e-5)
    assert checkpoint.config.batch_norm_momentum == (0.1 if is_other else 0.01)
    ours = logits(checkpoint)
    # Keras 3 normalizes in float32, whatever the type: its result_type of both is float32.
    for version, tolerance in (("keras 2", 1e-13), ("keras 3", 1e-6)):
        theirs = np.array(keras_golden.golden()["logits"][f"{version}/{variant}"])
        assert np.abs(ours - theirs).max() <= tolerance * np.abs(theirs).max()


def test_every_way_to_save_a_network_has_the_same_logits() -> None:
    """So that the test of one of them is enough."""
    stored = keras_golden.golden()["logits"]
    for version in VERSIONS:
        for variant in ("flat", "nested", "chain"):
            np.testing.assert_allclose(
                stored[f"{version}/{variant}"], stored[f"{version}/application"], rtol=1e-6
            )


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize(
    ("variant", "whole", "alone"),
    [
        (
            "maximum",
            "max_pool is GlobalMaxPooling2D; .* has GlobalAverageP",
            "global_max_pool|max_",
        ),
        ("rescaled", "rescaling is Rescaling; .* has InputLayer", "rescaling.* does not have"),
    ],
)
def test_another_function_without_weights_is_refused(
    version: str, ending: str, variant: str, whole: str, alone: str, tmp_path: Path
) -> None:
    file = keras_golden.write(f"{version}/{variant}.{ending}", tmp_path)
    with pytest.raises(InputError, match=whole if ending in WHOLE else alone) as caught:
        load_checkpoint(file)
    assert "holds another network than a DenseNet that this package computes" in str(caught.value)


def without_top(variant: str, *, pooled: bool) -> dict[str, Any]:
    """Returns a golden file as include_top=False leaves it, with a pooling at its end or none."""
    stored = keras_golden.golden()["files"][f"keras 3/{variant}.keras"]
    model = json.loads(stored["model"])
    layers = model["config"]["layers"][: -1 if pooled else -2]
    model["config"]["layers"] = layers
    model["config"]["output_layers"] = [layers[-1]["name"], 0, 0]
    kept = {
        part: {path: x for path, x in stored[part].items() if "dense" not in path.split("/")}
        for part in ("arrays", "groups")
    }
    return {**kept, "model": json.dumps(model)}


@pytest.mark.parametrize("pooled", [True, False])
def test_model_without_a_classifier_is_compared(pooled: bool, tmp_path: Path) -> None:
    changes = without_top("application", pooled=pooled)
    file = keras_golden.write("keras 3/application.keras", tmp_path, **changes)
    found = load_checkpoint(file, needs_head=False)
    assert not found.has_head
    assert found.config.batch_norm_momentum == 0.01  # so the description was read
    assert not any("are assumed" in warning for warning in found.warnings)
    if pooled:
        changes = without_top("maximum", pooled=True)
        file = keras_golden.write("keras 3/maximum.keras", tmp_path, **changes)
        with pytest.raises(InputError, match="max_pool is GlobalMaxPooling2D"):
            load_checkpoint(file, needs_head=False)


Change = Callable[[dict[str, Any]], Any]


def changed(directory: Path, name: str, change: Change) -> Path:
    """Writes a file of Keras with another description of its model."""
    model = json.loads(keras_golden.golden()["files"][name]["model"])
    change(model)
    return keras_golden.write(name, directory, model=json.dumps(model))


def setting(layer: str, **values: Any) -> Change:
    def change(model: dict[str, Any]) -> None:
        (found,) = [one for one in model["config"]["layers"] if one["config"]["name"] == layer]
        found["config"] |= values

    return change


def class_name(layer: str, name: str, **values: Any) -> Change:
    def change(model: dict[str, Any]) -> None:
        (found,) = [one for one in model["config"]["layers"] if one["config"]["name"] == layer]
        found["class_name"] = name
        found["config"] |= values

    return change


def every(kind: str, **values: Any) -> Change:
    def change(model: dict[str, Any]) -> None:
        for layer in model["config"]["layers"]:
            if layer["class_name"] == kind:
                layer["config"] |= values

    return change


def call(layer: str, **values: Any) -> Change:
    def change(model: dict[str, Any]) -> None:
        (found,) = [one for one in model["config"]["layers"] if one["config"]["name"] == layer]
        found["inbound_nodes"][0]["kwargs"] |= values

    return change


def swap_inputs(model: dict[str, Any]) -> None:
    for layer in model["config"]["layers"]:
        if layer["class_name"] == "Concatenate":
            layer["inbound_nodes"][0]["args"][0].reverse()


def swap_names(model: dict[str, Any]) -> None:
    """Two layers of one shape stand in each other's place, as their names do not say."""
    text = json.dumps(model)
    for old, new in (("conv3_block1_1_bn", "?"), ("conv4_block1_1_bn", "conv3_block1_1_bn")):
        text = text.replace(f'"{old}"', f'"{new}"')
    model |= json.loads(text.replace('"?"', '"conv4_block1_1_bn"'))


def twice(model: dict[str, Any]) -> None:
    layer = model["config"]["layers"][4]
    layer["inbound_nodes"] *= 2


def two_outputs(model: dict[str, Any]) -> None:
    model["config"]["output_layers"] = [["predictions", 0, 0], ["relu", 0, 0]]


DIFFERENCES: dict[str, tuple[Change, str]] = {
    "activation": (
        setting("conv3_block1_0_relu", activation="elu"),
        r"conv3_block1_0_relu \(Activation\) has activation=elu; .* has activation=relu",
    ),
    "activation in the head": (
        setting("predictions", activation="tanh"),
        r"predictions \(Dense\) has activation=tanh; .* activation=linear or softmax or sigmoid",
    ),
    "custom activation": (
        setting("relu", activation={"class_name": "Mine", "config": {}}),
        r"relu \(Activation\) has activation={'class_name': 'Mine'",
    ),
    "pooling of one transition": (
        class_name("pool3_pool", "MaxPooling2D"),
        "pool3_pool is MaxPooling2D; this network has AveragePooling2D",
    ),
    "padding": (setting("conv1_conv", padding="same"), "padding=same; .* has padding=valid"),
    "padding of the pool": (setting("pool1", padding="same"), "pool1 .* padding=same; .*valid"),
    "amount of padding": (
        setting("zero_padding2d", padding=[[2, 3], [2, 3]]),
        r"padding=\(\(2, 3\), \(2, 3\)\); this network has padding=\(\(3, 3\), \(3, 3\)\)",
    ),
    "strides": (setting("conv1_conv", strides=[1, 1]), r"strides=\(1, 1\); .* strides=\(2, 2\)"),
    "dilation": (
        setting("conv2_block1_2_conv", dilation_rate=[2, 2]),
        r"conv2_block1_2_conv \(Conv2D\) has dilation_rate=\(2, 2\); .* dilation_rate=\(1, 1\)",
    ),
    "groups": (setting("pool2_conv", groups=2), "groups=2; this network has groups=1"),
    "bias": (setting("pool2_conv", use_bias=True), "use_bias=True; this network has use_bias=Fal"),
    "axis": (setting("bn", axis=1), r"bn \(BatchNormalization\) has axis=1; .* axis=3"),
    "unknown setting": (setting("bn", renorm=True), "has renorm=True; .* has no such setting"),
    "kept dimensions": (setting("avg_pool", keepdims=True), "keepdims=True; .* keepdims=False"),
    "order of inputs": (swap_inputs, "conv5_block1_2_conv is Conv2D; this network has Average"),
    "places": (swap_names, "conv4_block1_1_bn stands where .* the BatchNormalization conv3_block1"),
    "epsilons": (setting("bn", epsilon=1e-3), "its normalizations differ in epsilon"),
    "momenta": (setting("bn", momentum=0.9), "its normalizations differ in momentum"),
    "data formats": (
        setting("pool1", data_format="channels_first"),
        "its layers disagree on data_format",
    ),
    "another class": (class_name("pool1", "Lambda"), "pool1 is Lambda; .* has MaxPooling2D"),
    "training": (call("conv1_bn", training=True), "conv1_bn is called with training=True"),
    "call": (call("pool1", scale=2), "its model|it calls pool1 with scale"),
    "twice": (twice, "it uses conv1_relu 2 times; wanted every layer once"),
    "two outputs": (two_outputs, "it has 2 outputs; wanted one"),
    "negative epsilon": (
        every("BatchNormalization", epsilon=-1.0),
        "describes a network that cannot be built: batch_norm_epsilon",
    ),
}


@pytest.mark.parametrize("difference", DIFFERENCES)
def test_a_difference_is_refused_by_name(difference: str, tmp_path: Path) -> None:
    change, message = DIFFERENCES[difference]
    with pytest.raises(InputError, match=message):
        load_checkpoint(changed(tmp_path, MODEL, change))


def rename(model: dict[str, Any]) -> None:
    model["class_name"] = "MyNet"


def custom_module(model: dict[str, Any]) -> None:
    layer = model["config"]["layers"][2]
    layer["module"] = "mine"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (rename, "it is of the class MyNet; wanted Functional or Sequential"),
        (custom_module, "conv1_conv is mine.Conv2D; this network has Conv2D"),
        (lambda model: model.pop("config"), "it is described in a way that is not known"),
    ],
)
def test_other_classes_are_refused_by_name(change: Change, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        load_checkpoint(changed(tmp_path, "keras 3/application.keras", change))


def test_models_inside_of_models_are_refused_where_they_are_odd(tmp_path: Path) -> None:
    name = "keras 3/nested.h5"
    with pytest.raises(InputError, match="calls densenet with training=True, so not in evaluati"):
        load_checkpoint(changed(tmp_path, name, call("densenet", training=True)))

    def repeat(model: dict[str, Any]) -> None:
        model["config"]["layers"].insert(1, model["config"]["layers"][0])

    with pytest.raises(InputError, match="it has two layers called input_layer"):
        load_checkpoint(changed(tmp_path, MODEL, repeat))

    def nest(model: dict[str, Any]) -> None:
        for number in range(30):
            inner = json.loads(json.dumps(model))
            inner["config"]["name"] = f"model{number}"
            model |= {"class_name": "Sequential", "config": {"name": "x", "layers": [inner]}}

    with pytest.raises(InputError, match="it nests models more than 20 deep"):
        load_checkpoint(changed(tmp_path, MODEL, nest))

    def argument(model: dict[str, Any]) -> None:
        model["config"]["layers"][1]["inbound_nodes"][0]["args"].append(3)

    with pytest.raises(InputError, match="it calls zero_padding2d with 3"):
        load_checkpoint(changed(tmp_path, MODEL, argument))


def relu_layers(model: dict[str, Any]) -> None:
    for layer in model["config"]["layers"]:
        if layer["class_name"] == "Activation":
            layer["class_name"] = "ReLU"
            del layer["config"]["activation"]
            layer["config"] |= {"max_value": None, "negative_slope": 0.0, "threshold": 0.0}


def channels_first(model: dict[str, Any]) -> None:
    for layer in model["config"]["layers"]:
        for key, value in (("data_format", "channels_first"), ("axis", 1)):
            if key in layer["config"]:
                layer["config"][key] = value


@pytest.mark.parametrize("change", [relu_layers, channels_first])
def test_the_same_function_in_other_words_is_read(change: Change, tmp_path: Path) -> None:
    checkpoint = load_checkpoint(changed(tmp_path, MODEL, change))
    assert (checkpoint.config, checkpoint.warnings) == (CONFIG, [])


def test_maxima_in_all_transitions_are_an_option(tmp_path: Path) -> None:
    def change(model: dict[str, Any]) -> None:
        for number in (2, 3, 4):
            class_name(f"pool{number}_pool", "MaxPooling2D")(model)

    checkpoint = load_checkpoint(changed(tmp_path, MODEL, change))
    assert checkpoint.config == dataclasses.replace(CONFIG, transition_pool="max")


def test_a_file_that_names_no_layers_is_told(tmp_path: Path) -> None:
    file = keras_golden.write("keras 2/application.legacy.h5", tmp_path)
    with h5py.File(file, "a") as opened:
        del opened.attrs["layer_names"]
    checkpoint = load_checkpoint(file)
    assert checkpoint.config == CONFIG
    assert checkpoint.warnings == [
        "the file does not say which pooling and activations its network has; averages and ReLU "
        "are assumed, as in keras.applications; model.save(FILE) of Keras writes a file that says "
        "so"
    ]


def test_a_missing_layer_is_refused(tmp_path: Path) -> None:
    file = keras_golden.write("keras 3/application.weights.h5", tmp_path)
    with h5py.File(file, "a") as opened:
        del opened["layers/zero_padding2d_1"], opened["layers/average_pooling2d_2"]
        opened.create_group("layers/activation_99/vars")
    with pytest.raises(InputError) as caught:
        load_checkpoint(file)
    assert "it has 1 of the 2 layers zero_padding2d" in str(caught.value)
    assert "it has 2 of the 3 layers average_pooling2d" in str(caught.value)
    assert "activation_99 is one activation more than the 13 of this network" in str(caught.value)


@pytest.mark.parametrize("name", ["fc1000", "dense_7", "my/head"])
def test_a_classifier_may_have_any_name(name: str, tmp_path: Path) -> None:
    """As in the files of 2018, and after every fine-tuning."""
    file = keras_golden.write("keras 2/application.legacy.h5", tmp_path)
    with h5py.File(file, "a") as opened:
        opened[f"{name}/{name}/kernel:0"] = opened["predictions/predictions/kernel:0"][()]
        opened[f"{name}/{name}/bias:0"] = opened["predictions/predictions/bias:0"][()]
        opened[name].attrs["weight_names"] = [f"{name}/kernel:0", f"{name}/bias:0"]
        names = [one.decode() for one in opened.attrs["layer_names"]]
        opened.attrs["layer_names"] = np.array([*names[:-1], name], "S")
        del opened["predictions"]
    checkpoint = load_checkpoint(file)
    assert checkpoint.warnings[-1] == f"its layer {name} is taken as the classifier"
    path, variables = "params/classifier/kernel", flat(checkpoint.variables)
    np.testing.assert_array_equal(variables[path], EXPECTED[path])


@pytest.mark.parametrize("classes", [1000, 3])
def test_the_published_files_are_older_than_the_last_relu(classes: int, tmp_path: Path) -> None:
    """github.com/keras-team/keras-applications/issues/31; other weights belong to no such layer."""
    name = "keras 2/application.legacy.h5"
    stored = keras_golden.golden()["files"][name]
    head = {
        "predictions/predictions/kernel:0": ("predictions/kernel", (68, classes)),
        "predictions/predictions/bias:0": ("predictions/bias", (classes,)),
    }
    file = keras_golden.write(name, tmp_path, arrays=stored["arrays"] | head)
    with h5py.File(file, "a") as opened:
        names = opened.attrs["layer_names"].tolist()
        opened.attrs["layer_names"] = np.array([one for one in names if one != b"relu"])
    if classes == 3:
        with pytest.raises(InputError, match="it has 12 of the 13 layers activation"):
            load_checkpoint(file)
    else:
        assert load_checkpoint(file).warnings[0].startswith("the file names no ReLU behind the las")


def test_two_linear_layers_are_refused_by_name(tmp_path: Path) -> None:
    file = keras_golden.write("keras 3/application.legacy.h5", tmp_path)
    with h5py.File(file, "a") as opened:
        opened["dense/dense/kernel"] = np.zeros((3, 3), np.float32)
    with pytest.raises(InputError, match=r"1 array in it belong to no layer .* dense/dense/kernel"):
        load_checkpoint(file)


def test_random_numbers_optimizer_and_metrics_are_left_out(tmp_path: Path) -> None:
    file = keras_golden.write("keras 3/application.weights.h5", tmp_path)
    beside = ["layers/dropout/seed_generator/vars/0", "metrics/mean/vars/0", "optimizer/vars/0"]
    with h5py.File(file, "a") as opened:
        for name in beside:
            opened[name] = np.zeros(2, np.float32)
    assert load_checkpoint(file).unneeded == beside


@pytest.mark.parametrize("layer", ["stack1_block1_1_bn", "stack2_block4_2_conv"])
def test_keras_hub_is_refused_in_one_sentence(layer: str, tmp_path: Path) -> None:
    file = keras_golden.write("keras 3/application.weights.h5", tmp_path)
    with h5py.File(file, "a") as opened:
        opened["layers/batch_normalization_1/vars"].attrs["name"] = layer
    with pytest.raises(InputError, match=r"is a DenseNet of KerasHub, whose stem pads .* only on"):
        load_checkpoint(file)


@pytest.mark.parametrize("ending", ENDINGS)
def test_bfloat16_is_read_where_keras_does_not_name_it(ending: str, tmp_path: Path) -> None:
    """As with the policy bfloat16: `.h5` of Keras 3 and every file of Keras 2 hold bare bytes."""
    file = keras_golden.write(f"keras 2/application.{ending}", tmp_path)
    inner = file
    if ending == "keras":
        with zipfile.ZipFile(file) as archive:
            config = archive.read("config.json")
            inner = Path(archive.extract("model.weights.h5", tmp_path))
    with h5py.File(inner, "a") as opened:
        names: list[str] = []
        opened.visititems(lambda name, item: names.append(name) if hasattr(item, "shape") else None)
        for name in names:
            array = opened[name][()]
            del opened[name]
            opened[name] = array.astype(ml_dtypes.bfloat16)
    if ending == "keras":
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("config.json", config)
            archive.write(inner, "model.weights.h5")
    checkpoint = load_checkpoint(file)
    assert checkpoint.warnings[0].startswith("the weights are bfloat16 in the file; they are taken")
    variables = flat(checkpoint.variables)
    for path, array in EXPECTED.items():
        assert variables[path].dtype == np.float32
        np.testing.assert_array_equal(variables[path], array.astype(ml_dtypes.bfloat16))
