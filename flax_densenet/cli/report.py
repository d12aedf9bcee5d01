"""Text of results: what `train` prints before and after, and JSON for other programs."""

import json
import math
from collections.abc import Mapping
from typing import Any

from flax_densenet.data import Dataset
from flax_densenet.data.batches import steps_per_epoch
from flax_densenet.machine import python_and
from flax_densenet.training.config import Execution, FineTuningConfig, RunConfig
from flax_densenet.training.recipes import Preset
from flax_densenet.training.run_data import channel_statistics
from flax_densenet.training.workdir import Record, WorkDir

_SHOWN_PACKAGES = ("jax", "flax", "optax", "orbax-checkpoint", "numpy")


def print_start(
    run: RunConfig,
    dataset: Dataset,
    workdir: WorkDir,
    preset: Preset | None,
    execution: Execution = Execution(),
) -> None:
    """Prints what is trained, on what and where.

    Args:
      run: The run.
      dataset: Its data set.
      workdir: Its directory.
      preset: The published result that the run repeats, if any.
      execution: How the run is executed.
    """
    import jax

    from flax_densenet.training.parts import parameter_counts
    from flax_densenet.training.state import describe_computation

    devices = jax.devices()
    processes = f" in {jax.process_count()} processes" if jax.process_count() > 1 else ""
    height, width, channels = dataset.image_shape
    steps = steps_per_epoch(len(dataset.train), run.optimization.batch_size)
    held_out = f", {len(dataset.validation):,} validation" if dataset.validation else ""
    mean, std = channel_statistics(run, dataset)
    counts = parameter_counts(run.network, run.fine_tuning)
    rows = {
        "backend": f"{jax.default_backend()}, {len(devices)} device(s){processes}: "
        f"{devices[0].device_kind}",
        "computes": describe_computation(run, execution),
        "versions": python_and(*_SHOWN_PACKAGES),
        "data set": f"{dataset.name}: {len(dataset.train):,} training{held_out} and "
        f"{len(dataset.test):,} test images of {height}x{width}x{channels}, "
        f"{dataset.num_classes} classes",
        "best epoch": "by the validation error; the test error is reported"
        if dataset.validation
        else "by the test error, since there are no validation images",
        "pixels": f"mean {_listed(mean)}, standard deviation {_listed(std)}, "
        f"augmentation {run.data.augment}",
        "network": f"{run.network.title}: {_describe_counts(counts)}",
        "training": f"{run.optimization.epochs} epochs of {steps} steps, "
        f"{run.optimization.batch_size} images each",
    }
    if run.fine_tuning.init_from is not None:
        rows["start"] = _describe_start(run.fine_tuning)
    if preset is not None:
        rows["published"] = f"test error {preset.published_error:.2f}%"
    rows["directory"] = str(workdir.path)
    for name, value in rows.items():
        print(f"{name:<10} {value}")
    print_notes(dataset)
    print("compiling the training step; the first epoch starts slowly", flush=True)


def print_notes(dataset: Dataset) -> None:
    """Prints where the images come from and what was passed over."""
    for note in dataset.notes:
        print(f"note: {note}")


def print_result(
    records: list[Record], workdir: WorkDir, *, num_test_images: int | None, seconds: float
) -> None:
    """Prints the test error after the last epoch, which is the one to report.

    Args:
      records: One per epoch.
      workdir: Where everything is.
      num_test_images: Number of test images, if they were read.
      seconds: How long it took; 0 if nothing was trained.
    """
    from flax_densenet.training.loop import selection_error

    final, best = records[-1], min(records, key=selection_error)
    error = f"{final['test_error']:.2%}"
    if num_test_images is not None:
        wrong = round(final["test_error"] * num_test_images)
        error += f" ({wrong} of {num_test_images} images)"
    took = f", {seconds:.0f} s in all" if seconds else ""
    print(f"test error {error} after epoch {final['epoch']}{took}{_describe_trained(final)}")
    if "validation_error" in best:
        print(
            f"smallest validation error {best['validation_error']:.2%} after epoch "
            f"{best['epoch']}, where the test error is {best['test_error']:.2%}"
        )
    print(
        f"everything is in {workdir.path}: config.json, metrics.jsonl, curves.png and checkpoints/"
    )


def _listed(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:.1f}" for value in values)


def _describe_counts(counts: Mapping[str, int]) -> str:
    total, trained = counts["parameters"], counts["trained_parameters"]
    return f"{total:,} parameters" + ("" if trained == total else f", {trained:,} of them trained")


def _describe_start(fine_tuning: FineTuningConfig) -> str:
    words = [f"weights of {fine_tuning.init_from}"]
    words += ["new classifier"] if fine_tuning.new_head else []
    words += [f"frozen: {', '.join(parts)}"] if (parts := fine_tuning.frozen_parts) else []
    kept = "kept" if fine_tuning.freeze_batch_norm else "of the new images"
    return ", ".join([*words, f"running statistics {kept}"])


def _describe_trained(record: Record) -> str:
    total, trained = (record.get(name) for name in ("parameters", "trained_parameters"))
    return "" if trained == total else f"; {trained:,} of {total:,} parameters trained"


def to_json(value: Any, *, indent: int | None = None) -> str:
    """Returns JSON as its standard has it, without infinity and NaN.

    Args:
      value: Nested mappings, sequences and plain values; numbers that are not finite become null.
      indent: As for `json.dumps`.
    """
    return json.dumps(_finite(value), indent=indent, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
