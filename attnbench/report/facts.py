"""What a row is about: the facts that all rows share, those that tell rows apart, and text made safe to show."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

from attnbench.core.case import Scalar
from attnbench.core.record import Record
from attnbench.report.machines import device_name, environments, fingerprint, gpu_naming, host

__all__ = ["PLACES", "Fact", "facts_of", "label", "shared_phrases", "target_title", "varying_facts", "visible"]


@dataclass(frozen=True, slots=True)
class Fact:
    """One thing that is known of a row before it is measured.

    `of` gives None where the fact does not apply and "" where nothing was chosen. `phrase` says it in a caption.
    A fact that is told only `among` rows is told where two rows for which that is equal differ in it, and never in a
    caption.
    """

    title: str
    of: Callable[[Record], Scalar]
    phrase: str = "{}"
    among: Callable[[Record], Hashable] | None = None


def _options(record: Record) -> Scalar:
    return " ".join(f"{name}={value}" for name, value in record.case.params)


def _twins(record: Record) -> Hashable:
    return record.case.name, record.case.size


# Titles of what tells where a row was measured; all others tell what.
PLACES = ("Machine", "Environment", "Host", "GPU")

_DEVICE = Fact("Device", lambda record: record.case.device)
_OF_THE_CASE = (
    Fact("Dtype", lambda record: record.case.dtype),
    Fact("Batch", lambda record: record.case.batch_size, "batch {}"),
    Fact("Dim", lambda record: record.case.dim, "dim {}"),
    Fact("Heads", lambda record: record.case.heads, "heads {}"),
    Fact("Mode", lambda record: record.case.mode),
    Fact("Engine", lambda record: record.case.engine),
    Fact("Backend", lambda record: record.case.backend or "", "backend {}"),
    Fact("Options", _options),
    Fact("Layout", lambda record: record.case.layout, among=_twins),
    Fact("Seed", lambda record: record.case.seed, among=_twins),
)


def facts_of(records: Sequence[Record]) -> tuple[Fact, ...]:
    """All facts there are, in the order of their columns; what tells machines apart depends on which there are."""
    told = environments(records)
    machine, environment, host_, gpu = PLACES
    return (
        _DEVICE,
        Fact(machine, device_name),
        Fact(environment, lambda record: told[fingerprint(record)]),
        # Machines of one kind are compared with each other: which of them it was is told only where there are several.
        Fact(host_, host, among=fingerprint),
        Fact(gpu, gpu_naming(records), "GPU {}", among=lambda record: (fingerprint(record), host(record))),
        *_OF_THE_CASE,
    )


def shared_phrases(records: Sequence[Record]) -> list[str]:
    """The facts that are the same in all rows, as the words of a caption: `cpu`, `fp32`, `batch 1`, `dim 64`."""
    phrases = []
    for fact in facts_of(records):
        values = [] if fact.among is not None else _values(fact, records)
        if len(values) == 1 and values[0] != "":
            phrases.append(fact.phrase.format(visible(str(values[0]))))
    return phrases


def varying_facts(records: Sequence[Record]) -> list[Fact]:
    """The facts without which two rows could not be told apart."""
    return [fact for fact in facts_of(records) if _varies(fact, records)]


def _varies(fact: Fact, records: Sequence[Record]) -> bool:
    if fact.among is None:
        return len(_values(fact, records)) > 1
    alike: dict[Hashable, Scalar] = {}
    return any(alike.setdefault(fact.among(record), fact.of(record)) != fact.of(record) for record in records)


def _values(fact: Fact, records: Sequence[Record]) -> list[Scalar]:
    # A network has no dim and a pooling has no heads: what does not apply does not make a fact vary.
    return list(dict.fromkeys(value for value in map(fact.of, records) if value is not None))


def label(record: Record, facts: Sequence[Fact], *, name: bool = True) -> str:
    """`self_attn 64x64 fp16`: the row in running text, with the facts that tell it from the others."""
    values = ((fact, fact.of(record)) for fact in facts)
    words = [fact.phrase.format(value) for fact, value in values if value not in (None, "")]
    return visible(" ".join([*([record.case.name] if name else []), record.case.size, *words]))


def target_title(records: Sequence[Record]) -> str:
    """The heading over the names: `Module`, `Network`, or `Target` where both are meant."""
    kinds = {record.case.kind for record in records}
    return kinds.pop().capitalize() if len(kinds) == 1 else "Target"


def visible(text: str) -> str:
    """The text on one line, with line breaks, escape sequences and direction marks written out as `\\n`, `\\x1b`.

    Names come from files and command lines of others; none of them may move the cursor of a terminal.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "replace").decode() for c in text)
