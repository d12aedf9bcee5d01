"""`flax-densenet learning-curves`: trainings in Flax and in PyTorch, compared."""

import dataclasses
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated

import tyro

from flax_densenet.cli.devices import DeviceFlags, choose_devices
from flax_densenet.cli.flags import parse_flags
from flax_densenet.cli.report import print_notes
from flax_densenet.cli.two_pass import FROM_INITIAL_WEIGHTS, implied_run
from flax_densenet.data import Dataset
from flax_densenet.data.batches import steps_per_epoch
from flax_densenet.errors import InputError, TrainingInterrupted, require
from flax_densenet.files import write_text
from flax_densenet.machine import hardware, software
from flax_densenet.pictures import draw_picture
from flax_densenet.study.directory import StudyDirectory, held_study
from flax_densenet.training.config import RunConfig
from flax_densenet.training.run_data import check_dataset, load_run_data
from flax_densenet.training.workdir import Record, open_workdir


@dataclasses.dataclass(frozen=True, kw_only=True)
class StudyFlags:
    """Which runs there are, and where their results are kept.

    Attributes:
      seeds: Runs of each framework; their seeds are those from `seed` on.
      output: Directory for config.json, results.jsonl, learning-curves.png and comparison.md. If
        it holds a part of the study, the rest is done.
    """

    seeds: int = 5
    output: str = "learning-curves"

    def __post_init__(self) -> None:
        require(self.seeds >= 2, "seeds", self.seeds, "an integer of at least 2")


@dataclasses.dataclass(frozen=True, kw_only=True)
class LearningCurvesArguments:
    """Train the same network in Flax and in PyTorch, several times each, and compare.

    Recipe and order of the images are the same; each framework draws its own initial weights,
    augmentation and dropout.

    Attributes:
      config: What is trained, and how.
      study: Which runs there are.
      devices: Which devices take part.
    """

    config: Annotated[RunConfig, tyro.conf.arg(name="")]
    study: StudyFlags = StudyFlags()
    devices: DeviceFlags = DeviceFlags()


def parse(args: Sequence[str], prog: str) -> LearningCurvesArguments:
    """Parses the command line.

    Args:
      args: Words after the command.
      prog: Name of the command, for messages.

    Raises:
      InputError: A default cannot be determined, such as that of an unknown data set.
      SystemExit: After `--help`, or with a message for a wrong flag.
    """
    default = LearningCurvesArguments(config=implied_run(args))
    return parse_flags(
        LearningCurvesArguments,
        args,
        prog,
        default=default,
        spelled=FROM_INITIAL_WEIGHTS,
        pairs=True,
    )


_PACKAGES = {"flax": ("jax", "flax"), "torch": ("torch",)}
_CURVES = "learning-curves.png"
_COMPARISON = "comparison.md"


def run(arguments: LearningCurvesArguments, prog: str) -> None:
    """Runs the command.

    Args:
      arguments: Its flags.
      prog: Name of the command, which is not needed here.

    Raises:
      InputError: PyTorch is not installed, or a flag, the directory or the data set cannot be used.
      SavingFailed: Something could not be written.
      TrainingDiverged: A loss was not finite.
      TrainingInterrupted: A signal came during a run; the finished runs are kept.
    """
    import jax

    from flax_densenet.training.parallel import check_batch_size

    run = arguments.config
    fit_torch = _torch_training(run)
    choose_devices(arguments.devices)
    dataset = load_run_data(run, num_workers=0)
    check_dataset(run, dataset)
    print_notes(dataset)
    steps_per_epoch(len(dataset.train), run.optimization.batch_size)
    check_batch_size(run.optimization.batch_size, jax.device_count())
    path = Path(arguments.study.output).expanduser().absolute()
    with held_study(path, {"study": "learning-curves", **dataclasses.asdict(run)}) as study:
        first = run.optimization.seed
        seeds = range(first, first + arguments.study.seeds)
        try:
            for seed in seeds:
                for framework, train in (("flax", _fit_flax), ("torch", fit_torch)):
                    _train_unless_done(study, run, dataset, framework, seed, train)
        except (KeyboardInterrupt, TrainingInterrupted):
            print(f"\ninterrupted; the finished runs are in {study.path}; the same command goes on")
            raise
        _write_comparison(study, run, dataset, seeds)


def _torch_training(run: RunConfig) -> Callable[[RunConfig, Dataset], list[Record]]:
    """Returns the training in PyTorch, which is imported only here.

    Raises:
      InputError: It is not installed, or the reference cannot train in this way.
    """
    try:
        import torch  # noqa: F401
    except ImportError as error:
        raise InputError(
            "learning-curves trains in PyTorch, too, and torch is not installed; install "
            "flax-densenet[torch]"
        ) from error
    from flax_densenet.parity.learning_curves import learning_rates
    from flax_densenet.training.epoch import describe_epoch
    from torch_reference import loop

    loop.check_supported(run)

    def fit_torch(run: RunConfig, dataset: Dataset) -> list[Record]:
        def show(record: Record) -> None:
            print(describe_epoch(record, run.optimization.epochs), flush=True)

        rates = learning_rates(run, dataset)
        return loop.fit(run, dataset, rates, after_epoch=show).records

    return fit_torch


def _fit_flax(run: RunConfig, dataset: Dataset) -> list[Record]:
    from flax_densenet.training.loop import fit

    with tempfile.TemporaryDirectory() as directory:
        return fit(run, dataset, open_workdir(directory, resume=False), resume=False)


def _train_unless_done(
    study: StudyDirectory,
    run: RunConfig,
    dataset: Dataset,
    framework: str,
    seed: int,
    train: Callable[[RunConfig, Dataset], list[Record]],
) -> None:
    from flax_densenet.parity.learning_curves import FRAMEWORKS

    title = f"{FRAMEWORKS[framework]}, seed {seed}"
    identity = {"framework": framework, "seed": seed}
    if study.find(identity):
        print(f"{title}: done before")
        return
    print(title, flush=True)
    optimization = dataclasses.replace(run.optimization, seed=seed)
    records = train(dataclasses.replace(run, optimization=optimization), dataset)
    version = {"version": software(*_PACKAGES[framework])}
    study.add(identity, [version | record for record in records])


def _write_comparison(
    study: StudyDirectory, run: RunConfig, dataset: Dataset, seeds: range
) -> None:
    from flax_densenet.parity.learning_curves import (
        comparison_table,
        group_runs,
        plot_learning_curves,
    )

    records = study.read()
    runs = group_runs(records, seeds)
    versions = sorted({record["version"] for record in records})
    title = f"{run.network.title} on {dataset.name}"
    table = comparison_table(runs)
    text = (
        f"# Learning curves: {title}\n\n"
        f"{run.optimization.epochs} epochs, seeds {seeds[0]} to {seeds[-1]} in each "
        f"framework (n = {len(seeds)}), {len(dataset.test):,} test images.\n"
        f"{hardware()}; {'; '.join(versions)}.\n\n"
        f"Mean ± standard deviation of the runs:\n\n{table}\n\n"
        "The difference is Flax minus PyTorch. p (permutation) is exact up to n = 10 and decides; "
        "the tests share a level of\n5 %. The detectable difference is the one that 4 of 5 such "
        "studies would find.\n\n"
        f"![Learning curves]({_CURVES})\n"
    )
    write_text(study.path / _COMPARISON, text)
    draw_picture(study.path / _CURVES, partial(plot_learning_curves, runs, title))
    files = (study.config_file.name, study.results_file.name, _CURVES, _COMPARISON)
    print(f"\n{table}\n\neverything is in {study.path}: {', '.join(files)}")
