"""Tests of flax_densenet/training/step.py."""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from flax_densenet import DenseNet, DenseNetConfig
from flax_densenet.data.batches import EvalBatch, TrainBatch
from flax_densenet.training import Preprocess, TrainState, create_state, eval_step, sgd, train_step
from flax_densenet.training.config import (
    Augment,
    DataConfig,
    Execution,
    OptimizationConfig,
    RunConfig,
)
from flax_densenet.training.loss import cross_entropy, is_correct, is_in_top
from flax_densenet.training.state import initial_state

Step = Callable[[TrainState, TrainBatch], tuple[TrainState, dict[str, jax.Array]]]

DRAW = np.random.default_rng(0)
BATCH: TrainBatch = {
    "image": DRAW.integers(0, 256, (6, 8, 8, 1), np.uint8),
    "label": np.array([0, 1, 2, 2, 1, 0], np.int32),
}


OPTIMIZER = sgd(0.1, 1e-4)


def state_of(*, seed: int = 0, augment: Augment = "none", **fields: Any) -> TrainState:
    config = DenseNetConfig(blocks=(1,), growth_rate=2, in_channels=1, num_classes=3, **fields)
    preprocess = Preprocess((127.5,), (74.0,), augment)
    return create_state(DenseNet(config), OPTIMIZER, preprocess, seed=seed)


@pytest.fixture(scope="module")
def step() -> Step:
    return jax.jit(train_step)


def logits_of(state: TrainState, images: np.ndarray, *, train: bool) -> np.ndarray:
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    x = (images.astype(np.float32) - 127.5) / 74
    logits, _ = state.model.apply(variables, x, train=train, mutable=["batch_stats"])
    return np.asarray(logits, np.float64)


