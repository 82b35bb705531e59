"""The options of the commands, one type each, so that a signature reads like a table; and how their text is read."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from attnbench.metrics.asked import fraction as fraction
from attnbench.metrics.asked import measuring as measuring

Many = list[str] | None

Targets = Annotated[Many, Argument(metavar="TARGET...", help="self_attn, my_attn.py:MyAttn, vgg16+se, hf:gpt2 ...")]
Module = Annotated[Many, Option("--module", "-m", help="self_attn, my_attn.py:MyAttn, package.mod:Class")]
Network = Annotated[Many, Option("--network", "-n", help="vgg16, timm:NAME, hf:TYPE ...; with +ATTENTION, ~ATTENTION")]
Attn = Annotated[Many, Option(help="Put this attention behind the network's stages; none: as it is.")]
Swap = Annotated[Many, Option(help="Put this attention in place of the network's own; none: as it is.")]
At = Annotated[Many, Option(help="Where --attn or --swap goes: layer3,layer4 or 'stages.*'.  [default: everywhere]")]
Res = Annotated[Many, Option(help="Sides of a module's feature map: 32,64 or 48x64.  [default: 32]")]
ImgSize = Annotated[Many, Option(help="Sides of a network's image.  [default: 224]")]
SeqLen = Annotated[Many, Option(help="Tokens, for modules that read no map and networks of tokens.")]
BatchSize = Annotated[Many, Option("--batch-size", "-b", help="[default: 1]")]
BatchSizeOrAuto = Annotated[
    Many, Option("--batch-size", "-b", help="1,8 or auto: the best throughput that fits.  [default: 1]")
]
Dim = Annotated[Many, Option(help="Channels.  [default: 64]")]
Heads = Annotated[Many, Option(help="Heads.  [default: as many as leave each 64 channels]")]
Dtype = Annotated[Many, Option("--dtype", "--precision", help="fp32, bf16, fp16, tf32.  [default: fp32]")]
Device = Annotated[str, Option(help="auto, cpu, cuda, cuda:1")]
Mode = Annotated[Many, Option(help="fwd, fwd_bwd, bwd (by difference), train (an AdamW step too).  [default: fwd]")]
Engine = Annotated[Many, Option(help="eager, compile, cudagraph.  [default: eager]")]
Backend = Annotated[
    Many, Option(help="Kernel of scaled_dot_product_attention: auto, math, flash, efficient, cudnn.  [default: auto]")
]
Layout = Annotated[str, Option(help="Of an own module's inputs; auto tries bchw, bnc, bhwc, nbc, qkv ...")]
Set = Annotated[Many, Option("--set", help="A constructor argument: key=value, or attn.key=value for --attn.")]
Metrics = Annotated[Many, Option(help="static, latency, throughput, memory ... or all.  [default: all]")]
PrecisionTarget = Annotated[str, Option(help="Wished half-width of the latency's 95 % interval.")]
MaxTime = Annotated[float, Option(help="Seconds of sampling a case, precise or not.")]
Processes = Annotated[int, Option(help="Fresh worker processes for each latency, --max-time in each.")]
KeepSamples = Annotated[bool, Option("--keep-samples", help="Keep the latency's raw samples in the records.")]
SubtractIdle = Annotated[bool, Option("--subtract-idle", help="Energy beyond that of the idle device.")]
Timeout = Annotated[float, Option(help="Seconds of silence, beyond --max-time, after which a case is given up.")]
Threads = Annotated[int | None, Option(help="CPU threads.  [default: torch's own]")]
Isolate = Annotated[bool, Option("--isolate/--no-isolate", help="Measure in a worker process.")]
Isolation = Annotated[
    str,
    Option("--isolate", metavar="worker|case|none", help="A worker process for all cases, a fresh one for each, none."),
]
NoIsolate = Annotated[bool, Option("--no-isolate", help="Measure in this process, for debuggers: --isolate none.")]
GateThreads = Annotated[int | None, Option(help="CPU threads.  [default: 1, whose CPU time others do not disturb]")]
MemLimit = Annotated[str | None, Option(help="No case may take more: 8GiB, 512MiB.  [default: what is free]")]
Resume = Annotated[bool, Option("--resume", help="Leave out what --out FILE.jsonl holds of this environment already.")]
Retry = Annotated[Many, Option(help="With --resume: measure rows of these statuses again, such as oom,timeout.")]
DryRun = Annotated[bool, Option("--dry-run", help="List the cases, the memory and time they would take; measure none.")]
Suite = Annotated[str | None, Option(help="Named grids of cases: FILE.toml, or one of `attnbench suite list`.")]
Executor = Annotated[str, Option(help="local, or ray for a cluster.")]
Devices = Annotated[Many, Option(help="A worker on each, cases shared out: cuda:0,cuda:1 or cuda:0-7.")]
Address = Annotated[str | None, Option(help="Of the Ray cluster.  [default: the one of this machine]")]
Baseline = Annotated[str | None, Option(help="Compare with this one.  [default: first quadratic module]")]
Seed = Annotated[int, Option(help="Of weights and inputs.")]
Out = Annotated[
    list[Path] | None,
    Option("--out", "-o", help="FILE.jsonl, .md, .csv, .json; repeatable.  [default: results/TIME.jsonl]"),
]
Format = Annotated[str, Option("--format", help="On standard output: table, md, csv, json, jsonl.")]
Quiet = Annotated[bool, Option("--quiet", "-q", help="No progress, and nothing of what modules print.")]


def listed(values: Sequence[str] | None) -> list[str]:
    """Lists are comma-separated, repeated, or both."""
    return [part.strip() for value in values or () for part in value.split(",") if part.strip()]


def by_kind(targets: Sequence[str]) -> tuple[list[str], list[str]]:
    """Modules and networks apart, by what the names tell: `vgg16`, `timm:resnet50` and `vgg16+se` are networks."""
    from attnbench.targets.names import is_network

    networks = [text for text in targets if is_network(text)]
    return [text for text in targets if text not in networks], networks
