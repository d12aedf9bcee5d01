"""Every implementation has the values, gradients and statistics of the plain one."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.core import freeze

from flax_densenet import DenseNet, DenseNetConfig, InputError, initialize
from flax_densenet.implementations import choose_implementation, native
from flax_densenet.implementations.chunks import to_chunks
from flax_densenet.parity.random_inputs import random_variables
from flax_densenet.tests.fixtures import SMALL_CHUNKS

_NETWORKS = {
    "plain, odd size": (DenseNetConfig(blocks=(2, 2), growth_rate=3, dtype="float64"), (9, 7)),
    "BC": (
        DenseNetConfig(
            blocks=(2, 3), growth_rate=3, bottleneck=True, compression=0.6, dtype="float64"
        ),
        (8, 8),
    ),
    "imagenet": (
        DenseNetConfig(
            blocks=(2, 1), growth_rate=3, bottleneck=True, stem="imagenet", dtype="float64"
        ),
        (21, 34),
    ),
}


# Each implementation computes each network, and in each way, once by day.
_BY_DAY = {
    ("plain, odd size", False, False),
    ("BC", True, False),
    ("imagenet", True, True),
}


@pytest.mark.parametrize("implementation", ["blocked", "native", "gpu"])
@pytest.mark.parametrize(
    ("name", "train", "remat"),
    [
        pytest.param(*case, marks=[] if case in _BY_DAY else pytest.mark.slow)
        for name in _NETWORKS
        for case in ((name, False, False), (name, True, False), (name, True, True))
    ],
    ids=str,
)
def test_values_gradients_and_statistics_are_those_of_the_plain_implementation(
    name: str, implementation: str, train: bool, remat: bool, float64: None, small_chunks: None
) -> None:
    compare(implementation, *_NETWORKS[name], train=train, remat=remat)


@pytest.mark.parametrize("implementation", ["blocked", "native", "gpu"])
@pytest.mark.parametrize("remat", [False, True])
def test_training_with_frozen_statistics_is_that_of_the_plain_implementation(
    remat: bool, implementation: str, float64: None, small_chunks: None
) -> None:
    config = DenseNetConfig(blocks=(1, 1), growth_rate=3, bottleneck=True, dtype="float64")
    compare(implementation, config, (8, 8), train=True, remat=remat, freeze_batch_norm=True)


def compare(
    implementation: str,
    config: DenseNetConfig,
    size: tuple[int, int],
    *,
    train: bool,
    remat: bool,
    freeze_batch_norm: bool = False,
    batch_size: int = 6,
) -> None:
    assert to_chunks(SMALL_CHUNKS, jnp.zeros((batch_size, 3, *size))).shape[0] > 1
    model = DenseNet(config, freeze_batch_norm=freeze_batch_norm, implementation="plain")
    wanted = _plain_results(model, (batch_size, *size, 3), train)
    got = _results(
        model.clone(implementation=implementation, remat=remat), (batch_size, *size, 3), train
    )

    def check(one: jax.Array, other: jax.Array) -> None:
        atol = 1e-12 * max(1.0, float(jnp.max(jnp.abs(other))))
        np.testing.assert_allclose(one, other, rtol=0, atol=atol)

    jax.tree.map(check, got, wanted)


def _results(model: DenseNet, shape: tuple[int, ...], train: bool) -> Any:
    """Returns value, gradients, logits and statistics for random weights and images."""
    variables = random_variables(model.config)

    def loss(params: Any, image: jax.Array) -> Any:
        logits, updates = model.apply(
            {**variables, "params": params}, image, train=train, mutable=["batch_stats"]
        )
        statistics = sum(jnp.sum(jnp.sin(x)) for x in jax.tree.leaves(updates))
        return jnp.sum(jnp.sin(logits)) + 0.1 * statistics, (logits, updates)

    image = jax.random.normal(jax.random.key(0), shape)
    both = jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)
    results = jax.jit(both)(variables["params"], image)
    if train:
        return results
    # Where a derivative is wanted, the value is not what the compiled evaluation gives.
    return results, jax.jit(loss)(variables["params"], image)


_plain_results = functools.cache(_results)  # the same for every implementation that is compared


@pytest.mark.parametrize("implementation", ["plain", "blocked", "native", "gpu"])
def test_a_broken_pixel_breaks_the_logits(implementation: Any) -> None:
    config = DenseNetConfig(blocks=(1, 1), growth_rate=4)
    variables, image = initialize(config, jax.random.key(0)), jnp.zeros((2, 32, 32, 3))
    model = DenseNet(config, implementation=implementation)

    @jax.jit
    def logits(image: jax.Array) -> Any:
        return model.apply(variables, image, train=True, mutable=["batch_stats"])[0]

    assert jnp.all(jnp.isfinite(logits(image)))
    assert jnp.all(jnp.isnan(logits(jnp.full_like(image, jnp.nan))))


@pytest.mark.parametrize("train", [False, True])
def test_a_second_call_outside_of_jit_compiles_nothing(train: bool) -> None:
    config = DenseNetConfig(blocks=(1, 1), growth_rate=2)
    variables, image = initialize(config, jax.random.key(0)), jnp.zeros((2, 4, 4, 3))
    model = DenseNet(config, implementation="blocked")

    def call() -> None:
        model.apply(variables, image, train=train, mutable=["batch_stats"])

    compiled: list[str] = []

    def listen(event: str, duration_secs: float, **_: str | int) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append(event)

    jax.clear_caches()
    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        call()
        assert compiled
        compiled.clear()
        call()
        assert not compiled
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


def test_variables_of_another_network_are_refused_and_further_ones_ignored() -> None:
    config = DenseNetConfig(blocks=(1, 1), growth_rate=2, bottleneck=True)
    variables, image = initialize(config, jax.random.key(0)), jnp.zeros((2, 4, 4, 3))

    def logits(network: DenseNetConfig, variables: Any) -> Any:
        model = DenseNet(network, implementation="blocked")
        return model.apply(variables, image, train=False)

    # conv1 is 1x1 to 4 k channels with a bottleneck, and 3x3 to k without.
    message = r"denselayer1/conv1/kernel has shape \(1, 1, 4, 8\); .* wants \(3, 3, 4, 2\); use"
    with pytest.raises(InputError, match=message):
        plain = DenseNetConfig(blocks=(1, 1), growth_rate=2, stem_width=4)
        logits(plain, variables)
    without = {**variables, "params": {**variables["params"]}}
    del without["params"]["denseblock2"]
    with pytest.raises(
        InputError, match=r"denseblock2/denselayer1/norm1/scale is missing; .* \(6,"
    ):
        logits(config, without)
    further = {**variables, "params": {**variables["params"], "of somebody else": jnp.zeros(1)}}
    np.testing.assert_array_equal(logits(config, freeze(further)), logits(config, variables))


_OPTIONS: dict[str, Any] = {"train": True, "axis_name": None, "captured": False}


@pytest.mark.parametrize(
    ("backend", "devices", "wanted"),
    [
        ("cpu", 1, "native"),
        ("cpu", 2, "plain"),
        ("gpu", 1, "gpu"),
        ("gpu", 8, "gpu"),
        ("tpu", 8, "plain"),
    ],
)
def test_auto_is_what_suits_the_device(
    backend: str, devices: int, wanted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    monkeypatch.setattr(jax, "device_count", lambda: devices)
    monkeypatch.setattr(native, "is_available", lambda: True)
    assert choose_implementation("auto", DenseNetConfig(), **_OPTIONS) == wanted
    assert choose_implementation("plain", DenseNetConfig(), **_OPTIONS) == "plain"
    for obstacle in ({"axis_name": "batch"}, {"captured": True}):
        assert choose_implementation("auto", DenseNetConfig(), **_OPTIONS | obstacle) == "plain"
    dropout = DenseNetConfig(dropout_rate=0.2)
    assert choose_implementation("auto", dropout, **_OPTIONS) == "plain"
    evaluated = choose_implementation("auto", dropout, **_OPTIONS | {"train": False})
    assert evaluated == wanted
    bfloat16 = choose_implementation("auto", DenseNetConfig(dtype="bfloat16"), **_OPTIONS)
    assert bfloat16 == (wanted if backend == "gpu" else "plain")


@pytest.mark.parametrize(
    ("implementation", "config", "options", "obstacle"),
    [
        ("blocked", DenseNetConfig(dtype="bfloat16"), {}, "bfloat16"),
        ("blocked", DenseNetConfig(dropout_rate=0.2), {}, "dropout in training"),
        ("blocked", DenseNetConfig(), {"axis_name": "batch"}, "pmap"),
        ("native", DenseNetConfig(dtype="bfloat16"), {}, "bfloat16"),
        ("native", DenseNetConfig(dropout_rate=0.2), {}, "dropout in training"),
        ("gpu", DenseNetConfig(dropout_rate=0.2), {}, "dropout in training"),
        ("gpu", DenseNetConfig(), {"axis_name": "batch"}, "pmap"),
        ("blocked", DenseNetConfig(kernel_size=5, groups=2), {}, "kernel_size 5, groups 2"),
        ("gpu", DenseNetConfig(activation="tanh"), {}, "activation tanh"),
    ],
)
def test_what_an_implementation_cannot_do_is_said(
    implementation: Any, config: DenseNetConfig, options: dict[str, Any], obstacle: str
) -> None:
    message = rf"^implementation \(={implementation}\) has no {obstacle}; use auto"
    with pytest.raises(InputError, match=message):
        choose_implementation(implementation, config, **_OPTIONS | options)


@pytest.mark.parametrize("backend", ["cpu", "gpu"])
@pytest.mark.parametrize(
    "config",
    [
        DenseNetConfig(activation="tanh"),
        DenseNetConfig(order="conv-norm-act"),
        DenseNetConfig(transition_pool="max"),
        DenseNetConfig(attention="se"),
    ],
    ids=lambda config: config.slug,
)
def test_networks_with_options_are_computed_plainly(
    config: DenseNetConfig, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    assert choose_implementation("auto", config, **_OPTIONS) == "plain"


def no_compiler() -> bool:
    raise AssertionError("looked for a compiler")


@pytest.mark.parametrize(
    ("config", "train", "captured"),
    [
        (DenseNetConfig(dtype="bfloat16"), False, False),
        (DenseNetConfig(activation="tanh"), False, False),
        (DenseNetConfig(dropout_rate=0.2), True, False),
        (DenseNetConfig(), False, True),
    ],
)
def test_what_cannot_use_the_kernels_never_starts_a_compiler(
    config: DenseNetConfig, train: bool, captured: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native, "is_available", no_compiler)
    chosen = choose_implementation("auto", config, train=train, axis_name=None, captured=captured)
    assert chosen == "plain"


def test_initial_weights_and_shapes_never_start_a_compiler(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(native, "is_available", no_compiler)
    model = DenseNet(DenseNetConfig(blocks=(1,), growth_rate=2))
    image = jnp.zeros((2, 8, 8, 3))
    shapes = jax.eval_shape(lambda key: model.init(key, image, train=False), jax.random.key(0))
    variables = model.init(jax.random.key(0), image, train=False)
    assert jax.tree.map(jnp.shape, variables) == jax.tree.map(jnp.shape, shapes)
    model.apply(variables, image, train=False, method="features")
