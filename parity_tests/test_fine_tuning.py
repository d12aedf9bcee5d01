"""Fine-tuning: frozen parts, learning rates by part and frozen statistics, as in PyTorch."""

import dataclasses
from typing import Any

import jax
import numpy as np
import pytest

from flax_densenet import DenseNetConfig
from flax_densenet.parity.half import PIXEL_MEAN, PIXEL_STD
from flax_densenet.parity.random_inputs import random_pixels, random_variables
from flax_densenet.parity.tolerances import TOLERANCES
from flax_densenet.training import (
    DataConfig,
    OptimizationConfig,
    Preprocess,
    RunConfig,
    train_step,
)
from flax_densenet.training.config import Execution, FineTuningConfig
from flax_densenet.training.parts import find_parts
from flax_densenet.training.state import initial_state, run_schedule
from flax_densenet.weights.adapt import with_new_head
from flax_densenet.weights.table import to_torch, to_torch_arrays
from parity_tests.halves import assert_close
from torch_reference import step as torch_step
from torch_reference.preprocess import Preprocess as TorchPreprocess

STEPS = 5
NETWORK = DenseNetConfig(
    blocks=(1, 1), growth_rate=4, bottleneck=True, compression=0.5, dtype="float64"
)
CLASSES = 7  # of the new head
RECIPE = OptimizationConfig(
    epochs=1, learning_rate=0.05, weight_decay=1e-2, drops=(0.6,), max_gradient_norm=2.0
)
WITH_AVERAGE = dataclasses.replace(RECIPE, ema_decay=0.8)
STEM = ("features.conv0.weight",)


@dataclasses.dataclass(frozen=True)
class Case:
    """A way to fine-tune, and what must stay bit for bit.

    Attributes:
      flags: Fields of `FineTuningConfig`.
      kept: Beginnings of the names of what must not change.
      keeps_statistics: Whether running statistics are among it.
      recipe: How it is trained.
    """

    flags: dict[str, Any]
    kept: tuple[str, ...]
    keeps_statistics: bool = False
    recipe: OptimizationConfig = RECIPE


CASES = {
    "new head alone": Case({"freeze": "features"}, ("features.",)),
    "learning rates": Case({"learning_rate_factors": "features=0.1,denseblock2=0.5"}, ()),
    "frozen batch normalization": Case({"freeze_batch_norm": True}, (), keeps_statistics=True),
    "all together": Case(
        {
            "freeze": "conv0,denseblock1",
            "learning_rate_factors": "features=0.1,norm?=0.3",
            "freeze_batch_norm": True,
        },
        ("features.conv0.", "features.denseblock1."),
        keeps_statistics=True,
        recipe=WITH_AVERAGE,
    ),
}


def fine_tune(case: Case, start: dict[str, Any], config: DenseNetConfig) -> tuple[Any, Any]:
    """Five steps in Flax and in PyTorch; the states after them."""
    run = RunConfig(
        network=config,
        data=DataConfig(),
        optimization=case.recipe,
        fine_tuning=FineTuningConfig(init_from="weights", **case.flags),
    )
    schedule = run_schedule(run.optimization, STEPS)
    pixels = (PIXEL_MEAN,) * 3, (PIXEL_STD,) * 3
    state = initial_state(run, Execution(), Preprocess(*pixels, "none"), schedule, start)
    recipe, parts = run.optimization, find_parts(config, run.fine_tuning)
    theirs = torch_step.create_state(
        config,
        lambda step: float(schedule(step)),
        TorchPreprocess(*pixels, "none"),
        seed=0,
        weight_decay=recipe.weight_decay,
        max_gradient_norm=recipe.max_gradient_norm,
        ema_decay=recipe.ema_decay,
        frozen=parts.frozen,
        factors=parts.factors,
        freeze_batch_norm=run.fine_tuning.freeze_batch_norm,
        state_dict=to_torch(start, config),
    )
    step = jax.jit(train_step)
    for image, label in random_pixels(config, (8, 3, 8, 8), STEPS):
        batch: Any = {"image": image.transpose(0, 2, 3, 1), "label": label}
        state, metrics = step(state, batch)
        their_metrics = torch_step.train_step(theirs, batch)
        np.testing.assert_allclose(metrics["loss"], their_metrics["loss"], rtol=1e-10)
    return state, theirs


@pytest.mark.parametrize("name", CASES)
def test_five_steps_are_those_of_pytorch_and_what_is_frozen_stays_bit_for_bit(
    name: str, float64: None
) -> None:
    case = CASES[name]
    start, config = with_new_head(random_variables(NETWORK), NETWORK, CLASSES)
    state, theirs = fine_tune(case, start, config)
    before = to_torch_arrays(start, config)
    learned = [key for key in before if not key.endswith("num_batches_tracked")]
    ours = to_torch_arrays({"params": state.params, "batch_stats": state.batch_stats}, config)
    right = {key: value.numpy() for key, value in theirs.model.state_dict().items()}
    assert_close(
        {key: ours[key] for key in learned},
        {key: right[key] for key in learned},
        TOLERANCES["float64"].training,
    )
    if theirs.average is not None:
        averaged = to_torch_arrays(state.variables, config)
        right = {k: value.numpy() for k, value in theirs.average.module.state_dict().items()}
        named = [key for key in learned if not key.startswith(case.kept)]
        assert_close(
            {key: averaged[key] for key in named},
            {key: right[key] for key in named},
            TOLERANCES["float64"].training,
        )
    for key in learned:
        is_statistic = "running" in key
        is_kept = case.keeps_statistics if is_statistic else key.startswith(case.kept or "-")
        assert np.array_equal(ours[key], before[key]) == is_kept, key
    num_buffers = len(theirs.optimizer.state)
    trace = jax.tree.leaves(state.optimizer_state)
    assert sum(np.ndim(leaf) > 0 for leaf in trace) == num_buffers  # none for what is frozen
