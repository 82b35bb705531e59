"""What the doctor prints, letter by letter at 80 columns, for a CPU in a virtual machine and for a GPU."""

import io
import json
from typing import Any

import pytest
from rich.console import Console

from attnbench.report.doctor_table import as_json, render_doctor

MIB = 2**20


def ability(name: str, can: str, how: str, advice: str = "", **figures: Any) -> dict[str, Any]:
    return {"name": name, "can": can, "how": how, "advice": advice, "figures": figures}


CPU: dict[str, Any] = {
    "schema": 1,
    "device": "cpu",
    "env": {
        "cpu": "AMD EPYC 7R13 Processor", "device_name": "AMD EPYC 7R13 Processor", "cores": 8, "affinity": 2,
        "threads": 1, "torch": "2.13.0+cpu", "python": "3.11.7", "cuda": None, "driver": None, "governor": None,
        "smt": True, "malloc": "warm", "l2_bytes": 512 * 1024, "l3_bytes": 32 * MIB, "ecc": None, "mig": None,
        "persistence": None,
    },
    "abilities": [
        ability("latency", "yes", "the host's clock (perf_counter_ns) around blocks of steps of 1 ms; it moves by "
                                  "38 ns or less, and a read takes 45 ns or less"),
        ability("cold latency", "no", "needs a GPU: a CPU's caches are not flushed"),
        ability("other load", "partly", "/proc/stat: others keep 0.3 of 8 CPUs busy now", "look at what runs there"),
    ],
    "noise": {
        "case": {"target": "self_attn", "kind": "module", "layout": "bchw", "height": 32, "width": 32, "tokens": 1024,
                 "dim": 64, "heads": 1, "device": "cpu", "params": {}},
        "max_time": 1.0, "processes": 5, "median_ms": 1.9684, "low_ms": 1.94, "high_ms": 1.99, "precision": 0.0123,
        "alone": 0.0087, "largest": 0.0314, "typical": 0.0121, "medians_ms": [1.94, 1.96, 1.97, 1.99, 2.0],
        "other_cores": 0.31, "reason": "",
        "notes": [
            {"kind": "not_measured", "text": "latency.cold_ms: not here"},
            {"kind": "imprecise", "text": "imprecise: wider than asked for"},
            {"kind": "busy", "text": "other processes used the same cores meanwhile, and the latency holds that "
                                     "disturbance: quiet the machine, or leave them cores with --threads"},
        ],
    },
    "roof": [
        {"dtype": "fp32", "device": "cpu", "fingerprint": "f", "flops_per_s": 98.76e9,
         "product": "matrix product of 512 x 512", "cache_bytes": 32 * MIB, "threads": 1, "disturbed": True,
         "measured_at": "2026-11-21T12:00:00+00:00", "bytes_per_s": 12.3e9, "beyond_caches": True,
         "ladder": [
             {"footprint": 32 * 1024, "copy": 60e9, "read": 210.4e9, "fill": 55e9},
             {"footprint": 96 * MIB, "copy": 9.1e9, "read": 12.3e9, "fill": 8.2e9}]},
        {"dtype": "bf16", "reason": "the peak of bf16 on cpu cannot be measured (RuntimeError: no bf16)"},
    ],
    "advice": ["the CPU's governor is powersave, so that its clock follows the load: sudo cpupower frequency-set -g "
               "performance"],
}  # fmt: skip

