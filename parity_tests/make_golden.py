"""Writes data/torchvision.json.gz, which needs torchvision."""

import gzip
import json
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

from parity_tests.golden import FILE, image, label, tensor

_EVALUATIONS = (
    ("densenet121", (2, 3, 64, 64)),
    ("densenet121", (2, 3, 65, 97)),
    ("densenet121", (1, 3, 224, 224)),
    ("densenet161", (2, 3, 64, 64)),
    ("densenet169", (2, 3, 64, 64)),
    ("densenet201", (2, 3, 64, 64)),
)
_TRAINING = ("densenet121", (4, 3, 64, 64))
_SGD_STEPS, _LEARNING_RATE, _WEIGHT_DECAY = 5, 0.01, 1e-4


def network(name: str) -> nn.Module:
    """Returns torchvision's network in float64 with the weights of `golden.tensor`."""
    model: nn.Module = torchvision.models.get_model(name, weights=None).double()
    state = {
        key: torch.from_numpy(tensor(key, tuple(value.shape)))
        for key, value in model.state_dict().items()
        if not key.endswith("num_batches_tracked")
    }
    model.load_state_dict({**model.state_dict(), **state}, strict=True)
    return model


def summary(array: torch.Tensor | None) -> dict[str, Any]:
    """Returns what is stored of an array."""
    assert array is not None
    flat = array.detach().numpy().ravel()
    return {
        "sum": float(flat.sum()),
        "abs_sum": float(np.abs(flat).sum()),
        "first": flat[:8].tolist(),
    }


def evaluated(name: str, shape: tuple[int, ...]) -> dict[str, Any]:
    """Returns the activations and logits of a network in evaluation."""
    model = network(name).eval()
    activations: dict[str, Any] = {}
    for child, module in model.get_submodule("features").named_children():
        if child != "relu0":  # in place of norm0's output
            module.register_forward_hook(
                lambda _, __, output, child=child: activations.update(
                    {f"features.{child}": summary(output.clone())}
                )
            )
    with torch.no_grad():
        logits = model(torch.from_numpy(image(list(shape))))
    found = {**summary(logits), "argmax": logits.argmax(-1).tolist()}
    return {"model": name, "image_shape": shape, "logits": found, "activations": activations}


def trained(name: str, shape: tuple[int, ...]) -> dict[str, Any]:
    """Returns loss, gradients and statistics of one pass, and some steps of SGD after it."""
    model = network(name).train()
    x = torch.from_numpy(image(list(shape))).requires_grad_()
    target = torch.from_numpy(label(shape[0])).long()
    logits = model(x)
    loss = F.cross_entropy(logits, target)
    loss.backward()
    found = {
        "model": name,
        "image_shape": shape,
        "loss": loss.item(),
        "logits": summary(logits),
        "image_grad": summary(x.grad),
        "grads": {key: summary(value.grad) for key, value in model.named_parameters()},
        "statistics_after": {
            key: summary(value) for key, value in model.named_buffers() if "running" in key
        },
    }
    model = network(name).train()
    optimizer = torch.optim.SGD(
        model.parameters(), _LEARNING_RATE, momentum=0.9, weight_decay=_WEIGHT_DECAY, nesterov=True
    )
    losses = []
    for _ in range(_SGD_STEPS):
        loss = F.cross_entropy(model(x.detach()), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    state = model.state_dict()
    kept = [key for key in state if "tracked" not in key][::60]
    return {
        **found,
        "sgd": {"losses": losses, "parameters_after": {key: summary(state[key]) for key in kept}},
    }


def main() -> None:
    """Writes the file."""
    text = json.dumps(
        {
            "about": f"torchvision {torchvision.__version__}, torch {torch.__version__}, float64, "
            "CPU; weights, images and labels from golden.py; layout [B, C, H, W]",
            "eval": [evaluated(*one) for one in _EVALUATIONS],
            "train": [trained(*_TRAINING)],
        }
    )
    FILE.write_bytes(gzip.compress(text.encode(), mtime=0))


if __name__ == "__main__":
    main()
