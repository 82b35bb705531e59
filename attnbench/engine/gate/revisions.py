"""Revisions of the user's repository: the tree of one laid out in a folder of its own, and what differs from it.

Git is only asked. What has to be written goes into a temporary folder, the index included, so that a check leaves the
repository as it was, may run from a hook, and may be killed.
"""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from attnbench.core.errors import UsageError

__all__ = ["Revision", "changed_files", "checked_out", "head_in_words", "repository"]

# A hook of git's has these for the repository, and the index, that the hook is for.
_OF_HOOKS = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_COMMON_DIR", "GIT_NAMESPACE",
             "GIT_EXTERNAL_DIFF", "GIT_DIFF_OPTS", "GIT_LITERAL_PATHSPECS", "GIT_GLOB_PATHSPECS",
             "GIT_NOGLOB_PATHSPECS", "GIT_ICASE_PATHSPECS")  # fmt: skip
# Features that write beside the index, call programs of the user's, or leave files out.
_PLAIN = ("core.splitIndex=false", "core.fsmonitor=false", f"core.hooksPath={os.devnull}",
          "core.sparseCheckout=false", "index.sparse=false", "core.quotePath=false")  # fmt: skip
_COMPILED = (".so", ".pyd", ".dylib")
# Sources of what is compiled: where one differs, the binary of the working tree is not that of the revision.
_TO_COMPILE = (".c", ".cc", ".cpp", ".cxx", ".cu", ".cuh", ".h", ".hh", ".hpp", ".hip", ".mm", ".pyx", ".pxd", ".rs",
               ".f90", "setup.py", "pyproject.toml", "CMakeLists.txt", "meson.build")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Revision:
    """A revision as it was asked for, its commit, the folder its tree is in, and what is to be said about that tree."""

    ref: str
    commit: str
    root: Path
    remarks: tuple[str, ...] = ()


def repository(folder: Path) -> Path:
    """The top folder of the working tree that `folder` lies in.

    Raises:
        UsageError: there is no git, no repository, or none that git agrees to read.
    """
    try:
        return Path(_git(folder, "rev-parse", "--show-toplevel").removesuffix("\n")).resolve()
    except _GitError as error:
        if "not a git repository" in str(error):
            raise UsageError(f"{folder} is in no git repository: run the check in the folder of your project, or give "
                             "a stored baseline instead of --base.") from error  # fmt: skip
        raise UsageError(f"git does not read the repository at {folder}: {error}") from error


@contextmanager
def checked_out(top: Path, ref: str) -> Iterator[Revision]:
    """The files of that revision in a temporary folder, which is gone afterwards; `main...` is where HEAD left main.

    Raises:
        UsageError: there is no such revision, or its files cannot be laid out.
    """
    commit = _commit(top, ref)
    with tempfile.TemporaryDirectory(prefix="attnbench-base-", ignore_cleanup_errors=True) as folder:
        root = Path(folder).resolve() / "tree"
        try:
            remarks = [*_laid_out(top, commit, root), *_generated(top, commit, root)]
        except (_GitError, OSError) as error:
            raise UsageError(f"the files of {ref} ({commit[:7]}) cannot be written to {root}: {error}") from error
        yield Revision(ref, commit, root, tuple(remarks))


def head_in_words(top: Path) -> str:
    """What is measured as head: `working tree at abc1234, changed`."""
    try:
        commit = _git(top, "rev-parse", "--short=7", "--verify", "HEAD").strip()
    except _GitError:
        return "working tree before its first commit"
    changed = _git(top, "status", "--porcelain", "--untracked-files=no")
    return f"working tree at {commit}{', changed' if changed else ''}"


def changed_files(top: Path, commit: str) -> list[str]:
    """Paths below `top` that differ between that commit and the working tree, and new ones that git does not ignore."""
    with tempfile.TemporaryDirectory(prefix="attnbench-index-") as folder:
        index = Path(folder) / "index"  # a copy, since git writes into it what it finds out about files' times
        kept = top / _git(top, "rev-parse", "--git-path", "index").removesuffix("\n")
        if kept.is_file():
            shutil.copy2(kept, index)
        tracked = _git(top, "diff", "--name-only", "-z", "--no-renames", "--no-ext-diff", commit, "--", index=index)
        new = _git(top, "ls-files", "--others", "--exclude-standard", "-z", index=index)
    return sorted({path for path in (tracked + new).split("\0") if path})


def _commit(top: Path, ref: str) -> str:
    name, dots, more = ref.partition("...")
    if not name or name.startswith("-") or more:
        raise UsageError(f"{ref!r} names no revision: give a branch, a tag, a commit, or main... for where HEAD left "
                         "main.")  # fmt: skip
    commit = _asked(top, "rev-parse", "--verify", "--quiet", f"{name}^{{commit}}")
    if commit is None:
        raise UsageError(f"there is no revision {name!r} in {top}{_how_to_fetch(top, name)}")
    if not dots:
        return commit
    base = _asked(top, "merge-base", commit, "HEAD")
    if base is None:
        raise UsageError(f"{name!r} and HEAD have no commit in common{_how_to_fetch(top, name)}")
    return base


