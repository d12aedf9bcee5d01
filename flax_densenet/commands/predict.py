"""`flax-densenet predict`: the most probable classes of images.

Axes: B batch, K classes.
"""

import json
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from flax_densenet.commands.classifier import Classifier, load_classifier
from flax_densenet.commands.device_options import DeviceOptions
from flax_densenet.commands.devices import choose_devices
from flax_densenet.commands.predict_arguments import PredictArguments
from flax_densenet.data.image_paths import find_images, read_images
from flax_densenet.errors import ImagesUnreadable, listed

_NOT_FINITE = "the network's output for it is not finite"


def predict(arguments: PredictArguments, prog: str) -> None:
    """Runs the command.

    Args:
      arguments: Its flags.
      prog: Name of the command, for messages.

    Raises:
      InputError: The checkpoint or a path cannot be used.
      ImagesUnreadable: Some images could not be read; all others are done.
    """
    choose_devices(DeviceOptions())
    paths = find_images(arguments.images)
    classifier = load_classifier(arguments.checkpoint, arguments.weights, arguments.preparation)
    batch_size = min(arguments.batch_size, len(paths))
    failed: list[str] = []
    for batch in read_images(paths, classifier.image_format, batch_size):
        missing = batch_size - len(batch.image)  # filled up, so that one program serves for all
        image = jnp.asarray(np.pad(batch.image, ((0, missing), (0, 0), (0, 0), (0, 0))))
        log_probability = jax.nn.log_softmax(classifier.logits(image))
        rows = np.asarray(log_probability, np.float64)[: len(batch.image)]
        for path, row, problem in zip(batch.paths, rows, batch.problems, strict=True):
            if problem is None and not np.isfinite(row).all():
                problem = _NOT_FINITE
            if problem is not None:
                failed.append(path)
                print(f"error: {path}: {problem}", file=sys.stderr)
            if arguments.json:
                print(json.dumps(_as_json(path, row, problem, classifier, arguments.top_k)))
            elif problem is None:
                print(_as_table(path, row, classifier, arguments.top_k))
        sys.stdout.flush()
    if failed:
        raise ImagesUnreadable(
            f"{len(failed)} of {len(paths)} images could not be classified: {listed(failed)}; the "
            "others are done"
        )


def _best(row: Float[np.ndarray, " K"], top_k: int) -> list[int]:
    return np.argsort(-row, kind="stable")[:top_k].tolist()


def _as_json(
    path: str,
    row: Float[np.ndarray, " K"],
    problem: str | None,
    classifier: Classifier,
    top_k: int,
) -> dict[str, Any]:
    if problem is not None:
        return {"image": path, "error": problem}
    classes = [
        {
            "index": index,
            "name": classifier.class_names[index] if classifier.class_names else None,
            "probability": float(np.exp(row[index])),
        }
        for index in _best(row, top_k)
    ]
    return {"image": path, "classes": classes}


def _as_table(path: str, row: Float[np.ndarray, " K"], classifier: Classifier, top_k: int) -> str:
    lines = [f"  {np.exp(row[i]):>8.2%}  {classifier.class_name(i)}" for i in _best(row, top_k)]
    return "\n".join([path, *lines])
