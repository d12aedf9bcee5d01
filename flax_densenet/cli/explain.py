"""`flax-densenet explain`: which part of an image speaks for a class."""

import dataclasses
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import tyro

from flax_densenet.cli.classifier import Classifier, load_classifier
from flax_densenet.cli.devices import DeviceFlags, choose_devices
from flax_densenet.cli.flags import ImageFlags, WeightsFlags, check_name, parse_flags
from flax_densenet.data.images.paths import read_image
from flax_densenet.errors import InputError, printable, require
from flax_densenet.files import written_whole

Method = Literal["cam", "gradcam"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExplainArguments:
    """Draw which part of an image speaks for a class.

    Attributes:
      checkpoint: Whatever `convert` reads: a .pth, .safetensors or .h5 file, an Orbax directory, a
        work directory of train, or the name of published weights such as torchvision/densenet121.
      image: Image file.
      chosen_class: Name of a class, its index from 0 or, for ImageNet's, WordNet's identifier such
        as n01440764; the one of the highest score if not given.
      method: cam shows what each place adds to the logit, exactly; gradcam the maps of a layer,
        weighted by their gradients.
      layer: Layer that gradcam looks at: denseblock1, denseblock2... or norm5, the default.
      output: Picture to write; its ending decides the format. IMAGE-cam.png or IMAGE-gradcam.png in
        the current directory if not given.
      overwrite: Replace the picture if it exists.
      weights: Which weights are taken, and from where.
      preparation: How the image is prepared.
    """

    checkpoint: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="CHECKPOINT")]
    image: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="IMAGE")]
    chosen_class: Annotated[str | None, tyro.conf.arg(name="class")] = None
    method: Method = "cam"
    layer: str | None = None
    output: str | None = None
    overwrite: bool = False
    weights: WeightsFlags = WeightsFlags()
    preparation: ImageFlags = ImageFlags()

    def __post_init__(self) -> None:
        if self.layer is not None and self.method != "gradcam":
            raise InputError(
                f"layer (={self.layer!r}) is for --method gradcam; cam always shows the last layer"
            )


parse = partial(parse_flags, ExplainArguments)


def run(arguments: ExplainArguments, prog: str) -> None:
    """Runs the command.

    Args:
      arguments: Its flags.
      prog: Name of the command, which is not needed here.

    Raises:
      InputError: The checkpoint, the image or the class cannot be used, or the picture exists.
      SavingFailed: The picture cannot be written.
    """
    import jax.numpy as jnp

    from flax_densenet.explanation.activation_maps import (
        class_activation_map,
        gradient_activation_map,
        gradient_layers,
    )
    from flax_densenet.explanation.picture import check_picture, plot_activation_map

    choose_devices(DeviceFlags())
    source = Path(arguments.image).expanduser()
    target = Path(arguments.output or f"{source.stem}-{arguments.method}.png").expanduser()
    check_picture(target)
    if target.exists() and not arguments.overwrite:
        raise InputError(f"{target} exists; give another --output, or replace it with --overwrite")
    classifier = load_classifier(arguments.checkpoint, arguments.weights, arguments.preparation)
    layer = arguments.layer or "norm5"
    layers = gradient_layers(classifier.model)
    require(layer in layers, "layer", layer, f"one of {', '.join(layers)}")
    image = read_image(source, classifier.image_format)
    batch = jnp.asarray(image[np.newaxis])
    logits = np.asarray(classifier.logits(batch)[0], np.float64)
    if not np.isfinite(logits).all():
        raise InputError(f"the network's output for {source} is not finite; check its weights")
    index = _choose_class(arguments.chosen_class, classifier)
    scores = classifier.outputs.scores(logits)
    if index is None:
        trained = [classifier.is_trained(index) for index in range(len(scores))]
        index = int(np.where(trained, scores, -1).argmax())
    x = classifier.statistics.normalize(batch)
    inputs = (classifier.model, classifier.variables, x, jnp.array([index]))
    if arguments.method == "cam":
        values, unit = class_activation_map(*inputs), "added to the logit by each place"
    else:
        values = gradient_activation_map(*inputs, layer=layer)
        unit = f"weighted maps of {layer}"
    score = classifier.outputs.formatted(scores[index])
    title = f"{classifier.class_name(index)}: {score}, logit {logits[index]:.2f}"
    if classifier.outputs.has_several_labels:
        print(classifier.outputs.description)
    with written_whole(target, overwrite=arguments.overwrite) as unfinished:
        plot_activation_map(image, np.asarray(values[0]), title, unit, unfinished)
    print(title)
    print(f"wrote {printable(str(target))}")


def _choose_class(asked: str | None, classifier: Classifier) -> int | None:
    """Returns the index of a class that is given by its name, or else by its index."""
    from flax_densenet.weights.published.classes import is_imagenet, wordnet_ids

    num_classes, names = classifier.model.config.num_classes, classifier.class_names
    if asked is None:
        return None
    if names is not None and asked in names:
        return names.index(asked)
    if is_imagenet(names) and asked in wordnet_ids():
        return wordnet_ids().index(asked)
    if asked.isdecimal():
        require(int(asked) < num_classes, "class", asked, f"below {num_classes}, counted from 0")
        return int(asked)
    if names is None:
        raise InputError(
            f"class (={asked!r}) is a name, and the checkpoint has none; give the class's index "
            f"in 0 to {num_classes - 1}, or all names with --class_names"
        )
    check_name("class", asked, dict.fromkeys(names))
    return None
