"""The directory of a training run: its configuration, records and checkpoints."""

import contextlib
import dataclasses
import itertools
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flax_densenet.data import Dataset
from flax_densenet.data.preparation import trained_preparation
from flax_densenet.errors import InputError
from flax_densenet.files import write_text
from flax_densenet.lock import LOCK_NAME, Lock, locked
from flax_densenet.training.config import RunConfig
from flax_densenet.weights.statement import CLASS_NAMES_KEY, PREPARATION_KEY

Record = dict[str, Any]
_IMAGES_KEY = "images"


def usage_record(run: RunConfig, dataset: Dataset) -> Record:
    """Returns what using the network of a run takes besides its weights.

    `weights.statement.read_run` reads it.

    Args:
      run: The run, with the mean and deviation that it normalizes with.
      dataset: Its data set.

    Returns:
      How images are prepared, the names of the classes, and the number of images of every split,
      as JSON holds them.
    """
    data = run.data
    preparation = trained_preparation(
        data.image_size,
        data.augment,
        run.network.in_channels,
        mean=data.mean,
        std=data.std,
        pixel_range=data.pixel_range,
    )
    height, width, _ = dataset.image_shape
    if preparation.size is None and height == width:
        preparation = dataclasses.replace(preparation, size=height, shorter_side=height)
    return {
        PREPARATION_KEY: preparation.to_record(),
        CLASS_NAMES_KEY: dataset.class_names,
        _IMAGES_KEY: count_images(dataset),
    }


def count_images(dataset: Dataset) -> dict[str, int]:
    """Returns the number of images of every split."""
    splits = {name: getattr(dataset, name) for name in ("train", "validation", "test")}
    return {name: len(split) for name, split in splits.items() if split is not None}


@dataclasses.dataclass(frozen=True)
class WorkDir:
    """The directory of a run, with the names of the files in it.

    Attributes:
      path: Its absolute path.
    """

    path: Path

    @property
    def config_file(self) -> Path:
        """The configuration of the run, and what using its network takes."""
        return self.path / "config.json"

    @property
    def metrics_file(self) -> Path:
        """The metrics: one JSON object per epoch, each on a line."""
        return self.path / "metrics.jsonl"

    @property
    def curves_file(self) -> Path:
        """The plot of the metrics."""
        return self.path / "curves.png"

    @property
    def checkpoints(self) -> Path:
        """Orbax checkpoints, one directory per epoch kept."""
        return self.path / "checkpoints"

    @property
    def tensorboard(self) -> Path:
        """TensorBoard files, if asked for."""
        return self.path / "tensorboard"

    @property
    def profile(self) -> Path:
        """The profile of some steps, if asked for."""
        return self.path / "profile"

    def read_config(self) -> RunConfig:
        """Returns the configuration of the run that was started here.

        Raises:
          InputError: No run was started here.
        """
        try:
            return RunConfig.from_json(self.config_file.read_text())
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else error.reason
            raise InputError(
                f"nothing to resume: cannot read {self.config_file} ({reason}); "
                "give the work directory of an earlier run with --workdir"
            ) from error

    def write_config(self, run: RunConfig, usage: Record | None = None) -> None:
        """Writes config.json, whole or not at all.

        Args:
          run: The run.
          usage: What `usage_record` returns, if that is known already.

        Raises:
          SavingFailed: Writing failed.
        """
        write_text(self.config_file, run.to_json(beside=usage or {}))

    def check_same_images(self, dataset: Dataset) -> None:
        """Checks that a data set is still the one that the run was started with.

        Runs of old versions recorded less, and then less is checked.

        Args:
          dataset: The data set that the configuration leads to today.

        Raises:
          InputError: Classes or numbers of images differ; all of them are named.
        """
        beside = json.loads(self.config_file.read_text())
        now = {CLASS_NAMES_KEY: list(dataset.class_names), _IMAGES_KEY: count_images(dataset)}
        differing = [
            f"{name} was {beside[name]}, now {value}"
            for name, value in now.items()
            if beside.get(name) not in (None, value)
        ]
        if differing:
            raise InputError(
                f"cannot resume {self.path}, since the data set {dataset.name} has changed: "
                f"{'; '.join(differing)}; put the former images back, or start a new run from "
                f"these weights with --init_from {self.path}"
            )

    def read_records(self) -> list[Record]:
        """Returns the metrics of the epochs done."""
        if not self.metrics_file.exists():
            return []
        lines = self.metrics_file.read_text().splitlines(keepends=True)
        # A line that was cut off by a crash belongs to an epoch that is trained again.
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def write_records(self, records: list[Record]) -> None:
        """Writes metrics.jsonl, whole or not at all.

        Raises:
          SavingFailed: Writing failed.
        """
        write_text(self.metrics_file, "".join(json.dumps(record) + "\n" for record in records))


