"""Names of the classes of published weights."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

_DIRECTORY = Path(__file__).parent / "class_names"
CLASS_SETS: dict[str, int] = {
    "imagenet": 1000,
    "cifar10": 10,
    "cifar100": 100,
    "svhn": 10,
    "torchxrayvision": 18,
}
_IMAGENET = "imagenet"


@cache
def class_names(class_set: str) -> tuple[str, ...]:
    """Returns one name for each class, by number.

    Args:
      class_set: Key of `CLASS_SETS`, which are the numbers of classes.
    """
    lines = _lines(class_set)
    if class_set == _IMAGENET:
        return tuple(line.partition(" ")[2] for line in lines)
    return lines


@cache
def wordnet_ids() -> tuple[str, ...]:
    """Returns WordNet's identifier, such as "n01440764", for each class of ImageNet, by number."""
    return tuple(line.partition(" ")[0] for line in _lines(_IMAGENET))


def is_imagenet(names: Sequence[str] | None) -> bool:
    """Returns whether these are the names of ImageNet's classes."""
    return names is not None and tuple(names) == class_names(_IMAGENET)


def _lines(class_set: str) -> tuple[str, ...]:
    text = (_DIRECTORY / f"{class_set}.txt").read_text(encoding="utf-8")
    return tuple(line for line in text.splitlines() if not line.startswith("#"))
