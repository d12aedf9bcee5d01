"""The training state of a run before its first step."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from flax_densenet.data import Dataset
from flax_densenet.data.batches import steps_per_epoch
from flax_densenet.densenet import DenseNet
from flax_densenet.implementations import choose_implementation, describe_choice, native
from flax_densenet.network.config import DenseNetConfig
from flax_densenet.network.initialization import initialize
from flax_densenet.network.layers import ArrayPath
from flax_densenet.training.augment import Preprocess
from flax_densenet.training.config import DataConfig, Execution, OptimizationConfig, RunConfig
from flax_densenet.training.optimizer import learning_rate_schedule, sgd
from flax_densenet.training.parallel import mapped_axis
from flax_densenet.training.parts import factor_tree, find_parts, frozen_paths, split_params
from flax_densenet.training.run_data import channel_statistics
from flax_densenet.training.step import TrainState


def create_state(
    model: DenseNet,
    optimizer: optax.GradientTransformation,
    preprocess: Preprocess,
    *,
    seed: int,
    label_smoothing: float = 0.0,
    ema_decay: float | None = None,
    frozen: frozenset[ArrayPath] = frozenset(),
    variables: Mapping[str, Any] | None = None,
    apply_updates: Callable[[Any, Any], Any] = optax.apply_updates,
) -> TrainState:
    """Returns the state before the first step; equal seeds give equal states.

    Args:
      model: The network.
      optimizer: The optax transformation.
      preprocess: What happens to an image before the network.
      seed: Decides initial weights, augmentation and dropout.
      label_smoothing: Share of the target probability that is spread over all classes.
      ema_decay: Weight of the old average of the parameters at each step; None keeps no average.
      frozen: Paths of the parameters that are not trained.
      variables: {"params", "batch_stats"} to start from, instead of initial weights.
      apply_updates: Adds the optimizer's updates to the parameters.
    """
    init_key, run_key = jax.random.split(jax.random.key(seed))
    if variables is None:
        variables = initialize(model.config, init_key)
    variables = jax.device_put(dict(variables))
    params = variables["params"]
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        batch_stats=variables["batch_stats"],
        optimizer_state=jax.jit(optimizer.init)(split_params(params, frozen)[0]),
        # The first step replaces it; a copy, since the step may reuse the parameters' memory.
        average_params=jax.tree.map(jnp.copy, params) if ema_decay is not None else None,
        key_data=jax.random.key_data(run_key),
        model=model,
        optimizer=optimizer,
        apply_updates=apply_updates,
        preprocess=preprocess,
        label_smoothing=label_smoothing,
        ema_decay=ema_decay,
        frozen=frozen,
    )


def run_schedule(optimization: OptimizationConfig, steps_per_epoch: int) -> optax.Schedule:
    """Returns the learning rate of a run, a function from the step (from 0)."""
    return learning_rate_schedule(
        optimization.learning_rate,
        steps_per_epoch * optimization.epochs,
        kind=optimization.schedule,
        drops=optimization.drops,
        warmup_steps=round(optimization.warmup_epochs * steps_per_epoch),
    )


def initial_state(
    run: RunConfig,
    execution: Execution,
    preprocess: Preprocess,
    schedule: optax.ScalarOrSchedule,
    variables: Mapping[str, Any] | None = None,
) -> TrainState:
    """Returns the state of a run before its first step.

    Args:
      run: The run.
      execution: How it is executed.
      preprocess: What happens to an image before the network.
      schedule: Learning rate, or a function from the step (from 0) to it.
      variables: {"params", "batch_stats"} to start from; None draws initial weights.

    Raises:
      InputError: What the run freezes or trains at another rate is not in its network.
    """
    optimization = run.optimization
    axis_name = _statistics_axis(run, execution)
    parts = find_parts(run.network, run.fine_tuning)
    chosen = choose_implementation(
        execution.implementation, run.network, train=True, axis_name=axis_name, captured=False
    )
    fused = chosen == "native"
    return create_state(
        DenseNet(
            run.network,
            axis_name=axis_name,
            freeze_batch_norm=run.fine_tuning.freeze_batch_norm,
            remat=execution.remat,
            implementation=execution.implementation,
        ),
        sgd(
            schedule,
            optimization.weight_decay,
            max_gradient_norm=optimization.max_gradient_norm,
            learning_rate_factors=factor_tree(run.network, parts),
            fused=fused,
        ),
        preprocess,
        seed=optimization.seed,
        label_smoothing=optimization.label_smoothing,
        ema_decay=optimization.ema_decay,
        frozen=frozen_paths(run.network, parts),
        variables=variables,
        apply_updates=native.apply_updates if fused else optax.apply_updates,
    )


def describe_computation(run: RunConfig, execution: Execution) -> str:
    """Returns which implementation computes a run, and why it is not the fastest there is."""
    return describe_choice(
        execution.implementation, run.network, axis_name=_statistics_axis(run, execution)
    )


def _statistics_axis(run: RunConfig, execution: Execution) -> str | None:
    is_shared = run.optimization.synchronized_batch_norm
    return mapped_axis(execution.parallel) if is_shared else None


def network_state(
    config: DenseNetConfig,
    preprocess: Preprocess,
    *,
    optimization: OptimizationConfig | None = None,
    execution: Execution = Execution(),
    schedule: optax.ScalarOrSchedule | None = None,
    variables: Mapping[str, Any] | None = None,
) -> TrainState:
    """Returns the state of a network without a run, to measure, compare or evaluate it.

    Args:
      config: The network.
      preprocess: What happens to an image before the network.
      optimization: How it is trained; None is as in the paper.
      execution: How that is executed.
      schedule: Learning rate, as for `initial_state`; None is that of `optimization` at every step.
      variables: As for `initial_state`.
    """
    optimization = optimization or OptimizationConfig()
    run = RunConfig(network=config, data=DataConfig(), optimization=optimization)
    if schedule is None:
        schedule = optimization.learning_rate
    return initial_state(run, execution, preprocess, schedule, variables)


def start(run: RunConfig, dataset: Dataset, execution: Execution) -> TrainState:
    """Returns the state with which `fit` starts.

    Args:
      run: What is trained and how.
      dataset: Its data set.
      execution: How it is executed.
    """
    steps = steps_per_epoch(len(dataset.train), run.optimization.batch_size)
    preprocess = Preprocess(*channel_statistics(run, dataset), run.data.augment)
    return initial_state(run, execution, preprocess, run_schedule(run.optimization, steps))
