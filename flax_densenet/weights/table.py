"""Converts weights between Flax and other software by one table, read in both directions."""

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from flax import traverse_util

from flax_densenet.errors import InputError
from flax_densenet.network.config import DenseNetConfig
from flax_densenet.network.layers import ArrayPath, Kind, WeightLayer, weight_layers
from flax_densenet.weights.layouts import TORCHVISION, Layout, Leaf

if TYPE_CHECKING:
    import torch

Variables = Mapping[str, Any]


class Row(NamedTuple):
    """One array of the network, in a layout and in Flax.

    Attributes:
      key: Its name in the layout.
      flax_path: Its path in the Flax variables, collection first.
      leaf: Its axes in both.
      layer: The layer that it belongs to.
      counter: Key of the number of batches seen; None but in the last row of a normalization.
    """

    key: str
    flax_path: ArrayPath
    leaf: Leaf
    layer: WeightLayer
    counter: str | None

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape in the layout."""
        return tuple(self.layer.axes[axis] for axis in self.leaf.axes)

    @property
    def flax_shape(self) -> tuple[int, ...]:
        """Shape in the Flax variables."""
        return tuple(self.layer.axes[axis] for axis in self.leaf.flax_axes)


def correspondence(config: DenseNetConfig, layout: Layout = TORCHVISION) -> list[Row]:
    """Returns one row for each array of the network, in forward order.

    Args:
      config: The network.
      layout: The other software's names.

    Raises:
      InputError: The layout has no name for a layer of the network.
    """
    rows = []
    numbers: Counter[Kind] = Counter()
    for layer in weight_layers(config):
        if layer.path[-1] not in layout.names:
            raise InputError(
                f"{layout.title} has no name for {'/'.join(layer.path)}; its nets have no such "
                "layer; choose another layout, such as torchvision"
            )
        leaves = layout.leaves[layer.kind]
        for leaf in leaves:
            name = layout.layer_name(layer, numbers, leaf.collection)
            counted = layout.counter and layer.kind == "norm" and leaf is leaves[-1]
            rows.append(
                Row(
                    key=f"{name}{layout.separator}{leaf.name}",
                    flax_path=(leaf.collection, *layer.path, leaf.flax_name),
                    leaf=leaf,
                    layer=layer,
                    counter=f"{name}{layout.separator}{layout.counter}" if counted else None,
                )
            )
        numbers[layer.kind] += 1
    return rows


def from_arrays(
    arrays: Mapping[str, Any], config: DenseNetConfig, layout: Layout
) -> dict[str, Any]:
    """Converts the arrays of any layout to Flax variables, bit for bit.

    Args:
      arrays: Arrays or tensors under the layout's names. Counters may be absent.
      config: The network that the weights belong to.
      layout: The layout.

    Returns:
      "params" and "batch_stats", nested dicts of NumPy arrays of the source's dtypes.

    Raises:
      InputError: Keys are missing, unknown or of another shape; all of them are named.
    """
    return from_rows(arrays, correspondence(config, layout), layout)


def from_rows(arrays: Mapping[str, Any], rows: Sequence[Row], layout: Layout) -> dict[str, Any]:
    """Does what `from_arrays` does, with the rows of a network that are there already."""
    source = {key: _to_numpy(key, value) for key, value in arrays.items()}
    counters = {row.counter for row in rows if row.counter}
    wanted = {row.key: row.shape for row in rows}
    _check_names_and_shapes(
        f"set of weights as {layout.title} names them", wanted, source, ignored=counters
    )
    return traverse_util.unflatten_dict(
        {
            row.flax_path: _permute(source[row.key], row.leaf.axes, row.leaf.flax_axes)
            for row in rows
        }
    )


def read_counters(arrays: Mapping[str, Any], rows: Sequence[Row]) -> tuple[int, ...] | None:
    """Returns how many batches each normalization has seen, in forward order.

    Args:
      arrays: Arrays under the layout's names.
      rows: The rows of the network.

    Returns:
      The counters; None if the layout has none, or the arrays have not one integer for each.
    """
    found = [np.asarray(arrays.get(row.counter, np.nan)) for row in rows if row.counter]
    if not found or any(a.dtype.kind not in "iu" or a.size != 1 or a < 0 for a in found):
        return None
    return tuple(int(array.item()) for array in found)


def to_arrays(
    variables: Variables,
    config: DenseNetConfig,
    layout: Layout,
    counters: Sequence[int] | None = None,
) -> dict[str, np.ndarray]:
    """Converts Flax variables to the arrays of any layout, bit for bit.

    Args:
      variables: {"params": ..., "batch_stats": ...} of the network; frozen dicts are accepted.
      config: The network that the weights belong to.
      layout: The layout.
      counters: Batches that each normalization has seen, in forward order; 0 if not given, since
        Flax variables have no place for them.

    Returns:
      NumPy arrays under the layout's names, in forward order.

    Raises:
      InputError: Paths are missing, unknown or of another shape; all of them are named.
    """
    rows = correspondence(config, layout)
    source = {
        "/".join(path): _to_numpy("/".join(path), value)
        for path, value in traverse_util.flatten_dict(_plain(variables)).items()
    }
    wanted = {"/".join(row.flax_path): row.flax_shape for row in rows}
    _check_names_and_shapes("Flax variables", wanted, source)
    arrays: dict[str, np.ndarray] = {}
    seen = itertools.repeat(0) if counters is None else iter(counters)
    for row in rows:
        array = source["/".join(row.flax_path)]
        arrays[row.key] = _permute(array, row.leaf.flax_axes, row.leaf.axes)
        if row.counter:
            arrays[row.counter] = np.array(next(seen), np.int64)
    return arrays


def from_torch(state_dict: Mapping[str, Any], config: DenseNetConfig) -> dict[str, Any]:
    """Converts a PyTorch state dict to Flax variables, bit for bit.

    Args:
      state_dict: Arrays or tensors under torchvision's names. `num_batches_tracked` may be absent.
      config: The network that the weights belong to.

    Returns:
      "params" and "batch_stats", nested dicts of NumPy arrays of the source's dtypes.

    Raises:
      InputError: Keys are missing, unknown or of another shape; all of them are named.
    """
    return from_arrays(state_dict, config, TORCHVISION)


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
    return to_arrays(variables, config, TORCHVISION)


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


def _permute(array: np.ndarray, source: str, target: str) -> np.ndarray:
    permuted = array.transpose([source.index(axis) for axis in target])
    return np.array(permuted, order="C")  # a copy: the result must not change with the source


def _plain(tree: Any) -> Any:
    """Turns frozen and other mappings into dicts, which alone `flatten_dict` opens."""
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
            "check depth, growth_rate, bottleneck, stem, num_classes, in_channels and options"
        )
        raise InputError("\n".join([summary, *missing, *unknown, *misshapen]))
