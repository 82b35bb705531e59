"""Cases and records as hypothesis strategies, and one record in which every kind of thing stands."""

from typing import Any

from hypothesis import strategies as st

from attnbench.core.case import DTYPES, Case
from attnbench.core.record import STATUSES, Note, Reading, Record

# Any character, also what a shell may hand over; two surrogates that would join to one character are left out.
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
finite = st.floats(allow_nan=False)
scalars = st.one_of(st.none(), st.booleans(), st.integers(-(2**70), 2**70), finite, texts)
sizes = st.one_of(st.none(), st.integers(1, 2**31))
parameters = st.dictionaries(texts, scalars, max_size=4).map(lambda found: tuple(sorted(found.items())))

cases = st.builds(
    Case, target=texts, kind=st.sampled_from(["module", "network"]), params=parameters, layout=texts,
    batch_size=st.integers(1, 4096), height=sizes, width=sizes, tokens=sizes, dim=sizes, heads=sizes,
    dtype=st.sampled_from(list(DTYPES)), device=texts, mode=st.sampled_from(["fwd", "fwd_bwd"]),
    backend=st.none() | texts, insert=st.none() | texts, seed=st.integers(0, 2**32),
)  # fmt: skip

_sections = st.sampled_from(["static", "latency", "memory", "energy", "of_a_plugin"])
_names = st.tuples(_sections, st.text("abcdefgh_", min_size=1, max_size=6)).map(".".join)
_values: Any = st.one_of(scalars, st.lists(st.integers()), st.dictionaries(texts, st.integers(), max_size=3))
readings = st.builds(
    Reading, _names, _values, st.sampled_from(["", "ms", "bytes"]), st.sampled_from(["", "lower", "same"]), texts
)
records = st.builds(
    Record, cases, st.sampled_from(STATUSES), texts,
    st.lists(readings, max_size=4, unique_by=lambda reading: reading.name).map(tuple),
    st.lists(st.builds(Note, texts, texts), max_size=3).map(tuple),
    st.dictionaries(texts, scalars, max_size=3),
    st.none() | st.lists(st.fixed_dictionaries({"name": texts, "calls": st.integers()}), max_size=2).map(tuple),
    texts,
)  # fmt: skip


def sample_record(target: str = "self_attn", **changes: Any) -> Record:
    """A record that was measured, with something in it."""
    case = Case(target, params=(("reduction", 8),), height=32, width=32, tokens=1024, dim=64, **changes)
    reading = Reading("latency.median_ms", 1.25, "ms", "lower", "Latency", "latency.ci_low_ms", "latency.ci_high_ms")
    return Record(case, "ok", readings=(reading,), notes=(Note("noisy", "quiet the machine"),), env={"python": "3.11"})
