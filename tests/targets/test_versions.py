"""Two versions of the same code in one process: each is built of its own files, and neither sees the other's."""

import importlib
import json
import shutil
import sys
import time
from collections.abc import Iterator
from importlib.util import spec_from_file_location
from pathlib import Path
from typing import Any

import pytest
import torch

from attnbench.core.errors import AbsentError, UsageError, VersionsClash
from attnbench.targets import versions
from attnbench.targets.sources import locate
from attnbench.targets.state import of_python
from attnbench.targets.version_clash import clash, own_code_only
from attnbench.targets.versions import PRESENT, Version, active_version

MODULE = """
import torch
{imports}
class Mine(torch.nn.Module):
    def forward(self, x):
        {lazy}
        return x * {value}
"""


def module(value: str, imports: str = "", lazy: str = "pass") -> str:
    return MODULE.format(value=value, imports=imports, lazy=lazy)


def written(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Version]:
    """A version whose top is the working folder; what the process was is set back afterwards."""
    top, root = tmp_path / "top", tmp_path / "root"
    top.mkdir(), root.mkdir()
    monkeypatch.chdir(top)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(of_python, "_LOOKED_IN", [])
    monkeypatch.setattr(versions._STATE, "slices", {})
    finders = list(sys.meta_path)
    yield Version(top.resolve(), root.resolve())
    assert sys.meta_path == finders
    assert not [folder for folder in sys.path if folder.startswith(str(root))]
    packages = {name.partition(".")[0] for name, module in sys.modules.items() if str(tmp_path) in repr(module)}
    for name in [name for name in sys.modules if name.partition(".")[0] in packages]:
        del sys.modules[name]


def factory(version: Version, text: str) -> Any:
    with version.active():
        return locate(text).factory


def result(version: Version, made: Any) -> float:
    with version.active():
        return made()(torch.ones(())).item()  # type: ignore[no-any-return]


def both(base: Version, text: str, head_first: bool = True) -> tuple[Any, Any]:
    """The classes of head and base, loaded in that order or the other."""
    order = [PRESENT, base] if head_first else [base, PRESENT]
    made = {version: factory(version, text) for version in order}
    return made[PRESENT], made[base]


@pytest.mark.parametrize("head_first", [True, False])
def test_a_file_and_the_helpers_that_it_imports(base: Version, head_first: bool) -> None:
    for root, value in ((base.top, 2), (base.root, 3)):
        written(root, {
            "sub/mine.py": module("twice.factor(late)", "import twice", "import late"),
            "sub/twice.py": "import more\ndef factor(late): return more.FACTOR * late.FACTOR\n",
            "sub/more.py": f"FACTOR = {value}\n",
            "sub/late.py": f"FACTOR = 1{value}\n",
        })  # fmt: skip
    head, other = both(base, "sub/mine.py:Mine", head_first)
    assert head is not other
    files = [sys.modules["attnbench_user_mine"].__file__, other.forward.__code__.co_filename]
    assert files == [str(base.top / "sub/mine.py"), str(base.root / "sub/mine.py")]
    for _ in range(2):
        assert (result(PRESENT, head), result(base, other)) == (24, 39)
    assert sys.modules["late"].FACTOR == 12
    with base.active():
        assert sys.modules["late"].FACTOR == 13
        assert factory(base, "sub/mine.py:Mine") is other
        with PRESENT.active():
            assert sys.modules["more"].FACTOR == 2
        assert active_version() == base
    assert factory(PRESENT, str(base.top / "sub/mine.py") + ":Mine") is head


