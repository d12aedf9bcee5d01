"""Properties of conversion over random networks, layouts, wrappers and types."""

import dataclasses

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ml_dtypes import bfloat16

from flax_densenet import DenseNetConfig, InputError
from flax_densenet.network.layers import ArrayPath, weight_layers
from flax_densenet.weights import load as load_module
from flax_densenet.weights.adapt import with_in_channels, with_new_head
from flax_densenet.weights.checkpoint import Checkpoint, flat
from flax_densenet.weights.files.contents import Contents
from flax_densenet.weights.layouts import LAYOUTS
from flax_densenet.weights.load import load_checkpoint
from flax_densenet.weights.report import describe
from flax_densenet.weights.table import correspondence, from_arrays, to_arrays

# The same examples every time; more and others were tried when this was written (5,000).
MANY = settings(
    max_examples=200, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck)
)
FEWER = settings(MANY, max_examples=50)
WRAPPERS = ["", "module.", "_orig_mod.module.", "net.backbone."]


@st.composite
def networks(draw: st.DrawFn) -> tuple[DenseNetConfig, str]:
    """A small network and a layout that can name it."""
    layout = draw(st.sampled_from(sorted(LAYOUTS)))
    may_be_plain = layout != "keras-3"
    bottleneck = "conv2" in LAYOUTS[layout].names and not (may_be_plain and draw(st.booleans()))
    has_stem_norm = "norm0" in LAYOUTS[layout].names
    stem = draw(st.sampled_from(["cifar", "imagenet"])) if has_stem_norm else "cifar"
    if layout == "pytorchcv-imagenet":  # whose twin for the other stem is "pytorchcv"
        stem = "imagenet"
    config = DenseNetConfig(
        blocks=tuple(draw(st.lists(st.integers(1, 3), min_size=1, max_size=3))),
        growth_rate=draw(st.integers(1, 5)),
        bottleneck=bottleneck,
        bottleneck_factor=draw(st.integers(1, 4)) if bottleneck else 4,
        compression=draw(st.sampled_from([1.0, 0.5])),
        stem=stem,  # type: ignore[arg-type]
        stem_width=draw(st.none() | st.integers(1, 9)),
        num_classes=draw(st.integers(1, 5)),
        in_channels=draw(st.integers(1, 4)),
        batch_norm_epsilon=LAYOUTS[layout].batch_norm_epsilon,
    )
    return config, layout


def random_arrays(
    config: DenseNetConfig, layout: str, dtype: type = np.float32
) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(0)
    return {
        row.key: draw.uniform(0.5, 1.5, row.shape).astype(dtype)
        for row in correspondence(config, LAYOUTS[layout])
    }


def as_file(
    arrays: dict[str, np.ndarray], layout: str, wrapper: str
) -> dict[ArrayPath, np.ndarray]:
    if LAYOUTS[layout].separator == "/":
        return {tuple(key.split("/")): array for key, array in arrays.items()}
    return {("state_dict", wrapper + key): array for key, array in arrays.items()}


def load(arrays: dict[ArrayPath, np.ndarray], *, needs_head: bool = True) -> Checkpoint:
    contents = Contents("PyTorch zip", arrays, {}, {})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(load_module, "read_weights", lambda path: contents)
        return load_checkpoint("my.pth", needs_head=needs_head)


@MANY
@given(networks(), st.sampled_from(WRAPPERS), st.sampled_from([np.float32, np.float64, np.float16]))
def test_there_and_back_is_the_identity(
    network: tuple[DenseNetConfig, str], wrapper: str, dtype: type
) -> None:
    config, layout = network
    arrays = random_arrays(config, layout, dtype)
    checkpoint = load(as_file(arrays, layout, wrapper))
    shapes, wanted = ([row.shape for row in correspondence(c)] for c in (checkpoint.config, config))
    assert shapes == wanted
    assert checkpoint.config.batch_norm_epsilon == LAYOUTS[layout].batch_norm_epsilon
    back = to_arrays(checkpoint.variables, checkpoint.config, LAYOUTS[checkpoint.layout])
    counters = {row.counter for row in correspondence(config, LAYOUTS[checkpoint.layout])}
    assert set(back) - counters == set(arrays)
    for key, array in arrays.items():
        assert back[key].dtype == (np.float32 if dtype is np.float16 else array.dtype)
        np.testing.assert_array_equal(back[key], array)


