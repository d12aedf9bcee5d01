"""What using a trained network takes besides its weights; it stands in config.json, too."""

import dataclasses
import json
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from flax_densenet.data import Dataset
from flax_densenet.data.preparation import Preparation
from flax_densenet.errors import InputError
from flax_densenet.files import write_text
from flax_densenet.training.config import RunConfig
from flax_densenet.training.run_data import run_image_format

_PREPROCESSING, _CLASS_NAMES = "preprocessing", "class_names"


class Usage(NamedTuple):
    """What using a network takes.

    Attributes:
      preparation: How images are prepared.
      class_names: One name per class; None if nobody has told.
    """

    preparation: Preparation
    class_names: tuple[str, ...] | None

    def to_record(self) -> dict[str, Any]:
        """Returns what config.json holds beside the run's configuration."""
        return {_PREPROCESSING: self.preparation.to_record(), _CLASS_NAMES: self.class_names}


def run_usage(run: RunConfig, dataset: Dataset) -> Usage:
    """Returns what using the network of a run takes.

    Args:
      run: The run, with the mean and deviation that it normalizes with.
      dataset: Its data set.
    """
    height, width, _ = dataset.image_shape
    preparation = _from_run(run)
    if preparation.size is None and height == width:
        preparation = dataclasses.replace(preparation, size=height, shorter_side=height)
    return Usage(preparation, dataset.class_names)


def read_usage(text: str, run: RunConfig) -> Usage:
    """Reads the text of config.json.

    Args:
      text: The text. If it is older than this record, what the run's configuration tells is taken.
      run: The run's configuration in it.

    Raises:
      InputError: The record is damaged.
    """
    groups = json.loads(text)
    if _PREPROCESSING not in groups:
        return Usage(_from_run(run), None)
    try:
        preparation = Preparation.from_record(groups[_PREPROCESSING])
        names = groups[_CLASS_NAMES]
        return Usage(preparation, tuple(names) if names else None)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"config.json has a damaged record of preprocessing ({error}); remove it, and say with "
            "flags how images are prepared"
        ) from error


def _from_run(run: RunConfig) -> Preparation:
    image_format = run_image_format(run)
    size = shorter_side = None
    if image_format is not None:
        size, shorter_side = image_format.size, image_format.resized_side
    return Preparation(size=size, shorter_side=shorter_side, mean=run.data.mean, std=run.data.std)


Record = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class WorkDir:
    """The absolute path of a run's directory, and what lies in it.

    Attributes:
      path: The directory.
    """

    path: Path

    @property
    def config_file(self) -> Path:
        """The run's configuration."""
        return self.path / "config.json"

    @property
    def metrics_file(self) -> Path:
        """One JSON object per line and epoch."""
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

    def read_usage(self) -> Usage:
        """Returns what using the network takes, as far as it is told.

        Raises:
          InputError: No run was started here.
        """
        run = self.read_config()
        return read_usage(self.config_file.read_text(), run)

    def write_config(self, run: RunConfig, usage: Usage | None = None) -> None:
        """Writes config.json, whole or not at all.

        Args:
          run: The run.
          usage: What using its network takes, once the data set has told.
        """
        write_text(self.config_file, run.to_json(beside=usage.to_record() if usage else {}))

    def read_records(self) -> list[Record]:
        """Returns the metrics of the epochs done."""
        if not self.metrics_file.exists():
            return []
        lines = self.metrics_file.read_text().splitlines(keepends=True)
        # A line that was cut off by a crash belongs to an epoch that is trained again.
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def write_records(self, records: list[Record]) -> None:
        """Writes metrics.jsonl, whole or not at all."""
        write_text(self.metrics_file, "".join(json.dumps(record) + "\n" for record in records))


def open_workdir(path: str | Path, *, resume: bool, is_first_process: bool = True) -> WorkDir:
    """Creates the directory, if need be, and tries it for writing.

    Args:
      path: Relative or absolute path; "~" is the home directory.
      resume: Whether the directory may already hold a run.
      is_first_process: Whether to check; the other processes of a run find what it has written.

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
        is_empty = not any(directory.iterdir())
    except OSError as error:
        reason = "it is a file" if directory.is_file() else error.strerror
        raise InputError(
            f"work directory {directory} cannot be written to ({reason}); "
            "give another one with --workdir"
        ) from error
    if not is_empty and not resume:
        raise InputError(
            f"work directory {directory} is not empty; continue the run in it with --resume, "
            "or give another one with --workdir"
        )
    return WorkDir(directory)
