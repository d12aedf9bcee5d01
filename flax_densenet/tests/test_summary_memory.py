"""Tests of flax_densenet/summary/memory.py: by hand, and against what JAX really saves."""

import dataclasses
import functools
from typing import Any

import jax
import numpy as np
import pytest

from flax_densenet import DenseNet, DenseNetConfig
from flax_densenet.summary.memory import kept_bytes, training_memory
from flax_densenet.summary.operation import Operation
from flax_densenet.summary.operations import list_operations

CASES = {
    "plain": DenseNetConfig(blocks=(2, 1), growth_rate=4, in_channels=1),
    "BC, dropout": DenseNetConfig(
        blocks=(1, 2), growth_rate=4, bottleneck=True, compression=0.5, dropout_rate=0.2
    ),
    "ImageNet": DenseNetConfig(blocks=(2, 1), growth_rate=4, bottleneck=True, stem="imagenet"),
}


def kept(config: DenseNetConfig, *, remat: bool, size: tuple[int, int] = (8, 8)) -> int:
    operations = list_operations(config, height=size[0], width=size[1])
    return sum(kept_bytes(config, operations, remat=remat))


def test_tiny_net_is_counted_by_hand() -> None:
    config = DenseNetConfig(blocks=(2,), growth_rate=2, in_channels=1, num_classes=3)
    operations = list_operations(config, height=4, width=5)
    numbers = {
        "image": (20, 20),
        "conv0": (20 * 16, 20 * 16),  # norm1 of the first layer reads it
        "denseblock1.denselayer1.norm1": (0, 0),
        "denseblock1.denselayer1.relu1": (20 * 16, 0),
        "denseblock1.denselayer1.conv1": (0, 20 * 2),  # the second layer joins it again
        "denseblock1.denselayer2.concat": (20 * 18, 0),
        "denseblock1.denselayer2.norm1": (0, 0),
        "denseblock1.denselayer2.relu1": (20 * 18, 0),
        "denseblock1.denselayer2.conv1": (0, 0),
        "denseblock1.concat": (20 * 20, 20 * 20),
        "norm5": (0, 0),
        "relu5": (20 * 20, 20 * 20),
        "global_pool": (20, 20),
        "classifier": (0, 0),
    }
    names = [operation.name for operation in operations]
    for column, remat in enumerate((False, True)):
        sizes = [4 * counts[column] for counts in numbers.values()]
        assert kept_bytes(config, operations, remat=remat) == sizes
        assert names == list(numbers)
        parameters = 4 * (144 + 32 + 288 + 36 + 324 + 40 + 63)
        memory = training_memory(config, operations, batch_size=7, remat=remat)
        assert memory._asdict() == {
            "parameters": parameters,
            "gradients": parameters,
            "momentum": parameters,
            "statistics": 4 * 2 * (16 + 18 + 20),
            "activations": 7 * sum(sizes),
            "working_set": 7 * 4 * (20 * 18 + 20 * 18) * (2 if remat else 1),
        }
        assert memory.with_total() == memory._asdict() | {"total": sum(memory)}


def saved_by_jax(config: DenseNetConfig, size: tuple[int, int], *, remat: bool) -> tuple[int, int]:
    """Bytes of all floating and of all boolean arrays that the backward pass of two images needs.

    JAX saves the same array several times, times 2 or -1, and arrays of zeros; each counts once.
    """
    batch, random = 2, np.random.default_rng(0)
    image = random.normal(size=(batch, *size, config.in_channels)).astype(np.float32)
    model = DenseNet(config, remat=remat, implementation="plain")
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), image, train=False))
    params, batch_stats = (
        jax.tree.map(lambda leaf: random.uniform(-1, 1, leaf.shape).astype(leaf.dtype), tree)
        for tree in (shapes["params"], shapes["batch_stats"])
    )

    def logits(params: Any) -> Any:
        return model.apply(
            {"params": params, "batch_stats": batch_stats},
            image,
            train=True,
            mutable=["batch_stats"],
            rngs={"dropout": jax.random.key(1, impl="rbg")},  # compiles fast
        )

    # What several fusions compute has the same bits in each.
    @functools.partial(jax.jit, compiler_options={"xla_cpu_use_fusion_emitters": True})
    def everything_saved(params: Any) -> list[jax.Array]:
        _, backward, _ = jax.vjp(logits, params, has_aux=True)
        return jax.tree.leaves(backward)

    sizes: dict[str, dict[Any, int]] = {"f": {}, "b": {}}
    for saved in everything_saved(params):
        if jax.dtypes.issubdtype(saved.dtype, jax.dtypes.prng_key) or saved.shape[:1] != (batch,):
            continue  # keys, parameters and statistics
        array = np.asarray(saved)
        if array.dtype.kind == "f":
            if not array.any():
                continue
            array = array / array.flat[np.abs(array).argmax()]
        sizes[array.dtype.kind][(array.shape, array.tobytes())] = array.nbytes
    return sum(sizes["f"].values()), sum(sizes["b"].values())


@pytest.mark.parametrize("remat", [False, True], ids=["kept", "with remat"])
@pytest.mark.parametrize("config", CASES.values(), ids=CASES)
def test_jax_saves_what_is_counted(config: DenseNetConfig, remat: bool) -> None:
    size = (32, 24) if config.stem == "imagenet" else (9, 11)
    operations = list_operations(config, height=size[0], width=size[1])

    def is_outside(operation: Operation) -> bool:
        return not (remat and operation.dense_layer)

    # JAX saves the signs of a ReLU in a mask, and its output only where a convolution reads it.
    relus = [o for o in operations if o.kind == "ReLU" and is_outside(o)]
    masks = sum(o.size for o in operations if o.kind == "dropout" and is_outside(o))
    unread = 4 * next(o.size for o in operations if o.name == "relu5")
    floats, booleans = saved_by_jax(config, size, remat=remat)
    assert floats == 2 * (kept(config, remat=remat, size=size) - masks - unread)
    assert booleans == 2 * (masks + sum(o.size for o in relus))


def test_what_is_kept_grows_quadratically_with_depth_and_linearly_with_remat() -> None:
    depths = range(16, 160, 12)
    nets = [DenseNetConfig(depth=depth, growth_rate=12) for depth in depths]
    naive = np.array([kept(net, remat=False) for net in nets])
    with_remat = np.array([kept(net, remat=True) for net in nets])
    (curvature,) = set(np.diff(naive, 2))
    assert curvature > 0
    (slope,) = set(np.diff(with_remat))
    assert slope > 0


@pytest.mark.parametrize(
    ("dtype", "numbers", "parameters"), [("bfloat16", 2, 4), ("float64", 8, 8)]
)
def test_activations_have_the_type_of_the_computation_and_parameters_at_least_float32(
    dtype: Any, numbers: int, parameters: int
) -> None:
    config = DenseNetConfig(depth=10, growth_rate=4)
    other = dataclasses.replace(config, dtype=dtype)
    operations = list_operations(config, height=8, width=8)
    for remat in (False, True):
        usual, changed = (
            training_memory(net, operations, batch_size=3, remat=remat) for net in (config, other)
        )
        for field in ("activations", "working_set"):
            assert getattr(changed, field) * 4 == getattr(usual, field) * numbers
        for field in ("parameters", "gradients", "momentum", "statistics"):
            assert getattr(changed, field) * 4 == getattr(usual, field) * parameters
