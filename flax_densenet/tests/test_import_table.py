"""Who may import whom: the layers of the package, read from its source."""

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import flax_densenet

ROOT = Path(flax_densenet.__file__).parents[1]
# Each row may import the rows below it and, besides, what it names itself.
LAYERS: tuple[dict[str, set[str]], ...] = (
    {"cli": {"torch", "torch_reference"}},
    {
        "parity": {"torch", "torch_reference"},
        "study": {"summary"},
        "summary": set(),
        "bench": set(),
        "export": set(),
        "explanation": set(),
    },
    {"training": set()},
    {"weights": set()},
    {"data": set()},
    {"densenet": set()},
    {"implementations": set()},
    {"network": set()},
    {"download": {"files"}, "machine": set(), "pickles": set(), "pictures": set(), "sample": set()},
    {"allocator": set(), "cache": set(), "files": set(), "lock": set()},
    {"errors": set()},
)
REFERENCE = {"torch", "data", "errors", "network", "training.config"}
# Inside of functions alone: PyTorch is not needed for anything else there.
LAZY_TORCH = {
    f"flax_densenet.weights.{module}" for module in ("files.torch_files", "optimizer", "table")
}


def allowed() -> dict[str, set[str]]:
    """Returns what each part of the package may import."""
    table: dict[str, set[str]] = {}
    below: set[str] = set()
    for row in reversed(LAYERS):
        table |= {part: below | own for part, own in row.items()}
        below = below | set(row)
    return table


def modules(package: str) -> Iterator[tuple[str, ast.Module]]:
    for file in sorted((ROOT / package).rglob("*.py")):
        if "tests" not in file.relative_to(ROOT).parts:
            parts = file.relative_to(ROOT).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            yield name, ast.parse(file.read_text())


def imports(tree: ast.AST) -> Iterator[tuple[str, bool]]:
    """Yields every imported name, and whether that is done when the module is imported."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, True) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((f"{node.module}.{alias.name}", True) for alias in node.names)
        elif isinstance(node, ast.FunctionDef):
            yield from ((name, False) for name, _ in imports(node))
        elif not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"):
            yield from imports(node)


def part(name: str) -> str | None:
    """Returns the part of the package that a module belongs to; None for other packages."""
    if name.startswith("flax_densenet.__version__"):
        return None
    first, _, rest = name.partition(".")
    if first == "flax_densenet":
        return rest.partition(".")[0] or first
    return first if first in ("torch", "torch_reference") else None


def test_every_import_is_in_the_table() -> None:
    table = allowed()
    table |= {"__main__": {"cli"}, "flax_densenet": {"errors"}}
    for module, tree in modules("flax_densenet"):
        for name, _ in imports(tree):
            here, there = part(module), part(name)
            if there in (None, here) or (there == "torch" and module in LAZY_TORCH):
                continue
            assert there in table[here or ""], f"{module} imports {name}"


def test_the_reference_imports_what_both_share() -> None:
    for module, tree in modules("torch_reference"):
        for name, _ in imports(tree):
            there = part(name)
            shared = there in REFERENCE or name.startswith("flax_densenet.training.config.")
            assert there in (None, "torch_reference") or shared, f"{module} imports {name}"


def test_pytorch_is_imported_when_a_comparison_or_command_needs_it() -> None:
    for module, tree in modules("flax_densenet"):
        for name, at_import in imports(tree):
            if part(name) in ("torch", "torch_reference") and at_import:
                compares = module.startswith(
                    ("flax_densenet.parity.theirs", "flax_densenet.parity.torch_half")
                )
                assert compares, f"{module} imports {name} at once"


def test_no_modules_import_one_another_in_a_circle() -> None:
    known = {
        name for package in ("flax_densenet", "torch_reference") for name, _ in modules(package)
    }
    arrows: dict[str, set[str]] = defaultdict(set)
    for package in ("flax_densenet", "torch_reference"):
        for module, tree in modules(package):
            for name, at_import in imports(tree):
                target = name if name in known else name.rpartition(".")[0]
                if at_import and target in known and not module.startswith(f"{target}."):
                    arrows[module].add(target)
    done: set[str] = set()

    def visit(module: str, way: tuple[str, ...]) -> None:
        assert module not in way, " -> ".join((*way, module))
        if module not in done:
            for target in arrows[module]:
                visit(target, (*way, module))
            done.add(module)

    for module in sorted(arrows):
        visit(module, ())


def test_the_network_imports_no_more_than_its_twin() -> None:
    for module, tree in modules("flax_densenet"):
        if part(module) == "network":
            for name, _ in imports(tree):
                assert part(name) in (None, "network", "errors"), f"{module} imports {name}"
