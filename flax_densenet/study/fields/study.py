"""Studies that vary one field of the network: the runs of each value, and what every study does."""

import contextlib
import dataclasses
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from flax_densenet.data import Dataset
from flax_densenet.implementations.choose import choose_implementation
from flax_densenet.study.directory import StudyDirectory, open_study
from flax_densenet.study.fields.figure import draw_field
from flax_densenet.study.fields.report import (
    FieldRow,
    field_columns,
    field_method,
    field_recommendation,
    field_row,
    training_record,
)
from flax_densenet.study.fields.values import check_values, with_value
from flax_densenet.study.memory import step_memory
from flax_densenet.study.result import StudyResult
from flax_densenet.study.trainings import Training, check_trainings, train_all
from flax_densenet.summary.summarize import summarize
from flax_densenet.training.config import Execution, RunConfig
from flax_densenet.training.state import start
from flax_densenet.training.workdir import Record


class Plan(Protocol):
    """A study that is about to be done."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """The study's name as "study", and groups of settings that all its runs have in common."""

    def execute(self, directory: StudyDirectory) -> StudyResult:
        """Does what the directory does not have yet, and returns the result."""


def carry_out(
    plan: Plan, directory: str | Path | None, formats: Sequence[str] = ("png",)
) -> StudyResult:
    """Does a study, or what is left of it, and writes table and picture.

    Args:
      plan: The study.
      directory: Where its results are kept; None keeps nothing.
      formats: Endings of the picture's files.

    Raises:
      InputError: The directory holds something else.
      SavingFailed: Something cannot be written.
    """
    with _opened(directory) as path:
        study = open_study(path, plan.settings)
        result = plan.execute(study)
        result.save(study.path, formats)
    return result


@contextlib.contextmanager
def _opened(directory: str | Path | None) -> Iterator[Path]:
    if directory is not None:
        yield Path(directory).expanduser().absolute()
        return
    with tempfile.TemporaryDirectory() as temporary:
        yield Path(temporary) / "study"


@dataclasses.dataclass(frozen=True)
class FieldPlan:
    """The same training with several values of a field.

    Attributes:
      field: Key of `FIELD_STUDIES`.
      values: The values.
      num_seeds: Trainings for each value; their seeds are those from the run's on.
      run: The baseline, and how everything is trained.
      dataset: Its data set.

    Raises:
      InputError: A value, the network or the data set cannot be used.
    """

    field: str
    values: tuple[Any, ...]
    num_seeds: int
    run: RunConfig
    dataset: Dataset

    def __post_init__(self) -> None:
        check_values(self.field, self.values)
        check_trainings(self.trainings, self.dataset)

    @property
    def settings(self) -> dict[str, Any]:
        """What all runs have in common."""
        implementation = {"implementation": self.execution.implementation}
        return {"study": self.field, **dataclasses.asdict(self.run), "execution": implementation}

    @property
    def trainings(self) -> list[Training]:
        """One training for each value and seed."""
        first = self.run.optimization.seed
        return [
            Training({self.field: value, "seed": seed}, self._run(value, seed))
            for value in self.values
            for seed in range(first, first + self.num_seeds)
        ]

    @property
    def execution(self) -> Execution:
        """One implementation for all: otherwise their times would be those of different programs."""
        chosen = {
            choose_implementation(
                "auto", training.run.network, train=True, axis_name=None, captured=False
            )
            for training in self.trainings
        }
        return Execution(implementation=chosen.pop() if len(chosen) == 1 else "plain")

    def execute(self, directory: StudyDirectory) -> StudyResult:
        """Does what the directory does not have yet, and compares.

        Args:
          directory: Where results are kept.

        Raises:
          TrainingDiverged: A loss was not finite.
          TrainingInterrupted: A signal came; what was done is kept.
        """
        field, dataset, execution = self.field, self.dataset, self.execution

        def describe(training: Training, records: list[Record]) -> Record:
            others = directory.find({field: training.identity[field]})
            step_bytes = others[0]["step_bytes"] if others else self._step_bytes(training.run)
            return training_record(records, training.run.optimization.batch_size, step_bytes)

        train_all(self.trainings, dataset, directory, execution, describe)
        rows = tuple(self._row(directory, value) for value in self.values)
        versions = sorted({record["version"] for record in directory.read()})
        return StudyResult(
            name=field,
            title=f"Study of {field}: {self.run.network.title} on {dataset.name}",
            method=field_method(field, rows, self.run, dataset, execution, versions),
            columns=field_columns(field, has_validation=dataset.validation is not None),
            rows=rows,
            recommendation=field_recommendation(field, rows),
            draw=draw_field,
        )

    def _run(self, value: Any, seed: int) -> RunConfig:
        return dataclasses.replace(
            self.run,
            network=with_value(self.run.network, self.field, value),
            optimization=dataclasses.replace(self.run.optimization, seed=seed),
        )

    def _step_bytes(self, run: RunConfig) -> int:
        # The same program as the one that was trained, so that JAX's cache has it.
        return step_memory(
            start(run, self.dataset, self.execution),
            self.execution,
            batch_size=run.optimization.batch_size,
            image_shape=self.dataset.image_shape,
        ).total

    def _row(self, directory: StudyDirectory, value: Any) -> FieldRow:
        seeds = [training.identity["seed"] for training in self.trainings]
        records = [
            record
            for seed in dict.fromkeys(seeds)
            for record in directory.find({self.field: value, "seed": seed})
        ]
        height, width, _ = self.dataset.image_shape
        summary = summarize(
            self._run(value, seeds[0]).network,
            image_size=(height, width),
            batch_size=self.run.optimization.batch_size,
        )
        return field_row(value, records, summary)
