"""Audits everything whose order is known by hand, and writes the table: `python tests/bench/bench_audit.py`."""

import io
import json
import os
import platform
import sys
import time
from contextlib import redirect_stdout
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "report"))
from audit_targets import CATALOGUE, NETWORKS, TRUTH

ROOT = Path(__file__).parents[2]
RESULT = ROOT / "results" / "audit.md"
FILE = os.path.relpath(ROOT / "tests" / "report" / "audit_targets.py")


def audited(*words: str) -> tuple[dict, float, float]:
    """The audit of one target by the command itself, and its wall and processor time in seconds."""
    from attnbench.cli import _code

    sys.argv = ["attnbench", "audit", *words, "--device", "cpu", "--no-isolate", "--format", "json", "--quiet"]
    out = io.StringIO()
    wall, busy = time.perf_counter(), time.process_time()
    with redirect_stdout(out):
        code = _code()
    times = time.perf_counter() - wall, time.process_time() - busy
    assert code == 0, words
    return json.loads(out.getvalue())[0], *times


def row(name: str, truth: str, *words: str) -> tuple[list[str], bool, float, float]:
    """The cells of one line, whether the degree is right, and the times."""
    judged, wall, busy = audited(*words)
    macs = next(growth["text"] for growth in judged["growths"] if growth["of"] == "MACs")
    cells = [name, judged["claim"], truth, judged["found"], judged["verdict"], macs, f"{wall:.2f}", f"{busy:.2f}"]
    print(" | ".join(cells), flush=True)
    return cells, judged["found"] == truth, wall, busy


def section(title: str, questions: list[tuple[str, str, tuple[str, ...]]]) -> str:
    rows = [row(name, truth, *words) for name, truth, words in questions]
    headings = ["Target", "Claims", "By hand", "Found", "Verdict", "MACs in s = sqrt(N)", "Time (s)", "CPU (s)"]
    lines = [headings, ["---"] * len(headings), *(cells for cells, *_ in rows)]
    wrong, slowest = sum(not right for _, right, *_ in rows), max(wall for *_, wall, _ in rows)
    table = "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
    return f"## {title}\n\n{len(rows)} targets, {wrong} wrong degrees, slowest {slowest:.2f} s.\n\n{table}\n"


def main() -> None:
    import torch

    torch.set_num_threads(1)
    audited("se")  # loads torch and what else is loaded once
    modules = [(name, truth, (name,)) for name, truth in CATALOGUE.items()]
    own = [(name, truth, (f"{FILE}:{name}", "--claim", claim)) for name, (claim, truth, _) in TRUTH.items()]
    networks = [(name, truth, (name,)) for name, truth in NETWORKS.items()]
    text = f"""# The audit on targets whose order is known by hand

Made by `python tests/bench/bench_audit.py` with torch {torch.__version__}, Python {platform.python_version()}, one
thread, batch 1, 64 channels, fp32. "By hand" is the order of the worst of MACs, elementwise work, FFT work and peak
memory, derived in `tests/report/audit_targets.py` and the papers' formulas. Times are for one target after start-up;
the machine was shared, so the processor time tells more than the wall time.

"""
    parts = [section("The catalogue", modules), section("True and false claims", own), section("Networks", networks)]
    RESULT.write_text(text + "\n".join(parts))


if __name__ == "__main__":
    main()
