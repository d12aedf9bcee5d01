"""Training: pure steps, the paper's optimizer and the loop around them."""

from typing import TYPE_CHECKING

from flax_densenet.lazy_names import lazy_names

if TYPE_CHECKING:
    from flax_densenet.training.evaluation import evaluate
    from flax_densenet.training.loop import fit
    from flax_densenet.training.optimization_config import OptimizationConfig
    from flax_densenet.training.optimizer import learning_rate_schedule, sgd
    from flax_densenet.training.preprocess import Preprocess
    from flax_densenet.training.run_config import DataConfig, RunConfig
    from flax_densenet.training.step import TrainState, create_state, eval_step, train_step
    from flax_densenet.training.workdir import WorkDir, open_workdir
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "evaluation": ("evaluate",),
            "loop": ("fit",),
            "optimization_config": ("OptimizationConfig",),
            "optimizer": ("learning_rate_schedule", "sgd"),
            "preprocess": ("Preprocess",),
            "run_config": ("DataConfig", "RunConfig"),
            "step": ("TrainState", "create_state", "eval_step", "train_step"),
            "workdir": ("WorkDir", "open_workdir"),
        },
    )

__all__ = [
    "DataConfig",
    "OptimizationConfig",
    "Preprocess",
    "RunConfig",
    "TrainState",
    "WorkDir",
    "create_state",
    "eval_step",
    "evaluate",
    "fit",
    "learning_rate_schedule",
    "open_workdir",
    "sgd",
    "train_step",
]
