"""Carrying out a study: its interface, its directory and its files."""

import contextlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from flax_densenet.study.directory import StudyDirectory, held_study
from flax_densenet.study.result import StudyResult


class Plan(Protocol):
    """A study that can be carried out."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """The study's name as "study", and groups of settings that all its runs have in common."""

    def execute(self, directory: StudyDirectory) -> StudyResult:
        """Does what the directory does not have yet, and returns the result."""


def carry_out(
    plan: Plan, output: str | Path | None, formats: Sequence[str] = ("png",)
) -> StudyResult:
    """Does a study, or the rest of it, and writes table and picture.

    Args:
      plan: The study.
      output: Directory in which its results are kept; None keeps nothing.
      formats: Endings of the picture's files.

    Raises:
      InputError: The directory holds something else.
      SavingFailed: Something cannot be written.
    """
    with _opened(output) as path, held_study(path, plan.settings) as study:
        result = plan.execute(study)
        result.save(study.path, formats)
    return result


@contextlib.contextmanager
def _opened(output: str | Path | None) -> Iterator[Path]:
    if output is not None:
        yield Path(output).expanduser().absolute()
        return
    with tempfile.TemporaryDirectory() as temporary:
        yield Path(temporary) / "study"
