"""Compiled kernels refuse arrays that do not fit one another, and name the array."""

import re
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flax_densenet.implementations.native import build, calls
from flax_densenet.implementations.native.calls import weighted_sums

Shapes = dict[str, tuple[int, ...]]


class Call(NamedTuple):
    """A valid call of a kernel.

    Attributes:
      arrays: Shapes of its arrays in order, under the names that its errors have.
      results: The same of its results.
      attributes: Its attributes.
      blamed: Arrays with which the others are compared, and what is named in their place.
    """

    arrays: Shapes
    results: Shapes
    attributes: dict[str, Any]
    blamed: dict[str, str]


_SIZES = {"height": np.int64(4), "width": np.int64(4), "epsilon": 1e-5}
# Two chunks of one image, 3 channels, and two layers with a bottleneck of 4 and 5 new channels.
_STAGES = {
    **{"scale 0": (3,), "bias 0": (3,), "kernel 0": (1, 1, 3, 4)},
    **{"scale 1": (4,), "bias 1": (4,), "kernel 1": (3, 3, 4, 5)},
    **{"scale 2": (8,), "bias 2": (8,), "kernel 2": (1, 1, 8, 4)},
    **{"scale 3": (4,), "bias 3": (4,), "kernel 3": (3, 3, 4, 5)},
}
_FEATURES = {
    **{"features": (2, 13, 16), "mean": (13,), "var": (13,)},
    **{"inner_mean": (2, 4), "inner_var": (2, 4), "bottlenecks": (2, 2, 4, 16)},
}
_EVALUATED_STAGES: Shapes = {}
for number in range(4):
    channels = _STAGES[f"scale {number}"]
    _EVALUATED_STAGES |= {
        f"{name} {number}": _STAGES[f"{name} {number}"] for name in ("scale", "bias", "kernel")
    } | {f"running mean {number}": channels, f"running variance {number}": channels}
_TRANSITION = {
    **{"x": (2, 3, 16), "mean": (3,), "var": (3,)},
    **{"scale": (3,), "bias": (3,), "kernel": (1, 1, 3, 5)},
}
_STEM = {"image": (2, 9, 6, 3), "scale": (4,), "bias": (4,), "kernel": (7, 7, 3, 4)}
_CONVOLVED = {
    **{"convolved": (2, 4, 15), "mean": (4,), "var": (4,)},
    **{"pooled": (2, 4, 3, 2), "winners": (2, 4, 3, 2)},
}
_CALLS = {
    "dense_block_forward": Call(
        {"x": (2, 3, 16), **_STAGES},
        _FEATURES,
        {**_SIZES, "keep_bottlenecks": True},
        {"inner_mean": "kernel 0"},
    ),
    "dense_block_backward": Call(
        {
            **_FEATURES,
            **{"grad_features": (2, 13, 16), "grad_mean": (13,), "grad_var": (13,)},
            **{"grad_inner_mean": (2, 4), "grad_inner_var": (2, 4)},
            **_STAGES,
        },
        {
            **{"grad_x": (2, 3, 16), "grad_maps": (2, 13, 16)},
            **{"recomputed": (0, 4, 16), "grad_bottleneck": (2, 4, 16)},
            **{f"grad_{name}": shape for name, shape in _STAGES.items()},
        },
        {**_SIZES, "keep_bottlenecks": True},
        {"inner_mean": "kernel 0"},
    ),
    "block_evaluate": Call(
        {
            "x": (2, 3, 16),
            **_EVALUATED_STAGES,
            **{"scale 4": (13,), "bias 4": (13,), "kernel 4": (1, 1, 13, 6)},
            **{"running mean 4": (13,), "running variance 4": (13,)},
        },
        {"y": (2, 6, 4)},
        {**_SIZES, "stages_per_layer": np.int64(2), "has_transition": True},
        {},
    ),
    "transition_forward": Call(_TRANSITION, {"y": (2, 5, 4)}, _SIZES, {}),
    "transition_backward": Call(
        {**_TRANSITION, "grad_y": (2, 5, 4)},
        {f"grad_{name}": shape for name, shape in _TRANSITION.items()},
        _SIZES,
        {},
    ),
    "stem_forward": Call(_STEM, _CONVOLVED, {"epsilon": 1e-5}, {"image": "kernel"}),
    "stem_backward": Call(
        {**_STEM, **_CONVOLVED, "grad_pooled": (2, 4, 3, 2), "grad_mean": (4,), "grad_var": (4,)},
        {"grad_scale": (4,), "grad_bias": (4,), "grad_kernel": (7, 7, 3, 4)},
        {"epsilon": 1e-5},
        {"image": "kernel"},
    ),
    "stem_evaluate": Call(
        {**_STEM, "running_mean": (4,), "running_var": (4,)},
        {"pooled": (2, 4, 3, 2)},
        {"epsilon": 1e-5},
        {"image": "kernel"},
    ),
    "weighted_sum": Call(
        {"factors": (2,), "x 0": (3,), "x 1": (2, 2), "y 0": (3,), "y 1": (2, 2)},
        {"sum 0": (3,), "sum 1": (2, 2)},
        {"prefixes": False},
        {"x 0": "sum 0", "x 1": "sum 1"},
    ),
}


def run(kernel: str, arrays: Shapes, results: Shapes, attributes: dict[str, Any]) -> None:
    def dtype(name: str) -> Any:
        return jnp.uint8 if name == "winners" else jnp.float32

    function = jax.ffi.ffi_call(
        build.register(kernel, "float32"),
        [jax.ShapeDtypeStruct(shape, dtype(name)) for name, shape in results.items()],
    )
    given = [jnp.zeros(shape, dtype(name)) for name, shape in arrays.items()]
    jax.block_until_ready(function(*given, **attributes))


