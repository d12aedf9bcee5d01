"""The reference's half of a comparison, and the assertion that two halves agree."""

from flax_densenet.network.config import DenseNetConfig
from flax_densenet.parity.differences import Arrays, differences
from flax_densenet.parity.torch_half import TorchHalf
from flax_densenet.weights.table import Variables
from torch_reference import DenseNet


def reference_half(config: DenseNetConfig, variables: Variables) -> TorchHalf:
    """Returns the reference with the given weights.

    Args:
      config: The network.
      variables: {"params", "batch_stats"}, in the type of the configuration.
    """
    return TorchHalf(DenseNet(config), config, variables)


def assert_close(ours: Arrays, theirs: Arrays, tolerance: float, floor: float = 0) -> None:
    """Asserts that every array agrees, naming the first that does not.

    Args:
      ours: Arrays of the Flax network.
      theirs: Arrays of the PyTorch network, in forward order.
      tolerance: Largest relative difference allowed.
      floor: As for `differences`.

    Raises:
      AssertionError: With the first diverging name and the number of those after it.
    """
    rows = differences(ours, theirs, tolerance, floor)
    diverging = [row for row in rows if not row.agrees]
    if diverging:
        first = diverging[0]
        raise AssertionError(
            f"{first.name} {first.shape} is the first of {len(diverging)} (of {len(rows)}) that "
            f"differ by more than {tolerance:g}: relative {first.relative:.3g}, "
            f"absolute {first.absolute:.3g}"
        )
