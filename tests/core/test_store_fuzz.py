"""500 corrupted files of records through the real commands: no traceback, a code of the contract, no mischief."""

import json
import os
from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer.main
from corrupted_files import corrupted, pool

from attnbench.core.errors import UsageError
from attnbench.core.store import load

GOOD = Path(__file__).parent / "old_records" / "swapped.jsonl"
FILES, CHUNKS = 500, 10
SHOWN = [(), ("--notes",), ("--by", "op"), ("--by", "module", "--depth", "1"), ("--baseline", "self_attn")]


@pytest.fixture
def quick_cli(cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Half the time of 1,500 calls: commands are declared to Typer once, and exports do not wait for the disk."""
    monkeypatch.setattr(os, "fsync", lambda file: None)
    monkeypatch.setattr(typer.main, "get_command", cache(typer.main.get_command))
    return cli


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_no_file_of_records_brings_a_command_down(chunk: int, quick_cli: Any, tmp_path: Path) -> None:
    records, path, codes = pool(), tmp_path / "records.jsonl", Counter[tuple[str, int]]()
    for seed in range(chunk * FILES // CHUNKS, (chunk + 1) * FILES // CHUNKS):
        path.write_bytes(corrupted(seed, records))
        for words in commands(seed, path):
            outcome = quick_cli(*words)  # an exception comes through: it would be a traceback
            said = f"seed {seed}, {words}: {outcome}"
            assert outcome.code in (0, 1, 2, 3), said
            assert not {"\x1b", "\x07", "\x9b"} & set(outcome.out + outcome.err), said
            assert (outcome.code != 2) or outcome.err.startswith(("attnbench: ", str(path))), said
            codes[words[0], outcome.code] += 1
        assert as_exported(tmp_path) == as_loaded(path), f"seed {seed}"
    # Files that are all refused, or all fine, would show nothing.
    assert min(codes["show", 0], codes["export", 0], codes["check", 1]) >= 15
    assert min(codes["show", 2], codes["export", 2], codes["check", 2]) >= 4


def commands(seed: int, path: Path) -> list[tuple[str, ...]]:
    outs = [word for ending in ("md", "csv", "json", "jsonl") for word in ("-o", f"out.{ending}")]
    pair = (str(path), str(GOOD)) if seed % 2 else (str(GOOD), str(path))
    return [("show", str(path), *SHOWN[seed % len(SHOWN)]), ("export", str(path), *outs), ("check", *pair)]


def as_exported(folder: Path) -> list[Any] | None:
    """The records in the files that were written, which are taken away; None where there are none."""
    lines, array = folder / "out.jsonl", folder / "out.json"
    if not lines.exists():
        return None
    records = [record.to_dict() for record in load(lines).records]
    assert same(json.loads(array.read_text()), records)
    for ending in ("md", "csv", "json", "jsonl"):
        (folder / f"out.{ending}").unlink()
    return [json.dumps(record, sort_keys=True) for record in records]


def as_loaded(path: Path) -> list[Any] | None:
    try:
        return [json.dumps(record.to_dict(), sort_keys=True) for record in load(path).records]
    except UsageError:
        return None


def same(one: Any, other: Any) -> bool:
    """Equal as JSON, where not a number is equal to itself."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
