"""Attention swapped in networks of every family, and what a faster attention makes of a network: `results/swap.md`.

    python tests/bench/bench_swap.py [--out FILE]

It needs timm, torchvision and transformers. For each host it measures the network as it is, the network with
`linear_attn` in the place of its attentions, and one of those attentions alone, both ways: a reader sees how much of a
module's gain reaches the network. The last column swaps softmax for softmax (`sdpa`), in fp32: the largest change of
the network's output where all weights can be kept, and what cannot be kept where not.
"""

import argparse
import platform
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from attnbench.api import Case, Options, Record, benchmark
from attnbench.metrics.subject import tensors_in
from attnbench.targets.build import build

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
SECONDS = 0.5  # of sampling each


def cases() -> Iterator[Case]:
    """Each host at its usual size."""
    for name in IMAGES:
        yield Case(name, kind="network", height=224, width=224)
    for name in TEXTS:
        yield Case(name, kind="network", tokens=TOKENS)


def counted(case: Case) -> Record:
    (record,) = benchmark([case], Options(metrics=("static",)), isolate=False)
    return record


def line(case: Case) -> str:
    """One row of the table."""
    before, after = counted(case), counted(case.with_(swap=SWAP))
    if not (before.ok and after.ok):
        return f"| {case.target} | {before.reason or after.reason} |" + " |" * 8
    swapped = after.value("static.swapped")
    kinds = ", ".join(dict.fromkeys(swapped["places"].values()))
    macs = [record.value("static.macs") / 1e9 for record in (before, after)]
    place = next(iter(swapped["places"]))
    (own, whole), (new, changed) = (timed(record.case, place) for record in (before, after))
    cells = [case.target, after.case.size, f"{swapped['count']} {kinds}"]
    cells += [f"{each:.3g}" for each in (*macs, whole, changed)]
    return f"| {' | '.join([*cells, f'{own / new:.2f}x', f'{whole / changed:.2f}x', kept(before.case)])} |"


def timed(case: Case, place: str) -> tuple[float, float]:
    """Seconds of one call of the attention at that place, with what the network calls it with; and of the network."""
    subject = build(case, case.device)
    module = subject.module.get_submodule(place)
    seen: dict[str, Any] = {}
    hook = module.register_forward_hook(lambda module, args, kwargs, output: seen.update(args=args, kwargs=kwargs),
                                        with_kwargs=True)  # fmt: skip
    subject.forward()
    hook.remove()
    with torch.no_grad():
        return fastest(lambda: module(*seen["args"], **seen["kwargs"])), fastest(subject.forward)


def fastest(run: Callable[[], Any]) -> float:
    """Seconds of processor time, of one thread: what other programs leave of the machine is not in it."""
    spent = []
    run()
    until = time.process_time() + SECONDS
    while len(spent) < 3 or time.process_time() < until:
        start = time.process_time()
        run()
        spent.append(time.process_time() - start)
    return min(spent)


def kept(case: Case) -> str:
    """The largest change of the output by softmax for softmax, and what the notes say is lost."""
    before, after = (build(each, "cpu") for each in (case, case.with_(swap="sdpa")))
    after.inputs = before.inputs
    names = [dict(subject.module.named_parameters()) for subject in (before, after)]
    for name in names[0].keys() & names[1].keys():
        for parameters in names:
            _fill(name, parameters[name])
    outputs = [next(tensors_in(subject.forward())) for subject in (before, after)]
    change = float((outputs[0] - outputs[1]).abs().max() / outputs[0].abs().max())
    lost = [note.text for note in after.notes if note.kind in ("ignored", "reach", "left")]
    weights = next(note.text for note in after.notes if note.kind == "weights")
    lost += [weights.partition("; ")[2]] if "left behind" in weights else []
    return f"{change:.0e}" + "".join(f"; {text}" for text in lost)


def _fill(name: str, parameter: torch.Tensor) -> None:
    """Numbers in the place of zeros, the same for each name: with a head of zeros every network is the same."""
    if not parameter.any():
        torch.nn.init.normal_(parameter, std=0.02, generator=torch.Generator().manual_seed(len(name)))


HEAD = """# Attention swapped in networks

    python tests/bench/bench_swap.py

{machine}, torch {torch}, batch 1, fp32, forward. GMAC and seconds of the network as it is and with `{swap}` in
the place of its attentions; the gain of one attention alone (the first, as the network calls it) beside that of the
network; and what swapping softmax for softmax (`sdpa`) changes in the output, relative to its largest value, with what
cannot be kept. Where the host's attention is linear, local or reduces its keys, `{swap}` gains nothing or costs more.
Seconds are processor time of the fastest of several steps on one thread. The weights are as the library
initialises them: a bias table or a scale that begins near zero hides there what was lost with it.

| network | size | swapped | GMAC | swapped | s | swapped | gain, attention | gain, network | softmax for softmax |
|---|---|---|---|---|---|---|---|---|---|
"""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "swap.md")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    text = HEAD.format(machine=_processor(), torch=torch.__version__, swap=SWAP)
    for case in cases():
        row = line(case)
        print(row, flush=True)
        text += row + "\n"
        options.out.write_text(text)


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    name = next((each.partition(": ")[2] for each in lines if each.startswith("model name")), platform.processor())
    return f"{name}, one thread"


if __name__ == "__main__":
    main()
