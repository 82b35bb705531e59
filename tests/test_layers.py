"""The house holds: which room may import which, no circles, and no torch where none is needed."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import attnbench

ROOT = Path(attnbench.__file__).parent

# Each room and the rooms below it that it may use. `modules`, `metrics` and `report` do not know each other.
ALLOWED = {
    "core": set(),
    "modules": {"core"},
    "metrics": {"core"},
    "report": {"core"},
    "targets": {"modules", "metrics", "core"},
    "engine": {"targets", "modules", "metrics", "core"},
    "cli": {"commands", "core"},
    "commands": {"engine", "targets", "metrics", "report", "core"},
    "api": {"engine", "metrics", "report", "core"},
    "__main__": {"cli"},
    "__init__": set(),
}


def room(module: str) -> str:
    """`attnbench.core.case` -> `core`."""
    return [*module.split("."), "__init__"][1]


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


FILES = sorted(ROOT.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_each_room_uses_only_the_rooms_below_it(path: Path) -> None:
    own = path.relative_to(ROOT).parts[0].removesuffix(".py")
    used = {room(name) for name in imports(path) if name.startswith("attnbench.")} & set(ALLOWED)
    assert used - {own} <= ALLOWED[own]


@pytest.mark.parametrize("path", sorted((ROOT / "core").glob("*.py")), ids=lambda path: path.name)
def test_the_core_needs_the_standard_library_alone(path: Path) -> None:
    outside = {name.split(".")[0] for name in imports(path)} - set(sys.stdlib_module_names) - {"attnbench"}
    assert not outside


@pytest.mark.parametrize("path", sorted((ROOT / "report").glob("*.py")), ids=lambda path: path.name)
def test_the_report_wing_never_names_torch(path: Path) -> None:
    assert "torch" not in {name.split(".")[0] for name in imports(path)}


def test_no_import_goes_in_a_circle() -> None:
    """Counted over imports at the top of a file: one inside a function cannot close a circle at import time."""
    graph: dict[str, set[str]] = {}
    for path in FILES:
        name = ".".join(["attnbench", *path.relative_to(ROOT).with_suffix("").parts])
        tree = ast.parse(path.read_text())
        tree.body = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
        graph[name] = {
            node.module for node in tree.body if isinstance(node, ast.ImportFrom) and node.module in _names()
        }
    state: dict[str, int] = {}

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert state.get(name) != 1, f"import circle: {' > '.join((*trail, name))}"
        if state.get(name) == 2:
            return
        state[name] = 1
        for below in graph[name]:
            visit(below, (*trail, name))
        state[name] = 2

    for name in graph:
        visit(name, ())


def _names() -> set[str]:
    return {".".join(["attnbench", *path.relative_to(ROOT).with_suffix("").parts]) for path in FILES}


MEASURED = ["run", "-m", "se", "--res", "4", "--metrics", "params", "-q"]  # which its worker does, and it alone


@pytest.mark.parametrize(
    "command",
    [["--help"], ["list"], ["show", "self_attn"], ["run", "--help"], ["doctor", "--help"], ["--version"],
     ["suite", "list"], ["check", "--help"], ["ab", "--help"], ["baseline", "update", "--help"], MEASURED],
)  # fmt: skip
def test_what_needs_no_torch_loads_no_torch(command: list[str], tmp_path: Path) -> None:
    code = (
        "import sys; from attnbench.cli import _code; sys.argv = ['attnbench', *sys.argv[1:]]; code = _code();"
        "heavy = {'torch', 'pandas', 'numpy', 'fvcore', 'matplotlib'} & set(sys.modules);"
        "sys.exit(f'loaded {heavy}' if heavy else code)"
    )
    done = subprocess.run([sys.executable, "-c", code, *command], capture_output=True, text=True, timeout=120,
                          cwd=tmp_path)  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_every_public_name_in_all_is_there() -> None:
    for path in FILES:
        tree = ast.parse(path.read_text())
        exported = [
            ast.literal_eval(node.value)
            for node in tree.body
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
        ]
        defined = {getattr(node, "name", None) for node in tree.body}
        for node in tree.body:
            if isinstance(node, ast.ImportFrom):
                defined |= {alias.name for alias in node.names}
            if isinstance(node, ast.Assign | ast.AnnAssign):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                defined |= {name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)}
        missing = [name for names in exported for name in names if name not in defined]
        assert not missing, f"{path.name}: {missing}"
