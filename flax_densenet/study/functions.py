"""Studies as functions, for programs, notebooks and the command line."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from flax_densenet.errors import require
from flax_densenet.network.config import DenseNetConfig
from flax_densenet.study.catalog import (
    BATCH_SIZE,
    DEPTHS,
    FIELD_STUDIES,
    IMAGE_SIZE,
    MEMORY_NETWORK,
    SEEDS,
    STUDIES,
    baseline_run,
)
from flax_densenet.study.fields.study import FieldPlan
from flax_densenet.study.gradients.study import GradientPlan
from flax_densenet.study.plan import carry_out
from flax_densenet.study.result import StudyResult
from flax_densenet.study.reuse import ReusePlan
from flax_densenet.study.step_memory.study import MemoryPlan
from flax_densenet.training.config import RunConfig
from flax_densenet.training.run_data import load_run_data
from flax_densenet.weights.load import load_checkpoint

_PNG = ("png",)


def study_field(
    field: str,
    values: Sequence[Any] | None = None,
    *,
    seeds: int = SEEDS,
    run: RunConfig | None = None,
    dataset: str = "digits",
    network: DenseNetConfig | None = None,
    epochs: int | None = None,
    output: str | Path | None = None,
    formats: Sequence[str] = _PNG,
) -> StudyResult:
    """Trains the same network with several values of one field and compares them.

    Args:
      field: Key of `FIELD_STUDIES`, such as "growth_rate".
      values: The values; None takes the defaults in `FIELD_STUDIES`.
      seeds: Trainings for each value.
      run: The baseline, and how everything is trained; None is `baseline_run(field, dataset)`.
      dataset: As `--dataset`, if no run is given.
      network: The network of the baseline, if no run is given; its classes and channels follow the
        data set.
      epochs: Passes over the training images, instead of the run's.
      output: Directory in which results are kept; an interrupted study goes on with it.
      formats: Endings of the picture's files in it.

    Returns:
      The result, whose rows are each a `FieldRow`.

    Raises:
      InputError: The field, a value, the data set or the directory cannot be used.
    """
    require(field in FIELD_STUDIES, "field", field, f"one of {', '.join(FIELD_STUDIES)}")
    run = _with_epochs(run or baseline_run(field, dataset, network=network), epochs)
    chosen = FIELD_STUDIES[field].values if values is None else values
    data = load_run_data(run, num_workers=0)
    return carry_out(FieldPlan(field, tuple(chosen), seeds, run, data), output, formats)


def gradient_flow(
    *,
    seeds: int = SEEDS,
    run: RunConfig | None = None,
    dataset: str = "digits",
    network: DenseNetConfig | None = None,
    epochs: int | None = None,
    output: str | Path | None = None,
    formats: Sequence[str] = _PNG,
) -> StudyResult:
    """Measures the gradient in each layer, with and without the direct connections.

    Args:
      seeds: Trainings of each network.
      run: As for `study_field`.
      dataset: As for `study_field`.
      network: As for `study_field`.
      epochs: As for `study_field`.
      output: As for `study_field`.
      formats: As for `study_field`.

    Returns:
      The result, whose rows are each a `GradientRow`.

    Raises:
      InputError: The network, the data set or the directory cannot be used.
    """
    run = _with_epochs(run or baseline_run("gradient_flow", dataset, network=network), epochs)
    data = load_run_data(run, num_workers=0)
    return carry_out(GradientPlan(seeds, run, data), output, formats)


def memory(
    values: Sequence[int] = DEPTHS,
    *,
    network: DenseNetConfig = MEMORY_NETWORK,
    batch_size: int = BATCH_SIZE,
    image_size: int = IMAGE_SIZE,
    output: str | Path | None = None,
    formats: Sequence[str] = _PNG,
) -> StudyResult:
    """Compiles a training step at several depths, naive and with less memory.

    Args:
      values: The depths.
      network: The network, but for its depth.
      batch_size: Images in a batch.
      image_size: Height and width of an image in pixels.
      output: As for `study_field`.
      formats: As for `study_field`.

    Returns:
      The result, whose rows are each a `MemoryRow`.

    Raises:
      InputError: There is no such network, or the directory cannot be used.
    """
    return carry_out(MemoryPlan(tuple(values), network, batch_size, image_size), output, formats)


def feature_reuse(
    checkpoint: str | Path, *, output: str | Path | None = None, formats: Sequence[str] = _PNG
) -> StudyResult:
    """Shows which earlier layers the layers of a trained network read.

    Args:
      checkpoint: Whatever `flax_densenet.load` takes, such as a work directory of `train`.
      output: As for `study_field`.
      formats: As for `study_field`.

    Returns:
      The result, whose rows are each a `ReuseRow`.

    Raises:
      InputError: The checkpoint cannot be read, or the directory cannot be used.
    """
    loaded = load_checkpoint(checkpoint)
    return carry_out(ReusePlan(loaded.path.absolute(), loaded), output, formats)


_ANALYSES: dict[str, Callable[..., StudyResult]] = {
    "gradient_flow": gradient_flow,
    "feature_reuse": feature_reuse,
    "memory": memory,
}


def run(name: str, *values: Any, **settings: Any) -> StudyResult:
    """Does a study by its name.

    Args:
      name: Key of `STUDIES`.
      values: As the study's own function takes them; for a field it is `study_field`.
      settings: As the study's own function takes them.

    Raises:
      InputError: There is no such study, or as its own function.
    """
    require(name in STUDIES, "study", name, f"one of {', '.join(STUDIES)}")
    if name in FIELD_STUDIES:
        return study_field(name, *values, **settings)
    return _ANALYSES[name](*values, **settings)


def _with_epochs(run: RunConfig, epochs: int | None) -> RunConfig:
    if epochs is None:
        return run
    return dataclasses.replace(
        run, optimization=dataclasses.replace(run.optimization, epochs=epochs)
    )
