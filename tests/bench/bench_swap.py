"""Attention swapped in networks of every family, and what a faster attention makes of a network: `results/swap.md`.

    python tests/bench/bench_swap.py [--out FILE] [--seconds 0.5] [--device auto]

It needs timm, torchvision and transformers. For each host it measures the network as it is, the network with
`linear_attn` in the place of its attentions, and one of those attentions alone, both ways: a reader sees how much of a
module's gain reaches the network. The last column swaps softmax for softmax (`sdpa`), in fp32: the largest change of
the network's output where all weights can be kept, and what cannot be kept where not.
"""

import argparse
import os
import platform
import warnings
from collections.abc import Iterator
from pathlib import Path

import torch
from torch.utils.benchmark import Timer

from attnbench.api import Case, Options, Record, benchmark
from attnbench.metrics.subject import tensors_in
from attnbench.targets.build import build
from attnbench.targets.resolve import resolve

ROOT = Path(__file__).resolve().parents[2]
IMAGES = (
    "timm:vit_tiny_patch16_224", "timm:deit_tiny_distilled_patch16_224", "timm:vit_small_patch14_reg4_dinov2",
    "timm:beit_base_patch16_224", "timm:eva02_tiny_patch14_224", "timm:cait_xxs24_224", "timm:xcit_nano_12_p8_224",
    "timm:swin_tiny_patch4_window7_224", "timm:pvt_v2_b0", "timm:twins_svt_small", "timm:maxvit_tiny_tf_224",
    "timm:mobilevit_xxs", "timm:davit_tiny", "timm:levit_128", "torchvision:vit_b_16", "torchvision:swin_t", "hf:vit",
)  # fmt: skip
TEXTS = ("hf:bert", "hf:distilbert", "hf:gpt2", "hf:bart", "hf:t5", "hf:opt")
TOKENS = 512
SWAP = "linear_attn"


def cases(device: str) -> Iterator[Case]:
    """Each host at its usual size."""
    for name in IMAGES:
        yield Case(name, kind="network", height=224, width=224, device=device)
    for name in TEXTS:
        yield Case(name, kind="network", tokens=TOKENS, device=device)


def measured(case: Case, seconds: float) -> Record:
    options = Options(metrics=("static", "latency"), max_time=seconds)
    (record,) = benchmark([case], options, isolate=False)
    return record


def line(case: Case, seconds: float) -> str:
    """One row of the table."""
    before, after = measured(case, seconds), measured(case.with_(swap=SWAP), seconds)
    if not (before.ok and after.ok):
        reason = before.reason or after.reason
        return f"| {case.target} | {reason} |" + " |" * 8
    swapped = after.value("static.swapped")
    kinds = ", ".join(dict.fromkeys(swapped["places"].values()))
    macs = [record.value("static.macs") / 1e9 for record in (before, after)]
    times = [record.value("latency.min_ms") / 1000 for record in (before, after)]
    own, new = alone(case, next(iter(swapped["places"])), seconds)
    cells = [case.target, case.size, f"{swapped['count']} {kinds}", *(f"{each:.2f}" for each in macs)]
    cells += [f"{each:.3f}" for each in times]
    return f"| {' | '.join([*cells, f'{own / new:.2f}x', f'{times[0] / times[1]:.2f}x', kept(case)])} |"


def alone(case: Case, place: str, seconds: float) -> tuple[float, float]:
    """Seconds of one call of the attention at that place, as the network calls it: the host's own, and the new one."""
    return tuple(_seconds(resolve(each), place, seconds) for each in (case, case.with_(swap=SWAP)))  # type: ignore[return-value]


def _seconds(case: Case, place: str, seconds: float) -> float:
    subject = build(case, case.device)
    module = subject.module.get_submodule(place)
    seen = {}
    hook = module.register_forward_hook(lambda m, args, kwargs, out: seen.update(args=args, kwargs=kwargs),
                                        with_kwargs=True)  # fmt: skip
    subject.forward()
    hook.remove()
    with torch.no_grad():
        run = Timer("module(*args, **kwargs)", globals={"module": module, **seen}, num_threads=torch.get_num_threads())
        return min(run.blocked_autorange(min_run_time=seconds).times)


def kept(case: Case) -> str:
    """The largest change of the output by softmax for softmax, and what the notes say is lost."""
    before, after = (build(resolve(each), "cpu") for each in (case.with_(device="cpu"),
                                                             case.with_(device="cpu", swap="sdpa")))  # fmt: skip
    after.inputs = before.inputs
    outputs = [next(tensors_in(subject.forward())) for subject in (before, after)]
    change = float((outputs[0] - outputs[1]).abs().max() / outputs[0].abs().max())
    lost = [note.text for note in after.notes if note.kind in ("ignored", "reach", "left")]
    weights = next(note.text for note in after.notes if note.kind == "weights")
    lost += [weights.partition("; ")[2]] if "left behind" in weights else []
    return f"{change:.0e}" + "".join(f"; {text}" for text in lost)


HEAD = """# Attention swapped in networks

    python tests/bench/bench_swap.py

{machine}, torch {torch}, batch 1, fp32, forward. GMAC and seconds of the network as it is and with `{swap}` in
the place of its attentions; the gain of one attention alone (the first, as the network calls it) beside that of the
network; and what swapping softmax for softmax (`sdpa`) changes in the output, relative to its largest value, with what
cannot be kept. Where the host's attention is linear, local or reduces its keys, `{swap}` gains nothing or costs more.
The seconds are those of the fastest step seen, since other programs ran on the machine. The weights are random: a
change of the output that is small where something was lost says little.

| network | size | swapped | GMAC | swapped | s | swapped | gain, attention | gain, network | softmax for softmax |
|---|---|---|---|---|---|---|---|---|---|
"""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "swap.md")
    parser.add_argument("--seconds", type=float, default=0.5)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    machine = torch.cuda.get_device_name() if options.device == "cuda" else _processor()
    text = HEAD.format(machine=machine, torch=torch.__version__, swap=SWAP)
    for case in cases(options.device):
        row = line(case, options.seconds)
        print(row, flush=True)
        text += row + "\n"
        load = f"Load at the end: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores. Above 1 a core"
        options.out.write_text(f"{text}\n{load} the seconds, and the gains, are an indication only.\n")


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    name = next((each.partition(": ")[2] for each in lines if each.startswith("model name")), platform.processor())
    return f"{name}, {torch.get_num_threads()} threads"


if __name__ == "__main__":
    main()
