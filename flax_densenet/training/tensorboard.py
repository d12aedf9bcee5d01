"""The records of a run as TensorBoard files, for those who watch runs there."""

from pathlib import Path

from flax_densenet.errors import InputError
from flax_densenet.training.workdir import Record


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
