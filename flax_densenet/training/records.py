"""Records of a training run: progress, time, curves, TensorBoard and profile."""

import collections
import contextlib
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeVar

import jax
from tqdm import tqdm

from flax_densenet.errors import InputError
from flax_densenet.training.step import TrainState
from flax_densenet.training.workdir import Record

T = TypeVar("T")
_COMPILE_EVENT = "/jax/core/compile/backend_compile_duration"


class Stopwatch:
    """Adds up seconds by part: "data", "step", "evaluation", and "compile", which is inside others.

    Use it as a context manager, in which compilations are noticed.

    Attributes:
      seconds: Seconds of each part so far.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = collections.defaultdict(float)

    def __enter__(self) -> "Stopwatch":
        jax.monitoring.register_event_duration_secs_listener(self._notice)
        return self

    def __exit__(self, *error: object) -> None:
        jax.monitoring.unregister_event_duration_listener(self._notice)

    @contextlib.contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Adds the time inside to a part."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] += time.perf_counter() - start

    def waiting_for(self, name: str, items: Iterable[T]) -> Iterator[T]:
        """Yields the items and adds the time until each is there to a part."""
        iterator = iter(items)
        while True:
            with self.part(name):
                try:
                    item = next(iterator)
                except StopIteration:
                    return
            yield item

    def _notice(self, event: str, duration_secs: float, **kwargs: str | int) -> None:
        if event == _COMPILE_EVENT:
            self.seconds["compile"] += duration_secs


class Progress:
    """A bar that counts images, and lines above it.

    Use `begin` before each run when there are several.
    """

    def __init__(self, total: int, *, shown: bool = True, shows_epochs: bool = True) -> None:
        """Starts the bar.

        Args:
          total: Images of all runs together.
          shown: Whether there is a bar, and lines of epochs.
          shows_epochs: Whether each epoch gets a line.
        """
        self._shows_epochs = shown and shows_epochs
        self._before = 0
        self._bar = tqdm(
            total=total,
            unit="images",
            unit_scale=True,
            # Where the output is no terminal, the lines do.
            disable=None if shown else True,
        )

    def begin(self, images_before: int, title: str) -> None:
        """Starts the next run.

        Args:
          images_before: Images of all runs before it.
          title: What to call it.
        """
        self._before = images_before
        self._bar.set_description(title)
        self.set(0)

    def set(self, images: int) -> None:
        """Says how many images of the run are done."""
        self._bar.n = self._before + images
        self._bar.refresh()

    def advance(self, images: int) -> None:
        """Adds images to those done."""
        self._bar.update(images)

    def write_epoch(self, line: str) -> None:
        """Shows a line on an epoch."""
        if self._shows_epochs:
            self._bar.write(line)

    def write(self, line: str) -> None:
        """Shows a line."""
        self._bar.write(line)

    def close(self) -> None:
        """Ends the bar."""
        self._bar.close()


def plot_curves(records: list[Record], title: str, file: Path) -> None:
    """Draws the metrics of a run.

    Args:
      records: One per epoch, as in metrics.jsonl.
      title: Heading of the picture.
      file: PNG file to write.
    """
    from matplotlib.figure import Figure  # half a second to import

    epochs = [record["epoch"] for record in records]
    figure = Figure(figsize=(9, 3.5), layout="constrained")
    figure.suptitle(title, parse_math=False)
    panels = figure.subplots(1, 2)
    for axes, quantity, label in (
        (panels[0], "loss", "cross-entropy (nats)"),
        (panels[1], "error", "error (%)"),
    ):
        for split, style in (("train", "--"), ("test", "-")):
            values = [record[f"{split}_{quantity}"] for record in records]
            if quantity == "error":
                values = [100 * value for value in values]
            axes.plot(epochs, values, style, marker=".", label=split)
        axes.set(xlabel="epoch", ylabel=label)
        axes.xaxis.get_major_locator().set_params(integer=True)
        if quantity == "loss":
            axes.set_yscale("log")
        else:
            axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(file, dpi=150)


def check_tensorboard() -> None:
    """Checks that the optional package is there.

    Raises:
      InputError: It is not installed.
    """
    try:
        import tensorboardX  # noqa: F401
    except ImportError as error:
        raise InputError(
            "--tensorboard needs the package tensorboardX; install flax-densenet[tensorboard], or "
            "leave the flag out: metrics.jsonl has the same numbers"
        ) from error


class TensorBoard:
    """Writes one point per epoch; use it as a context manager."""

    def __init__(self, directory: Path, first_step: int) -> None:
        """Opens the directory.

        Args:
          directory: Where the files go.
          first_step: Steps done; points after them, of an interrupted run, are dropped.
        """
        check_tensorboard()
        import tensorboardX

        self._writer = tensorboardX.SummaryWriter(str(directory), purge_step=first_step + 1)

    def __enter__(self) -> "TensorBoard":
        return self

    def __exit__(self, *error: object) -> None:
        self._writer.close()

    def write(self, record: Record) -> None:
        """Writes the numbers of one epoch at its last step, such as test/error."""
        for name, value in record.items():
            if name not in ("epoch", "step"):
                self._writer.add_scalar(name.replace("_", "/", 1), value, record["step"])
        self._writer.flush()


_STEPS_BEFORE = 5  # the first ones compile and warm up


class StepProfile:
    """Profiles the steps after the first few of this process; use it as a context manager."""

    def __init__(self, directory: Path, num_steps: int) -> None:
        """Prepares the profile.

        Args:
          directory: Where the trace goes.
          num_steps: Steps to profile.
        """
        self._directory = directory
        self._num_steps = num_steps
        self._steps_seen = 0
        self._is_running = False

    def __enter__(self) -> "StepProfile":
        return self

    def __exit__(self, *error: object) -> None:
        self._stop()

    def before_step(self, state: TrainState) -> None:
        """Starts and stops the profile at the right steps.

        Args:
          state: State before the step, which is waited for, so that the profile has whole steps.
        """
        if self._steps_seen == _STEPS_BEFORE:
            jax.block_until_ready(state)
            jax.profiler.start_trace(self._directory)
            self._is_running = True
        elif self._steps_seen == _STEPS_BEFORE + self._num_steps:
            jax.block_until_ready(state)
            self._stop()
        self._steps_seen += 1

    def _stop(self) -> None:
        if self._is_running:
            jax.profiler.stop_trace()
            self._is_running = False
