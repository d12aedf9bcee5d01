"""DenseNet as one usually writes it in Flax: `nn.Conv`, `nn.BatchNorm`, `jnp.concatenate`, optax.

A control, which uses nothing of this package but the configuration. The modules have the package's
names, so that they take its initial weights. Axes: B batch, H height, W width, C channels.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax.training import train_state
from jaxtyping import Array, Float

from benchmarks.jax_memory import program_memory
from flax_densenet.bench.programs import LEARNING_RATE, WEIGHT_DECAY, channel_statistics
from flax_densenet.data.batches import EvalBatch, TrainBatch
from flax_densenet.network.config import DenseNetConfig

Batch = Mapping[str, Any]


class PlainDenseNet(nn.Module):
    """The whole network, without dropout."""

    config: DenseNetConfig

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"], *, train: bool) -> Float[Array, "B K"]:
        """Returns the logits of normalized images."""
        cfg = self.config
        conv = partial(nn.Conv, use_bias=False, dtype=cfg.dtype)
        norm = partial(nn.BatchNorm, use_running_average=not train, momentum=0.9, dtype=cfg.dtype)
        if cfg.stem == "imagenet":
            x = conv(cfg.stem_channels, (7, 7), (2, 2), padding=3, name="conv0")(x)
            x = nn.relu(norm(name="norm0")(x))
            x = nn.max_pool(x, (3, 3), (2, 2), padding=((1, 1), (1, 1)))
        else:
            x = conv(cfg.stem_channels, (3, 3), name="conv0")(x)
        last_block = len(cfg.block_sizes)
        for block, num_layers in enumerate(cfg.block_sizes, start=1):
            x = _DenseBlock(cfg, num_layers, conv, norm, name=f"denseblock{block}")(x)
            if block != last_block:
                x = _Transition(cfg, conv, norm, name=f"transition{block}")(x)
        x = nn.relu(norm(name="norm5")(x))
        x = jnp.mean(x, axis=(1, 2))
        return nn.Dense(cfg.num_classes, dtype=cfg.dtype, name="classifier")(x)


class _DenseBlock(nn.Module):
    config: DenseNetConfig
    num_layers: int
    conv: Any
    norm: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for number in range(1, self.num_layers + 1):
            layer = _DenseLayer(self.config, self.conv, self.norm, name=f"denselayer{number}")
            x = jnp.concatenate([x, layer(x)], axis=-1)
        return x


class _DenseLayer(nn.Module):
    config: DenseNetConfig
    conv: Any
    norm: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        cfg = self.config
        y = nn.relu(self.norm(name="norm1")(x))
        if not cfg.bottleneck:
            return self.conv(cfg.growth_rate, (3, 3), name="conv1")(y)
        y = self.conv(cfg.bottleneck_channels, (1, 1), name="conv1")(y)
        y = nn.relu(self.norm(name="norm2")(y))
        return self.conv(cfg.growth_rate, (3, 3), name="conv2")(y)


class _Transition(nn.Module):
    config: DenseNetConfig
    conv: Any
    norm: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = nn.relu(self.norm(name="norm")(x))
        channels = self.config.transition_channels(x.shape[-1])
        x = self.conv(channels, (1, 1), name="conv")(x)
        return nn.avg_pool(x, (2, 2), (2, 2))


class _State(train_state.TrainState):
    batch_stats: Any
    mean: jax.Array
    std: jax.Array


def _normalized(state: _State, image: jax.Array) -> jax.Array:
    return (image.astype(jnp.float32) - state.mean) / state.std


def _cross_entropy(logits: jax.Array, label: jax.Array) -> jax.Array:
    return optax.softmax_cross_entropy_with_integer_labels(logits.astype(jnp.float32), label)


@partial(jax.jit, donate_argnums=0)
def _train_step(state: _State, batch: Batch) -> tuple[_State, dict[str, jax.Array]]:
    def loss_fn(params: Any) -> tuple[jax.Array, Any]:
        variables = {"params": params, "batch_stats": state.batch_stats}
        image = _normalized(state, batch["image"])
        logits, updates = state.apply_fn(variables, image, train=True, mutable=["batch_stats"])
        return jnp.mean(_cross_entropy(logits, batch["label"])), (logits, updates)

    (loss, (logits, updates)), gradients = jax.value_and_grad(loss_fn, has_aux=True)(state.params)
    state = state.apply_gradients(grads=gradients, batch_stats=updates["batch_stats"])
    accuracy = jnp.mean(jnp.argmax(logits, axis=-1) == batch["label"])
    return state, {"loss": loss, "accuracy": accuracy}


@jax.jit
def _eval_step(state: _State, batch: Batch) -> dict[str, jax.Array]:
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    logits = state.apply_fn(variables, _normalized(state, batch["image"]), train=False)
    label, valid = batch["label"], batch["valid"]
    return {
        "loss": jnp.sum(_cross_entropy(logits, label), where=valid),
        "correct": jnp.sum((jnp.argmax(logits, axis=-1) == label) & valid),
    }


class PlainFlax:
    """The control (see `benchmarks.contestants.Program`)."""

    def __init__(self, config: DenseNetConfig, variables: Mapping[str, Any]) -> None:
        optimizer = optax.chain(
            optax.add_decayed_weights(WEIGHT_DECAY),
            optax.sgd(LEARNING_RATE, momentum=0.9, nesterov=True),
        )
        params, batch_stats = jax.device_put((variables["params"], variables["batch_stats"]))
        mean, std = channel_statistics(config)
        self._state = _State.create(
            apply_fn=PlainDenseNet(config).apply,
            params=params,
            tx=optimizer,
            batch_stats=batch_stats,
            mean=jnp.asarray(mean),
            std=jnp.asarray(std),
        )
        self._metrics: dict[str, jax.Array] = {}
        self.num_parameters = sum(x.size for x in jax.tree.leaves(params))
        self.device = jax.devices()[0].device_kind

    def prepare(self, batch: Any) -> Any:
        """Returns the batch as it is, in NumPy."""
        return batch

    def train(self, batch: TrainBatch) -> jax.Array:
        """Starts one training step."""
        self._state, self._metrics = _train_step(self._state, batch)
        return self._metrics["loss"]

    def evaluate(self, batch: EvalBatch) -> jax.Array:
        """Starts one evaluation step."""
        self._metrics = _eval_step(self._state, batch)
        return self._metrics["loss"]

    def wait(self) -> None:
        """Returns when all of the last step is done."""
        jax.block_until_ready((self._state, self._metrics))

    def memory(self) -> dict[str, int]:
        """Returns XLA's figures."""
        return program_memory()


def build(config: DenseNetConfig, variables: Mapping[str, Any]) -> PlainFlax:
    """Returns the contestant.

    Args:
      config: The network.
      variables: Initial weights {"params", "batch_stats"}.
    """
    return PlainFlax(config, variables)
