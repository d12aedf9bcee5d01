"""What importing and starting the package needs."""

import subprocess
import sys


def test_neither_torch_nor_tensorflow_is_imported() -> None:
    program = (
        "import sys, flax_densenet, flax_densenet.training, flax_densenet.commands.main\n"
        "print(sorted({'jax', 'torch', 'tensorflow'} & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "['jax']"


def test_package_is_a_program() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "flax_densenet", "--help"], capture_output=True, text=True
    )
    assert result.returncode == 0
    assert result.stdout.startswith("usage: flax-densenet COMMAND")
    assert result.stderr == ""