@pytest.mark.parametrize("src", ["", "src/"])
def test_a_package_of_modules_that_import_each_other(base: Version, src: str) -> None:
    sys.path.insert(0, str(base.top / src))
    for root, value in ((base.top, 2), (base.root, 3)):
        written(root, {
            f"{src}apkg/__init__.py": "from .core import Mine\n",
            f"{src}apkg/core.py": module("value()", "from apkg.parts.value import value", "from . import lazy"),
            f"{src}apkg/lazy.py": "",
            f"{src}apkg/parts/value.py": f"""
def value():
    from .. import lazy
    import apkg
    return {value} if apkg.lazy is lazy else 0
""",
        })  # fmt: skip
    head, other = both(base, "apkg.core:Mine")
    assert head is not other
    assert (result(PRESENT, head), result(base, other)) == (2, 3)
    import apkg  # type: ignore[import-not-found]

    with base.active():
        ours = importlib.import_module("apkg")
        assert Path(ours.parts.value.__file__).is_relative_to(base.root)
    assert Path(apkg.parts.value.__file__).is_relative_to(base.top)


def test_a_module_that_the_version_lacks_is_not_found_there(base: Version) -> None:
    sys.path.insert(0, str(base.top))
    written(base.top, {"apkg/__init__.py": "", "apkg/new.py": "", "only_there.py": "", "mine.py": module("1")})
    written(base.root, {"apkg/__init__.py": "", "gone.py": ""})
    importlib.import_module("apkg.new")
    with base.active():
        for name in ("apkg.new", "only_there"):
            with pytest.raises(ModuleNotFoundError):
                importlib.import_module(name)
        importlib.import_module("gone")
        with pytest.raises(AbsentError, match=r"mine.py does not exist in"):
            locate("mine.py:Mine")
        with pytest.raises(AbsentError, match=r"only_there does not import"):
            locate("only_there:Mine")
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("gone")


def test_a_class_that_the_version_lacks(base: Version) -> None:
    written(base.top, {"mine.py": module("1") + "class New(Mine): pass\n"})
    written(base.root, {"mine.py": module("1")})
    factory(PRESENT, "mine.py:New")
    with pytest.raises(AbsentError, match="has no 'New'"):
        factory(base, "mine.py:New")


