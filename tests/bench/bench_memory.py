"""Predicted against measured peak memory on the CPU: the allocator's events of the public profiler, run by run.

Run it as `python tests/bench/bench_memory.py`; it writes `results/memory.md` and takes some minutes. What is measured
shares nothing with the prediction: one step under `torch.profiler`, all blocks taken and given back in order of time.
"""

import platform
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "metrics")]

from allocator_events import allocated_peak  # noqa: E402
from memory_cases import LAYERS, MODULE_MODES, Layer, has_weights, layer_subject, module_subject  # noqa: E402

from attnbench.metrics.footprint.live_bytes import storage_bytes  # noqa: E402
from attnbench.metrics.footprint.prediction import Prediction, predict  # noqa: E402
from attnbench.metrics.subject import Subject  # noqa: E402
from attnbench.targets.fake import fake_tensors  # noqa: E402

SIDES = (12, 40)
MODES = ("fwd", "fwd_bwd", "train")
TIMM = ("vit_tiny_patch16_224", "swin_tiny_patch4_window7_224", "convnext_atto", "resnet18", "mobilenetv3_small_100",
        "deit3_small_patch16_224", "poolformer_s12", "pvt_v2_b0")  # fmt: skip
TORCHVISION = ("vgg11", "resnet50", "densenet121", "mobilenet_v2")


@dataclass(frozen=True)
class Run:
    name: str
    size: str
    mode: str
    dtype: str
    subject: Callable[[str], Subject]


@dataclass(frozen=True)
class Row:
    run: Run
    predicted: Prediction
    measured: int
    seconds: float

    @property
    def error(self) -> float:
        return self.predicted.peak / self.measured - 1

    @property
    def flagged(self) -> bool:
        return bool(self.predicted.doubts)


def runs() -> Iterator[Run]:
    for name, mode in sorted(MODULE_MODES, key=lambda each: each[0]):
        for side in SIDES:
            for dtype in ("fp32", "bf16") if side == SIDES[0] else ("fp32",):
                make = partial(module_subject, name, side, mode, dtype)
                yield Run(name, f"{side}x{side + 1}", mode, dtype, make)
    for name, layer in LAYERS.items():
        for shapes in (layer.small, layer.large):
            for mode in MODES if has_weights(layer) else MODES[:-1]:
                for dtype in layer.dtypes:
                    yield Run(name, " ".join(map(str, shapes[0])), mode, dtype,
                              partial(layer_subject, layer, shapes, mode, dtype))  # fmt: skip
    yield from networks()


def networks() -> Iterator[Run]:
    """Networks of timm and torchvision, where they are installed."""
    for source, names in (("timm", TIMM), ("torchvision", TORCHVISION)):
        try:
            package = __import__(source, fromlist=["models"])
        except ImportError:
            continue
        for name in names:
            make = partial(package.create_model if source == "timm" else package.models.get_model, name)
            layer = Layer(make, ((2, 3, 224, 224),), ())
            for mode in MODES:
                yield Run(f"{source}:{name}", "2 3 224 224", mode, "fp32",
                          partial(layer_subject, layer, layer.small, mode, "fp32"))  # fmt: skip


def row_of(run: Run) -> Row:
    begin = time.perf_counter()
    with fake_tensors():
        predicted = predict(run.subject("fake"))
    seconds = time.perf_counter() - begin
    subject = run.subject("cpu")
    peak = allocated_peak(subject.step)  # after it the optimizer has its state
    held = storage_bytes([*subject.weights, *subject.tensors, *subject.optimizer_state])
    return Row(run, predicted, held + peak, seconds)


def cells(row: Row) -> str:
    run, found = row.run, row.predicted
    parts = [found.weights, found.inputs, found.optimizer, found.saved, found.temporary, found.scratch]
    told = " | ".join("–" if part is None else f"{part:,}" for part in parts)
    mark = "yes" if row.flagged else ""
    return (f"| {run.name} | {run.size} | {run.mode} | {run.dtype} | {row.measured:,} | {found.peak:,} | "
            f"{row.error:+.4%} | {mark} | {told} |")  # fmt: skip


def report(rows: list[Row]) -> str:
    errors = [abs(row.error) for row in rows]
    plain = [row for row in rows if not row.flagged]
    worst = max(plain, key=lambda row: abs(row.error))
    exact = sum(row.predicted.peak == row.measured for row in rows)
    within = sum(error <= 1e-4 for error in errors)
    bare = [(row.predicted.peak - row.predicted.scratch) / row.measured - 1 for row in rows]
    missed = [row for row in plain if abs(row.error) >= 0.01]
    head = [
        "# Predicted against measured peak memory on the CPU",
        "",
        "Made by `python tests/bench/bench_memory.py`. Measured: the allocator's events of `torch.profiler` over one "
        "step, and weights, inputs and what an optimizer keeps. Predicted: on fake tensors, before anything ran. All "
        "sizes in bytes.",
        "",
        f"- torch {torch.__version__}, {torch.get_num_threads()} threads, {platform.machine()}",
        f"- {len(rows)} runs: median error {statistics.median(errors):.4%}; {exact} equal to the byte, "
        f"{within} within 0.01 %",
        f"- worst that is not flagged: {worst.error:+.4%} ({worst.run.name}, {worst.run.size}, {worst.run.mode})",
        f"- flagged by a note: {len(rows) - len(plain)}; not flagged and 1 % off or more: {len(missed)}",
        f"- time of a prediction: median {statistics.median(row.seconds for row in rows) * 1e3:.0f} ms, "
        f"longest {max(row.seconds for row in rows):.1f} s ({max(rows, key=lambda row: row.seconds).run.name})",
        f"- without the kernels' scratch the median would be {statistics.median(map(abs, bare)):.4%}, the worst "
        f"{min(bare):+.1%}",
        "",
        "| Subject | Size | Mode | Type | Measured | Predicted | Error | Flagged | Weights | Inputs | Optimizer "
        "| Saved | Temporary | Scratch |",
        "|---|---|---|---|--:|--:|--:|---|--:|--:|--:|--:|--:|--:|",
    ]  # fmt: skip
    notes = sorted({f"- {row.run.name}: {note.text}" for row in rows for note in row.predicted.doubts})
    foot = ["", "What the flags say:", "", *notes] if notes else []
    return "\n".join([*head, *map(cells, rows), *foot]) + "\n"


def main() -> None:
    warnings.simplefilter("ignore")
    rows = []
    for run in runs():
        try:
            rows.append(row_of(run))
        except Exception as error:
            print(f"{run.name} {run.size} {run.mode} {run.dtype}: {type(error).__name__} {error}"[:200])
            continue
        row = rows[-1]
        print(f"{run.name:36}{run.size:14}{run.mode:8}{run.dtype:5}{row.error:+10.4%} {row.seconds:6.2f} s "
              f"{'flagged' if row.flagged else ''}", flush=True)  # fmt: skip
    text = report(rows)
    (ROOT / "results" / "memory.md").write_text(text)
    print("\n".join(text.splitlines()[:12]))


if __name__ == "__main__":
    main()
