"""The correspondence of Flax and PyTorch weights: one table, read in both directions.

Axes: O output channels, I input channels, H kernel height, W kernel width, C channels.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from flax import traverse_util

from flax_densenet.config import DenseNetConfig
from flax_densenet.errors import InputError
from flax_densenet.layers import Kind, WeightLayer, weight_layers

if TYPE_CHECKING:
    import torch

Variables = Mapping[str, Any]


class Leaf(NamedTuple):
    """One array of a layer, in both frameworks.

    Attributes:
      torch_name: Last part of the state-dict key.
      collection: Flax collection.
      flax_name: Last part of the Flax path.
      torch_axes: Axes in PyTorch, one letter each.
      flax_axes: The same letters in Flax's order.
    """

    torch_name: str
    collection: str
    flax_name: str
    torch_axes: str
    flax_axes: str


LEAVES: dict[Kind, tuple[Leaf, ...]] = {
    "conv": (Leaf("weight", "params", "kernel", "OIHW", "HWIO"),),
    "norm": (
        Leaf("weight", "params", "scale", "C", "C"),
        Leaf("bias", "params", "bias", "C", "C"),
        Leaf("running_mean", "batch_stats", "mean", "C", "C"),
        Leaf("running_var", "batch_stats", "var", "C", "C"),
    ),
    "linear": (
        Leaf("weight", "params", "kernel", "OI", "IO"),
        Leaf("bias", "params", "bias", "O", "O"),
    ),
}

# PyTorch counts the batches of each normalization; nothing computes with the count at a fixed
# momentum, Flax has no place for it, and files older than torch 0.4.1 lack it.
_COUNTER = "num_batches_tracked"


class Row(NamedTuple):
    """One array of the network: its name, shape and axes in both frameworks."""

    torch_key: str
    flax_path: tuple[str, ...]
    leaf: Leaf
    layer: WeightLayer

    @property
    def torch_shape(self) -> tuple[int, ...]:
        """Shape in a state dict."""
        return tuple(self.layer.axes[axis] for axis in self.leaf.torch_axes)

    @property
    def flax_shape(self) -> tuple[int, ...]:
        """Shape in the Flax variables."""
        return tuple(self.layer.axes[axis] for axis in self.leaf.flax_axes)


def correspondence(config: DenseNetConfig) -> list[Row]:
    """Returns one row for each array of the network, in forward order."""
    return [
        Row(
            _torch_key(layer, leaf.torch_name),
            (leaf.collection, *layer.path, leaf.flax_name),
            leaf,
            layer,
        )
        for layer in weight_layers(config)
        for leaf in LEAVES[layer.kind]
    ]


def from_torch(state_dict: Mapping[str, Any], config: DenseNetConfig) -> dict[str, Any]:
    """Converts a PyTorch state dict to Flax variables, bit for bit.

    Args:
      state_dict: Arrays or tensors under torchvision's names. `num_batches_tracked` may be absent.
      config: The network that the weights belong to.

    Returns:
      {"params": ..., "batch_stats": ...}, nested dicts of NumPy arrays of the source's dtypes.

    Raises:
      InputError: Keys are missing, unknown or of another shape; all of them are named.
    """
    rows = correspondence(config)
    source = {key: _to_numpy(key, value) for key, value in state_dict.items()}
    counters = {_torch_key(row.layer, _COUNTER) for row in rows if row.layer.kind == "norm"}
    wanted = {row.torch_key: row.torch_shape for row in rows}
    _check_names_and_shapes("torch state dict", wanted, source, ignored=counters)
    return traverse_util.unflatten_dict(
        {
            row.flax_path: _permute(source[row.torch_key], row.leaf.torch_axes, row.leaf.flax_axes)
            for row in rows
        }
    )


def to_torch_arrays(variables: Variables, config: DenseNetConfig) -> dict[str, np.ndarray]:
    """Converts Flax variables to the arrays of a PyTorch state dict, without needing PyTorch.

    Args:
      variables: {"params": ..., "batch_stats": ...} of the network; frozen dicts are accepted.
      config: The network that the weights belong to.

    Returns:
      NumPy arrays under torchvision's names and in its order. The counters `num_batches_tracked`,
      which Flax has no place for, are 0.

    Raises:
      InputError: Paths are missing, unknown or of another shape; all of them are named.
    """
    rows = correspondence(config)
    source = {
        "/".join(path): _to_numpy("/".join(path), value)
        for path, value in traverse_util.flatten_dict(_plain(variables)).items()
    }
    wanted = {"/".join(row.flax_path): row.flax_shape for row in rows}
    _check_names_and_shapes("Flax variables", wanted, source)
    arrays: dict[str, np.ndarray] = {}
    for row in rows:
        array = source["/".join(row.flax_path)]
        arrays[row.torch_key] = _permute(array, row.leaf.flax_axes, row.leaf.torch_axes)
        if row.leaf.torch_name == "running_var":
            arrays[_torch_key(row.layer, _COUNTER)] = np.zeros((), np.int64)
    return arrays


def to_torch(variables: Variables, config: DenseNetConfig) -> "dict[str, torch.Tensor]":
    """Converts Flax variables to a PyTorch state dict that loads with `strict=True`.

    Args:
      variables: {"params": ..., "batch_stats": ...} of the network; frozen dicts are accepted.
      config: The network that the weights belong to.

    Returns:
      Tensors under torchvision's names and in its order (see `to_torch_arrays`).

    Raises:
      InputError: Paths are missing, unknown or of another shape; or PyTorch is not installed.
    """
    try:
        import torch
    except ModuleNotFoundError as error:
        raise InputError(
            "to_torch returns torch tensors, and torch is not installed; install "
            "flax-densenet[torch], or call to_torch_arrays for NumPy arrays"
        ) from error
    arrays = to_torch_arrays(variables, config)
    return {key: torch.from_numpy(array) for key, array in arrays.items()}


def _torch_key(layer: WeightLayer, name: str) -> str:
    prefix = () if layer.path == ("classifier",) else ("features",)
    return ".".join((*prefix, *layer.path, name))


def _permute(array: np.ndarray, source: str, target: str) -> np.ndarray:
    permuted = array.transpose([source.index(axis) for axis in target])
    return np.array(permuted, order="C")  # a copy: the result must not change with the source


def _plain(tree: Any) -> Any:
    """Turns frozen and other mappings into dicts, which is what `flatten_dict` looks for."""
    return {k: _plain(v) for k, v in tree.items()} if isinstance(tree, Mapping) else tree


def _to_numpy(name: str, value: Any) -> np.ndarray:
    if hasattr(value, "detach"):  # a torch tensor, recognized without importing torch
        value = value.detach().cpu()
    try:
        return np.asarray(value)
    except TypeError as error:
        raise InputError(
            f"{name} has dtype {value.dtype}, which NumPy cannot hold; convert it first, "
            "for example with .float()"
        ) from error


def _check_names_and_shapes(
    what: str,
    wanted: Mapping[str, tuple[int, ...]],
    got: Mapping[str, np.ndarray],
    ignored: frozenset[str] | set[str] = frozenset(),
) -> None:
    missing = [f" - {name}" for name in wanted if name not in got]
    unknown = [f" + {name}" for name in got if name not in wanted and name not in ignored]
    misshapen = [
        f" ! {name}: got {got[name].shape}, wanted {shape}"
        for name, shape in wanted.items()
        if name in got and got[name].shape != shape
    ]
    if missing or unknown or misshapen:
        summary = (
            f"{what} does not fit the configuration: {len(missing)} missing (-), "
            f"{len(unknown)} unknown (+), {len(misshapen)} of another shape (!); "
            "check depth, growth_rate, bottleneck, stem, num_classes and in_channels"
        )
        raise InputError("\n".join([summary, *missing, *unknown, *misshapen]))