class Editable:
    """As setuptools writes it for `pip install --editable`: a package's name and where it is."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name, self.folder = name, folder

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name == self.name:
            return spec_from_file_location(name, self.folder / "__init__.py")
        return None


def test_a_package_that_an_editable_install_maps(base: Version, monkeypatch: pytest.MonkeyPatch) -> None:
    for root, value in ((base.top, 2), (base.root, 3)):
        written(root, {"code/__init__.py": "from .core import Mine\n", "code/core.py": module(str(value))})
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, Editable("mapped", base.top / "code")])
    head, other = both(base, "mapped.core:Mine")
    assert (result(PRESENT, head), result(base, other)) == (2, 3)
    sys.meta_path.pop()


def test_a_package_that_was_moved_into_src_since(base: Version) -> None:
    sys.path.insert(0, str(base.top / "src"))
    written(base.top, {"src/apkg/__init__.py": module("2")})
    written(base.root, {"apkg/__init__.py": module("3")})
    head, other = both(base, "apkg:Mine")
    assert (result(PRESENT, head), result(base, other)) == (2, 3)


def test_a_namespace_package_that_lies_partly_elsewhere(base: Version, tmp_path: Path) -> None:
    sys.path[:0] = [str(base.top), str(tmp_path / "else")]
    written(tmp_path / "else", {"spread/other.py": "VALUE = 10\n"})
    for root, value in ((base.top, 2), (base.root, 3)):
        written(root, {"spread/mine.py": module(f"(other.VALUE + {value})", "from spread import other")})
    head, other = both(base, "spread.mine:Mine")
    assert (result(PRESENT, head), result(base, other)) == (12, 13)
    shared = sys.modules["spread.other"]
    with base.active():
        assert sys.modules["spread.other"] is shared


def test_installed_packages_are_shared(base: Version) -> None:
    for folder in ("env", "env/lib/site-packages"):
        sys.path.insert(0, str(base.top / folder))
    written(base.top, {"env/pyvenv.cfg": "", "env/direct.py": "", "env/lib/site-packages/installed.py": ""})
    names = ("direct", "installed")
    shared = [importlib.import_module(name) for name in names]
    with base.active():
        assert [importlib.import_module(name) for name in names] == shared
    assert not base.holds(str(base.root / "env/lib/site-packages/installed.py"))
    assert base.holds(str(base.root / "own.py"))


def test_a_link_to_the_repository(base: Version, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(base.top)
    sys.path.insert(0, str(tmp_path / "link"))
    for root, value in ((base.top, 2), (base.root, 3)):
        written(root, {"linked.py": module(str(value))})
    head, other = both(base, "linked:Mine")
    assert (result(PRESENT, head), result(base, other)) == (2, 3)


def test_what_a_file_adds_to_the_path_is_looked_in_where_the_version_is(base: Version) -> None:
    for root, value in ((base.top, 2), (base.root, 3)):
        written(root, {
            "mine.py": module("FACTOR()", "import sys, os; sys.path.insert(0, os.path.dirname(__file__) + '/more')\n"
                                          "from beside import FACTOR"),
            "more/beside.py": f"def FACTOR():\n    import beside_late; return {value}\n",
            "more/beside_late.py": "",
        })  # fmt: skip
    head, other = both(base, "mine.py:Mine", head_first=False)
    assert (result(base, other), result(PRESENT, head)) == (3, 2)


def test_built_ins_of_attnbenchs_own_repository(base: Version) -> None:
    home = Path(importlib.import_module("attnbench").__file__ or "").parent
    shutil.copytree(home / "modules", base.root / "attnbench" / "modules", ignore=shutil.ignore_patterns("*.pyc"))
    version = Version(home.parent, base.root)
    head, other = both(version, "se")
    assert Path(head.forward.__code__.co_filename) == home / "modules" / "channel.py"
    assert Path(other.forward.__code__.co_filename) == base.root / "attnbench" / "modules" / "channel.py"
    assert importlib.import_module("attnbench").modules is sys.modules["attnbench.modules"]
    with version.active():
        assert importlib.import_module("attnbench").modules is sys.modules["attnbench.modules"]
        assert version.holds(sys.modules["attnbench.modules"].__file__)
        assert importlib.import_module("attnbench.core.case").__file__ == str(home / "core" / "case.py")


def test_a_compiled_module_is_held_once(base: Version) -> None:
    import _json  # stands for a compiled module: a copy of it loads as well

    if not (where := getattr(_json, "__file__", None)):
        pytest.skip("this Python has its extensions built in")
    for root in (base.top, base.root):
        shutil.copy(where, root)
        written(root, {"mine.py": module("1", "import _json")})
    kept = sys.modules.pop("_json")
    try:
        sys.path.insert(0, str(base.top))
        factory(PRESENT, "mine.py:Mine")
        with pytest.raises(VersionsClash, match="_json is compiled"):
            factory(base, "mine.py:Mine")
    finally:
        sys.modules["_json"] = kept


OPERATOR = """
import torch
@torch.library.custom_op("attnbench_versions::{name}", mutates_args=())
def scaled(x: torch.Tensor) -> torch.Tensor:
    return x * {value}