@MANY
@given(networks(), networks(), st.integers(0))
def test_every_layout_holds_what_every_other_holds(
    network: tuple[DenseNetConfig, str], other: tuple[DenseNetConfig, str], seed: int
) -> None:
    config, layout = network
    variables = from_arrays(random_arrays(config, layout), config, LAYOUTS[layout])
    target = LAYOUTS[other[1]]
    lacking = [layer.path for layer in weight_layers(config) if layer.path[-1] not in target.names]
    if lacking:
        first_lacking = "/".join(lacking[0])
        message = f"has no name for {first_lacking}; its nets have no such layer"
        with pytest.raises(InputError, match=message):
            to_arrays(variables, config, target)
        return
    again = from_arrays(to_arrays(variables, config, target), config, target)
    first, second = flat(variables), flat(again)
    assert set(first) == set(second)
    for path, array in first.items():
        np.testing.assert_array_equal(array, second[path])


@MANY
@given(networks(), st.data())
def test_one_wrong_array_is_an_error_that_names_it(
    network: tuple[DenseNetConfig, str], data: st.DataObject
) -> None:
    config, layout = network
    arrays = random_arrays(config, layout)
    key = data.draw(st.sampled_from(sorted(arrays)))
    fault = data.draw(st.sampled_from(["remove", "rename", "reshape"]))
    damaged = dict(arrays)
    array = damaged.pop(key)
    new_name = f"{key}{LAYOUTS[layout].separator}extra"
    if fault == "rename":
        damaged[new_name] = array
    elif fault == "reshape":
        damaged[key] = np.zeros((*array.shape[:-1], array.shape[-1] + 1), np.float32)
    try:
        checkpoint = load(as_file(damaged, layout, ""))
    except InputError as error:
        names = (key, new_name, key.rpartition(LAYOUTS[layout].separator)[0])
        assert any(name in str(error) for name in names), (key, fault, str(error))
    else:
        # A wider head, stem or image is another valid network, not a damaged one.
        assert fault == "reshape" and checkpoint.config != config, (key, fault)


BESIDE: dict[ArrayPath, tuple[int, ...]] = {
    ("best_acc1",): (),
    ("losses",): (7,),
    ("state_dict", "criterion.pos_weight"): (3,),
    ("state_dict", "metric.total"): (),
    ("state_dict", "n_averaged"): (),
    ("optimizer", "state", "0", "momentum_buffer"): (3, 3),
}
PERHAPS_LAYERS: dict[ArrayPath, tuple[int, ...]] = {
    ("state_dict", "auxiliary.weight"): (3, 4),
    ("state_dict", "decoder.bias"): (2,),
    ("state_dict", "projection.running_mean"): (5,),
    ("teacher", "conv.weight"): (3, 3, 1, 1),
}


@MANY
@given(
    networks().filter(lambda drawn: LAYOUTS[drawn[1]].separator == "."),
    st.sampled_from(WRAPPERS),
    st.sets(st.sampled_from(sorted(BESIDE)), min_size=1),
    st.none() | st.sampled_from(sorted(PERHAPS_LAYERS)),
)
def test_what_is_beside_the_network_is_left_out_or_refused_and_never_changes_it(
    network: tuple[DenseNetConfig, str],
    wrapper: str,
    beside: set[ArrayPath],
    layer: ArrayPath | None,
) -> None:
    config, layout = network
    config = dataclasses.replace(config, num_classes=3)
    own = as_file(random_arrays(config, layout), layout, wrapper)
    foreign = {path: np.ones(BESIDE[path], np.float32) for path in beside}
    if layer is not None:
        foreign[layer] = np.ones(PERHAPS_LAYERS[layer], np.float32)
        with pytest.raises(InputError, match=layer[-1]):
            load(own | foreign)
        return
    found = load(own | foreign)
    assert set(found.unneeded) == {"/".join(path) for path in beside}
    right = flat(load(own).variables)
    for path, array in flat(found.variables).items():
        np.testing.assert_array_equal(array, right[path])


