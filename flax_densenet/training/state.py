"""The state of a training before its first step: the network, its optimizer, initial weights."""

from collections.abc import Mapping
from typing import Any

import optax

from flax_densenet.data import Dataset
from flax_densenet.data.batches import steps_per_epoch
from flax_densenet.densenet import DenseNet
from flax_densenet.network.config import DenseNetConfig
from flax_densenet.training.augment import Preprocess
from flax_densenet.training.config import DataConfig, Execution, OptimizationConfig, RunConfig
from flax_densenet.training.optimizer import learning_rate_schedule, sgd
from flax_densenet.training.parallel import mapped_axis
from flax_densenet.training.parts import factor_tree, find_parts, frozen_paths
from flax_densenet.training.run_data import channel_statistics
from flax_densenet.training.step import TrainState, create_state


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
    axis_name = mapped_axis(execution.parallel) if optimization.synchronized_batch_norm else None
    parts = find_parts(run.network, run.fine_tuning)
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
        ),
        preprocess,
        seed=optimization.seed,
        label_smoothing=optimization.label_smoothing,
        ema_decay=optimization.ema_decay,
        frozen=frozen_paths(run.network, parts),
        variables=variables,
    )


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
