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


@pytest.mark.parametrize(
    ("group", "files", "cpus"),
    [
        ("0::/", {"cpu.max": "150000 100000\n"}, 2),
        ("0::/", {"cpu.max": "max 100000\n"}, 64),
        ("0::/", {"cpu.max": "1000 100000\n"}, 1),
        ("0::/", {}, 64),
        # SLURM's limit is on the job, and not on the step in it.
        ("0::/job/step", {"job/cpu.max": "400000 100000", "job/step/cpu.max": "max 100000"}, 4),
        ("0::/outside/of/the/container", {"cpu.max": "300000 100000"}, 3),
        (
            "5:memory:/a\n4:cpu,cpuacct:/docker/b\n0::/",
            {"cpu/docker/b/cpu.cfs_quota_us": "50000", "cpu/docker/b/cpu.cfs_period_us": "10000"},
            5,
        ),
        ("1:cpu:/", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 64),
        ("10:cpuset:/", {"cpu/cpu.cfs_quota_us": "1", "cpu/cpu.cfs_period_us": "1"}, 64),
    ],
)
def test_cpus_are_those_of_the_quota(
    group: str, files: dict[str, str], cpus: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The files of both versions of control groups, as the kernel documents them."""
    (tmp_path / "cgroup").write_text(f"{group}\n")
    for name, text in files.items():
        file = tmp_path / "sys" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    monkeypatch.setattr(machine, "_CONTROL_GROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(machine, "_CONTROL_GROUP_FILES", tmp_path / "sys")
    monkeypatch.setattr("os.sched_getaffinity", lambda process: set(range(64)))
    assert machine.count_cpus() == cpus


def test_software_is_named_with_its_versions() -> None:
    assert machine.software("numpy") == f"numpy {np.__version__}"
    assert machine.python_and("numpy") == (
        f"python {platform.python_version()}, numpy {np.__version__}"
    )


def test_importing_it_imports_no_jax() -> None:
    program = "import flax_densenet.machine, sys; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0