GPU: dict[str, Any] = {
    "schema": 1,
    "device": "cuda:1",
    "env": {
        "cpu": "AMD EPYC 9354 32-Core Processor", "device_name": "NVIDIA H100 80GB HBM3", "cores": 64, "affinity": 64,
        "threads": 32, "torch": "2.13.0+cu128", "python": "3.12.3", "cuda": "12.8", "driver": "570.133.20",
        "cudnn": 91002, "compute_capability": "9.0", "governor": "performance", "smt": False, "malloc": "warm",
        "l2_bytes": MIB, "l3_bytes": 256 * MIB, "ecc": True, "mig": None, "persistence": False,
    },
    "abilities": [
        ability("latency", "yes", "CUDA events around blocks of steps; two around nothing are 2.1 us apart"),
        ability("energy", "no", "this is a slice of a GPU (MIG), and only the energy of the whole GPU is counted"),
    ],
    "noise": {
        "case": {"target": "self_attn", "kind": "module", "layout": "bchw", "height": 32, "width": 32, "tokens": 1024,
                 "dim": 64, "heads": 1, "device": "cuda:1", "dtype": "bf16", "params": {}},
        "max_time": 1.0, "processes": 1, "reason": "it crashed the worker process (SIGSEGV)", "notes": [],
        "other_cores": None, **dict.fromkeys(("median_ms", "low_ms", "high_ms", "precision", "alone", "largest",
                                              "typical", "medians_ms")),
    },
    "roof": [
        {"dtype": "bf16", "device": "cuda:1", "fingerprint": "g", "flops_per_s": 742.1e12,
         "product": "matrix product of 8192 x 8192", "cache_bytes": 50 * MIB, "threads": None, "disturbed": False,
         "measured_at": "2026-11-21T12:00:00+00:00", "bytes_per_s": 3.01e12, "beyond_caches": False,
         "ladder": [{"footprint": (n + 1) * MIB, "copy": 5e12, "read": 6e12, "fill": 4e12} for n in range(15)]},
    ],
    "advice": [],
}  # fmt: skip

CPU_AT_80 = """\
cpu · AMD EPYC 7R13 Processor · 2 of 8 CPUs · 1 thread · torch 2.13.0+cpu
Python 3.11.7
governor not told · SMT on · malloc warm · L2 512.0 KiB · L3 32.0 MiB

What can be measured here
────────────────────────────────────────────────────────────────────────────────
latency       yes     the host's clock (perf_counter_ns) around blocks of steps
                      of 1 ms; it moves by 38 ns or less, and a read takes 45 ns
                      or less
cold latency  no      needs a GPU: a CPU's caches are not flushed
other load    partly  /proc/stat: others keep 0.3 of 8 CPUs busy now: look at
                      what runs there

Noise floor (A/A)
self_attn 32x32 · cpu · fp32 · batch 1 · dim 64 · heads 1 · fwd · eager
────────────────────────────────────────────────────────────────────────────────
Latency over 5 processes       1.968 ms ± 1.2 %
Interval of one process alone  ± 0.87 %
Two processes differ by        1.2 % typically, 3.1 % at most
CPUs that others kept busy     0.3

Two single runs of the same thing differ by up to 3.1 % here: smaller
differences between two rows mean nothing without --processes 5 (±1.2 %).
· other processes used the same cores meanwhile, and the latency holds that
  disturbance: quiet the machine, or leave them cores with --threads

Roof
────────────────────────────────────────────────────────────────────────────────
fp32  98.76 GFLOP/s (matrix product of 512 x 512), 12.30 GB/s over 96.0 MiB; at
      2026-11-21T12:00:00+00:00 with 1 thread
bf16  not measured: the peak of bf16 on cpu cannot be measured (RuntimeError: no
      bf16)

   Footprint      Copy      Read      Fill  GB/s, fp32
    32.0 KiB     60.00     210.4     55.00
    96.0 MiB     9.100     12.30     8.200

Advice
· the CPU's governor is powersave, so that its clock follows the load: sudo
  cpupower frequency-set -g performance
"""

