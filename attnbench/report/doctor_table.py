"""What the doctor found, for people and scripts: machine, abilities, noise, roof and advice, or one JSON object."""

import json
from collections.abc import Iterator, Mapping, Sequence
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from attnbench.core.case import Case
from attnbench.core.record import Record
from attnbench.core.units import human_bytes, significant
from attnbench.report.facts import shared_phrases, visible
from attnbench.report.footnotes import QUIET_KINDS
from attnbench.report.frame import MISSING

if TYPE_CHECKING:
    from rich.console import Group, RenderableType

__all__ = ["as_json", "render_doctor"]

Found = Mapping[str, Any]

_STYLES = {"yes": "green", "partly": "yellow", "no": "red"}
_GAP = 2
_MOST_RUNGS = 8


def render_doctor(found: Found, width: int = 80) -> "Group":
    """What rich prints on `width` columns for the object of engine.doctor; parts that are null are left out."""
    from rich.console import Group

    parts = list(_machine(found, width))
    if found["abilities"]:
        parts += _titled("What can be measured here", _abilities(found["abilities"], width))
    if found["noise"] is not None:
        parts += _titled("Noise floor (A/A)", _noise(found["noise"], width))
    if found["roof"]:
        parts += _titled("Roof", _roof(found["roof"], width))
    if found["advice"]:
        parts += _titled("Advice", (line for each in found["advice"] for line in _item(each, width)))
    return Group(*parts)


def as_json(found: Found) -> str:
    """The object itself, for scripts."""
    return json.dumps(found, indent=2, ensure_ascii=False) + "\n"


def _titled(title: str, lines: "Iterator[RenderableType]") -> "list[RenderableType]":
    from rich.text import Text

    return [Text(), Text(title, style="bold"), *lines]


def _machine(found: Found, width: int) -> "Iterator[RenderableType]":
    """The device, then its settings, then the host and its settings; a phrase is never broken."""
    from rich.text import Text

    env = found["env"]
    if env is None:
        return
    on_cuda = str(found["device"]).startswith("cuda")
    rows = [_gpu(found["device"], env), _gpu_settings(env), ["host", *_cpu(env)]] if on_cuda else [["cpu", *_cpu(env)]]
    for row in (*rows, _cpu_settings(env)):
        yield from (Text(line) for line in _phrases(row, width))


def _gpu(device: str, env: Found) -> list[str]:
    return [device, env["device_name"], f"torch {env['torch']}", *_told(env, CUDA="cuda", driver="driver",
            cuDNN="cudnn"), *_told(env, **{"compute capability": "compute_capability"})]  # fmt: skip


def _gpu_settings(env: Found) -> list[str]:
    return [f"{title} {_switch(env.get(name))}" for title, name in
            (("ECC", "ecc"), ("MIG", "mig"), ("persistence mode", "persistence"))]  # fmt: skip


def _cpu(env: Found) -> list[str]:
    cpus = f"{env.get('affinity') or env.get('cores') or MISSING} of {env.get('cores') or MISSING} CPUs"
    versions = [f"torch {env['torch']}"] if env.get("cuda") is None else []
    return [env["cpu"] or "CPU", cpus, _threads(env["threads"]), *versions, f"Python {env['python']}"]


def _cpu_settings(env: Found) -> list[str]:
    caches = [f"{title} {human_bytes(env[name])}" for title, name in (("L2", "l2_bytes"), ("L3", "l3_bytes"))
              if env.get(name)]  # fmt: skip
    return [f"governor {env.get('governor') or 'not told'}", f"SMT {_switch(env.get('smt'))}",
            f"malloc {env.get('malloc')}", *caches]  # fmt: skip


def _threads(count: int) -> str:
    return f"{count} thread{'' if count == 1 else 's'}"


def _told(env: Found, **titles: str) -> list[str]:
    return [f"{title} {env[name]}" for title, name in titles.items() if env.get(name) is not None]


def _switch(value: bool | None) -> str:
    return "not told" if value is None else "on" if value else "off"


def _phrases(words: Sequence[str], width: int) -> list[str]:
    """`a · b · c` on as many lines as it takes, broken between phrases."""
    lines = [""]
    for word in map(visible, words):
        longer = f"{lines[-1]} · {word}" if lines[-1] else word
        lines = [*lines[:-1], longer] if len(longer) <= width else [*lines, word]
    return lines


def _abilities(abilities: Sequence[Found], width: int) -> "Iterator[RenderableType]":
    """A row for each: its name, yes, partly or no, and how, or why not and what to do, on lines of their own."""
    from rich.text import Text

    first = max(len(each["name"]) for each in abilities) + _GAP
    second = max(map(len, _STYLES)) + _GAP
    yield Text("─" * width)
    for each in abilities:
        words = visible(each["how"]) + (f": {visible(each['advice'])}" if each["advice"] else "")
        lines = wrap(words, max(20, width - first - second), break_on_hyphens=False) or [""]
        for number, line in enumerate(lines):
            name, can = (each["name"], each["can"]) if number == 0 else ("", "")
            text = Text(f"{name:{first}}{can:{second}}{line}")
            text.stylize(_STYLES.get(can, ""), first, first + len(can))
            yield text