def refused(kernel: str, message: str) -> Any:
    return pytest.raises(jax.errors.JaxRuntimeError, match=rf"\b{kernel}: {message}")


def enlarged(name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    # The number of a kernel's outputs is what it says.
    if "kernel" in name:
        return (shape[0] + 1, *shape[1:])
    return (*shape[:-1], shape[-1] + 1)


@pytest.mark.parametrize("kernel", _CALLS)
def test_an_array_of_another_shape_is_refused_by_its_name(kernel: str) -> None:
    call = _CALLS[kernel]
    run(kernel, call.arrays, call.results, call.attributes)
    for name, shape in call.arrays.items():
        with refused(kernel, f"{call.blamed.get(name, name)} has "):
            wrong = {**call.arrays, name: enlarged(name, shape)}
            run(kernel, wrong, call.results, call.attributes)
    for name, shape in call.results.items():
        with refused(kernel, f"{call.blamed.get(name, name)} has "):
            wrong = {**call.results, name: enlarged(name, shape)}
            run(kernel, call.arrays, wrong, call.attributes)


@pytest.mark.parametrize("kernel", _CALLS)
def test_an_array_of_another_rank_is_refused(kernel: str) -> None:
    call = _CALLS[kernel]
    first = next(iter(call.arrays))
    wrong = {**call.arrays, first: (*call.arrays[first], 1)}
    with pytest.raises(jax.errors.JaxRuntimeError, match="rank"):
        run(kernel, wrong, call.results, call.attributes)


@pytest.mark.parametrize("kernel", ["dense_block_forward", "dense_block_backward"])
def test_a_missing_array_is_refused(kernel: str) -> None:
    call = _CALLS[kernel]
    some = dict(list(call.arrays.items())[:-1])
    with refused(kernel, "parameters has 11 arrays, wanted 12"):
        run(kernel, some, call.results, call.attributes)


def test_an_array_too_many_is_refused() -> None:
    arrays, results, attributes, _ = _CALLS["block_evaluate"]
    with refused("block_evaluate", "parameters has 26 arrays, wanted 25"):
        run("block_evaluate", {**arrays, "more": (1,)}, results, attributes)
    arrays, results, attributes, _ = _CALLS["weighted_sum"]
    with refused("weighted_sum", "x and y has 5 arrays, wanted 4"):
        run("weighted_sum", {**arrays, "more": (1,)}, results, attributes)


def test_a_parameter_of_another_rank_is_refused_by_its_name() -> None:
    arrays, results, attributes, _ = _CALLS["dense_block_forward"]
    with refused("dense_block_forward", "scale 2: .*rank"):
        run("dense_block_forward", {**arrays, "scale 2": (8, 1)}, results, attributes)


def test_sizes_that_make_no_images_are_refused() -> None:
    arrays, results, attributes, _ = _CALLS["transition_forward"]
    for sizes, message in (
        ({"height": np.int64(1)}, "height is 1, wanted at least 2"),
        ({"width": np.int64(0)}, "width is 0, wanted at least 2"),
        ({"width": np.int64(3)}, "x has 16 pixels in a chunk, wanted a multiple of 4 x 3"),
    ):
        with refused("transition_forward", message):
            run("transition_forward", arrays, results, {**attributes, **sizes})
    arrays, results, attributes, _ = _CALLS["block_evaluate"]
    with refused("block_evaluate", "stages_per_layer is 3, wanted 1 or 2"):
        sizes = {"stages_per_layer": np.int64(3)}
        run("block_evaluate", arrays, results, {**attributes, **sizes})


@pytest.mark.parametrize("prefixes", [False, True])
def test_a_shorter_vector_is_never_added(prefixes: bool) -> None:
    arrays, results, _, _ = _CALLS["weighted_sum"]
    with refused("weighted_sum", r"y 0 has shape \[2\], wanted \[3\]"):
        run("weighted_sum", {**arrays, "y 0": (2,)}, results, {"prefixes": prefixes})
    with pytest.raises(ValueError, match=r"^y\['a'\] has shape \[2\], wanted \[3\]"):
        weighted_sums(1, {"a": jnp.ones(3)}, 1, {"a": jnp.ones(2)}, prefixes=prefixes)


def test_only_vectors_have_prefixes() -> None:
    arrays, results, _, _ = _CALLS["weighted_sum"]
    run("weighted_sum", {**arrays, "y 0": (9,)}, results, {"prefixes": True})
    with refused("weighted_sum", r"y 1 has shape \[3, 2\], wanted \[2, 2\]"):
        run("weighted_sum", {**arrays, "y 1": (3, 2)}, results, {"prefixes": True})
    np.testing.assert_array_equal(
        weighted_sums(2, jnp.ones(2), 3, jnp.arange(4.0), prefixes=True), [2, 5]
    )
    with pytest.raises(ValueError, match=r"^y has shape \[4\], wanted \[2\]$"):
        weighted_sums(2, jnp.ones(2), 3, jnp.arange(4.0))
    with pytest.raises(ValueError, match=r"^y has shape \[3, 2\], wanted \[2, 2\]$"):
        weighted_sums(2, jnp.ones((2, 2)), 3, jnp.ones((3, 2)), prefixes=True)


def test_python_binds_arrays_in_the_order_of_the_cpp_sources() -> None:
    signatures = {}
    for source in build._SOURCES.glob("*.cc"):
        for text in source.read_text().split("DENSENET_DEFINE(")[1:]:
            arrays, results = (
                " ".join(re.findall(rf"\.{kind}<.*?>\(\)\)?;? *// (\w+)", text))
                for kind in ("Arg", "Ret")
            )
            signatures[text[: text.index(",")].strip()] = (arrays, results)
    assert signatures == calls._SIGNATURES
