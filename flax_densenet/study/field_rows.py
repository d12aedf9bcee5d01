"""What a study of a field knows of a value, and what results.jsonl says of a training."""

import statistics
from collections.abc import Sequence
from typing import Any, NamedTuple

from flax_densenet.study.conditions import software
from flax_densenet.study.field_values import value_text
from flax_densenet.study.sample import Sample
from flax_densenet.summary.summarize import Summary
from flax_densenet.training.workdir import Record


class FieldRow(NamedTuple):
    """What there is to know of one value.

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
    """Returns what results.jsonl says of a training.

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
        "step_seconds": batch_size / statistics.median(speeds),
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
