"""Tests of flax_densenet/machine.py with a pretended /proc/cpuinfo."""

import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from flax_densenet import machine

CPU_INFO = """\
processor\t: 0
model name\t: Some CPU: 3 GHz
flags\t\t: fpu sse2
processor\t: 1
model name\t: Some CPU: 3 GHz
flags\t\t: fpu sse2
"""


def test_processor_is_named_as_the_system_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "cpuinfo"
    file.write_text(CPU_INFO)
    monkeypatch.setattr(machine, "_CPU_INFO", file)
    assert machine.cpu_model() == "Some CPU: 3 GHz"
    assert machine.cpu_info("flags", "Features") == ["flags\t\t: fpu sse2"] * 2


def test_without_the_file_the_architecture_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "_CPU_INFO", tmp_path / "absent")
    monkeypatch.setattr(platform, "processor", lambda: "")
    assert machine.cpu_info("flags") == []
    assert machine.cpu_model() == platform.machine()


def test_software_is_named_with_its_versions() -> None:
    assert machine.software("numpy") == f"numpy {np.__version__}"
    assert machine.python_and("numpy") == (
        f"python {platform.python_version()}, numpy {np.__version__}"
    )


def test_importing_it_imports_no_jax() -> None:
    program = "import flax_densenet.machine, sys; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0