@contextlib.contextmanager
def held_workdir(
    path: str | Path, *, resume: bool, is_first_process: bool = True, numbered: bool = False
) -> Iterator[tuple[WorkDir, Lock | None]]:
    """Opens a work directory for one run, and for no other until the block ends.

    A new directory in which nothing was written is removed again.

    Args:
      path: As for `open_workdir`.
      resume: As for `open_workdir`.
      is_first_process: As for `open_workdir`; that process holds it for all of the run.
      numbered: Make a new directory, with a number behind its name if the name is taken.

    Yields:
      The directory, and the lock on it; None if its disk has no locks, or another process of the
      run has it.

    Raises:
      InputError: As `open_workdir`, or another run is in it.
    """
    directory = Path(path).expanduser().absolute()
    if not is_first_process:
        yield WorkDir(directory), None
        return
    with contextlib.ExitStack() as stack:
        try:
            directory, is_new = _make(directory, numbered=numbered)
            if is_new:
                stack.callback(_remove_if_empty, directory)
            lock = stack.enter_context(locked(directory, flag="--workdir"))
        except OSError as error:
            raise _not_writable(directory, error) from error
        yield open_workdir(directory, resume=resume), lock


def _make(directory: Path, *, numbered: bool) -> tuple[Path, bool]:
    """Returns the directory, or the next free name, and whether this process has made it."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    for number in itertools.count(1):
        name = directory.name if number == 1 else f"{directory.name}-{number}"
        try:
            directory.with_name(name).mkdir()  # fails if another run makes it in the same moment
            return directory.with_name(name), True
        except FileExistsError:
            if not numbered:
                break
    return directory, False


def _remove_if_empty(directory: Path) -> None:
    with contextlib.suppress(OSError):
        directory.rmdir()


def open_workdir(path: str | Path, *, resume: bool, is_first_process: bool = True) -> WorkDir:
    """Opens a work directory: creates it if it is missing, and checks that it can be written to.

    Args:
      path: Relative or absolute path; "~" is the home directory.
      resume: Whether the directory may already hold a run.
      is_first_process: Whether to create and check it; only one process of a run does.

    Returns:
      The directory with an absolute path.

    Raises:
      InputError: It cannot be written to, or holds something and `resume` is False.
    """
    directory = Path(path).expanduser().absolute()
    if not is_first_process:
        return WorkDir(directory)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            pass
        is_empty = all(child.name == LOCK_NAME for child in directory.iterdir())
    except OSError as error:
        raise _not_writable(directory, error) from error
    if not is_empty and not resume:
        raise InputError(
            f"work directory {directory} is not empty; continue the run in it with --resume, "
            "or give another one with --workdir"
        )
    return WorkDir(directory)


def _not_writable(directory: Path, error: OSError) -> InputError:
    reason = "it is a file" if directory.is_file() else error.strerror
    return InputError(
        f"work directory {directory} cannot be written to ({reason}); give another one with "
        "--workdir"
    )
