"""A worker that loads no torch: its answer is a word, then what the request does to the process, and the end."""

import sys
import types
from collections.abc import Iterator
from typing import Any

from faults import FAULTS

from attnbench.engine.workers import worker


def answer(request: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield {"event": "word", "word": request.get("word", "")}
    FAULTS.get(request["do"], lambda: None)()
    yield {"event": "done", "status": "ok", "reason": "", **({"spent": True} if "spent" in request else {})}


if __name__ == "__main__":
    stub = types.ModuleType("attnbench.engine.workers.answer")
    stub.answer = answer  # type: ignore[attr-defined]
    sys.modules[stub.__name__] = stub
    worker.main()
