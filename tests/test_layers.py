"""Imports only go down. The house is drawn in docs/explanation/architecture.md.

Every import of every file is read, also those inside functions; an import under ``if TYPE_CHECKING:`` runs never and
may look up.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import autoreg

PACKAGE = Path(autoreg.__file__).parent

FLOORS: dict[int, str] = {
    7: "__main__ cli cli_check cli_fit cli_plugins completion commands console options",
    6: "arguments auto base estimators fitting neural plans recording report rounds scaffold testing",
    5: "blueprints budget builtins companion_blueprints describe manifest model modelformat persistence",
    4: "companions ensemble grouping guards heldout identity journal libraries limits lossparts modelparts pace parts "
    "problem recall records scoring search selection tracking",
    3: "arithmetic batches chains inputs member parameters processes schedules specs stacking stopping threads "
    "torch_optim torch_runner torch_trials torch_worker training trees updates",
    2: "installed names observers plugins registry tracing",
    1: "columns dates delimited encoding folds frames kinds quantities readers tables targets tasks values writers",
    0: "errors gradients hookspecs results space strictjson",
}
"""Modules and packages of ``autoreg/`` by floor. A new module gets its place here and in the page."""

FLOOR_OF = {room: floor for floor, rooms in FLOORS.items() for room in rooms.split()}

WITHOUT_TORCH = {*FLOORS[0].split(), *FLOORS[1].split(), *FLOORS[2].split(), "report"} - {"gradients"}
"""Rooms that handle numbers and names, never tensors."""

TORCH_WHEN_USED = {*FLOORS[7].split(), "persistence"}
"""Rooms that a light command walks through: torch is imported inside functions only."""


IMPORTING_CALLS = {"import_module", "importlib.import_module", "__import__"}


@dataclass(frozen=True)
class Import:
    """One import of ours or of torch; ``room`` is the module, or the package, directly under autoreg."""

    target: str
    line: int
    in_function: bool = False

    @property
    def room(self) -> str:
        return self.target.split(".")[1] if self.target.startswith("autoreg.") else ""


def imports_of(source: str, module: str = "autoreg.example") -> Iterator[Import]:
    """Yield every import of autoreg or torch that can run, with the public names resolved to their homes."""
    for statement in ast.parse(source).body:
        yield from _visit(statement, module, in_function=False)


def _visit(node: ast.AST, module: str, in_function: bool) -> Iterator[Import]:
    for target in _targets(node, module):
        if target.split(".")[0] in ("autoreg", "torch"):
            yield Import(target, getattr(node, "lineno", 0), in_function)
    children = list(ast.iter_child_nodes(node))
    if isinstance(node, ast.If) and _is_type_checking(node.test):
        children = list(node.orelse)
    in_function = in_function or isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
    for child in children:
        yield from _visit(child, module, in_function)


def _is_type_checking(test: ast.expr) -> bool:
    return ast.unparse(test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def _targets(node: ast.AST, module: str) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        origin = node.module or ""
        if node.level:
            package = module.split(".")[: -node.level]
            origin = ".".join([*package, *([origin] if origin else [])])
        if origin == "autoreg":
            return [_home(alias.name) for alias in node.names]
        return [origin]
    if isinstance(node, ast.Call) and ast.unparse(node.func) in (
        "import_module",
        "importlib.import_module",
        "__import__",
    ):
        return [a.value for a in node.args[:1] if isinstance(a, ast.Constant) and isinstance(a.value, str)]
    return []


def _home(name: str) -> str:
    """Where ``from autoreg import name`` leads."""
    if name == "hookimpl":
        return "autoreg.hookspecs"
    return autoreg._HOMES.get(name, f"autoreg.{name}" if name in FLOOR_OF else "autoreg")


def complaints(source: str, module: str) -> list[str]:
    """Say what is wrong with the imports of one file."""
    room = module.split(".")[1]
    here = FLOOR_OF[room]
    found = []
    for item in imports_of(source, module):
        where = f"{module} line {item.line}"
        if item.target.split(".")[0] == "torch":
            if room in WITHOUT_TORCH or module == "autoreg.builtins.strategies":
                found.append(f"{where}: imports torch; this room handles names and numbers only")
            elif room in TORCH_WHEN_USED and not item.in_function:
                found.append(f"{where}: imports torch at its top; import it in the function that needs it")
        elif item.room and item.room not in FLOOR_OF:
            found.append(f"{where}: imports {item.target}, which has no floor yet")
        elif item.room == "builtins" and room != "builtins":
            found.append(f"{where}: imports {item.target}; built-ins are found as plugins, by name, in the registry")
        elif item.room and FLOOR_OF[item.room] > here:
            found.append(f"{where}: floor {here} imports {item.target} from floor {FLOOR_OF[item.room]}")
        elif here == 3 and item.room in ("registry", "plugins"):
            found.append(f"{where}: the engine knows no names; hand it the function or the module")
    return found


def modules() -> dict[str, Path]:
    """Every module of the package but its front, ``autoreg/__init__.py``, by full name."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = [part for part in path.relative_to(PACKAGE.parent).with_suffix("").parts if part != "__init__"]
        if len(parts) > 1:
            found[".".join(parts)] = path
    return found


