"""The progress bar of one run, or of several one after the other."""

from tqdm import tqdm


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
