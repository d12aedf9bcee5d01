"""The study of gradients, with and without the direct connections.

The dense network and the plain chain of plain_chain.py have the same depth and nearly the same
number of parameters, and are trained alike. Before the first step and after each epoch the gradient
of the same batch is measured.

Axes: B batch, H height, W width, C channels; L dense layers.
"""

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from flax_densenet.data import Dataset
from flax_densenet.data.batches import TrainBatch, train_batches
from flax_densenet.densenet import DenseNet
from flax_densenet.errors import require
from flax_densenet.machine import software
from flax_densenet.network.config import DenseNetConfig
from flax_densenet.network.layers import count_parameters, weight_layers
from flax_densenet.study.directory import StudyDirectory
from flax_densenet.study.gradients.figure import draw_gradients
from flax_densenet.study.gradients.plain_chain import (
    PlainChain,
    chain_config,
    count_chain_parameters,
    initialize_chain,
)
from flax_densenet.study.gradients.report import (
    COLUMNS,
    gradient_conclusion,
    gradient_method,
    gradient_rows,
)
from flax_densenet.study.result import StudyResult
from flax_densenet.study.trainings import Training, check_trainings, train_all
from flax_densenet.training.config import Execution, FineTuningConfig, RunConfig
from flax_densenet.training.loss import cross_entropy
from flax_densenet.training.state import start
from flax_densenet.training.step import TrainState
from flax_densenet.training.workdir import Record


def convolutions(config: DenseNetConfig) -> list[str]:
    """Returns the names of the convolutions that give new maps, one for each dense layer."""
    last = f"conv{config.convolutions_per_layer}"
    paths = [layer.path for layer in weight_layers(config)]
    return [".".join(path) for path in paths if len(path) == 3 and path[-1] == last]


def gradient_norms(state: TrainState, batch: TrainBatch) -> list[float]:
    """Returns the Euclidean norm of the loss's gradient in each dense layer's last kernel.

    Args:
      state: State of a training.
      batch: {"image": [B, H, W, C] uint8, "label": [B] int32}, not augmented.

    Returns:
      L norms, in forward order.
    """
    key = jax.random.wrap_key_data(state.key_data)
    image = state.preprocess(jnp.asarray(batch["image"]), key, train=False)
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    norms = _norms(state.model, variables, image, jnp.asarray(batch["label"]), key)
    return [float(norm) for norm in norms]


@partial(jax.jit, static_argnums=0)
def _norms(
    model: DenseNet,
    variables: dict[str, Any],
    image: Float[Array, "B H W C"],
    label: jax.Array,
    key: jax.Array,
) -> Float[Array, " L"]:
    def loss(params: Any) -> jax.Array:
        logits, _ = model.apply(
            variables | {"params": params},
            image,
            train=True,
            mutable=["batch_stats"],
            rngs={"dropout": key},
        )
        return jnp.mean(cross_entropy(logits, label))

    gradients = jax.grad(loss)(variables["params"])
    norms = []
    for name in convolutions(model.config):
        layer = gradients
        for part in name.split("."):
            layer = layer[part]
        norms.append(jnp.linalg.norm(layer["kernel"].ravel()))
    return jnp.stack(norms)


# The chain has no other implementation, and both networks are to be computed in the same way.
_EXECUTION = Execution(implementation="plain")


@dataclasses.dataclass(frozen=True)
class GradientPlan:
    """The gradient in each layer, with and without the direct connections.

    Attributes:
      num_seeds: Trainings of each network; their seeds are those from the run's on.
      run: What is trained and how.
      dataset: Its data set.

    Raises:
      InputError: The network cannot be a chain, or does not suit the data set.
    """

    num_seeds: int
    run: RunConfig
    dataset: Dataset

    def __post_init__(self) -> None:
        chain_config(self.run.network)
        require(
            self.run.fine_tuning == FineTuningConfig(),
            "fine_tuning",
            self.run.fine_tuning,
            "left out: the plain chain has no trained weights to start from",
        )
        check_trainings(self.trainings, self.dataset)

    @property
    def settings(self) -> dict[str, Any]:
        """What all runs have in common."""
        return {"study": "gradient_flow", **dataclasses.asdict(self.run)}

    @property
    def trainings(self) -> list[Training]:
        """One training for each seed of each network."""
        first = self.run.optimization.seed
        return [
            Training({"connections": name, "seed": seed}, self._run(seed), adapt, self._measure)
            for seed in range(first, first + self.num_seeds)
            for name, adapt in (("direct", None), ("chain", partial(self._to_chain, seed)))
        ]

    def execute(self, directory: StudyDirectory) -> StudyResult:
        """Does what the directory does not have yet, and compares.

        Args:
          directory: Where results are kept.

        Raises:
          TrainingDiverged: A loss was not finite.
          TrainingInterrupted: A signal came; what was done is kept.
        """
        train_all(self.trainings, self.dataset, directory, _EXECUTION, self._describe)
        records = [
            record for training in self.trainings for record in directory.find(training.identity)
        ]
        rows = gradient_rows(records)
        network = self.run.network
        return StudyResult(
            name="gradient_flow",
            title=f"Gradient flow: {network.title} on {self.dataset.name}",
            method=gradient_method(self.run, chain_config(network), self.dataset, records),
            columns=COLUMNS,
            rows=rows,
            recommendation=gradient_conclusion(rows),
            draw=draw_gradients,
        )

    def _run(self, seed: int) -> RunConfig:
        optimization = dataclasses.replace(self.run.optimization, seed=seed)
        return dataclasses.replace(self.run, optimization=optimization)

    def _measure(self, state: TrainState) -> Record:
        size = self.run.optimization.batch_size
        batch = next(iter(train_batches(self.dataset.train, size, seed=0, epoch=0)))
        return {"gradient_norms": gradient_norms(state, batch)}

    def _to_chain(self, seed: int, state: TrainState) -> TrainState:
        config = chain_config(self.run.network)
        variables = initialize_chain(config, seed)
        params = variables["params"]
        return state.replace(
            model=PlainChain(config, axis_name=state.model.axis_name),
            params=params,
            batch_stats=variables["batch_stats"],
            optimizer_state=jax.jit(state.optimizer.init)(params),
            average_params=None if state.average_params is None else jax.tree.map(jnp.copy, params),
        )

    def _describe(self, training: Training, records: list[Record]) -> Record:
        state = start(training.run, self.dataset, _EXECUTION)
        before = self._measure(training.adapt(state) if training.adapt else state)
        network = self.run.network
        is_chain = training.identity["connections"] == "chain"
        return {
            "parameters": count_chain_parameters(chain_config(network))
            if is_chain
            else count_parameters(network),
            "layers": convolutions(network),
            "gradient_norms": [r["gradient_norms"] for r in (before, *records)],  # by epoch from 0
            "train_loss": records[-1]["train_loss"],
            "test_error": records[-1]["test_error"],
            "version": software("jax", "flax"),
        }
