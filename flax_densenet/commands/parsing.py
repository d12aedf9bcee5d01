"""How the flags of a command are read, alike for all that only read or measure something."""

from collections.abc import Sequence
from typing import TypeVar

import tyro

from flax_densenet.commands.comma_separated import comma_separated_registry

Arguments = TypeVar("Arguments")


def parse_flags(kind: type[Arguments], args: Sequence[str], prog: str) -> Arguments:
    """Parses the command line of a command whose flags are the fields of one class.

    Args:
      kind: The class.
      args: Words after the command.
      prog: Name of the command, for messages.

    Raises:
      InputError: The class refuses a value.
      SystemExit: After `--help`, or with a message for a wrong flag.
    """
    return tyro.cli(
        kind,
        args=args,
        prog=prog,
        use_underscores=True,
        config=(tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff),
        registry=comma_separated_registry(),
    )
