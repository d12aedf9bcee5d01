"""An ONNX graph under construction: nodes and weights, under torchvision's names.

https://onnx.ai/onnx/operators
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

# Of 2021 and 2022: ONNX Runtime 1.12, Triton 22.07 and whatever is newer read them.
_OPSET, _IR_VERSION = 17, 8


class Graph:
    """A graph under construction; tensors are known by their names."""

    def __init__(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Starts empty.

        Args:
          arrays: All weights of the network by name; the graph gets those that nodes use.
        """
        self._arrays = arrays
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: dict[str, onnx.TensorProto] = {}

    def add(self, operator: str, inputs: Sequence[str], name: str, **attributes: Any) -> str:
        """Adds an operation and returns the name of its output, which is its own."""
        self._nodes.append(helper.make_node(operator, inputs, [name], name, **attributes))
        return name

    def weights(self, layer: str, *leaves: str) -> list[str]:
        """Puts arrays of a layer into the graph and returns their names."""
        return [
            self.constant(f"{layer}.{leaf}", self._arrays[f"{layer}.{leaf}"]) for leaf in leaves
        ]

    def constant(self, name: str, array: np.ndarray) -> str:
        """Puts an array into the graph and returns its name."""
        self._initializers[name] = numpy_helper.from_array(np.ascontiguousarray(array), name)
        return name

    def model(
        self, image: onnx.ValueInfoProto, logits: onnx.ValueInfoProto, metadata: Mapping[str, str]
    ) -> onnx.ModelProto:
        """Returns the finished model.

        Args:
          image: Its input.
          logits: Its output.
          metadata: Text by name.
        """
        graph = helper.make_graph(
            self._nodes, "DenseNet", [image], [logits], list(self._initializers.values())
        )
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", _OPSET)],
            ir_version=_IR_VERSION,
            producer_name="flax-densenet",
        )
        helper.set_model_props(model, dict(metadata))
        return model
