"""Tables of the names that each software gives a DenseNet's layers and arrays.

Axes: O output channels, I input channels, H kernel height, W kernel width, C channels, S slopes.
"""

from collections.abc import Mapping
from typing import NamedTuple

from flax_densenet.network.layers import LEAVES, Kind, WeightLayer


class Leaf(NamedTuple):
    """One array of a layer, in another software and in Flax.

    Attributes:
      name: Last part of its name in the other software.
      collection: Its Flax collection.
      flax_name: Last part of its Flax path.
      axes: Its axes in the other software, one letter each.
      flax_axes: The same letters in Flax's order.
    """

    name: str
    collection: str
    flax_name: str
    axes: str
    flax_axes: str


Leaves = dict[Kind, tuple[Leaf, ...]]


def _leaves(**arrays: tuple[tuple[str, str], ...]) -> Leaves:
    """Returns the arrays of each kind of layer, from a software's names and axes for them."""
    return {
        kind: tuple(
            Leaf(name, ours.collection, ours.name, axes, ours.axes)
            for (name, axes), ours in zip(arrays[kind], leaves, strict=True)
        )
        for kind, leaves in LEAVES.items()
        if kind in arrays
    }


TORCH_LEAVES = _leaves(
    conv=(("weight", "OIHW"),),
    norm=(("weight", "C"), ("bias", "C"), ("running_mean", "C"), ("running_var", "C")),
    linear=(("weight", "OI"), ("bias", "O")),
    prelu=(("weight", "S"),),
)
KERAS_LEAVES = _leaves(
    conv=(("kernel", "HWIO"),),
    norm=(("gamma", "C"), ("beta", "C"), ("moving_mean", "C"), ("moving_variance", "C")),
    linear=(("kernel", "IO"), ("bias", "O")),
)
KERAS_3_LEAVES: Leaves = {
    kind: tuple(leaf._replace(name=str(number)) for number, leaf in enumerate(leaves))
    for kind, leaves in KERAS_LEAVES.items()
}
FLAX_LEAVES: Leaves = {
    kind: tuple(leaf._replace(name=leaf.flax_name, axes=leaf.flax_axes) for leaf in leaves)
    for kind, leaves in TORCH_LEAVES.items()
}


class Layout(NamedTuple):
    """One software's names for a DenseNet's arrays.

    Attributes:
      title: Name of the software, for people.
      names: Name of each layer, by the last part of its Flax path. In braces: `block` and `layer`
        count from 1, `layer0` from 0, `next_block` is `block` + 1; `conv_number` and `norm_number`
        count all convolutions and normalizations, "" and then "_1", "_2"...; `collection` is the
        Flax collection. Layers that the software's nets do not have are left out.
      leaves: The arrays of each kind of layer.
      separator: Stands between the layer's name and the array's.
      counter: Name of the number of batches that a normalization has seen, if the software counts
        them. Nothing computes with it at a fixed momentum, Flax has no place for it, and files
        older than torch 0.4.1 lack it.
      batch_norm_epsilon: Number that the software adds to the variance; files do not hold it.
      batch_norm_momentum: Weight of the new batch in its running statistics; files do not hold it.
      imagenet_statistics: Whether the software trains ImageNet nets on images normalized by
        ImageNet's usual mean and deviation; files do not hold that either.
    """

    title: str
    names: dict[str, str]
    leaves: Leaves = TORCH_LEAVES
    separator: str = "."
    counter: str | None = "num_batches_tracked"
    batch_norm_epsilon: float = 1e-5
    batch_norm_momentum: float = 0.1
    imagenet_statistics: bool = False

    def layer_name(self, layer: WeightLayer, numbers: Mapping[Kind, int], collection: str) -> str:
        """Returns the software's name of a layer.

        Args:
          layer: The layer.
          numbers: Number of layers of each kind before it.
          collection: Flax collection of the array that is named.
        """
        digits = ["".join(filter(str.isdigit, part)) for part in layer.path[:-1]]
        block, number = (int(digit) for digit in [*digits, "0", "0"][:2])
        return self.names[layer.path[-1]].format(
            block=block,
            next_block=block + 1,
            layer=number,
            layer0=number - 1,
            conv_number=_suffix(numbers["conv"]),
            norm_number=_suffix(numbers["norm"]),
            collection=collection,
        )


