"""Learning curves of both frameworks over several seeds: their comparison and their picture."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from flax_densenet.data import Dataset
from flax_densenet.data.batches import steps_per_epoch
from flax_densenet.parity.significance import compare_samples, verdict
from flax_densenet.sample import Sample
from flax_densenet.training.config import RunConfig
from flax_densenet.training.state import run_schedule
from flax_densenet.training.workdir import Record

# Keys of results.jsonl, and what people call them.
FRAMEWORKS = {"flax": "Flax", "torch": "PyTorch"}

Run = list[Record]
Runs = dict[str, list[Run]]  # by framework, one run for each seed


class Quantity(NamedTuple):
    """A number by which runs are compared.

    Attributes:
      name: What it is.
      unit: Its unit.
      value: Returns it for a run.
    """

    name: str
    unit: str
    value: Callable[[Run], float]


QUANTITIES = (
    Quantity("final test error", "percentage points", lambda run: 100 * run[-1]["test_error"]),
    Quantity("final training loss", "nats", lambda run: run[-1]["train_loss"]),
    # The area under the curve, divided by its width.
    Quantity(
        "training loss, mean of all epochs",
        "nats",
        lambda run: float(np.mean([record["train_loss"] for record in run])),
    ),
)


class _Style(NamedTuple):
    color: str
    line: str
    hatch: str | None


# Different in gray, too: a filled band around a line, a hatched one around dashes.
_STYLES = {"flax": _Style("C0", "o-", None), "torch": _Style("C1", "x--", "////")}


def learning_rates(run: RunConfig, dataset: Dataset) -> list[float]:
    """Returns the learning rate of every step of a run, for the training in PyTorch.

    Args:
      run: The run.
      dataset: Its data set.
    """
    steps = steps_per_epoch(len(dataset.train), run.optimization.batch_size)
    schedule = run_schedule(run.optimization, steps)
    # int32 is what optax counts in: with int64 a warm-up would be rounded in another way. All at
    # once, since each call of optax takes its time.
    numbers = jnp.arange(steps * run.optimization.epochs, dtype=jnp.int32)
    return np.asarray(jax.vmap(schedule)(numbers)).tolist()


def group_runs(records: Sequence[Record], seeds: Sequence[int]) -> Runs:
    """Returns the runs of each framework, in the order of the seeds.

    Args:
      records: Contents of results.jsonl.
      seeds: Seeds whose runs are wanted.
    """
    return {
        framework: [
            [r for r in records if (r["framework"], r["seed"]) == (framework, seed)]
            for seed in seeds
        ]
        for framework in FRAMEWORKS
    }


def comparison_table(runs: Runs) -> str:
    """Returns the comparison of all quantities in Markdown, and in words."""
    rows = [
        f"| | {' | '.join(FRAMEWORKS.values())} | difference (95 % interval) | p (permutation) "
        "| p (Welch) | smallest detectable |",
        "|---|---|---|---|---|---|---|",
    ]
    words = []
    for quantity in QUANTITIES:
        first, second = (Sample(quantity.value(run) for run in runs[f]) for f in FRAMEWORKS)
        result = compare_samples(first, second, num_tests=len(QUANTITIES))
        low, high = result.interval
        rows.append(
            f"| {quantity.name} ({quantity.unit}) | {first.rounded()} | {second.rounded()} "
            f"| {result.difference:+.2g} ({low:+.2g} to {high:+.2g}) "
            f"| {result.permutation_p:.2g} | {result.welch_p:.2g} | {result.detectable:.2g} |"
        )
        words.append(f"- {quantity.name}: {verdict(result, quantity.unit)}.")
    return "\n".join([*rows, "", *words])


def plot_learning_curves(runs: Runs, title: str, file: Path) -> None:
    """Draws mean and range of each framework's runs.

    Args:
      runs: Runs of both frameworks, of the same number of epochs.
      title: Heading of the picture.
      file: PNG file to write.
    """
    from matplotlib.figure import Figure  # half a second to import

    figure = Figure(figsize=(9, 3.8), layout="constrained")
    figure.suptitle(title, parse_math=False)
    panels = figure.subplots(1, 2)
    for axes, quantity, percent, label in (
        (panels[0], "train_loss", 1, "training loss (nats)"),
        (panels[1], "test_error", 100, "test error (%)"),
    ):
        for framework, style in _STYLES.items():
            values = percent * np.array([[r[quantity] for r in run] for run in runs[framework]])
            epochs = [record["epoch"] for record in runs[framework][0]]
            axes.fill_between(
                epochs,
                values.min(axis=0),
                values.max(axis=0),
                facecolor="none" if style.hatch else (style.color, 0.25),
                edgecolor=style.color,
                hatch=style.hatch,
                linewidth=0.5,
            )
            axes.plot(
                epochs,
                values.mean(axis=0),
                style.line,
                color=style.color,
                markersize=4,
                label=f"{FRAMEWORKS[framework]}: mean and range, n = {len(values)}",
            )
        axes.set(xlabel="epoch", ylabel=label)
        if quantity == "train_loss":
            axes.set_yscale("log")
        else:  # logarithmic above 1 %, since a run may have no error at all
            axes.set_yscale("symlog", linthresh=1)
            axes.set_ylim(bottom=0)
        axes.yaxis.set_major_formatter("{x:g}")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small")
    figure.savefig(file, dpi=150)