def losses_of(logits: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Minus the logarithm of the softmax of each example's class."""
    return np.log(np.exp(logits).sum(1)) - logits[np.arange(len(label)), label]


def assert_same(tree: Any, other: Any) -> None:
    jax.tree.map(np.testing.assert_array_equal, tree, other)


def test_metrics_are_those_of_the_batch_before_the_step(step: Step) -> None:
    state = state_of()
    _, metrics = step(state, BATCH)
    logits = logits_of(state, BATCH["image"], train=True)
    expected = losses_of(logits, BATCH["label"]).mean()
    assert metrics["loss"] == pytest.approx(expected, rel=1e-4)
    right = [
        row.tolist().index(max(row)) == k for row, k in zip(logits, BATCH["label"], strict=True)
    ]
    assert metrics["accuracy"] == pytest.approx(sum(right) / 6)


def test_step_replaces_every_part_and_leaves_the_old_state_alone(step: Step) -> None:
    state = state_of()
    before = jax.tree.map(np.array, state)
    after, _ = step(state, BATCH)
    assert_same(jax.tree.map(np.asarray, state), before)
    assert (int(before.step), int(after.step)) == (0, 1)
    for name in ("params", "batch_stats"):
        old, new = (jax.tree.leaves(getattr(s, name)) for s in (before, after))
        assert all(np.any(a != b) for a, b in zip(old, new, strict=True))


def test_steps_on_one_batch_bring_the_loss_down(step: Step) -> None:
    state = state_of()
    losses = []
    for _ in range(100):
        state, metrics = step(state, BATCH)
        losses.append(float(metrics["loss"]))
    assert losses[0] > 0.5 * math.log(3)
    assert losses[-1] < 0.1 * losses[0]


def test_seed_decides_the_state() -> None:
    state, same, other = (state_of(seed=seed) for seed in (1, 1, 2))
    assert_same(state, same)
    assert np.all(state.params["conv0"]["kernel"] != other.params["conv0"]["kernel"])
    assert np.any(state.key_data != other.key_data)
    assert int(state.step) == 0


@pytest.mark.parametrize("fields", [{"dropout_rate": 0.5}, {"augment": "shift"}])
def test_random_choices_depend_on_seed_and_step_alone(step: Step, fields: dict[str, Any]) -> None:
    state = state_of(**fields)
    new, metrics = step(state, BATCH)
    same, same_metrics = step(state, BATCH)
    assert_same(new, same)
    later = step(state.replace(step=jnp.asarray(1)), BATCH)[1]
    other_key = state_of(seed=1).key_data
    other_seed = step(state.replace(key_data=other_key), BATCH)[1]
    losses = {float(m["loss"]) for m in (metrics, same_metrics, later, other_seed)}
    assert len(losses) == 3


def test_bfloat16_network_has_float32_loss_and_parameters() -> None:
    state = state_of(dtype="bfloat16")
    new, metrics = jax.eval_shape(train_step, state, BATCH)
    assert metrics["loss"].dtype == jnp.float32
    for tree in (new.params, new.batch_stats):
        assert {leaf.dtype for leaf in jax.tree.leaves(tree)} == {jnp.dtype("float32")}


def test_evaluation_counts_the_valid_examples_alone() -> None:
    state = state_of()
    logits = logits_of(state, BATCH["image"], train=False)
    wrong_by = np.array([0, 0, 0, 0, 1, 1])
    label = ((logits.argmax(1) + wrong_by) % 3).astype(np.int32)
    valid = np.array([True, False, True, False, True, False])
    batch: EvalBatch = {"image": BATCH["image"], "label": label, "valid": valid}
    metrics = jax.jit(eval_step)(state, batch)
    expected = losses_of(logits[valid], label[valid]).sum()
    assert metrics["loss"] == pytest.approx(expected, rel=1e-4)
    assert (int(metrics["correct"]), int(metrics["count"])) == (2, 3)


def test_evaluation_uses_neither_dropout_nor_augmentation() -> None:
    state = state_of(dropout_rate=0.9, augment="shift")
    metrics = functools.partial(jax.jit(eval_step), state)({**BATCH, "valid": np.ones(6, bool)})
    expected = losses_of(logits_of(state, BATCH["image"], train=False), BATCH["label"])
    assert metrics["loss"] == pytest.approx(expected.sum(), rel=1e-4)


def test_cross_entropy_has_the_textbook_values() -> None:
    logits = jnp.asarray([[0.0, 0.0, 0.0], [1.0, 2.0, 4.0], [1000.0, 0.0, 0.0]])
    loss = cross_entropy(logits, jnp.asarray([1, 0, 0]))
    expected = [math.log(3), math.log(math.e + math.e**2 + math.e**4) - 1, 0]
    np.testing.assert_allclose(loss, expected, rtol=1e-6)
    assert cross_entropy(logits.astype(jnp.bfloat16), jnp.asarray([1, 0, 0])).dtype == jnp.float32


def test_correct_is_where_the_largest_logit_is_the_labels() -> None:
    logits = jnp.asarray([[0.0, 3.0, 1.0], [5.0, 2.0, 4.0]])
    assert is_correct(logits, jnp.asarray([1, 2])).tolist() == [True, False]


def test_moving_average_is_written_out(step: Step) -> None:
    state = state_of().replace(ema_decay=0.75)
    state = state.replace(average_params=state.params)
    kernels = []
    for _ in range(3):
        state, _ = step(state, BATCH)
        kernels.append(np.asarray(state.params["conv0"]["kernel"], np.float64))
    average = kernels[0]  # as torch, the first one is a copy
    for kernel in kernels[1:]:
        average = 0.75 * average + 0.25 * kernel
    np.testing.assert_allclose(state.average_params["conv0"]["kernel"], average, rtol=1e-5)
    assert state.variables["params"] is state.average_params


@pytest.mark.parametrize("precision", ["float64", "bfloat16"])
def test_recomputed_activations_change_nothing(step: Step, precision: str) -> None:
    with jax.enable_x64(precision == "float64"):
        state = state_of(dropout_rate=0.3, bottleneck=True, dtype=precision)
        again = state.replace(model=state.model.clone(remat=True))
        (after, metrics), (after_again, metrics_again) = step(state, BATCH), step(again, BATCH)
    for name in ("params", "batch_stats"):
        one, other = getattr(after, name), getattr(after_again, name)
        leaves, leaves_again = (jax.tree.leaves_with_path(tree) for tree in (one, other))
        for (path, leaf), (path_again, again_leaf) in zip(leaves, leaves_again, strict=True):
            assert path == path_again
            # Another program of the compiler, so up to rounding of the largest value.
            atol = {"float64": 1e-14, "bfloat16": 1e-2}[precision] * np.abs(leaf).max()
            np.testing.assert_allclose(leaf, again_leaf, rtol=0, atol=atol)
    assert metrics["loss"] == pytest.approx(float(metrics_again["loss"]), rel=1e-6)


def test_top_five_are_the_five_largest_logits() -> None:
    logits = jnp.asarray([[6.0, 5.0, 4.0, 3.0, 2.0, 1.0, 0.0]] * 7)
    assert is_in_top(logits, jnp.arange(7)).tolist() == [True] * 5 + [False] * 2


def test_the_native_optimizer_is_optax_s_in_a_few_calls(float64: None) -> None:
    network = DenseNetConfig(
        blocks=(1,), growth_rate=2, in_channels=1, num_classes=3, dtype="float64"
    )
    optimization = OptimizationConfig(ema_decay=0.9)
    run = RunConfig(network=network, data=DataConfig(), optimization=optimization)
    preprocess, rate = Preprocess((127.5,), (74.0,), "none"), optax.constant_schedule(0.1)
    plain, native = (
        initial_state(run, Execution(implementation=implementation), preprocess, rate)
        for implementation in ("plain", "native")
    )
    # Two for the running statistics of a block, four for the optimizer.
    for wanted_calls, one in ((0, plain), (6, native)):
        text = jax.jit(train_step).lower(one, BATCH).as_text()
        assert text.count("@flax_densenet_weighted_sum_float64") == wanted_calls
    step = jax.jit(train_step, donate_argnums=0)
    for _ in range(3):
        plain, _ = jax.jit(train_step)(plain, BATCH)
        native, _ = step(jax.tree.map(jnp.copy, native), BATCH)
    for name in ("params", "batch_stats", "optimizer_state", "average_params"):
        pair = getattr(native, name), getattr(plain, name)
        jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-10, atol=1e-12), *pair)
