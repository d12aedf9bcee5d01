"""Sphinx builds these pages and the reference: `sphinx-build -W -b html docs docs/_build`.

The pages of the commands (`commands/`) are made of the commands' own `--help` in each build.
"""

import contextlib
import io
import os
from pathlib import Path
from typing import Any

import flax_densenet
from flax_densenet.cli.main import main

project = "flax-densenet"
author = "the flax-densenet authors"
version = release = flax_densenet.__version__

extensions = [
    "myst_parser",  # the pages are Markdown
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",  # docstrings are in Google's style
    "sphinx.ext.viewcode",
]
html_theme = "furo"
html_title = f"flax-densenet {version}"
exclude_patterns = ["_build", "examples"]
suppress_warnings = [
    "toc.not_included"
]  # tables of single studies and runs: their README links them

myst_heading_anchors = 3  # links to headings, as on GitHub
autodoc_mock_imports = ["onnx", "onnxruntime"]  # large, and not needed for docstrings
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints = "description"  # types beside the arguments, of those that are described
autodoc_typehints_description_target = "documented"
napoleon_use_ivar = True  # attributes once: dataclasses and NamedTuples list them anyway
default_role = (
    "py:obj"  # `DenseNet` in a docstring links to it, and is code if there is no such name
)


def _is_generated(
    app: Any, what: str, name: str, member: Any, skip: bool, options: Any
) -> bool | None:
    """Leaves out what a NamedTuple says of its fields; their class describes them."""
    return True if (getattr(member, "__doc__", None) or "").startswith("Alias for field") else None


def _without_flax_fields(
    app: Any, what: str, name: str, member: Any, options: Any, signature: str, returns: str
) -> tuple[str | None, str | None]:
    """Leaves out the two fields that Flax adds to every module."""
    added = ", parent=<flax.linen.module._Sentinel object>, name=None"
    return (signature and signature.replace(added, "")), returns


def _help(*words: str) -> str:
    """Returns what `flax-densenet WORDS --help` prints."""
    os.environ["COLUMNS"] = "100"
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        main([*words, "--help"])
    return "\n".join(line.rstrip() for line in printed.getvalue().splitlines())


def _listed(text: str, heading: str) -> dict[str, str]:
    """Returns names and descriptions of the list under a heading, such as "commands:"."""
    _, _, after = text.partition(f"\n{heading}\n")
    lines = after.partition("\n\n")[0].splitlines()
    return {name: rest for name, rest in (line.split(maxsplit=1) for line in lines)}


def _write_command_pages(app: Any) -> None:
    """Writes a page for each command, and one with a list of them."""
    directory = Path(app.srcdir) / "commands"
    directory.mkdir(exist_ok=True)
    overview = _help()
    commands = _listed(overview, "commands:")
    for name, description in commands.items():
        text = f"# flax-densenet {name}\n\n{description[0].upper()}{description[1:]}.\n\n"
        text += f"```text\n{_help(name)}\n```\n"
        if name == "study":
            for study, question in _listed(_help(name), "studies:").items():
                text += f"\n## {study}\n\n{question[0].upper()}{question[1:]}.\n\n"
                text += f"```text\n{_help(name, study)}\n```\n"
        _write_if_changed(directory / f"{name}.md", text)
    names = "\n".join(commands)
    text = f"# Commands\n\n```text\n{overview}\n```\n\n```{{toctree}}\n{names}\n```\n"
    _write_if_changed(directory / "index.md", text)


def _write_if_changed(path: Path, text: str) -> None:
    if not path.exists() or path.read_text() != text:
        path.write_text(text)


def setup(app: Any) -> None:
    """Registers the pages of the commands, and what is left out of the reference."""
    app.connect("builder-inited", _write_command_pages)
    app.connect("autodoc-skip-member", _is_generated)
    app.connect("autodoc-process-signature", _without_flax_fields)
