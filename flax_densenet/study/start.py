"""Where a training starts."""

from flax_densenet.data import Dataset
from flax_densenet.data.batches import steps_per_epoch
from flax_densenet.training.execution import Execution
from flax_densenet.training.initial_state import initial_state, run_schedule
from flax_densenet.training.loop import channel_statistics
from flax_densenet.training.preprocess import Preprocess
from flax_densenet.training.run_config import RunConfig
from flax_densenet.training.step import TrainState


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
