"""`flax-densenet predict`: the most probable classes of images.

Axes: K classes.
"""

import dataclasses
import json
import sys
from functools import partial
from typing import Annotated, Any

import numpy as np
import tyro
from jaxtyping import Float

from flax_densenet.cli.classifier import Classifier, load_classifier
from flax_densenet.cli.devices import DeviceFlags, choose_devices
from flax_densenet.cli.flags import ImageFlags, WeightsFlags, parse_flags
from flax_densenet.data.images.paths import find_images, read_images
from flax_densenet.errors import ImagesUnreadable, listed, require


@dataclasses.dataclass(frozen=True, kw_only=True)
class PredictArguments:
    """Show the classes that a network finds most probable for images.

    Attributes:
      checkpoint: Whatever `convert` reads: a .pth, .safetensors or .h5 file, an Orbax directory, a
        work directory of train, or the name of published weights such as torchvision/densenet121.
      images: Image files, and directories in which all images are taken.
      top_k: Classes to show for each image.
      json: Print one JSON object for each image, one a line.
      batch_size: Images per step; it does not change the result.
      weights: Which weights are taken, and from where.
      preparation: How images are prepared.
    """

    checkpoint: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="CHECKPOINT")]
    images: Annotated[
        tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="IMAGE|DIRECTORY ...")
    ]
    top_k: int = 5
    json: bool = False
    batch_size: int = 32
    weights: WeightsFlags = WeightsFlags()
    preparation: ImageFlags = ImageFlags()

    def __post_init__(self) -> None:
        for name in ("top_k", "batch_size"):
            value = getattr(self, name)
            require(value >= 1, name, value, "an integer of at least 1")
        require(len(self.images) > 0, "images", self.images, "at least one file or directory")


parse = partial(parse_flags, PredictArguments)


_NOT_FINITE = "the network's output for it is not finite"


def run(arguments: PredictArguments, prog: str) -> None:
    """Runs the command.

    Args:
      arguments: Its flags.
      prog: Name of the command, which is not needed here.

    Raises:
      InputError: The checkpoint or a path cannot be used.
      ImagesUnreadable: Some images could not be read; all others are done.
    """
    import jax
    import jax.numpy as jnp

    choose_devices(DeviceFlags())
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
    from flax_densenet.weights.published.classes import is_imagenet, wordnet_ids

    if problem is not None:
        return {"image": path, "error": problem}
    classes: list[dict[str, Any]] = [
        {
            "index": index,
            "name": classifier.class_names[index] if classifier.class_names else None,
            "probability": float(np.exp(row[index])),
        }
        for index in _best(row, top_k)
    ]
    if is_imagenet(classifier.class_names):
        classes = [{**one, "wordnet_id": wordnet_ids()[one["index"]]} for one in classes]
    return {"image": path, "classes": classes}


def _as_table(path: str, row: Float[np.ndarray, " K"], classifier: Classifier, top_k: int) -> str:
    lines = [f"  {np.exp(row[i]):>8.2%}  {classifier.class_name(i)}" for i in _best(row, top_k)]
    return "\n".join([path, *lines])
