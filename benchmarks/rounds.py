"""The measurement: every contestant in a process of its own, all taking turns."""

import dataclasses
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from benchmarks.agreement import check_agreement
from benchmarks.contestants import CONTESTANTS, DeviceKind, Job
from benchmarks.environment import Allocator, worker_environment
from benchmarks.initial_weights import write_initial_weights
from benchmarks.measurement import Measurement
from benchmarks.networks import Case
from benchmarks.process import WorkerFailed, WorkerProcess

_PAUSE = 0.3  # seconds between turns; OpenMP's threads spin for a while after the last one


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """How it is measured.

    Attributes:
      contestants: Who takes part.
      device: Where.
      allocator: "tuned" keeps memory between the steps, "default" leaves glibc as it is.
      threads: CPU threads of each contestant.
      warmup_steps: Steps of each contestant before the timed ones, in training and in evaluation.
      rounds: How often each contestant has its turn, in training and in evaluation.
      steps_per_round: Timed steps in each turn.
    """

    contestants: tuple[str, ...]
    device: DeviceKind
    allocator: Allocator
    threads: int
    warmup_steps: int
    rounds: int
    steps_per_round: int


class _Entrant(NamedTuple):
    measurement: Measurement
    process: WorkerProcess


def measure(case: Case, settings: Settings) -> list[Measurement]:
    """Returns what all contestants show of one network.

    Args:
      case: The network.
      settings: How it is measured.

    Raises:
      NetworksDiffer: The contestants do not compute the same.
    """
    entrants = []
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        write_initial_weights(case.config, directory / "variables.npz")
        for name in settings.contestants:
            print(f"{case.title}: {name} starts", file=sys.stderr)
            measurement = Measurement(name, CONTESTANTS[name].dtype)
            entrant = _Entrant(measurement, _start(name, case, settings, directory, stack))
            entrants.append(entrant)
            _attempt(entrant, _begin, settings.warmup_steps)
            if measurement.error is None:
                second = _Entrant(measurement, _start(name, case, settings, directory, stack))
                _begin_again(second, settings.warmup_steps)
        check_agreement([entrant.measurement for entrant in _alive(entrants)])
        print(f"{case.title}: training", file=sys.stderr)
        _take_turns(entrants, settings, _train)
        if settings.device == "gpu":
            _take_turns(entrants, settings, _train_ahead)
        for entrant in _alive(entrants):
            _attempt(entrant, _account_for_memory)
            _attempt(entrant, _warm_evaluation_up, settings.warmup_steps)
        print(f"{case.title}: evaluation", file=sys.stderr)
        _take_turns(entrants, settings, _evaluate)
        if settings.device == "gpu":
            _take_turns(entrants, settings, _evaluate_ahead)
    return [entrant.measurement for entrant in entrants]


def _start(
    name: str, case: Case, settings: Settings, directory: Path, stack: ExitStack
) -> WorkerProcess:
    job = Job(
        contestant=name,
        network=dataclasses.asdict(case.config),
        batch_size=case.batch_size,
        image_size=case.image_size,
        variables=str(directory / "variables.npz"),
    )
    environment = worker_environment(
        settings.device, settings.allocator, settings.threads, directory / name
    )
    process = WorkerProcess(job, environment, directory / f"{name}.log")
    stack.callback(process.close)
    return process


def _attempt(entrant: _Entrant, action: Callable[..., None], *args: int) -> None:
    """Does something with a contestant, which is out of the contest if it fails."""
    if entrant.measurement.error is None:
        try:
            action(entrant, *args)
        except WorkerFailed as error:
            entrant.measurement.error = str(error)
            entrant.process.close()


def _alive(entrants: Iterable[_Entrant]) -> list[_Entrant]:
    return [entrant for entrant in entrants if entrant.measurement.error is None]


def _take_turns(
    entrants: list[_Entrant], settings: Settings, turn: Callable[[_Entrant, int], None]
) -> None:
    """Lets every contestant have its turn in every round, each round with another one first."""
    for number in range(settings.rounds):
        first = number % len(entrants)
        for entrant in _alive(entrants[first:] + entrants[:first]):
            time.sleep(_PAUSE)
            _attempt(entrant, turn, settings.steps_per_round)


def _begin(entrant: _Entrant, warmup_steps: int) -> None:
    measurement = entrant.measurement
    built = entrant.process.build()
    measurement.num_parameters = built["num_parameters"]
    measurement.device = built["device"]
    measurement.build_seconds = built["seconds"]
    measurement.start_bytes = built["peak_bytes"]
    steps = entrant.process.run("train", 1 + warmup_steps)
    measurement.first_step_seconds = steps["seconds"][0]
    measurement.first_losses = steps["losses"]


def _begin_again(entrant: _Entrant, warmup_steps: int) -> None:
    """Does the same in a second process, which finds what the first one has compiled."""
    measurement = entrant.measurement
    try:
        entrant.process.build()
        steps = entrant.process.run("train", 1 + warmup_steps)
        measurement.cached_first_step_seconds = steps["seconds"][0]
        measurement.cached_peak_bytes = steps["peak_bytes"]
    except WorkerFailed as error:
        measurement.second_error = str(error)
    entrant.process.close()


def _train(entrant: _Entrant, steps: int) -> None:
    reply = entrant.process.run("train", steps)
    entrant.measurement.train_seconds += reply["seconds"]
    entrant.measurement.peak_bytes = reply["peak_bytes"]


def _train_ahead(entrant: _Entrant, steps: int) -> None:
    reply = entrant.process.run("train_ahead", steps)
    entrant.measurement.train_ahead_seconds += reply["seconds"]


def _account_for_memory(entrant: _Entrant) -> None:
    entrant.measurement.framework_memory = entrant.process.memory()


def _warm_evaluation_up(entrant: _Entrant, warmup_steps: int) -> None:
    entrant.process.run("evaluate", warmup_steps)


def _evaluate(entrant: _Entrant, steps: int) -> None:
    entrant.measurement.eval_seconds += entrant.process.run("evaluate", steps)["seconds"]


def _evaluate_ahead(entrant: _Entrant, steps: int) -> None:
    reply = entrant.process.run("evaluate_ahead", steps)
    entrant.measurement.eval_ahead_seconds += reply["seconds"]
