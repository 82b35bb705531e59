"""What an instrument is, how one is declared, and where they are found: known by name without loading torch."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from attnbench.core.decorated import read_decorated
from attnbench.core.errors import UsageError, named
from attnbench.core.plugins import left_out, plugins
from attnbench.core.record import Note, Reading
from attnbench.core.registry import did_you_mean

if TYPE_CHECKING:
    from attnbench.metrics.subject import Subject

__all__ = ["GROUPS", "Finding", "Instrument", "Options", "Place", "chosen", "known", "metric"]

Finding = Reading | Note
# Where an instrument's subject lives: on the meta device (shapes only), under fake tensors (shapes and storages as
# the real device would have them), or on the device itself. Those that come `after` have it there too, once all others
# are done: they work with the others' readings, or leave the device hot or watched.
Place = Literal["meta", "fake", "device", "after"]
_ORDER: tuple[Place, ...] = ("meta", "fake", "device", "after")
_WITHOUT_DATA = ("meta", "fake")
GROUPS = ("static", "all")


@dataclass(frozen=True, slots=True)
class Options:
    """How to measure; none of it changes the question that a Case asks.

    `precision_target` is the wished half-width of the latency's 95 % interval as a fraction of the median;
    `max_time` the seconds after which the sampling of one case stops all the same; `threads` those of the CPU.
    `scratch` tells whether a prediction of memory looks at what kernels take for themselves, for which it has to make
    small calls of them; growth with the size can be read without.
    `processes` are the fresh worker processes that a latency is taken in, each of them sampling as the rest says;
    with `keep_samples` the record keeps what each block of steps took, in order, for each process.
    With `subtract_idle` an energy is what the steps took beyond what the idle machine takes in the same time.
    With `best_batch` the batch of a Case is where the search for that of the best throughput begins.
    `mem_limit` are the bytes that a Case may take on its device: more than that is not started, and is refused while
    it is built and takes its first step. What instruments take for themselves is not limited by it.
    With `dry` nothing runs on the Case's device, not even to count what can be counted nowhere else.
    """

    metrics: tuple[str, ...] = ("all",)
    precision_target: float = 0.01
    max_time: float = 2.0
    threads: int | None = None
    scratch: bool = True
    processes: int = 1
    keep_samples: bool = False
    subtract_idle: bool = False
    best_batch: bool = False
    mem_limit: int | None = None
    dry: bool = False


Instrument = Callable[["Subject", Options], Iterator[Finding]]


@dataclass(frozen=True, slots=True)
class Declared:
    """An instrument known from its declaration: `on` says where its subject must live.

    Those it `needs` run before it, asked for or not; what they read it finds in the subject's `readings`.
    """

    name: str
    on: Place
    fields: tuple[str, ...]
    target: str
    needs: tuple[str, ...] = ()

    @property
    def live(self) -> bool:
        """Whether it needs the device and real data."""
        return self.on not in _WITHOUT_DATA

    def load(self) -> Instrument:
        """Import the instrument; this loads torch."""
        module, _, name = self.target.partition(":")
        instrument: Instrument = getattr(import_module(module), name)
        return instrument


def metric(
    *, name: str, on: Place, fields: tuple[str, ...], needs: tuple[str, ...] = ()
) -> Callable[[Instrument], Instrument]:
    """Declare an instrument: `@metric(name="latency", on="device", fields=("latency",))` above its function.

    The arguments must be literals: they are read from the source. `fields` names the record's fields, or whole
    sections, that stay null when the instrument is not used; `needs` the instruments whose readings it works with.
    """

    def mark(instrument: Instrument) -> Instrument:
        instrument.declaration = (name, on, fields, needs)  # type: ignore[attr-defined]
        return instrument

    return mark


@cache
def known() -> dict[str, Declared]:
    """Every instrument by name: the package's own in the order they are run, then other packages' entry points."""
    found = {each.name: each for each in _built_in()}
    for each in _plugins():
        if each.name in found:
            left_out(each.name, "there is another metric of that name")
        found.setdefault(each.name, each)
    return {each.name: each for each in sorted(found.values(), key=lambda each: _ORDER.index(each.on))}


def _built_in() -> Iterator[Declared]:
    for path in sorted(Path(__file__).parent.glob("*.py")):
        module = f"{__package__}.{path.stem}"
        for each in read_decorated(path, module, "metric"):
            yield Declared(**each.arguments, target=f"{module}:{each.name}")


def _plugins() -> Iterator[Declared]:
    """Instruments of other packages, read from their sources: an entry point names `package.module:function`."""
    for plugin in plugins("attnbench.metrics"):
        if (path := plugin.source()) is None:
            continue
        try:
            found = {each.name: each for each in read_decorated(path, plugin.module, "metric")}
            yield Declared(**found[plugin.member].arguments, target=f"{plugin.module}:{plugin.member}")
        except Exception as error:  # no such function, or not declared as ours are
            left_out(plugin.name, f"{path.name} has no @metric {plugin.member!r} that can be read ({named(error)})")


def _in_group(instrument: Declared, group: str) -> bool:
    return group == "all" or (group == "static" and not instrument.live)


def chosen(names: tuple[str, ...]) -> list[Declared]:
    """The instruments asked for, by name or as `static` or `all`, and those they need, in the order they are run.

    Raises:
        UsageError: a name is unknown; the message offers the nearest.
    """
    wanted: set[str] = set()
    for name in names:
        if name not in known() and name not in GROUPS:
            every = [*GROUPS, *known()]
            raise UsageError(f"unknown metric {name!r}.{did_you_mean(name, every)} Known: {', '.join(every)}.")
        wanted |= {name} & set(known())
        wanted |= {each.name for each in known().values() if _in_group(each, name)}
    wanted |= {need for name in wanted for need in known()[name].needs}
    return [each for each in known().values() if each.name in wanted]
