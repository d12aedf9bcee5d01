"""Sphinx builds these pages and the reference: `sphinx-build -W -b html docs docs/_build`."""

from typing import Any

import flax_densenet

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


def setup(app: Any) -> None:
    """Registers what is left out of the reference."""
    app.connect("autodoc-skip-member", _is_generated)
    app.connect("autodoc-process-signature", _without_flax_fields)
