"""The one exception that means "the input is wrong", never "the program is wrong"."""


class InputError(ValueError):
    """Something the user gave cannot be used; the message says what, got, wanted and what to do.

    The command line prints the message alone, without a traceback. Library code may catch it as a
    `ValueError`.
    """


class TrainingDiverged(RuntimeError):
    """The loss became infinite or not a number; the message says at which step and what to do."""
