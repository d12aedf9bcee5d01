"""The state that is measured, put together as `flax_densenet.training.fit` does."""

from flax_densenet.bench.workload import LEARNING_RATE, SEED, WEIGHT_DECAY, channel_statistics
from flax_densenet.config import DenseNetConfig
from flax_densenet.formulation import Formulation
from flax_densenet.model import DenseNet
from flax_densenet.training.optimizer import learning_rate_schedule, sgd
from flax_densenet.training.preprocess import Preprocess
from flax_densenet.training.step import TrainState, create_state

_TOTAL_STEPS = 1_000_000  # so many that the learning rate does not drop


def initial_state(
    config: DenseNetConfig, *, remat: bool = False, formulation: Formulation = "auto"
) -> TrainState:
    """Returns the state before the first step.

    Args:
      config: The network.
      remat: Compute activations a second time in the backward pass.
      formulation: How blocks are computed.
    """
    return create_state(
        DenseNet(config, remat=remat, formulation=formulation),
        sgd(learning_rate_schedule(LEARNING_RATE, _TOTAL_STEPS), WEIGHT_DECAY),
        Preprocess(*channel_statistics(config), "none"),
        seed=SEED,
    )
