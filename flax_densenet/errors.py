"""What can go wrong without a fault in the program."""

import signal


class InputError(ValueError):
    """Something the user gave cannot be used; the message says what, got, wanted and what to do.

    The command line prints the message alone, without a traceback. Library code may catch it as a
    `ValueError`.
    """


class TrainingDiverged(RuntimeError):
    """The loss became infinite or not a number; the message says at which step and what to do."""


class TrainingInterrupted(Exception):
    """A signal ended the training between two steps, and everything up to there is saved.

    Attributes:
      signal: The signal.
      step: Steps done and saved.
    """

    def __init__(self, received: signal.Signals, step: int) -> None:
        super().__init__(f"interrupted by {received.name} after step {step}; everything is saved")
        self.signal = received
        self.step = step
