"""What files of torchxrayvision say of a network's outputs, and how that library prepares images.

See https://github.com/mlmed/torchxrayvision: `op_norm` and `DenseNet` in its models.py, `normalize`
and `XRayCenterCrop` in its datasets.py.
"""

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np

from flax_densenet.data.outputs import Outputs
from flax_densenet.data.preparation import Preparation
from flax_densenet.errors import InputError, counted
from flax_densenet.network.config import DenseNetConfig
from flax_densenet.weights.published.catalog import XRAY_CLASSES, XRAY_PREPARATION
from flax_densenet.weights.published.classes import class_names
from flax_densenet.weights.whole_module import XRAY_CLASS, WholeModule

OPERATING_POINTS = "op_threshs"  # name of the array, which lies beside the network's
LABELS = class_names(XRAY_CLASSES)


class Told(NamedTuple):
    """What a file says of a network's outputs.

    Attributes:
      outputs: How they are read.
      class_names: One name per output, "" for one that was not trained; None if not known.
      preparation: How images are prepared, if the file is torchxrayvision's.
      notes: Sentences on what was taken from where, and what was not.
    """

    outputs: Outputs = Outputs()
    class_names: tuple[str, ...] | None = None
    preparation: Preparation | None = None
    notes: tuple[str, ...] = ()


def read_told(
    path: Path, config: DenseNetConfig, points: np.ndarray | None, module: WholeModule | None
) -> Told:
    """Returns what operating points and classes say.

    Args:
      path: The file.
      config: The network.
      points: The array of operating points, if there is one.
      module: The module, if the weights are of one that was saved whole.
    """
    wrong = ""
    if points is not None and (points.shape != (config.num_classes,) or points.dtype.kind != "f"):
        wrong = (
            f"{OPERATING_POINTS} ({points.dtype}) of shape {points.shape} is not one number for "
            f"each of {config.num_classes} outputs, and is not taken"
        )
        points = None
    is_class = module is not None and module.class_name == XRAY_CLASS
    if points is None and not is_class:
        if module is not None and module.ends_in_sigmoid:
            note = "a sigmoid follows the classifier: each output is read as a label by itself"
            return Told(Outputs(reading="several_labels"), notes=_without_empty(wrong, note))
        return Told(notes=_without_empty(wrong))
    numbers = None if points is None else _numbers(points)
    try:
        outputs = Outputs(reading="several_labels", operating_points=numbers)
    except InputError as error:
        raise InputError(f"{path}: {OPERATING_POINTS} cannot be followed: {error}") from error
    is_xray = is_class or (config.num_classes == len(LABELS) and config.in_channels == 1)
    if not is_xray:
        note = f"{OPERATING_POINTS} in the file: each output is read as a label by itself"
        return Told(outputs, notes=(note,))
    names = _names(config, outputs, module)
    preparation = XRAY_PREPARATION if config.in_channels == 1 else None
    note = _note(config, is_class, names, preparation, numbers)
    return Told(outputs, names, preparation, _without_empty(wrong, note))


def _without_empty(*notes: str) -> tuple[str, ...]:
    return tuple(filter(None, notes))


def _numbers(points: np.ndarray) -> tuple[float | None, ...]:
    return tuple(None if math.isnan(point) else point for point in points.tolist())


def _names(
    config: DenseNetConfig, outputs: Outputs, module: WholeModule | None
) -> tuple[str, ...] | None:
    """Returns the labels that the module or the library names, "" where none was trained."""
    settings = {} if module is None else module.settings
    own = settings.get("pathologies") or settings.get("targets") or LABELS
    if isinstance(own, str) or len(own) != config.num_classes:
        return None
    return tuple(
        str(name or "") if outputs.is_trained(index) else "" for index, name in enumerate(own)
    )


def _note(
    config: DenseNetConfig,
    is_class: bool,
    names: tuple[str, ...] | None,
    preparation: Preparation | None,
    points: tuple[float | None, ...] | None,
) -> str:
    why = (
        "the module's class says"
        if is_class
        else f"{OPERATING_POINTS}, {config.num_classes} outputs and 1 image channel say"
    )
    taken = ["its labels"] if names else []
    taken += ["its preparation of images"] if preparation else []
    note = f"{why} that this is a network of torchxrayvision"
    note += f": {' and '.join(taken)} are taken" if taken else ""
    untrained = [str(index) for index, name in enumerate(names or ()) if not name]
    if untrained:
        note += f"; {counted(untrained, 'output')} not trained: {', '.join(untrained)}"
    elif points is None and names:
        note += f"; without {OPERATING_POINTS} the file does not say which labels were trained"
    return note
