"""Whether two versions run the same code: what a docstring, a constant, a helper or a data file makes of the answer."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from attnbench.targets import versions
from attnbench.targets.code import code_of, same_code
from attnbench.targets.versions import Version

MINE = '''"""Mine."""
from apkg.near import near

class Mine:
    """An attention."""

    def forward(self, x, factor=2):
        """Scales."""
        return near(x) * factor  # the factor

    def empty(self):
        """Nothing."""
'''
NEAR = "from apkg.far import far\n\ndef near(x):\n    from apkg import late\n    return far(x) + 1\n"
FILES = {"apkg/__init__.py": "", "apkg/mine.py": MINE, "apkg/near.py": NEAR, "apkg/far.py": "def far(x): return x\n",
         "apkg/late.py": "", "apkg/other.py": "A = 1\n"}  # fmt: skip


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Version]:
    top, root = (tmp_path / "top").resolve(), (tmp_path / "root").resolve()
    for folder in (top, root):
        for name, text in FILES.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
    monkeypatch.setattr(sys, "path", [str(top), *sys.path])
    monkeypatch.setattr(versions._STATE, "slices", {})
    yield Version(top, root)
    for name in [name for name in sys.modules if name.partition(".")[0] == "apkg"]:
        del sys.modules[name]


def answer(base: Version, *also_changed: str) -> bool:
    """With a step run in each; the files that differ are found as git would."""
    head, codes = Version(base.top, base.top), []
    for version in (base, head):
        with version.active():
            importlib.import_module("apkg.mine").Mine().forward(1)
        codes.append(code_of(version))
    changed = {str(path.relative_to(root)) for root in (base.top, base.root) for path in root.rglob("*.py")}
    text = [{path: (root / path).read_text() if (root / path).exists() else None for path in changed}
            for root in (base.top, base.root)]  # fmt: skip
    return same_code(codes[0], codes[1], [*(path for path in changed if text[0][path] != text[1][path]), *also_changed])


def edited(folder: Path, name: str, before: str, after: str) -> None:
    text = (folder / name).read_text()
    assert before in text
    (folder / name).write_text(text.replace(before, after))


def test_the_closure_is_what_a_step_has_loaded(base: Version) -> None:
    assert answer(base)
    for version in (base, Version(base.top, base.top)):
        assert set(code_of(version)) == FILES.keys() - {"apkg/other.py"}


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("mine.py", '"""Mine."""', '"""Mine, and\nwhat it is."""\n'),
        ("mine.py", '        """Scales."""\n', ""),
        ("mine.py", '    """An attention."""\n', "    # none\n\n"),
        ("mine.py", '"""Nothing."""', "pass"),
        ("mine.py", "near(x) * factor", "(near(x)*factor)"),
        ("far.py", "def far", "# far\ndef far"),
        ("other.py", "A = 1", "A = 2"),
    ],
)
def test_what_only_readers_see_leaves_the_code_the_same(base: Version, name: str, before: str, after: str) -> None:
    edited(base.top / "apkg", name, before, after)
    assert answer(base)


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("mine.py", "factor=2", "factor=3"),
        ("mine.py", "    def forward", "    @staticmethod\n    def forward"),
        ("mine.py", "class Mine", "class Mine(object)"),
        ("near.py", "+ 1", "+ 2"),
        ("far.py", "return x", "return x + 0"),
        ("late.py", "", "A = 1"),
        ("__init__.py", "", "A = 1"),
    ],
)
def test_a_change_of_what_is_executed_is_one(base: Version, name: str, before: str, after: str) -> None:
    if "staticmethod" in after:
        edited(base.root / "apkg", name, "(self, x,", "(x,")
        edited(base.root / "apkg", name, "    def forward", after)
    else:
        edited(base.top / "apkg", name, before, after) if before else (base.top / "apkg" / name).write_text(after)
    assert not answer(base)


@pytest.mark.parametrize("reading", ["TEXT = __doc__", "import inspect; inspect.getsource", "# type: (int) -> int"])
def test_a_module_that_reads_itself_counts_by_the_letter(base: Version, reading: str) -> None:
    for folder in (base.top, base.root):
        edited(folder / "apkg", "far.py", "def far", f"{reading}\ndef far")
    assert answer(base)
    edited(base.top / "apkg", "far.py", "def far", "# far\ndef far")
    assert not answer(base)


def test_a_module_that_one_version_alone_has_loaded(base: Version) -> None:
    edited(base.root / "apkg", "near.py", "    from apkg import late\n", "    from apkg import late, other\n")
    edited(base.top / "apkg", "near.py", "    from apkg import late\n", "    from apkg import late\n")
    assert not answer(base)
    assert not same_code({"a.py": "1"}, {"a.py": "1", "b.py": "2"}, ["b.py"])
    assert same_code({"a.py": "1"}, {"a.py": "1", "b.py": "2"}, [])  # the order of the cases may have it so


@pytest.mark.parametrize("name", ["README.md", "docs/a.rst", "docs/notes.txt", "LICENSE", ".github/workflows/ci.yml",
                                  ".gitignore", "docs/plot.png", "tests/test_x.py", "LICENSE.txt"])  # fmt: skip
def test_documentation_leaves_it_the_same(base: Version, name: str) -> None:
    assert answer(base, name)


@pytest.mark.parametrize("name", ["apkg/data.json", "csrc/kernel.cu", "pyproject.toml", "setup.py", "requirements.txt",
                                  "a.ipynb", "third_party/sub", "a.yaml", "apkg/_C.so", ".gitattributes"])  # fmt: skip
def test_a_file_that_may_bear_on_it_is_not_the_same_for_sure(base: Version, name: str) -> None:
    assert not answer(base, name)


def test_nothing_loaded_is_not_the_same_for_sure() -> None:
    assert not same_code({}, {}, [])


def paths_of(base: Version, *targets: str) -> set[str]:
    """What bears on the targets once all of the package is loaded."""
    with base.active():
        for name in ("mine", "near", "far", "late", "other"):
            importlib.import_module(f"apkg.{name}")
    return {Path(path).name for path in code_of(base, targets)}


def test_what_another_case_has_loaded_bears_on_no_other_target(base: Version) -> None:
    assert paths_of(base, "apkg.mine:Mine") == {"__init__.py", "mine.py", "near.py", "far.py", "late.py"}


def test_relative_imports_are_followed(base: Version) -> None:
    edited(base.root, "apkg/mine.py", "from apkg.near import near", "from .near import near\nfrom . import other")
    assert paths_of(base, "apkg.mine:Mine") == {"__init__.py", "mine.py", "near.py", "far.py", "late.py", "other.py"}


def test_with_an_import_that_stands_in_no_text_everything_bears_on_it(base: Version) -> None:
    edited(base.root, "apkg/far.py", "def far", "import importlib\n\ndef far")
    assert "other.py" in paths_of(base, "apkg.mine:Mine")


@pytest.mark.parametrize("targets", [("timm:resnet18",), ("apkg.mine:Mine", "timm:resnet18")])
def test_where_the_library_of_a_network_is_under_test_all_of_it_bears_on_the_network(
    base: Version, targets: tuple[str, ...]
) -> None:
    assert paths_of(base, *targets) == {"__init__.py", "mine.py", "near.py", "far.py", "late.py", "other.py"}