@FEWER
@given(networks(), st.sampled_from(WRAPPERS))
def test_missing_classifier_is_an_error_unless_none_is_needed(
    network: tuple[DenseNetConfig, str], wrapper: str
) -> None:
    config, layout = network
    arrays = random_arrays(config, layout)
    head = {
        row.key
        for row in correspondence(config, LAYOUTS[layout])
        if row.layer.path == ("classifier",)
    }
    file = as_file({k: a for k, a in arrays.items() if k not in head}, layout, wrapper)
    with pytest.raises(InputError):
        load(file)
    try:
        found = load(file, needs_head=False)
    except InputError as error:
        assert LAYOUTS[layout].separator == "/", error  # our own files never lack one
        return
    right = flat(load(as_file(arrays, layout, wrapper)).variables)
    for path, array in flat(found.variables).items():
        np.testing.assert_array_equal(array, right[path])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_no_numbers_are_told(bad: float) -> None:
    config = DenseNetConfig(depth=7, growth_rate=2)
    arrays = random_arrays(config, "torchvision")
    arrays["features.denseblock2.denselayer1.conv1.weight"][0, 0, 0, 0] = bad
    (warning,) = load(as_file(arrays, "torchvision", "")).warnings
    assert warning == ("NaN or infinity in 1 array: features.denseblock2.denselayer1.conv1.weight")


def test_negative_variance_is_refused() -> None:
    config = DenseNetConfig(depth=7, growth_rate=2)
    arrays = random_arrays(config, "torchvision")
    arrays["features.norm5.running_var"][1] = -1e-3
    with pytest.raises(InputError, match=r"1 running variance below 0 in features\.norm5\.runnin"):
        load(as_file(arrays, "torchvision", ""))


def test_optimizer_is_known_and_anything_else_is_not() -> None:
    config = DenseNetConfig(depth=7, growth_rate=2)
    arrays = as_file(random_arrays(config, "torchvision"), "torchvision", "module.")
    momentum = ("optimizer", "state", "0", "momentum_buffer")
    arrays[momentum] = np.zeros(3, np.float32)
    assert load(arrays).unneeded == ["/".join(momentum)]
    arrays["ema", "decay"] = np.zeros(3, np.float32)
    checkpoint = load(arrays)
    assert checkpoint.unneeded == ["/".join(momentum), "ema/decay"]
    assert describe(checkpoint)["not taken"] == "optimizer/state/0/momentum_buffer, ema/decay"
    of_run = checkpoint._replace(format="Orbax", unneeded=["training/trace/conv0"])
    assert "not taken" not in describe(of_run)
    arrays["ema", "conv.weight"] = np.zeros((3, 3), np.float32)
    with pytest.raises(InputError, match="1 array in it belong to no layer of a DenseNet: ema/con"):
        load(arrays)


def test_bfloat16_arrays_become_float32_of_the_same_values() -> None:
    config = DenseNetConfig(depth=7, growth_rate=2)
    arrays = random_arrays(config, "torchvision", bfloat16)
    variables = load(as_file(arrays, "torchvision", "")).variables
    kernel = variables["params"]["conv0"]["kernel"]
    assert kernel.dtype == np.float32
    np.testing.assert_array_equal(
        kernel.transpose(3, 2, 0, 1), arrays["features.conv0.weight"].astype(np.float32)
    )


def variables_of(config: DenseNetConfig) -> dict[str, dict[str, object]]:
    return from_arrays(random_arrays(config, "torchvision"), config, LAYOUTS["torchvision"])


def test_new_head_changes_the_classifier_alone() -> None:
    config = DenseNetConfig(depth=7, growth_rate=2, num_classes=10)
    before = variables_of(config)
    after, changed = with_new_head(before, config, 3)
    assert changed.num_classes == 3
    first, second = flat(before), flat(after)
    assert {path for path in first if first[path] is not second[path]} == {
        "params/classifier/kernel",
        "params/classifier/bias",
    }
    assert second["params/classifier/kernel"].shape == (
        first["params/classifier/kernel"].shape[0],
        3,
    )
    np.testing.assert_array_equal(second["params/classifier/bias"], np.zeros(3))


@pytest.mark.parametrize(("before", "after"), [(3, 1), (4, 1), (1, 3)])
def test_equal_channels_give_the_same_result_with_other_channels(before: int, after: int) -> None:
    config = DenseNetConfig(depth=7, growth_rate=2, in_channels=before)
    variables, changed = with_in_channels(variables_of(config), config, after)
    assert changed.in_channels == after
    old, new = flat(variables_of(config)), flat(variables)
    # A gray image: every channel has the same values, so only the sum of the kernels counts.
    first, second = (tree["params/conv0/kernel"].sum(axis=2) for tree in (old, new))
    np.testing.assert_allclose(first, second, rtol=1e-6)


def test_other_changes_of_channels_are_refused() -> None:
    config = DenseNetConfig(depth=7, growth_rate=2, in_channels=3)
    with pytest.raises(InputError, match=r"in_channels \(=4\) cannot be had from weights for 3"):
        with_in_channels(variables_of(config), config, 4)