GPU_AT_80 = """\
cuda:1 · NVIDIA H100 80GB HBM3 · torch 2.13.0+cu128 · CUDA 12.8
driver 570.133.20 · cuDNN 91002 · compute capability 9.0
ECC on · MIG not told · persistence mode off
host · AMD EPYC 9354 32-Core Processor · 64 of 64 CPUs · 32 threads
Python 3.12.3
governor performance · SMT off · malloc warm · L2 1.0 MiB · L3 256.0 MiB

What can be measured here
────────────────────────────────────────────────────────────────────────────────
latency  yes     CUDA events around blocks of steps; two around nothing are 2.1
                 us apart
energy   no      this is a slice of a GPU (MIG), and only the energy of the
                 whole GPU is counted

Noise floor (A/A)
self_attn 32x32 · cuda:1 · bf16 · batch 1 · dim 64 · heads 1 · fwd · eager
────────────────────────────────────────────────────────────────────────────────
Not measured: it crashed the worker process (SIGSEGV).

Roof
────────────────────────────────────────────────────────────────────────────────
bf16  742.1 TFLOP/s (matrix product of 8192 x 8192), 3010 GB/s over 15.0 MiB,
      within the caches for want of free memory; at 2026-11-21T12:00:00+00:00

   Footprint      Copy      Read      Fill  GB/s, bf16
     1.0 MiB      5000      6000      4000
     3.0 MiB      5000      6000      4000
     5.0 MiB      5000      6000      4000
     7.0 MiB      5000      6000      4000
     9.0 MiB      5000      6000      4000
    11.0 MiB      5000      6000      4000
    13.0 MiB      5000      6000      4000
    15.0 MiB      5000      6000      4000
"""


def printed(found: dict[str, Any], width: int = 80, *, colour: bool = False) -> str:
    console = Console(width=width, file=io.StringIO(), force_terminal=colour, highlight=False)
    console.print(render_doctor(found, width))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    return "\n".join(line.rstrip() for line in text.split("\n"))


@pytest.mark.parametrize(("found", "golden"), [(CPU, CPU_AT_80), (GPU, GPU_AT_80)], ids=["cpu", "gpu"])
def test_golden_text(found: dict[str, Any], golden: str) -> None:
    assert printed(found) == golden


@pytest.mark.parametrize("found", [CPU, GPU], ids=["cpu", "gpu"])
@pytest.mark.parametrize("width", [40, 80, 120, 200])
def test_no_line_is_wider_than_the_terminal_and_no_word_is_lost(found: dict[str, Any], width: int) -> None:
    text = printed(found, width)
    assert max(map(len, text.split("\n"))) <= max(width, 56)  # the rates by footprint are never broken
    words = "".join(text.split())
    for each in found["abilities"]:
        assert "".join((each["how"] + each["advice"]).split()).replace(":", "")[:60] in words.replace(":", "")


def test_120_columns_need_fewer_lines() -> None:
    assert len(printed(CPU, 120).split("\n")) < len(printed(CPU, 80).split("\n"))


def test_colour_only_underlines_what_the_words_say() -> None:
    assert "\x1b[" in printed(CPU, colour=True)
    assert "\x1b[" not in printed(CPU)


def test_what_is_not_there_is_left_out() -> None:
    quick = {**CPU, "noise": None, "roof": None, "advice": []}
    text = printed(quick)
    assert "What can be measured here" in text
    assert not [title for title in ("Noise floor", "Roof\n", "Advice") if title in text]
    assert printed({**quick, "env": None, "abilities": []}).strip() == ""


def test_too_few_processes_are_not_called_a_remedy() -> None:
    text = " ".join(printed({**CPU, "noise": {**CPU["noise"], "processes": 3, "precision": 0.043}}).split())
    assert "mean nothing, and 3 processes are too few to know a row better (±4.3 %): give more --processes." in text
    assert "without --processes" not in text


def test_processes_that_failed_beside_others_are_told() -> None:
    text = printed({**CPU, "noise": {**CPU["noise"], "processes": 4, "reason": "it crashed", "other_cores": None}})
    assert "· not every process gave a latency: it crashed" in text
    assert "CPUs that others kept busy" not in text
    assert "without --processes 4 (±1.2 %)" in text


def test_foreign_words_cannot_move_the_cursor() -> None:
    sly = {**CPU, "abilities": [ability("energy", "no", "trying it fails: \x1b[2Jboo")], "advice": ["a\x1b[1A"]}
    assert "\x1b" not in printed(sly)
    assert "\\x1b[2Jboo" in printed(sly)


def test_json_is_the_object_itself() -> None:
    assert json.loads(as_json(CPU)) == CPU
    assert as_json(GPU).endswith("}\n")
