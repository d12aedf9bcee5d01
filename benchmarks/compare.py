"""Compares speed and memory of DenseNet here, in plain Flax and in PyTorch (docs/benchmarks.md)."""

import argparse
import dataclasses
import json
import os
import shlex
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import jax
import torch

from benchmarks.contestants import CONTESTANTS, DeviceKind
from benchmarks.environment import Allocator
from benchmarks.measurement import Measurement
from benchmarks.networks import Case, make_case
from benchmarks.plot import plot_comparison
from benchmarks.rounds import Settings, measure
from benchmarks.summary import summarize
from benchmarks.table import comparison
from flax_densenet.errors import InputError, NetworksDiffer, SavingFailed, require
from flax_densenet.files import write_text, written_whole
from flax_densenet.machine import busy, describe_machine

_EXIT_FAILED, _EXIT_INPUT, _EXIT_INTERRUPTED = 1, 2, 130
_PICTURES = (".png", ".svg")


def main(args: Sequence[str] | None = None) -> int:
    """Runs the command.

    Args:
      args: Words after the program's name; None takes them from the command line.

    Returns:
      Exit status: 0 done, 1 not comparable or not saved, 2 wrong input, 130 interrupted.
    """
    words = list(sys.argv[1:] if args is None else args)
    arguments = _parser().parse_args(words)
    try:
        _compare(arguments, words)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return _EXIT_INPUT
    except (NetworksDiffer, SavingFailed) as error:
        print(f"error: {error}", file=sys.stderr)
        return _EXIT_FAILED
    except KeyboardInterrupt:
        print("interrupted; all contestants have ended", file=sys.stderr)
        return _EXIT_INTERRUPTED
    return 0


def _compare(arguments: argparse.Namespace, words: Sequence[str]) -> None:
    cases = [
        make_case(name, arguments.image_size, batch_size)
        for name in arguments.networks
        for batch_size in arguments.batch_size
    ]
    settings = _settings(arguments)
    _check_files(arguments)
    machine = describe_machine()
    if note := busy(machine):
        print(
            f"note: {note}, since PyTorch's threads wait for each other and suffer more than "
            "JAX's\n"
        )
    jax.config.update("jax_platforms", "cpu")  # the GPU is the contestants' alone
    # The contestants inherit it; JAX starts as many threads as there are CPUs that it may use.
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: settings.threads])
    results: list[tuple[Case, list[Measurement]]] = []
    for case in cases:
        measurements = measure(case, settings)
        results.append((case, measurements))
        print(comparison(case, measurements), end="\n\n", flush=True)
        if arguments.json is not None:
            report = {
                "command": shlex.join(["python", "-m", "benchmarks.compare", *words]),
                "machine": machine,
                "settings": dataclasses.asdict(settings),
                "results": [_as_json(*result) for result in results],
            }
            write_text(arguments.json, json.dumps(report, indent=1) + "\n")
    if arguments.plot is not None:
        with written_whole(arguments.plot) as unfinished:
            plot_comparison(results, _device(machine, settings, results), unfinished)


def _settings(arguments: argparse.Namespace) -> Settings:
    device: DeviceKind = arguments.device or ("gpu" if torch.cuda.is_available() else "cpu")
    available = len(os.sched_getaffinity(0))
    threads = available if arguments.threads is None else arguments.threads
    require(
        1 <= threads <= available,
        "threads",
        threads,
        f"from 1 to {available}, the CPUs that this process may use",
    )
    chosen = arguments.contestants or [
        name for name, contestant in CONTESTANTS.items() if device in contestant.by_default
    ]
    for name in chosen:
        require(name in CONTESTANTS, "contestants", name, f"some of {', '.join(CONTESTANTS)}")
    return Settings(
        contestants=tuple(dict.fromkeys(chosen)),
        device=device,
        allocator=arguments.allocator,
        threads=threads,
        warmup_steps=arguments.warmup_steps,
        rounds=arguments.rounds,
        steps_per_round=arguments.steps_per_round,
    )


def _check_files(arguments: argparse.Namespace) -> None:
    """Refuses before the measurement what could not be written after it."""
    for name in ("json", "plot"):
        file: Path | None = getattr(arguments, name)
        if file is not None:
            require(
                file.parent.is_dir(), name, str(file), "a file in a directory that there already is"
            )
    if arguments.plot is not None:
        suffix = arguments.plot.suffix
        require(suffix in _PICTURES, "plot", str(arguments.plot), "a .png or .svg file")


def _as_json(case: Case, measurements: Sequence[Measurement]) -> dict[str, Any]:
    return {
        "network": case.name,
        "config": dataclasses.asdict(case.config),
        "image_size": case.image_size,
        "batch_size": case.batch_size,
        "measurements": [dataclasses.asdict(one) for one in measurements],
        "summary": summarize(measurements),
    }


def _device(
    machine: dict[str, Any],
    settings: Settings,
    results: Sequence[tuple[Case, list[Measurement]]],
) -> str:
    """Returns the name of what computed, for the heading of the picture."""
    devices = {one.device for _, measurements in results for one in measurements if one.device}
    cpu = f"{settings.threads} threads on {machine['cpu']}"
    return ", ".join(sorted(devices - {"cpu"})) or cpu


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compare", description=__doc__)
    add = parser.add_argument
    add("--networks", nargs="+", default=["densenet-40-12", "densenet-bc-100-12"], metavar="NAME")
    add("--batch_size", nargs="+", type=_positive, default=[64], metavar="B")
    add("--image_size", type=_positive, help="pixels; by default 32 (cifar) or 224 (imagenet)")
    add("--contestants", nargs="+", metavar="NAME", help=", ".join(CONTESTANTS))
    add("--device", choices=get_args(DeviceKind), help="by default gpu if PyTorch sees one")
    add("--threads", type=int, help="by default all CPUs that this process may use")
    add("--allocator", choices=get_args(Allocator), default="tuned", help="malloc's settings")
    add("--warmup_steps", type=_positive, default=5, help="before the timed ones")
    add("--rounds", type=_positive, default=5, help="turns of each contestant")
    add("--steps_per_round", type=_positive, default=4, help="timed steps in each turn")
    add("--json", type=Path, metavar="FILE", help="all samples, versions and settings")
    add("--plot", type=Path, metavar="FILE", help="picture, .png or .svg")
    return parser


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} must be an integer of at least 1")
    return int(text)


if __name__ == "__main__":
    signal.signal(
        signal.SIGTERM, signal.default_int_handler
    )  # ends the contestants, as Ctrl-C does
    sys.exit(main())