def _suffix(number: int) -> str:
    return f"_{number}" if number else ""


def _names(
    *, conv0: str, dense_layer: str, transition: str, norm5: str, classifier: str, **others: str
) -> dict[str, str]:
    """Returns the names of a layout that puts all layers of a dense layer into one module."""
    parts = {"norm1": "norm1", "conv1": "conv1", "norm2": "norm2", "conv2": "conv2"}
    parts |= {"norm": "norm", "conv": "conv"} | others
    inside = {role: f"{dense_layer}.{parts[role]}" for role in ("norm1", "conv1", "norm2", "conv2")}
    between = {role: f"{transition}.{parts[role]}" for role in ("norm", "conv")}
    return {"conv0": conv0, **inside, **between, "norm5": norm5, "classifier": classifier}


def _bn_names(*, dense_layer: str, norm5: str) -> dict[str, str]:
    """Returns the names of the layouts that number the parts of a layer: bn1, conv1..."""
    return _names(
        conv0="conv1",
        dense_layer=dense_layer,
        transition="trans{block}",
        norm5=norm5,
        classifier="fc",
        norm="bn1",
        conv="conv1",
        norm1="bn1",
        norm2="bn2",
    )


def _pytorchcv(parts: dict[str, str]) -> dict[str, str]:
    """Returns pytorchcv's names; those of the parts of a dense layer differ between its nets."""
    between = "features.stage{next_block}.trans{next_block}.conv"
    return {
        "conv0": "features.init_block",
        **{role: f"features.stage{{block}}.unit{{layer}}.{name}" for role, name in parts.items()},
        "norm": f"{between}.bn",
        "conv": f"{between}.conv",
        "norm5": "features.post_activ.bn",
        "classifier": "output",
    }


_TORCHVISION = {
    "conv0": "features.conv0",
    "dense_layer": "features.denseblock{block}.denselayer{layer}",
    "transition": "features.transition{block}",
    "norm5": "features.norm5",
    "classifier": "classifier",
}
_OLD_NAMES = {"norm1": "norm.1", "conv1": "conv.1", "norm2": "norm.2", "conv2": "conv.2"}
_WITH_STEM_NORM = {"norm0": "features.norm0"}
_PRE_CONV = {  # pytorchcv's bottleneck
    f"{role}{number}": f"conv{number}.{name}"
    for number in (1, 2)
    for role, name in (("norm", "bn"), ("conv", "conv"))
}
_OPTIONS = {  # which only our own nets have
    "prelu0": "features.prelu0",
    **{f"prelu{number}": f"{_TORCHVISION['dense_layer']}.prelu{number}" for number in (1, 2)},
    "prelu": f"{_TORCHVISION['transition']}.prelu",
    "prelu5": "features.prelu5",
    **{fc: f"{_TORCHVISION['dense_layer']}.attention.{fc}" for fc in ("fc1", "fc2")},
}
_OURS = _names(**_TORCHVISION) | _WITH_STEM_NORM | _OPTIONS
_KERAS_BLOCK = "conv{next_block}_block{layer}"


def _keras_names(name: str) -> str:
    return f"{name}/{name}"  # a group and, in it, the layer's variables under the same name


