"""The directory of a study: the same runs in both frameworks, and which of them are done."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

from flax_densenet.errors import InputError
from flax_densenet.training.run_config import RunConfig
from flax_densenet.training.workdir import Record, write_whole, writing

# Keys of results.jsonl, and what people call them.
FRAMEWORKS = {"flax": "Flax", "torch": "PyTorch"}


@dataclasses.dataclass(frozen=True)
class Study:
    """A study on the disk; every run is in it whole or not at all.

    Attributes:
      path: Its directory.
      run: What is trained; each run replaces the seed by its own.
    """

    path: Path
    run: RunConfig

    @property
    def config_file(self) -> Path:
        """The configuration of all runs."""
        return self.path / "config.json"

    @property
    def results_file(self) -> Path:
        """One JSON object per line for each framework, seed and epoch."""
        return self.path / "results.jsonl"

    @property
    def curves_file(self) -> Path:
        """The picture."""
        return self.path / "learning-curves.png"

    @property
    def comparison_file(self) -> Path:
        """The table and what it says."""
        return self.path / "comparison.md"

    def read(self) -> list[Record]:
        """Returns the records of all runs done, each with its "framework" and "seed"."""
        if not self.results_file.exists():
            return []
        return [json.loads(line) for line in self.results_file.read_text().splitlines()]

    def has(self, framework: str, seed: int) -> bool:
        """Tells whether a run is done."""
        return any((r["framework"], r["seed"]) == (framework, seed) for r in self.read())

    def add(self, framework: str, seed: int, version: str, records: Sequence[Record]) -> None:
        """Writes a run that is done.

        Args:
          framework: Key of `FRAMEWORKS`.
          seed: The run's seed.
          version: Versions of the software that has trained it.
          records: One per epoch.

        Raises:
          SavingFailed: The disk is full, or something like it; the runs before are kept.
        """
        run = {"framework": framework, "seed": seed, "version": version}
        lines = [json.dumps(record) for record in [*self.read(), *(run | r for r in records)]]
        write_whole(self.results_file, "\n".join(lines) + "\n")


def open_study(path: Path, run: RunConfig) -> Study:
    """Starts a study, or goes on with the one in the directory.

    Args:
      path: Its directory.
      run: What is trained.

    Raises:
      InputError: The directory holds something else, or a study of another configuration.
      SavingFailed: It cannot be written to.
    """
    study = Study(path, run)
    if study.config_file.exists():
        differences = RunConfig.from_json(study.config_file.read_text()).differences(run)
        for name in ("seed", "data_dir"):  # each run has its own; the same data may lie elsewhere
            differences.pop(name, None)
        if differences:
            listed = [f"{name} was {a!r}, now {b!r}" for name, (a, b) in differences.items()]
            raise InputError(
                f"the study in {path} has another configuration: {'; '.join(listed)}; give the "
                "same flags to go on with it, or another directory with --output"
            )
        return study
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise InputError(
            f"{path} is no study of learning curves, and not an empty directory; give another one "
            "with --output"
        )
    with writing(path):
        path.mkdir(parents=True, exist_ok=True)
    write_whole(study.config_file, run.to_json())
    return study