def _how_to_fetch(top: Path, name: str) -> str:
    if _asked(top, "rev-parse", "--is-shallow-repository") == "true":
        return (": this clone is shallow. Fetch all of it: `git fetch --unshallow`, or `fetch-depth: 0` of "
                "actions/checkout.")  # fmt: skip
    return f": `git fetch` it first, or look for its name with `git branch --all --list '*{Path(name).name}*'`."


def _laid_out(top: Path, commit: str, root: Path) -> Iterator[str]:
    """Writes the files of a commit; each remark is about one of its submodules.

    With the new folder as the working tree, what .gitattributes say is read as it was at that commit.
    """
    root.mkdir(parents=True)
    index = root.parent / f"{root.name}.index"
    where = ("--git-dir", _git(top, "rev-parse", "--absolute-git-dir").removesuffix("\n"), "--work-tree", str(root))
    _git(root, *where, "read-tree", commit, index=index)
    _git(root, *where, "checkout-index", "--all", "--force", "--quiet", index=index)
    staged = _git(root, *where, "ls-files", "--stage", "-z", index=index)
    index.unlink()
    for line in staged.split("\0"):
        mode, _, rest = line.partition(" ")
        if mode == "160000":
            yield from _submodule(top, rest.partition("\t")[2], rest[:rest.index(" ")], root)


def _submodule(top: Path, path: str, commit: str, root: Path) -> Iterator[str]:
    """The submodule as the revision has it, if its commit is here; else an empty folder, and never another commit."""
    folder = root / path
    if not (top / path / ".git").exists():
        folder.mkdir(parents=True, exist_ok=True)
        yield f"The submodule {path} is not checked out, so neither version has it."
    elif _asked(top / path, "rev-parse", "--verify", "--quiet", f"{commit}^{{commit}}") is None:
        folder.mkdir(parents=True, exist_ok=True)
        yield (f"The base lacks the submodule {path}, whose commit {commit[:7]} is not here: fetch it with "
               f"`git -C {path} fetch origin {commit}`.")  # fmt: skip
    else:
        shutil.rmtree(folder, ignore_errors=True)  # git makes an empty one
        yield from _laid_out(top / path, commit, folder)


def _generated(top: Path, commit: str, root: Path) -> Iterator[str]:
    """Copies what a build left beside tracked files and git ignores, such as _version.py: no revision has it."""
    listed = _git(top, "ls-files", "--others", "--ignored", "--exclude-standard", "-z", "--",
                  "*.py", *(f"*{suffix}" for suffix in _COMPILED))  # fmt: skip
    wanted = [path for path in listed.split("\0") if path and _beside_tracked(root / path)]
    stale = [path for path in wanted if path.endswith(_COMPILED)]
    if stale and (changed := [path for path in changed_files(top, commit) if path.endswith(_TO_COMPILE)]):
        yield (f"The base lacks {_several(stale)}: it is compiled, and {_several(changed)} changed since; build the "
               "base elsewhere and compare two files of records.")  # fmt: skip
        wanted = [path for path in wanted if path not in stale]
    for path in wanted:
        shutil.copy2(top / path, root / path)
    if wanted:
        yield f"The base has {_several(wanted)} of the working tree, since git ignores it."


def _beside_tracked(path: Path) -> bool:
    return path.parent.is_dir() and not path.exists()


def _several(paths: list[str]) -> str:
    return paths[0] if len(paths) == 1 else f"{paths[0]} and {len(paths) - 1} more"


class _GitError(Exception):
    """What git said, on one line."""


def _asked(top: Path, *words: str) -> str | None:
    """Git's answer; None where it has none."""
    try:
        return _git(top, *words).strip()
    except _GitError:
        return None


def _git(folder: Path, *words: str, index: Path | None = None) -> str:
    """Git's answer to a question asked in that folder, with an index of ours where one is written.

    Raises:
        UsageError: git is not installed.
        _GitError: it refuses.
    """
    environment = {name: value for name, value in os.environ.items() if name not in _OF_HOOKS}
    environment |= {"LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0"}
    if index is not None:
        environment["GIT_INDEX_FILE"] = str(index)
    settings = [word for each in _PLAIN for word in ("-c", each)]
    try:
        done = subprocess.run(["git", *settings, *words], cwd=folder, env=environment, capture_output=True)
    except FileNotFoundError as error:
        if folder.is_dir():
            raise UsageError("git is not installed, and --base asks it for the other revision: install it, or give a "
                             "stored baseline.") from error  # fmt: skip
        raise UsageError(f"there is no folder {folder}.") from error
    if done.returncode:
        raise _GitError(_first_lines(os.fsdecode(done.stderr)) or f"exit code {done.returncode}")
    return os.fsdecode(done.stdout)


def _first_lines(text: str) -> str:
    """Git's complaint with its advice, in one line."""
    return " ".join(line.strip().removeprefix("fatal: ") for line in text.splitlines()[:6] if line.strip())
