"""The directory of a study: settings, and results of finished runs."""

import contextlib
import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from flax_densenet.errors import InputError, SavingFailed
from flax_densenet.files import make_directory, write_text
from flax_densenet.lock import LOCK_NAME, locked
from flax_densenet.training.workdir import Record

Settings = Mapping[str, Any]

# Each run has its own seed, and the same data may lie elsewhere.
_FREE = ("seed", "data_dir")
_ABSENT = "absent"


@dataclasses.dataclass(frozen=True)
class StudyDirectory:
    """A study on the disk, which holds each run whole or not at all.

    Attributes:
      path: The directory.
    """

    path: Path

    @property
    def config_file(self) -> Path:
        """The settings that all runs have in common."""
        return self.path / "config.json"

    @property
    def results_file(self) -> Path:
        """The records, one JSON object per line."""
        return self.path / "results.jsonl"

    @property
    def unfinished(self) -> Path:
        """Work directories of unfinished trainings."""
        return self.path / "unfinished"

    def read(self) -> list[Record]:
        """Returns the records of all finished runs."""
        if not self.results_file.exists():
            return []
        return [json.loads(line) for line in self.results_file.read_text().splitlines()]

    def find(self, run: Record) -> list[Record]:
        """Returns the records of one run; an empty list if it is not done.

        Args:
          run: Values that only this run has, such as {"seed": 1}.
        """
        wanted = _as_json(run)
        return [record for record in self.read() if record.items() >= wanted.items()]

    def add(self, run: Record, records: Sequence[Record]) -> None:
        """Writes the records of a finished run.

        Args:
          run: Values that only this run has.
          records: Its results.

        Raises:
          SavingFailed: The disk is full, or something like it; the runs before are kept.
        """
        lines = [json.dumps(record) for record in [*self.read(), *(run | r for r in records)]]
        write_text(self.results_file, "\n".join(lines) + "\n")


@contextlib.contextmanager
def held_study(path: Path, settings: Settings) -> Iterator[StudyDirectory]:
    """Opens the directory of a study for one process, and for no other until the block ends.

    Args:
      path: As for `open_study`.
      settings: As for `open_study`.

    Raises:
      InputError: As `open_study`, or another process does the study.
      SavingFailed: It cannot be written to.
    """
    _check_place(path, settings)
    make_directory(path)
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(locked(path, flag="--output"))
        except OSError as error:
            raise SavingFailed(f"{path} cannot be written ({error.strerror})") from error
        yield open_study(path, settings)


def open_study(path: Path, settings: Settings) -> StudyDirectory:
    """Opens the directory of a new study, or of one to go on with.

    Args:
      path: The directory.
      settings: "study", its name, and groups of settings that all runs have in common.

    Raises:
      InputError: The directory holds something else, another study, or one with other settings.
      SavingFailed: It cannot be written to.
    """
    study = StudyDirectory(path)
    if not _check_place(path, settings):
        make_directory(path)
        write_text(study.config_file, json.dumps(settings, indent=2) + "\n")
    return study


def _check_place(path: Path, settings: Settings) -> bool:
    """Returns whether the study was begun there, and refuses a place of something else."""
    stored = _read_settings(StudyDirectory(path).config_file)
    if stored is not None:
        _check_same(path, stored, _as_json(settings))
        return True
    if path.exists() and not (
        path.is_dir() and all(child.name == LOCK_NAME for child in path.iterdir())
    ):
        raise InputError(
            f"{path} is no study, and not an empty directory; give another one with --output"
        )
    return False


def _read_settings(file: Path) -> dict[str, Any] | None:
    """Returns the settings of a study; None if there is no such file, or not a study's."""
    try:
        stored = json.loads(file.read_text())
    except (OSError, ValueError):
        return None
    return stored if isinstance(stored, dict) and "study" in stored else None


def _check_same(path: Path, stored: dict[str, Any], settings: dict[str, Any]) -> None:
    if stored["study"] != settings["study"]:
        raise InputError(
            f"{path} holds the study {stored['study']}, not {settings['study']}; give another "
            "directory with --output"
        )
    # A setting that one of them lacks is one that another version of this package knows.
    then, now = _flat(stored), _flat(settings)
    differences = [
        f"{name} was {then.get(name, _ABSENT)!r}, now {now.get(name, _ABSENT)!r}"
        for name in {**then, **now}
        if then.get(name, _ABSENT) != now.get(name, _ABSENT) and name not in _FREE
    ]
    if differences:
        raise InputError(
            f"the study in {path} has other settings: {'; '.join(differences)}; give the same "
            "flags to go on with it, or another directory with --output"
        )


def _flat(settings: dict[str, Any]) -> dict[str, Any]:
    groups = [value for value in settings.values() if isinstance(value, dict)]
    return {name: value for group in groups for name, value in group.items()}


def _as_json(values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the values as they come back from a file: tuples as lists."""
    return json.loads(json.dumps(values))