_KERAS = Layout(
    "Keras applications, .h5",
    {
        "conv0": _keras_names("conv1_conv"),
        "norm0": _keras_names("conv1_bn"),
        "norm1": _keras_names(f"{_KERAS_BLOCK}_0_bn"),
        "conv1": _keras_names(f"{_KERAS_BLOCK}_1_conv"),
        "norm2": _keras_names(f"{_KERAS_BLOCK}_1_bn"),
        "conv2": _keras_names(f"{_KERAS_BLOCK}_2_conv"),
        "norm": _keras_names("pool{next_block}_bn"),
        "conv": _keras_names("pool{next_block}_conv"),
        "norm5": _keras_names("bn"),
        "classifier": _keras_names("predictions"),
    },
    leaves=KERAS_LEAVES,
    separator="/",
    counter=None,
    batch_norm_epsilon=1.001e-5,
    batch_norm_momentum=0.01,
    imagenet_statistics=True,
)
LAYOUTS: dict[str, Layout] = {
    "torchvision": Layout("torchvision or timm", _OURS, imagenet_statistics=True),
    "torchvision-2017": Layout(
        "torchvision before 2018",
        _names(**_TORCHVISION, **_OLD_NAMES) | _WITH_STEM_NORM,
        imagenet_statistics=True,
    ),
    "gpleiss": Layout(
        "gpleiss/efficient_densenet_pytorch",
        _names(**_TORCHVISION | {"norm5": "features.norm_final"}) | _WITH_STEM_NORM,
    ),
    "andreasveit": Layout(
        "andreasveit/densenet-pytorch",
        _bn_names(dense_layer="block{block}.layer.{layer0}", norm5="bn1"),
    ),
    "bamos": Layout(
        "bamos/densenet.pytorch", _bn_names(dense_layer="dense{block}.{layer0}", norm5="bn1")
    ),
    "bearpaw": Layout(
        "bearpaw/pytorch-classification", _bn_names(dense_layer="dense{block}.{layer0}", norm5="bn")
    ),
    "pytorchcv": Layout("pytorchcv, CIFAR nets with a bottleneck", _pytorchcv(_PRE_CONV)),
    "pytorchcv-plain": Layout(
        "pytorchcv, plain CIFAR nets", _pytorchcv({"norm1": "conv.bn", "conv1": "conv.conv"})
    ),
    "pytorchcv-imagenet": Layout(
        "pytorchcv, ImageNet nets",
        _pytorchcv(_PRE_CONV)
        | {"conv0": "features.init_block.conv", "norm0": "features.init_block.bn"},
        imagenet_statistics=True,
    ),
    "monai": Layout(
        "MONAI since 0.4",
        _names(
            **_TORCHVISION
            | {"dense_layer": f"{_TORCHVISION['dense_layer']}.layers"}
            | {"classifier": "class_layers.out"}
        )
        | _WITH_STEM_NORM
        | {
            "prelu0": "features.relu0",
            "prelu1": f"{_TORCHVISION['dense_layer']}.layers.relu1",
            "prelu2": f"{_TORCHVISION['dense_layer']}.layers.relu2",
            "prelu": "features.transition{block}.relu",
            "prelu5": "class_layers.relu",
        },
    ),
    "monai-2020": Layout(
        "MONAI before 0.4",
        _names(**_TORCHVISION | {"classifier": "class_layers.class"}) | _WITH_STEM_NORM,
    ),
    "keras": _KERAS,
    "keras-2": _KERAS._replace(
        title="Keras applications before Keras 3, .h5",
        names=_KERAS.names
        | {"conv0": _keras_names("conv1/conv"), "norm0": _keras_names("conv1/bn")},
    ),
    "keras-3": _KERAS._replace(
        title="Keras applications, .weights.h5",
        names={
            role: f"layers/{name}/vars"
            for roles, name in (
                (("conv0", "conv1", "conv2", "conv"), "conv2d{conv_number}"),
                (("norm0", "norm1", "norm2", "norm", "norm5"), "batch_normalization{norm_number}"),
                (("classifier",), "dense"),
            )
            for role in roles
        },
        leaves=KERAS_3_LEAVES,
    ),
    "flaxvision": Layout(
        "flaxvision",
        {
            role: name.replace("features.", "{collection}.backbone.").replace(".", "/")
            for role, name in (_names(**_TORCHVISION) | _WITH_STEM_NORM).items()
        }
        | {"classifier": "{collection}/classifier"},
        leaves=FLAX_LEAVES,
        separator="/",
        counter=None,
        imagenet_statistics=True,
    ),
    "flax": Layout(
        "flax-densenet",
        {
            role: name.replace("features.", "").replace(".", "/").join(["{collection}/", ""])
            for role, name in _OURS.items()
        },
        leaves=FLAX_LEAVES,
        separator="/",
        counter=None,
    ),
}
TORCHVISION, FLAX = LAYOUTS["torchvision"], LAYOUTS["flax"]
