"""What importing and starting the package needs."""

import importlib
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import flax_densenet
import flax_densenet.training
import flax_densenet.weights
from flax_densenet import cli
from flax_densenet.cli.main import _COMMANDS

LAZY_PACKAGES = (flax_densenet, flax_densenet.weights, flax_densenet.training)
# Each takes a large part of a second, or more, to import.
SLOW = {
    *("jax", "flax", "optax", "orbax", "grain", "tensorstore", "torch", "torch_reference"),
    *("tensorflow", "tensorflow_datasets", "matplotlib", "scipy", "sklearn"),
}


def slow_modules_after(program: str) -> set[str]:
    program += f"\nimport sys; print('\\n' + ' '.join({SLOW} & set(sys.modules)))"
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    return set(result.stdout.splitlines()[-1].split())


def test_importing_the_package_imports_nothing_slow() -> None:
    assert slow_modules_after("import flax_densenet, flax_densenet.training") == set()


def test_using_every_name_imports_neither_torch_nor_tensorflow() -> None:
    program = "from flax_densenet import *; from flax_densenet.training import *"
    modules = slow_modules_after(program)
    assert "jax" in modules
    assert not {"torch", "torch_reference", "tensorflow", "tensorflow_datasets"} & modules


def test_importing_the_command_line_imports_nothing_slow() -> None:
    names = (file.stem for file in Path(cli.__file__).parent.glob("[a-z]*.py"))
    assert slow_modules_after(f"from flax_densenet.cli import {', '.join(names)}") == set()


STUDIES = ("growth_rate", "gradient_flow", "memory", "feature_reuse")
HELP = [[], *([name] for name in _COMMANDS), *(["study", name] for name in STUDIES)]


@pytest.mark.parametrize("command", HELP)
def test_help_waits_for_nothing_slow(command: list[str]) -> None:
    program = (
        "import contextlib\n"
        "from flax_densenet.cli.main import main\n"
        f"with contextlib.suppress(SystemExit): main({[*command, '--help']})"
    )
    assert slow_modules_after(program) == set()


def test_help_of_train_py_waits_for_nothing_slow() -> None:
    program = (
        "import contextlib, runpy, sys\n"
        "sys.argv = ['train.py', '--help']\n"
        "with contextlib.suppress(SystemExit): runpy.run_path('train.py', run_name='__main__')"
    )
    assert slow_modules_after(program) == set()


@pytest.mark.parametrize("package", LAZY_PACKAGES)
def test_lazy_package_has_every_name_that_it_lists(package: ModuleType) -> None:
    for name in package.__all__:
        defined = getattr(package, name)
        assert name in dir(package)
        home = getattr(defined, "__module__", None)  # a table has none
        if isinstance(home, str) and home.startswith("flax_densenet"):
            assert getattr(importlib.import_module(home), name) is defined


def test_packages_in_the_package_are_found() -> None:
    program = "import flax_densenet; flax_densenet.weights.__all__, flax_densenet.training.__all__"
    assert slow_modules_after(program) == set()


@pytest.mark.parametrize("package", LAZY_PACKAGES)
def test_unknown_name_is_an_attribute_error(package: ModuleType) -> None:
    with pytest.raises(AttributeError, match=f"{package.__name__} .*DensNet"):
        package.DensNet  # noqa: B018


def test_package_is_a_program() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "flax_densenet", "--help"], capture_output=True, text=True
    )
    assert result.returncode == 0
    assert result.stdout.startswith("usage: flax-densenet COMMAND")
    assert result.stderr == ""