@pytest.mark.parametrize("module", modules())
def test_every_module_has_a_floor(module: str) -> None:
    assert module.split(".")[1] in FLOOR_OF, f"{module}: add it to FLOORS in tests/test_layers.py and to the page"


@pytest.mark.parametrize("module", [name for name in modules() if name.split(".")[1] in FLOOR_OF])
def test_imports_go_down(module: str) -> None:
    path = modules()[module]
    full = f"{module}.__init__" if path.name == "__init__.py" else module
    assert complaints(path.read_text(encoding="utf-8"), full) == []


def test_every_floor_holds_what_is_there() -> None:
    assert sorted(FLOOR_OF) == sorted({module.split(".")[1] for module in modules()})


def test_every_room_is_on_the_page() -> None:
    page = (PACKAGE.parent / "docs" / "explanation" / "architecture.md").read_text(encoding="utf-8")
    assert [room for room in FLOOR_OF if f"`{room}`" not in page] == []


def test_the_front_imports_words_only() -> None:
    source = (PACKAGE / "__init__.py").read_text(encoding="utf-8")
    assert {item.room for item in imports_of(source, "autoreg.__init__")} <= set(FLOORS[0].split())


def test_no_circle_of_imports() -> None:
    """On one floor, two modules may need each other at most inside a function."""
    names = modules()
    graph = {}
    for name, path in names.items():
        full = f"{name}.__init__" if path.name == "__init__.py" else name
        imports = imports_of(path.read_text(encoding="utf-8"), full)
        targets = {item.target for item in imports if not item.in_function}
        graph[name] = {target for target in targets if target in names and target != name}
    assert list(TopologicalSorter(graph).static_order())


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("autoreg.registry", "from autoreg.search import evaluate"),
        ("autoreg.registry", "import autoreg.search"),
        ("autoreg.registry", "from autoreg import search"),
        ("autoreg.registry", "from . import search"),
        ("autoreg.registry", "from .search import evaluate"),
        ("autoreg.registry", "from autoreg import AutoRegressor"),
        ("autoreg.registry", "def f():\n    from autoreg.search import evaluate"),
        ("autoreg.registry", "import importlib\nimportlib.import_module('autoreg.search')"),
        ("autoreg.registry", "if TYPE_CHECKING:\n    pass\nelse:\n    from autoreg.search import evaluate"),
        ("autoreg.report.page", "from ..cli import main"),
        ("autoreg.cli", "from autoreg.builtins.losses import squared_error"),
        ("autoreg.cli", "import torch"),
        ("autoreg.results", "def f():\n    import torch"),
        ("autoreg.builtins.strategies", "from torch import Tensor"),
        ("autoreg.training", "from autoreg.registry import Registry"),
        ("autoreg.training", "from autoreg.attic import thing"),
    ],
)
def test_a_wrong_import_is_seen(module: str, source: str) -> None:
    assert len(complaints(source, module)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("autoreg.registry", "from autoreg.errors import DataError"),
        ("autoreg.registry", "from autoreg.plugins import installed"),
        ("autoreg.registry", "if TYPE_CHECKING:\n    from autoreg.search import evaluate\n    import torch"),
        ("autoreg.builtins.losses", "from autoreg import hookimpl\nimport torch"),
        ("autoreg.builtins.losses", "from .activations import relu"),
        ("autoreg.cli", "def fit():\n    import torch\n    from autoreg import AutoRegressor"),
    ],
)
def test_a_right_import_is_not(module: str, source: str) -> None:
    assert complaints(source, module) == []
