"""What a PyTorch network must give, whoever wrote it, to be compared.

Axes: B batch, C channels, H height, W width, K classes.
"""

from collections.abc import Mapping

import numpy as np
from torch import Tensor, nn

from flax_densenet.errors import InputError, listed
from torch_reference.hooks import to_array


def find_logits(model: nn.Module, image: Tensor, num_classes: int) -> Tensor:
    """Returns the network's logits.

    Args:
      model: The network.
      image: [B, C, H, W].
      num_classes: K.

    Returns:
      [B, K].

    Raises:
      InputError: The network returns something else.
    """
    logits = model(image)
    if not isinstance(logits, Tensor):
        raise InputError(
            f"the PyTorch network returns a {type(logits).__name__}; wanted one tensor, the "
            "logits [B, K]; write a function whose network returns them alone"
        )
    wanted = (len(image), num_classes)
    if logits.shape != wanted:
        raise InputError(
            f"the PyTorch network returns shape {tuple(logits.shape)} for {len(image)} images; "
            f"wanted the logits [B, K], {wanted}"
        )
    return logits


def find_gradients(differentiated: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    """Returns the gradients after a backward pass.

    Args:
      differentiated: The tensors, by name.

    Raises:
      InputError: One of them has none.
    """
    gradients = {key: tensor.grad for key, tensor in differentiated.items()}
    none = [key for key, gradient in gradients.items() if gradient is None]
    if none:
        raise InputError(
            f"the loss does not depend on {listed(none)} of the PyTorch network: it is not used "
            "in the forward pass, or detached or frozen (requires_grad=False)"
        )
    return {key: to_array(gradient) for key, gradient in gradients.items() if gradient is not None}
