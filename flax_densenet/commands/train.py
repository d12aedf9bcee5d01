"""`flax-densenet train`: from the command line to a trained network in a work directory."""

import datetime
import importlib.metadata
import platform
import shlex
import time
from collections.abc import Sequence
from pathlib import Path

import jax
import platformdirs

from flax_densenet.commands.arguments import RunOptions, TrainArguments, parse_train_arguments
from flax_densenet.data import Dataset, load_dataset
from flax_densenet.data.batches import steps_per_epoch
from flax_densenet.errors import InputError, TrainingInterrupted
from flax_densenet.layers import count_parameters
from flax_densenet.training.checkpoints import Checkpoints
from flax_densenet.training.loop import check_dataset, fit
from flax_densenet.training.parallel import check_batch_size
from flax_densenet.training.run_config import RunConfig
from flax_densenet.training.workdir import Record, WorkDir, open_workdir

_SHOWN_PACKAGES = ("jax", "flax", "optax", "orbax-checkpoint", "numpy")


def train(args: Sequence[str], prog: str) -> None:
    """Runs the command.

    Args:
      args: Words after the command.
      prog: Name of the command, for messages.

    Raises:
      InputError: A flag, the work directory or the data set cannot be used.
      TrainingDiverged: A loss was not finite.
      TrainingInterrupted: A signal came; the message that tells how to go on is printed.
    """
    start = time.perf_counter()
    arguments = parse_train_arguments(args, prog)
    run = arguments.run_config
    workdir = open_workdir(_workdir_path(arguments), resume=arguments.run.resume)
    if arguments.run.resume:
        changed_epochs = _check_resume(workdir, run)
        if _is_finished(workdir, run.optimization.epochs):
            records = workdir.read_records()
            print(f"nothing to do: all {len(records)} epochs are done")
            _print_result(records, workdir, None, 0)
            return
        if changed_epochs is not None:
            print(
                "note: epochs changes from {} to {}, which moves the learning-rate drops; the "
                "result is not that of an uninterrupted run".format(*changed_epochs)
            )
    _choose_devices(arguments.run)
    _use_compilation_cache()
    dataset = load_dataset(run.data.dataset, run.data.data_dir)
    check_dataset(run, dataset)
    check_batch_size(run.optimization.batch_size, jax.device_count())
    _print_start(run, dataset, workdir)
    try:
        records = fit(
            run,
            dataset,
            workdir,
            resume=arguments.run.resume,
            parallel=arguments.run.parallel,
        )
    except (KeyboardInterrupt, TrainingInterrupted) as error:
        what = error if isinstance(error, TrainingInterrupted) else "interrupted"
        command = f"{prog} --resume --workdir {shlex.quote(str(workdir.path))}"
        print(f"\n{what}; go on with: {command}")
        raise
    _print_result(records, workdir, len(dataset.test), time.perf_counter() - start)


def _workdir_path(arguments: TrainArguments) -> Path:
    if arguments.run.workdir is not None:
        return Path(arguments.run.workdir)
    network, now = arguments.network, datetime.datetime.now()
    data = arguments.data.dataset.replace(":", "-").replace("/", "-")
    seed = arguments.optimization.seed
    return Path("runs") / f"{network.slug}-{data}-seed{seed}-{now:%Y-%m-%d-%H%M%S}"


def _choose_devices(options: RunOptions) -> None:
    if options.cpu_devices is not None:
        jax.config.update("jax_platforms", "cpu")
        jax.config.update("jax_num_cpu_devices", options.cpu_devices)
    if options.require_accelerator and jax.default_backend() == "cpu":
        raise InputError(
            "--require_accelerator is given, and JAX sees the CPU only; install "
            "flax-densenet[cuda12], check the driver with nvidia-smi, or leave the flag out"
        )


def _use_compilation_cache() -> None:
    """Keeps compiled steps for the next run of the same network, unless JAX is told where to."""
    if jax.config.jax_compilation_cache_dir is None:  # type: ignore[attr-defined]
        directory = platformdirs.user_cache_path("flax-densenet") / "xla"
        jax.config.update("jax_compilation_cache_dir", str(directory))


def _is_finished(workdir: WorkDir, epochs: int) -> bool:
    """Tells whether every epoch has its record and its checkpoint, and the curves are drawn."""
    records = workdir.read_records()
    if len(records) < epochs or not workdir.curves_file.exists():
        return False
    with Checkpoints(workdir.checkpoints) as checkpoints:
        return (checkpoints.latest_step() or 0) >= records[epochs - 1]["step"]


def _check_resume(workdir: WorkDir, run: RunConfig) -> tuple[int, int] | None:
    """Refuses a resumed run that is another run; returns the old and new epochs if they differ."""
    differences = workdir.read_config().differences(run)
    changed_epochs = differences.pop("epochs", None)
    differences.pop("data_dir", None)  # the same data may lie elsewhere
    if differences:
        listed = "; ".join(f"{name} was {a!r}, now {b!r}" for name, (a, b) in differences.items())
        raise InputError(
            f"cannot resume {workdir.path} with another configuration: {listed}; leave these flags "
            "out, or start a new run in another work directory"
        )
    return changed_epochs


def _print_start(run: RunConfig, dataset: Dataset, workdir: WorkDir) -> None:
    devices = jax.devices()
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in _SHOWN_PACKAGES)
    height, width, channels = dataset.image_shape
    steps = steps_per_epoch(len(dataset.train), run.optimization.batch_size)
    rows = {
        "backend": f"{jax.default_backend()}, {len(devices)} device(s): {devices[0].device_kind}",
        "versions": f"python {platform.python_version()}, {versions}",
        "data set": f"{dataset.name}: {len(dataset.train):,} training and {len(dataset.test):,} "
        f"test images of {height}x{width}x{channels}, {dataset.num_classes} classes",
        "network": f"{run.network.title}: {count_parameters(run.network):,} parameters",
        "training": f"{run.optimization.epochs} epochs of {steps} steps, "
        f"{run.optimization.batch_size} images each",
        "directory": str(workdir.path),
    }
    for name, value in rows.items():
        print(f"{name:<10} {value}")
    print("compiling the training step; the first epoch starts slowly", flush=True)


def _print_result(
    records: list[Record], workdir: WorkDir, num_test_images: int | None, seconds: float
) -> None:
    final = records[-1]
    error = f"{final['test_error']:.2%}"
    if num_test_images is not None:
        wrong = round(final["test_error"] * num_test_images)
        error += f" ({wrong} of {num_test_images} images)"
    took = f", {seconds:.0f} s in all" if seconds else ""
    print(f"test error {error} after epoch {final['epoch']}{took}")
    print(
        f"everything is in {workdir.path}: config.json, metrics.jsonl, curves.png and checkpoints/"
    )
