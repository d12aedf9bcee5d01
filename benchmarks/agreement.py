"""The check that all contestants compute the same, before their speeds are compared."""

from collections.abc import Sequence

from benchmarks.measurement import Measurement
from flax_densenet.errors import NetworksDiffer

# The losses of the initial weights and after one update are compared.
_NUM_LOSSES = 2
# Relative. float32 leaves room for the TF32 of GPUs.
_TOLERANCE = {"float32": 1e-3, "bfloat16": 5e-2}


def check_agreement(measurements: Sequence[Measurement]) -> None:
    """Checks that all have the parameters, the device and the losses of the first one.

    Args:
      measurements: Of the contestants that have done their first steps.

    Raises:
      NetworksDiffer: One of them is another network, or computes elsewhere.
    """
    for other in measurements[1:]:
        first = measurements[0]
        _check("trainable parameters", first, other, first.num_parameters, other.num_parameters)
        _check("device", first, other, first.device, other.device)
        tolerance = max(_TOLERANCE[first.dtype], _TOLERANCE[other.dtype])
        losses = zip(first.first_losses, other.first_losses, strict=True)
        for step, (ours, theirs) in enumerate(list(losses)[:_NUM_LOSSES], start=1):
            if not abs(ours - theirs) <= tolerance * abs(ours):  # NaN is never close
                _check(f"loss of step {step}", first, other, ours, theirs)


def _check(what: str, first: Measurement, other: Measurement, ours: object, theirs: object) -> None:
    if ours != theirs:
        raise NetworksDiffer(
            f"{first.contestant} and {other.contestant} do not compute the same and are not "
            f"compared: {what} {ours} and {theirs}; leave one of them out with --contestants"
        )
