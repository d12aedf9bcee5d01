"""Stand-ins for modules of PyTorch that were pickled whole: what they hold, and nothing to run."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from flax_densenet.pickles import NotData
from flax_densenet.weights.files.legacy_modules import NAME

_DENSENET = ("DenseNet", "_DenseBlock", "_DenseLayer", "_Transition")
# What a DenseNet of the two libraries whose forward pass we know consists of.
_CLASSES = {
    "torchvision.models.densenet": _DENSENET,
    "torchxrayvision.models": _DENSENET,
    "torch.nn.parallel.data_parallel": ("DataParallel",),
    "torch.nn.modules.container": ("Sequential",),
    "torch.nn.modules.conv": ("Conv2d",),
    "torch.nn.modules.batchnorm": ("BatchNorm2d",),
    "torch.nn.modules.activation": ("ReLU", "Sigmoid", "Softmax", "LogSoftmax"),
    "torch.nn.modules.pooling": ("MaxPool2d", "AvgPool2d"),
    "torch.nn.modules.linear": ("Linear",),
    "torch.nn.modules.dropout": ("Dropout",),
    "torch.nn.modules.upsampling": ("Upsample",),
}
_PLAIN = (bool, int, float, str)
_HOOKS = ("_forward_hooks", "_forward_pre_hooks")
_DEEPEST = 20


class ModuleNode(NamedTuple):
    """A module without its arrays.

    Attributes:
      class_name: Full name of its class.
      settings: Its attributes that are numbers, text, None or lists and tuples of them.
      has_hooks: Whether functions were registered to be called in its forward pass.
    """

    class_name: str
    settings: dict[str, Any]
    has_hooks: bool


class Module:
    """Stands in for a class of modules; keeps the state.

    Attributes:
      class_name: Full name of the class.
      state: Attributes of the module.
    """

    class_name = ""
    state: Mapping[str, Any] = {}

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, dict):
            raise NotData(f"a {self.class_name} without a state")
        self.state = state


def _module_class(kind: str, module_class: Any, *source: object) -> Any:
    """Stands in for nothing: returns the class that a persistent id names."""
    if not (isinstance(module_class, type) and issubclass(module_class, Module)):
        raise NotData("a module of no class")
    return module_class


def _no_backend() -> None:
    """Stands in for what modules kept of the library below PyTorch before 1.5."""


def module_stand_ins() -> dict[str, Any]:
    """Returns {full name: stand-in} for all classes of modules that are read."""
    names: dict[str, Any] = {
        f"{package}.{name}": type(name, (Module,), {"class_name": f"{package}.{name}"})
        for package, classes in _CLASSES.items()
        for name in classes
    }
    names[".".join(NAME)] = _module_class
    names["torch.nn.backends.thnn._get_thnn_function_backend"] = _no_backend
    return names


def walk(module: Module) -> Iterator[tuple[str, ModuleNode, dict[str, Any]]]:
    """Yields the dotted name of each module in one, itself first; what it is, and its arrays.

    Args:
      module: The outermost module, whose name is "".

    Raises:
      NotData: Modules contain themselves, or other than modules.
    """
    yield from _walk(module, ())


def _walk(module: Any, words: tuple[str, ...]) -> Iterator[tuple[str, ModuleNode, dict[str, Any]]]:
    name = ".".join(words)
    if not isinstance(module, Module) or len(words) > _DEEPEST:
        raise NotData(f"a module with another thing than modules in it, {name!r}")
    state = module.state
    kept: dict[str, dict[str, Any]] = {}
    for attribute in ("_parameters", "_buffers", "_modules"):
        content = state.get(attribute, {})
        if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
            raise NotData(f"a module without {attribute}, {name!r}")
        kept[attribute] = {key: value for key, value in content.items() if value is not None}
    settings = {key: value for key, value in state.items() if _is_plain(value)}
    has_hooks = any(state.get(hooks) for hooks in _HOOKS)
    node = ModuleNode(module.class_name, settings, has_hooks)
    yield name, node, kept["_parameters"] | kept["_buffers"]
    for key, inner in kept["_modules"].items():
        yield from _walk(inner, (*words, key))


def _is_plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(item is None or isinstance(item, _PLAIN) for item in value)
    return value is None or isinstance(value, _PLAIN)
