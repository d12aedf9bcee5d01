"""Records, rows and words of the study of a field."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from flax_densenet.data import Dataset
from flax_densenet.machine import hardware, software
from flax_densenet.sample import Sample
from flax_densenet.study.fields.values import RULE, Candidate, decide, value_text
from flax_densenet.study.result import Columns
from flax_densenet.summary.summarize import Summary
from flax_densenet.training.config import Execution, RunConfig
from flax_densenet.training.workdir import Record


class FieldRow(NamedTuple):
    """Results for one value.

    Attributes:
      value: The value, as text.
      parameters: Trainable parameters.
      flops: Floating-point operations of one image in evaluation.
      validation_error: Error on the held-out images after the last epoch, as a share, by seed; None
        if no images are held out.
      test_error: The same on the test images.
      train_loss: Mean loss of the last epoch in nats, by seed.
      step_seconds: Median time of a training step, by seed.
      step_bytes: Memory of a training step as XLA states it.
      estimated_bytes: The same as `flax_densenet.summary` estimates it.
    """

    value: str
    parameters: int
    flops: int
    validation_error: Sample | None
    test_error: Sample
    train_loss: Sample
    step_seconds: Sample
    step_bytes: int
    estimated_bytes: int

    @property
    def deciding_error(self) -> Sample:
        """The error by which values are compared."""
        return self.test_error if self.validation_error is None else self.validation_error


def training_record(records: list[Record], batch_size: int, step_bytes: int) -> Record:
    """Returns the line of results.jsonl for a training.

    Args:
      records: One per epoch.
      batch_size: Images per step.
      step_bytes: Memory of a step.
    """
    last = records[-1]
    # The first epoch's steps wait for the compiler.
    speeds = [record["images_per_second"] for record in records[1:] or records]
    errors = [name for name in ("validation_error", "test_error") if name in last]
    return {
        **{name: last[name] for name in (*errors, "train_loss", "train_error")},
        "step_seconds": batch_size / Sample(speeds).median,
        "step_bytes": step_bytes,
        "version": software("jax", "flax"),
    }


def field_row(value: Any, records: Sequence[Record], summary: Summary) -> FieldRow:
    """Returns the row of one value.

    Args:
      value: The value.
      records: Lines of results.jsonl, one for each seed.
      summary: Size of the network.
    """

    def sample(name: str) -> Sample:
        return Sample(record[name] for record in records)

    return FieldRow(
        value=value_text(value),
        parameters=summary.totals["parameters"],
        flops=summary.totals["flops"],
        validation_error=sample("validation_error") if "validation_error" in records[0] else None,
        test_error=sample("test_error"),
        train_loss=sample("train_loss"),
        step_seconds=sample("step_seconds"),
        step_bytes=records[0]["step_bytes"],
        estimated_bytes=summary.training.with_total()["total"],
    )


def field_columns(field: str, *, has_validation: bool) -> Columns:
    """Returns the columns of the table.

    Args:
      field: What is varied.
      has_validation: Whether images are held out.
    """
    columns: dict[str, object] = {
        field: lambda row: row.value,
        "parameters": lambda row: f"{row.parameters:,}",
        "MFLOPs per image": lambda row: f"{row.flops / 1e6:.2f}",
        "training loss (nats)": lambda row: row.train_loss.text(decimals=4),
        "validation error (%)": lambda row: row.validation_error.text(100),
        "test error (%)": lambda row: row.test_error.text(100),
        "step (ms)": lambda row: row.step_seconds.text(1000, 1),
        "step memory by XLA (MiB)": lambda row: f"{row.step_bytes / 2**20:.1f}",
        "estimated (MiB)": lambda row: f"{row.estimated_bytes / 2**20:.1f}",
    }
    if not has_validation:
        del columns["validation error (%)"]
    return columns  # type: ignore[return-value]


def field_method(
    field: str,
    rows: Sequence[FieldRow],
    run: RunConfig,
    dataset: Dataset,
    execution: Execution,
    versions: Sequence[str],
) -> str:
    """Returns the text of the first four steps: how the table was made.

    Args:
      field: What is varied.
      rows: The table.
      run: The baseline's run.
      dataset: Its data set.
      execution: How all trainings were executed.
      versions: What they were trained with.
    """
    optimization, first = run.optimization, run.optimization.seed
    num_seeds = len(rows[0].test_error)
    seeds = f"seed {first}" if num_seeds == 1 else f"seeds {first} to {first + num_seeds - 1}"
    held_out = f", {len(dataset.validation):,} validation" if dataset.validation else ""
    values = ", ".join(row.value for row in rows)
    return (
        f"1. Baseline: {run.network.title}.\n"
        f"2. Change: {field} is {values}; each network is built anew, with every width that "
        "depends on it.\n"
        f"3. Train and validate alike: {optimization.epochs} epochs, batch size "
        f"{optimization.batch_size}, learning rate {optimization.learning_rate:g}, {seeds} "
        f"(n = {num_seeds}), {len(dataset.train):,} training{held_out} and {len(dataset.test):,} "
        f"test images; {execution.implementation.replace('_', '-')} implementation.\n"
        "4. Analyse: mean ± standard deviation over the seeds after the last epoch. A step is one "
        f"of training; its time is the median over epochs on {hardware()}, with whatever else ran "
        f"there ({'; '.join(versions)})."
    )


def field_recommendation(field: str, rows: Sequence[FieldRow]) -> str:
    """Returns the text of the fifth step, the decision.

    Args:
      field: What is varied.
      rows: The table.
    """
    decision = decide([Candidate(row.parameters, row.deciding_error) for row in rows])
    best, chosen = rows[decision.best], rows[decision.chosen]
    split = "test" if best.validation_error is None else "validation"
    names = [row.value for row in rows if row.deciding_error.mean <= decision.limit]
    sentences = [
        f"5. Decide: **{field} {chosen.value}**. The rule is: {RULE}.",
        f"The smallest mean {split} error is {_percent(best.deciding_error.mean)} ({field} "
        f"{best.value}), its standard error {_percent(best.deciding_error.standard_error)}; that "
        f"of {field} {chosen.value} is {_percent(chosen.deciding_error.mean)}, with "
        f"{chosen.parameters:,} parameters. Within one standard error: {', '.join(names)}.",
    ]
    if len(best.deciding_error) == 1:
        sentences.append("With one seed there is no standard error: run several with --seeds.")
    else:
        sentences.append("The standard error is that over seeds; other images would add to it.")
    if split == "test":
        sentences.append(
            "No images were held out, so that the test error decides, and is too good for the "
            "value chosen: hold some out with --validation_images."
        )
    return " ".join(sentences)


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"