def _noise(noise: Found, width: int) -> "Iterator[RenderableType]":
    """The figures of the A/A run, what they mean in one sentence, and what else was noted meanwhile."""
    from rich.text import Text

    phrases = shared_phrases([Record(Case.from_dict(noise["case"]), "ok")])
    case = Case.from_dict(noise["case"])
    yield from (Text(line, style="italic") for line in _phrases([f"{case.name} {case.size}", *phrases], width))
    yield Text("─" * width)
    if noise["largest"] is None:
        yield from _wrapped(f"Not measured: {noise['reason'] or 'interrupted'}.", width)
        return
    rows = list(_noise_rows(noise))
    first = max(len(title) for title, _ in rows) + _GAP
    yield from (Text(f"{title:{first}}{figure}") for title, figure in rows)
    yield Text()
    yield from _wrapped(_meaning(noise), width)
    for text in _doubts(noise):
        yield from _item(text, width)


def _noise_rows(noise: Found) -> Iterator[tuple[str, str]]:
    count = noise["processes"]
    yield f"Latency over {count} processes", f"{significant(noise['median_ms'])} ms ± {_percent(noise['precision'])}"
    yield "Interval of one process alone", f"± {_percent(noise['alone'])}"
    yield "Two processes differ by", f"{_percent(noise['typical'])} typically, {_percent(noise['largest'])} at most"
    if noise["other_cores"] is not None:
        yield "CPUs that others kept busy", f"{noise['other_cores']:.1f}"


def _meaning(noise: Found) -> str:
    count, most, over = noise["processes"], _percent(noise["largest"]), _percent(noise["precision"])
    told = (f"Two single runs of the same thing differ by up to {most} here: smaller differences between two rows mean "
            "nothing")  # fmt: skip
    if noise["precision"] < noise["largest"]:
        return f"{told} without --processes {count} (±{over})."
    # An interval from few processes is wide, because so little is known of how much they differ.
    return f"{told}, and {count} processes are too few to know a row better (±{over}): give more --processes."


def _doubts(noise: Found) -> Iterator[str]:
    # How wide the intervals are stands above.
    quiet = QUIET_KINDS | {"imprecise"}
    yield from dict.fromkeys(note["text"] for note in noise["notes"] if note["kind"] not in quiet)
    if noise["reason"]:
        yield f"not every process gave a latency: {noise['reason']}"


def _percent(fraction: float) -> str:
    return f"{significant(100 * fraction, 2)} %"


def _roof(roof: Sequence[Found], width: int) -> "Iterator[RenderableType]":
    """A line for each dtype, and the bandwidths by footprint of the first: bytes are bytes in any dtype."""
    from rich.text import Text

    yield Text("─" * width)
    first = max(len(peaks["dtype"]) for peaks in roof) + _GAP
    for peaks in roof:
        lines = wrap(_peak(peaks), max(20, width - first), break_on_hyphens=False)
        yield from (Text(f"{peaks['dtype'] if number == 0 else '':{first}}{line}") for number, line in enumerate(lines))
    measured = [peaks for peaks in roof if "ladder" in peaks]
    if measured:
        yield Text()
        yield from _ladder(measured[0], width)


def _peak(peaks: Found) -> str:
    if "ladder" not in peaks:
        return f"not measured: {visible(peaks['reason'])}"
    threads = "" if peaks["threads"] is None else f" with {_threads(peaks['threads'])}"
    within = "" if peaks["beyond_caches"] else ", within the caches for want of free memory"
    return (f"{_rate(peaks['flops_per_s'])} ({peaks['product']}), {_gigabytes(peaks['bytes_per_s'])} GB/s over "
            f"{human_bytes(peaks['ladder'][-1]['footprint'])}{within}; at {peaks['measured_at']}{threads}")  # fmt: skip


def _rate(flops_per_s: float) -> str:
    if flops_per_s >= 1e13:
        return f"{significant(flops_per_s / 1e12)} TFLOP/s"
    return f"{significant(flops_per_s / 1e9)} GFLOP/s"


def _gigabytes(bytes_per_s: float) -> str:
    return significant(bytes_per_s / 1e9)


def _ladder(peaks: Found, width: int) -> "Iterator[RenderableType]":
    from rich.text import Text

    yield Text(f"{'Footprint':>12}{'Copy':>10}{'Read':>10}{'Fill':>10}  GB/s, {peaks['dtype']}", style="bold")
    for rung in _thinned(peaks["ladder"]):
        rates = "".join(f"{_gigabytes(rung[name]):>10}" for name in ("copy", "read", "fill"))
        yield Text(f"{human_bytes(rung['footprint']):>12}{rates}")


def _thinned(ladder: Sequence[Found]) -> list[Found]:
    """At most eight rungs, evenly, the first and the last among them."""
    if len(ladder) <= _MOST_RUNGS:
        return list(ladder)
    last = len(ladder) - 1
    return [ladder[round(number * last / (_MOST_RUNGS - 1))] for number in range(_MOST_RUNGS)]


def _wrapped(text: str, width: int) -> "Iterator[RenderableType]":
    from rich.text import Text

    yield from (Text(line) for line in wrap(visible(text), width, break_on_hyphens=False))


def _item(text: str, width: int) -> "Iterator[RenderableType]":
    from rich.text import Text

    lines = wrap(visible(text), width, initial_indent="· ", subsequent_indent="  ", break_on_hyphens=False)
    yield from map(Text, lines)
