"""Revisions of scratch repositories: what is laid out, what is left alone, and what is said where it cannot be."""

import os
import subprocess
from pathlib import Path

import pytest

from attnbench.core.errors import UsageError
from attnbench.engine.gate.revisions import changed_files, checked_out, head_in_words, repository


@pytest.fixture(autouse=True)
def own_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the user's settings of git, nor those of a hook that the tests run in."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    (tmp_path / "gitconfig").write_text(
        "[user]\nname = A\nemail = a@b\n[init]\ndefaultBranch = main\n[protocol \"file\"]\nallow = always\n"
    )


def git(folder: Path, *words: str) -> str:
    return subprocess.run(["git", *words], cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


def committed(top: Path, **files: str) -> str:
    """Writes the files (`a__b` is a/b), commits everything, and gives the commit."""
    for name, text in files.items():
        path = top / name.replace("__", "/").replace("_py", ".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    git(top, "add", "--all")
    git(top, "commit", "--quiet", "-m", "more")
    return git(top, "rev-parse", "HEAD")


@pytest.fixture
def top(tmp_path: Path) -> Path:
    folder = tmp_path / "my prüject"
    folder.mkdir()
    git(folder, "init", "--quiet")
    committed(folder, a_py="one = 1\n", pkg__b_py="two = 2\n")
    return folder.resolve()


def everything(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(path): (path.stat().st_mtime_ns, path.read_bytes()) for path in sorted(folder.rglob("*")) if path.is_file()
    }


def test_a_revision_is_laid_out_and_the_repository_is_left_as_it_was(top: Path) -> None:
    first = git(top, "rev-parse", "HEAD")
    committed(top, a_py="one = 11\n", pkg__new_py="three = 3\n")
    git(top, "config", "core.splitIndex", "true")
    (top / "a.py").write_text("one = 111\n")
    (top / "pkg" / "b.py").touch()
    before = everything(top)
    with checked_out(top, "HEAD~1") as revision:
        assert (revision.commit, revision.remarks) == (first, ())
        files = {str(path.relative_to(revision.root)) for path in revision.root.rglob("*") if path.is_file()}
        assert files == {"a.py", "pkg/b.py"}
        assert (revision.root / "a.py").read_text() == "one = 1\n"
        assert changed_files(top, first) == ["a.py", "pkg/new.py"]
        assert head_in_words(top) == f"working tree at {git(top, 'rev-parse', '--short=7', 'HEAD')}, changed"
        assert everything(top) == before
    assert not revision.root.parent.exists()


def test_nothing_is_left_after_ctrl_c(top: Path) -> None:
    with pytest.raises(KeyboardInterrupt), checked_out(top, "HEAD") as revision:
        raise KeyboardInterrupt
    assert not revision.root.parent.exists()


def test_a_file_that_is_new_or_gone_is_changed(top: Path) -> None:
    (top / ".gitignore").write_text("*.log\n")
    (top / "x.log").write_text("")
    (top / "new — file.txt").write_text("")
    (top / "a.py").unlink()
    assert changed_files(top, "HEAD") == [".gitignore", "a.py", "new — file.txt"]


def test_three_dots_are_where_the_branch_was_left(top: Path) -> None:
    fork = git(top, "rev-parse", "HEAD")
    committed(top, a_py="main = 2\n")
    git(top, "checkout", "--quiet", "-b", "work", fork)
    committed(top, a_py="work = 2\n")
    with checked_out(top, "main...") as revision:
        assert (revision.commit, revision.ref) == (fork, "main...")
    with checked_out(top, "main") as revision:
        assert (revision.root / "a.py").read_text() == "main = 2\n"


@pytest.mark.parametrize("ref", ["", "-x", "--output=x", "...", "-x...", "main...work"])
def test_what_cannot_be_a_revision_is_refused_before_git_sees_it(top: Path, ref: str) -> None:
    with pytest.raises(UsageError, match="names no revision"), checked_out(top, ref):
        pass
    assert not (top / "x").exists()


def test_an_unknown_revision_and_what_to_do(top: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"'origin/main' .*git fetch"), checked_out(top, "origin/main"):
        pass
    committed(top, a_py="one = 2\n")
    git(tmp_path, "clone", "--quiet", "--depth=1", top.as_uri(), "shallow")
    shallow = tmp_path / "shallow"
    with pytest.raises(UsageError, match=r"shallow.*--unshallow.*fetch-depth: 0"), checked_out(shallow, "HEAD~1"):
        pass


def test_no_repository_and_no_git(top: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="in no git repository: run the check in"):
        repository(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match="git is not installed"):
        repository(top)


def test_below_the_top_in_a_worktree_and_in_a_hook(top: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert repository(top / "pkg") == top
    git(top, "worktree", "add", "--quiet", str(tmp_path / "linked"))
    linked = (tmp_path / "linked").resolve()
    committed(linked, a_py="linked = 1\n")
    monkeypatch.setenv("GIT_DIR", str(top / ".git"))
    monkeypatch.setenv("GIT_INDEX_FILE", ".git/next-index.lock")
    assert repository(linked / "pkg") == linked
    with checked_out(linked, "HEAD~1") as revision:
        assert (revision.root / "a.py").read_text() == "one = 1\n"
        assert changed_files(linked, revision.commit) == ["a.py"]


def test_line_ends_and_filters_are_those_of_the_revision(top: Path) -> None:
    git(top, "config", "core.autocrlf", "true")
    git(top, "config", "filter.loud.smudge", "tr a-z A-Z")
    git(top, "config", "filter.loud.clean", "tr A-Z a-z")
    (top / "data").mkdir()
    (top / "data" / ".gitattributes").write_text("x filter=loud\n")
    (top / "data" / "x").write_text("QUIET\n")
    committed(top)
    (top / "data" / ".gitattributes").write_text("")  # which is not that revision's
    with checked_out(top, "HEAD") as revision:
        assert (revision.root / "data" / "x").read_bytes() == b"QUIET\r\n"
        assert (revision.root / "a.py").read_bytes() == b"one = 1\r\n"


def test_submodules_are_those_of_the_revision(top: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    git(other, "init", "--quiet")
    committed(other, sub_py="sub = 1\n")
    git(top, "submodule", "--quiet", "add", str(other), "third/other")
    committed(top)
    committed(other, sub_py="sub = 2\n")
    git(top / "third" / "other", "pull", "--quiet")
    committed(top)
    with checked_out(top, "HEAD~1") as revision:
        assert (revision.root / "third" / "other" / "sub.py").read_text() == "sub = 1\n"
        assert revision.remarks == ()
        assert changed_files(top, revision.commit) == ["third/other"]
    git(tmp_path, "clone", "--quiet", str(top), "clone")
    with checked_out(tmp_path / "clone", "HEAD") as revision:
        assert not any((revision.root / "third" / "other").iterdir())
        assert revision.remarks == ("The submodule third/other is not checked out, so neither version has it.",)


def test_a_submodule_whose_commit_is_not_here_is_missing_and_said(top: Path, tmp_path: Path) -> None:
    git(top, "update-index", "--add", "--cacheinfo", f"160000,{'1' * 40},sub")
    git(top, "commit", "--quiet", "-m", "sub")
    (top / "sub").mkdir()
    git(top / "sub", "init", "--quiet")
    with checked_out(top, "HEAD") as revision:
        assert not any((revision.root / "sub").iterdir())
        assert "lacks the submodule sub" in revision.remarks[0]


def test_what_a_build_generated_is_shared(top: Path) -> None:
    committed(top, **{".gitignore": "_version.py\n*.so\n.venv\n", "pkg/k.cu": "1"})
    for name in ("pkg/_version.py", "pkg/_C.so", ".venv/x.py"):
        (top / name).parent.mkdir(exist_ok=True)
        (top / name).write_text("generated = 1\n")
    with checked_out(top, "HEAD") as revision:
        assert (revision.root / "pkg" / "_version.py").exists()
        assert (revision.root / "pkg" / "_C.so").exists()
        assert not (revision.root / ".venv").exists()
        assert "and 1 more of the working tree" in revision.remarks[0]
    (top / "pkg" / "k.cu").write_text("2")
    with checked_out(top, "HEAD") as revision:
        assert not (revision.root / "pkg" / "_C.so").exists()
        assert "lacks pkg/_C.so: it is compiled, and pkg/k.cu changed since" in revision.remarks[0]
