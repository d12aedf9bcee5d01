"""The trainings of a study, in turn, under one progress bar."""

import contextlib
import shutil
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax

from flax_densenet.data import Dataset
from flax_densenet.data.batches import steps_per_epoch
from flax_densenet.errors import TrainingDiverged
from flax_densenet.study.directory import StudyDirectory
from flax_densenet.training.config import Execution, RunConfig
from flax_densenet.training.loop import fit
from flax_densenet.training.parallel import check_batch_size
from flax_densenet.training.records import Progress
from flax_densenet.training.run_data import check_dataset
from flax_densenet.training.step import TrainState
from flax_densenet.training.workdir import Record, open_workdir


class Training(NamedTuple):
    """One training of a study.

    Attributes:
      identity: Values that only this training has, such as {"growth_rate": 4, "seed": 0}.
      run: What is trained and how.
      adapt: As `fit` takes it.
      measure: As `fit` takes it.
    """

    identity: Record
    run: RunConfig
    adapt: Callable[[TrainState], TrainState] | None = None
    measure: Callable[[TrainState], Record] | None = None

    @property
    def title(self) -> str:
        """The identity in words."""
        return ", ".join(f"{name} {value}" for name, value in self.identity.items())


def check_trainings(trainings: Sequence[Training], dataset: Dataset) -> None:
    """Checks before the first training that all of them can be done.

    Raises:
      InputError: Network, batch or data set do not fit together.
    """
    for training in trainings:
        check_dataset(training.run, dataset)
        steps_per_epoch(len(dataset.train), training.run.optimization.batch_size)
        check_batch_size(training.run.optimization.batch_size, jax.device_count())


def train_all(
    trainings: Sequence[Training],
    dataset: Dataset,
    directory: StudyDirectory,
    execution: Execution,
    describe: Callable[[Training, list[Record]], Record],
) -> None:
    """Does all trainings that the directory does not have yet.

    One that was interrupted goes on from its last checkpoint.

    Args:
      trainings: What to train; all of the same number of steps.
      dataset: Images that suit all of them.
      directory: Where results are kept.
      execution: How all of them are executed.
      describe: Returns the line of results.jsonl for a training, from its records by epoch.

    Raises:
      TrainingDiverged: A loss was not finite; the message says in which training.
      TrainingInterrupted: A signal came. Finished trainings are kept.
    """
    optimization = trainings[0].run.optimization
    steps = steps_per_epoch(len(dataset.train), optimization.batch_size) * optimization.epochs
    images = steps * optimization.batch_size
    progress = Progress(images * len(trainings), shows_epochs=False)
    try:
        for number, training in enumerate(trainings):
            progress.begin(number * images, training.title)
            if directory.find(training.identity):
                progress.write(f"{training.title}: done before")
                progress.set(images)
                continue
            workdir = open_workdir(directory.unfinished / _file_name(training), resume=True)
            try:
                records = fit(
                    training.run,
                    dataset,
                    workdir,
                    resume=True,
                    execution=execution,
                    adapt=training.adapt,
                    measure=training.measure,
                    progress=progress,
                )
            except TrainingDiverged as error:
                raise TrainingDiverged(f"{training.title}: {error}") from error
            directory.add(training.identity, [describe(training, records)])
            shutil.rmtree(workdir.path)
            progress.write(f"{training.title}: test error {records[-1]['test_error']:.2%}")
    finally:
        progress.close()
    with contextlib.suppress(OSError):  # not there, or with trainings that are not asked for now
        directory.unfinished.rmdir()


def _file_name(training: Training) -> str:
    return training.title.translate(str.maketrans(", ", "--", "()[]'"))
