"""`flax-densenet weights`: which published weights there are, and fetching them ahead."""

import dataclasses
from functools import partial
from typing import Annotated

import tyro

from flax_densenet.cli.flags import check_name, parse_flags


@dataclasses.dataclass(frozen=True, kw_only=True)
class WeightsArguments:
    """List published weights, or fetch some of them.

    Attributes:
      names: Weights to fetch, such as torchvision/densenet121; all are listed if none is given.
      offline: Download nothing: say what is on the disk, also in the caches of other software.
    """

    names: Annotated[
        tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="[NAME ...]")
    ] = ()
    offline: bool = False


parse = partial(parse_flags, WeightsArguments)


def run(arguments: WeightsArguments, prog: str) -> None:
    """Runs the command.

    Args:
      arguments: Its flags.
      prog: Name of the command, which is not needed here.

    Raises:
      InputError: There are no such weights, or they cannot be had.
    """
    from flax_densenet.weights.published.catalog import PUBLISHED
    from flax_densenet.weights.published.find import find_weights

    for name in arguments.names:
        check_name("NAME", name, PUBLISHED)
    for name in arguments.names:
        found = find_weights(name, offline=arguments.offline)
        for note in found.notes:
            print(f"warning: {note}")
        print(f"{name} is at {found.path}")
        for line in _facts(name):
            print(f"  {line}")
    if not arguments.names:
        _print_list()


def _print_list() -> None:
    from flax_densenet.weights.published.catalog import PUBLISHED
    from flax_densenet.weights.published.find import find_cached, own_cache

    width = max(map(len, PUBLISHED))
    for name, row in PUBLISHED.items():
        path, wrong = find_cached(name)
        for sentence in wrong:
            print(f"warning: {sentence}")
        where = f"; at {path}" if path is not None else ""
        print(f"{name:<{width}}  {row.accuracy}{where}")
    print(
        f"\n`flax-densenet weights NAME` fetches weights to {own_cache()} and shows their licence, "
        "pixels and checks; other weights are hf-hub:OWNER/REPOSITORY and https://..."
    )


def _facts(name: str) -> list[str]:
    """Returns what is known of weights, a line each."""
    from flax_densenet.weights.published.catalog import PUBLISHED
    from flax_densenet.weights.published.classes import CLASS_SETS

    row = PUBLISHED[name]
    file, preparation = row.files[0], row.preparation
    checks = [f"{file.size:,} bytes"] if file.size is not None else []
    checks += [str(file.checksum)] if file.checksum is not None else []
    assert preparation.mean is not None and preparation.std is not None
    mean, std = (
        ", ".join(f"{value:g}" for value in values)
        for values in (preparation.mean, preparation.std)
    )
    return [
        f"network   {row.network}",
        f"classes   {CLASS_SETS[row.class_set]} of {row.class_set}",
        f"published {row.accuracy}",
        f"images    shorter side {preparation.shorter_side}, {preparation.interpolation}, "
        f"{preparation.size}x{preparation.size} from the middle",
        f"pixels    mean {mean}, standard deviation {std} (of 0 to 255)",
        f"licence   {row.licence}; the images that it was trained on have terms of their own",
        f"address   {file.url}",
        f"checked   {' and '.join(checks) or 'against nothing that is known'}",
    ]
