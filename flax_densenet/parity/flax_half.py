"""The Flax half of a comparison.

Axes: B batch, C channels, H height, W width.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax.tree_utils
from flax import traverse_util

from flax_densenet.densenet import DenseNet
from flax_densenet.implementations.choose import Implementation
from flax_densenet.network.config import DenseNetConfig
from flax_densenet.parity.half import (
    EMA_DECAY,
    LEARNING_RATE,
    PARAMETERS,
    PIXEL_MEAN,
    PIXEL_STD,
    STATISTICS,
    WEIGHT_DECAY,
    Batch,
    Observation,
    Trained,
)
from flax_densenet.training.augment import Preprocess
from flax_densenet.training.config import Execution, OptimizationConfig
from flax_densenet.training.loss import cross_entropy
from flax_densenet.training.optimizer import learning_rate_schedule
from flax_densenet.training.state import network_state
from flax_densenet.training.step import train_step
from flax_densenet.weights.table import to_torch_arrays

_CALL = "__call__"


@dataclasses.dataclass(frozen=True)
class FlaxHalf:
    """The Flax network (see `Half`).

    Attributes:
      config: The network.
      variables: {"params", "batch_stats"}, in the type of the configuration.
      implementation: How it is computed. Only "plain" shows the outputs before the classifier.
    """

    config: DenseNetConfig
    variables: dict[str, Any]
    implementation: Implementation = "plain"

    def parameters(self) -> dict[str, np.ndarray]:
        """Returns its trainable parameters, under PyTorch's names."""
        return _ending(to_torch_arrays(self.variables, self.config), PARAMETERS)

    def forward(self, image: np.ndarray) -> dict[str, np.ndarray]:
        """Returns the activations of images [B, C, H, W] in evaluation."""

        def apply(variables: Any, pixels: jax.Array) -> Any:
            return self._model.apply(
                variables,
                pixels,
                train=False,
                mutable=["intermediates"],
                capture_intermediates=True,
            )

        _, updates = jax.device_get(jax.jit(apply)(self.variables, image.transpose(0, 2, 3, 1)))
        return _activations(updates["intermediates"])

    def observe(self, batch: Batch, *, train: bool) -> Observation:
        """Does one forward and backward pass and returns all that it shows."""

        def loss_fn(params: Any, pixels: jax.Array) -> tuple[jax.Array, Any]:
            logits, updates = self._model.apply(
                {"params": params, "batch_stats": self.variables["batch_stats"]},
                pixels,
                train=train,
                mutable=["batch_stats", "intermediates"],
                capture_intermediates=True,
                rngs={"dropout": jax.random.key(0)},
            )
            return jnp.mean(cross_entropy(logits, batch.label)), updates

        grad_fn = jax.value_and_grad(loss_fn, argnums=(0, 1), has_aux=True)
        (loss, updates), (gradients, image_gradient) = jax.device_get(
            jax.jit(grad_fn)(self.variables["params"], batch.image.transpose(0, 2, 3, 1))
        )
        # Gradients have the tree of the parameters, so the table for weights names and turns them.
        named = to_torch_arrays(
            {"params": gradients, "batch_stats": updates["batch_stats"]}, self.config
        )
        return Observation(
            _activations(updates["intermediates"]),
            {"loss": loss},
            {"image": image_gradient.transpose(0, 3, 1, 2)} | _ending(named, PARAMETERS),
            _ending(named, STATISTICS),
        )

    def train(self, batches: Sequence[Batch]) -> Trained:
        """Trains by one step on each batch."""
        channels = self.config.in_channels
        state = network_state(
            self.config,
            Preprocess((PIXEL_MEAN,) * channels, (PIXEL_STD,) * channels, augment="none"),
            optimization=OptimizationConfig(weight_decay=WEIGHT_DECAY, ema_decay=EMA_DECAY),
            execution=Execution(implementation=self.implementation),
            schedule=learning_rate_schedule(LEARNING_RATE, len(batches)),
            variables=self.variables,
        )
        step = jax.jit(train_step)
        losses = {}
        for number, (pixels, label) in enumerate(batches, start=1):
            batch = {"image": pixels.transpose(0, 2, 3, 1), "label": label}
            state, metrics = step(state, batch)
            losses[f"loss of step {number}"] = np.asarray(metrics["loss"])
        statistics = {"batch_stats": state.batch_stats}
        trace = optax.tree_utils.tree_get(state.optimizer_state, "trace")
        named, momentum, average = (
            to_torch_arrays({"params": params, **statistics}, self.config)
            for params in (state.params, trace, state.average_params)
        )
        return Trained(
            losses,
            _ending(named, PARAMETERS + STATISTICS),
            _ending(momentum, PARAMETERS),
            _ending(average, PARAMETERS + STATISTICS),
        )

    @property
    def _model(self) -> DenseNet:
        return DenseNet(self.config, implementation=self.implementation)


def _ending(arrays: dict[str, np.ndarray], endings: tuple[str, ...]) -> dict[str, np.ndarray]:
    return {key: value for key, value in arrays.items() if key.endswith(endings)}


def _activations(intermediates: dict[str, Any]) -> dict[str, np.ndarray]:
    named = {}
    for path, (value,) in traverse_util.flatten_dict(intermediates).items():
        modules = path[: path.index(_CALL)]
        if any(name.startswith("Dropout") for name in modules):
            continue
        if not modules:
            name = "logits"
        elif modules == ("classifier",):
            name = "classifier"
        else:
            name = ".".join(("features", *modules))
        named[name] = value.transpose(0, 3, 1, 2) if value.ndim == 4 else value
    return named