"""


def test_an_operator_that_both_define_is_a_clash(base: Version) -> None:
    for root, value in ((base.top, 2), (base.root, 3)):
        written(root, {"mine.py": OPERATOR.format(name="twice", value=value) + module("1")})
    factory(PRESENT, "mine.py:Mine")
    with pytest.raises(VersionsClash, match="both define the operator attnbench_versions::twice"):
        factory(base, "mine.py:Mine")


def test_a_clash_is_known_at_the_latest_when_the_first_is_entered_again(base: Version) -> None:
    for root, value in ((base.top, 2), (base.root, 3)):
        written(root, {"mine.py": OPERATOR.format(name="thrice", value=value) + module("1")})
    factory(base, "mine.py:Mine")
    factory(PRESENT, "mine.py:Mine")
    with pytest.raises(VersionsClash, match="both define the operator"), base.active():
        raise AssertionError("which is never reached")
    assert active_version() is PRESENT


@pytest.mark.parametrize(
    "statement",
    [
        'torch.library.Library("attnbench_v1", "DEF")',
        'LIB = torch.library.Library("attnbench_v2", "FRAGMENT"); LIB.define("f(Tensor x) -> Tensor")',
    ],
)
def test_a_library_of_operators_defined_twice_is_a_clash(base: Version, statement: str) -> None:
    for root in (base.top, base.root):
        written(root, {"mine.py": module("1", f"LIBRARY = {statement}".replace("LIBRARY = LIB", "LIB"))})
    factory(PRESENT, "mine.py:Mine")
    with pytest.raises(VersionsClash, match="registered for the whole process"):
        factory(base, "mine.py:Mine")


def test_a_mistake_of_the_file_is_no_clash(base: Version) -> None:
    written(base.top, {"mine.py": module("1")})
    written(base.root, {"mine.py": "1 / 0\n"})
    factory(PRESENT, "mine.py:Mine")
    with pytest.raises(UsageError, match="ZeroDivisionError"):
        factory(base, "mine.py:Mine")
    assert clash(ValueError("no")) is None


def test_a_registry_that_forgets_the_first_is_found_out_by_a_step(
    base: Version, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = type(sys)("attnbench_registry")
    monkeypatch.setitem(sys.modules, "attnbench_registry", registry)
    for root, value in ((base.top, 2), (base.root, 3)):
        kernel = f"def kernel(): return {value}\nattnbench_registry.kernel = kernel"
        written(root, {"mine.py": module("attnbench_registry.kernel()", f"import attnbench_registry\n{kernel}")})
    head, other = both(base, "mine.py:Mine")
    assert registry.__dict__["kernel"]() == 3  # of the one that was loaded last
    with own_code_only(base, PRESENT):
        assert result(base, other) == 3
    with pytest.raises(VersionsClash, match=r"runs code of the other, .*mine\.py"), own_code_only(PRESENT, base):
        result(PRESENT, head)


def test_a_version_crosses_a_pipe(base: Version) -> None:
    for version in (base, PRESENT):
        assert Version.from_dict(json.loads(json.dumps(version.to_dict()))) == version
    assert Version.from_dict(None) is PRESENT


def test_entering_and_leaving_is_cheap_once_loaded(base: Version) -> None:
    """It surrounds blocks of some milliseconds. The bound is far above the 20 microseconds that it takes here."""
    for root in (base.top, base.root):
        written(root, {"mine.py": module("1")} | {f"apkg/m{each}.py": "" for each in range(50)})
        written(root, {"apkg/__init__.py": "from . import " + ", ".join(f"m{each}" for each in range(50))})
    sys.path.insert(0, str(base.top))
    for version in (PRESENT, base):
        with version.active():
            importlib.import_module("apkg")
    took = []
    for _ in range(50):
        start = time.perf_counter()
        with base.active():
            pass
        took.append(time.perf_counter() - start)
    assert min(took[1:]) < 1e-3


def test_compiled_code_finds_the_modules_of_its_version(base: Version) -> None:
    """Dynamo guards on modules, and remembers them by their names."""
    sys.path.insert(0, str(base.top))
    for root, value in ((base.top, 2), (base.root, 3)):
        written(root, {
            "bpkg/__init__.py": "",
            "bpkg/helper.py": f"C = {value}\ndef scaled(x): return x * C\n",
            "bpkg/mine.py": module("helper.C + helper.scaled(x)", "from bpkg import helper"),
        })  # fmt: skip
    made = both(base, "bpkg.mine:Mine")
    for version, cls in zip((PRESENT, base), made, strict=True):
        with version.active():
            compiled = torch.compile(cls(), backend="eager", fullgraph=True)
            assert compiled(torch.ones(())).item() == (4 if version is PRESENT else 6)
