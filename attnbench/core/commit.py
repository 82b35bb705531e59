"""The commit that the user's folder is at."""

import subprocess
from functools import cache

__all__ = ["git_commit"]


@cache
def git_commit() -> str | None:
    """The commit of the folder the user stands in, with `+` when there are uncommitted changes."""
    try:
        commit = _git("rev-parse", "--short=12", "HEAD")
        return commit + ("+" if _git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _git(*words: str) -> str:
    return subprocess.run(["git", *words], capture_output=True, text=True, check=True, timeout=5).stdout.strip()
