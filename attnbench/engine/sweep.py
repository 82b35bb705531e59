"""From what was typed to Cases: every combination of targets, sizes, batches and dtypes; nothing here loads torch."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product

from attnbench.core.case import BACKENDS, DTYPES, ENGINES, INSERTED, MODES, SWAPPED, Case, Scalar, taken_apart
from attnbench.core.errors import UsageError
from attnbench.core.registry import did_you_mean
from attnbench.core.spec import Spec
from attnbench.targets.names import canonical, network_reads, spec_of
from attnbench.targets.providers import provider_of

__all__ = ["DEFAULT_DIM", "DEFAULT_IMAGE", "DEFAULT_RES", "LAYOUT_NAMES", "Sweep", "device_named", "dtype_named",
           "one_of", "positive", "sensible", "settings", "sides"]  # fmt: skip

DEFAULT_DIM, DEFAULT_RES, DEFAULT_IMAGE = 64, "32", "224"
LAYOUT_NAMES = ("auto", "bchw", "bnc", "bhwc", "nbc", "bcn", "qk", "qkv", "qkv_nbc", "qkv_bhnd")
_DEVICES = ("auto", "cpu", "cuda")
_LARGEST = 2**31


@dataclass(frozen=True, slots=True)
class Sweep:
    """What was typed, list by list, as text where it still has to be understood."""

    modules: Sequence[str] = ()
    networks: Sequence[str] = ()
    attn: Sequence[str] = ()
    res: Sequence[str] = ()
    img_size: Sequence[str] = ()
    seq_len: Sequence[str] = ()
    batch_size: Sequence[str] = ("1",)
    dim: Sequence[str] = ()
    heads: Sequence[str] = ()
    dtype: Sequence[str] = ("fp32",)
    mode: Sequence[str] = ("fwd",)
    engine: Sequence[str] = ("eager",)
    backend: Sequence[str] = ()
    layout: str = "auto"
    device: str = "auto"
    settings: Sequence[str] = ()
    seed: int = 0
    swap: Sequence[str] = ()
    at: Sequence[str] = ()

    @property
    def seeks_batch(self) -> bool:
        """Whether the batch is `auto`: to be found for each case by measuring, which only a run does.

        Raises:
            UsageError: it stands beside other batches, or there is no throughput to seek by.
        """
        if "auto" not in self.batch_size:
            return False
        if set(self.batch_size) != {"auto"}:
            given = ",".join(self.batch_size)
            raise UsageError(f"--batch-size {given}: auto stands alone, since it finds the one batch of each case.")
        if "bwd" in self.mode:
            raise UsageError("--batch-size auto seeks the best throughput, of which a backward alone has none: use "
                             "--mode fwd_bwd.")  # fmt: skip
        return True

    def at_first_batch(self) -> "Sweep":
        """The Sweep as it is, or with batch 1, where the search begins, if the batch is `auto`."""
        return replace(self, batch_size=("1",)) if self.seeks_batch else self

    def cases(self) -> list[Case]:
        """Every combination, targets innermost, so that rows that are compared stand together.

        Raises:
            UsageError: a value is none, or options contradict each other; one sentence names the option.
        """
        if self.seeks_batch:
            raise UsageError("--batch-size auto is found by measuring, which only `attnbench run` does: give a number.")
        self._contradictions()
        if not 0 <= self.seed < 2**63:
            raise UsageError(f"--seed {self.seed} is out of range: give a whole number from 0 to 2^63 - 1.")
        shared = Case("", layout=one_of("--layout", self.layout, LAYOUT_NAMES), device=device_named(self.device),
                      params=settings(self.settings), seed=self.seed)  # fmt: skip
        cases = [
            shared.with_(batch_size=batch, dtype=dtype, mode=mode, engine=engine, backend=backend, **size, **target)
            for batch, dtype, mode, engine in product(
                [positive("--batch-size", text) for text in self.batch_size],
                [dtype_named(text) for text in self.dtype],
                [one_of("--mode", text, MODES) for text in self.mode],
                [one_of("--engine", text, ENGINES) for text in self.engine],
            )
            for size, target in [*self._module_cells(), *self._network_cells()]
            for backend in self._backends()
        ]
        for case in cases:
            sensible(case)
        return list(dict.fromkeys(cases))

    def _backends(self) -> list[str | None]:
        """Kernels of attention as typed; `auto` is torch's own choice."""
        known = ("auto", *BACKENDS)
        named = [one_of("--backend", text, known) for text in self.backend or ("auto",)]
        return [None if name == "auto" else name for name in named]

    def _contradictions(self) -> None:
        if not self.modules and not self.networks:
            raise UsageError("nothing to run: name a module (--module self_attn) or a network (--network vgg16); "
                             "`attnbench list` shows them.")  # fmt: skip
        if self.attn and not self.networks:
            raise UsageError("--attn puts an attention into a network: add --network vgg16, or use --module.")
        if self.swap and not self.networks:
            raise UsageError("--swap puts an attention in place of a network's own: add --network, or use --module.")
        self._places()
        if self.img_size and not self.networks:
            raise UsageError("--img-size is for networks: give a module's feature map with --res.")
        if (self.res or self.dim) and not self.modules:
            option = "--res" if self.res else "--dim"
            raise UsageError(f"{option} is for modules: give a network's image with --img-size.")
        if self.res and self.seq_len:
            raise UsageError("--res and --seq-len exclude each other: a map of 64x64 has 4096 tokens.")

    def _module_cells(self) -> Iterator[tuple[dict[str, int | None], dict[str, object]]]:
        if not self.modules:
            return
        names = [canonical(text, "module") for text in self.modules]
        dims = [positive("--dim", text) for text in self.dim or [str(DEFAULT_DIM)]]
        heads: list[int | None] = [positive("--heads", text) for text in self.heads] or [None]
        for dim, head, size in product(dims, heads, self._sizes()):
            for name in names:
                _fits(name, size)
                yield size, {"kind": "module", "target": name, "dim": dim, "heads": head}

    def _sizes(self) -> list[dict[str, int | None]]:
        if self.seq_len:
            return [{"tokens": positive("--seq-len", text)} for text in self.seq_len]
        maps = [sides("--res", text) for text in self.res or [DEFAULT_RES]]
        return [{"height": height, "width": width, "tokens": height * width} for height, width in maps]

    def _network_cells(self) -> Iterator[tuple[dict[str, int | None], dict[str, object]]]:
        heads: list[int | None] = [positive("--heads", text) for text in self.heads] or [None]
        networks = self._networks()
        sizes = {str(network["target"]): self._network_sizes(str(network["target"])) for network in networks}
        every: list[dict[str, int | None]] = []
        for own in sizes.values():
            every += [size for size in own if size not in every]
        for size, head, network in product(every, heads, networks):
            if size in sizes[str(network["target"])]:
                yield size, {"kind": "network", "heads": head, **network}

    def _network_sizes(self, name: str) -> list[dict[str, int | None]]:
        """The images, or the numbers of tokens, that the network is to read; none said leaves it to its library."""
        lengths: list[dict[str, int | None]] = [{"tokens": positive("--seq-len", text)} for text in self.seq_len]
        images: list[dict[str, int | None]] = [
            {"height": height, "width": width}
            for height, width in (sides("--img-size", text) for text in self.img_size or [DEFAULT_IMAGE])
        ]
        reads, of_a_library = network_reads(name), provider_of(name) is not None
        if reads == "images" and lengths and not self.modules and not self.img_size:
            raise UsageError(f"{name} reads images: give --img-size instead of --seq-len.")
        if reads is None and of_a_library and lengths and self.img_size:
            raise UsageError(f"{name} reads either images or tokens: give --img-size or --seq-len, not both.")
        if reads is None and lengths and not self.img_size:
            return lengths
        return [{}] if reads is None and of_a_library and not self.img_size else images

    def _networks(self) -> list[dict[str, str | None]]:
        """Networks as typed (`vgg16`, `vgg16+se`), then each plain one with each attention of --attn and --swap."""
        at = ",".join(self.at) or None
        found: list[dict[str, str | None]] = []
        for text in self.networks:
            name, insert, swap = taken_apart(text)
            inserts, swaps = _attentions(insert, self.attn), _attentions(swap, self.swap)
            found += [{"target": canonical(name, "network"), "insert": insert, "swap": swap,
                       "at": at if insert or swap else None}
                      for insert, swap in product(inserts, swaps)]  # fmt: skip
        return found

    def _places(self) -> None:
        """Refuse --at where there is nothing to put there, or two things."""
        parts = [taken_apart(text) for text in self.networks]
        inserts = bool(self.attn) or any(insert is not None for _, insert, _ in parts)
        swaps = bool(self.swap) or any(swap is not None for _, _, swap in parts)
        if self.at and not inserts and not swaps:
            raise UsageError("--at names places in a network for an attention: add --attn or --swap.")
        if self.at and inserts and swaps:
            raise UsageError("--at with both --attn and --swap could mean the places of either: run them apart.")


def _attentions(own: str | None, asked: Sequence[str]) -> list[str | None]:
    """What a network says in its own name, else each that an option asks for (`none`: the network as it is), else
    none."""
    chosen = [own] if own is not None else asked
    return [None if each.lower() == "none" else canonical(each, "module") for each in chosen] or [None]


def sensible(case: Case) -> None:
    """Refuse what no module can have: heads that do not share its channels, or of a built-in one a width of zero."""
    if case.dim is not None and case.heads is not None and case.dim % case.heads:
        raise UsageError(f"--dim {case.dim} is not divisible by --heads {case.heads}: each head needs the same "
                         "channels.")  # fmt: skip
    for target, prefix in ((case.target, ""), (case.insert, INSERTED), (case.swap, SWAPPED)):
        spec = spec_of(target) if target else None
        for name, value in case.settings(prefix).items() if spec else ():
            least = spec.least(name) if spec else None
            if least is not None and isinstance(value, int) and not isinstance(value, bool) and value < least:
                raise UsageError(f"--set {prefix}{name}={value}: {target} needs {least} or more there.")


def _fits(name: str, size: dict[str, int | None]) -> None:
    spec: Spec | None = spec_of(name)
    if spec is not None and spec.layout in ("bchw", "bhwc") and "height" not in size:
        raise UsageError(f"{name} reads feature maps: give --res instead of --seq-len.")


def positive(option: str, text: str) -> int:
    """The text as a whole number above zero; UsageError names the option."""
    try:
        value = int(text)
    except ValueError:
        raise UsageError(f"{option} {text!r} is not a whole number.") from None
    if not 0 < value < _LARGEST:
        raise UsageError(f"{option} {text} is out of range: give a whole number from 1 to {_LARGEST - 1}.")
    return value


def sides(option: str, text: str) -> tuple[int, int]:
    """Height and width of `64` or `48x64`; UsageError names the option."""
    parts = text.lower().split("x")
    if len(parts) > 2 or not all(part.strip().lstrip("+-").isdigit() for part in parts):
        raise UsageError(f"{option} {text!r} is no size: write 64, or 48x64 for height and width.")
    height, *width = (positive(option, part) for part in parts)
    return height, width[0] if width else height


def dtype_named(text: str) -> str:
    """`fp16` for any spelling of it; UsageError with the nearest that there is."""
    for name, spellings in DTYPES.items():
        if text.lower() in (name, *spellings):
            return name
    raise UsageError(f"unknown dtype {text!r}.{did_you_mean(text, DTYPES)} Known: {', '.join(DTYPES)}.")


def one_of(option: str, text: str, known: Sequence[str]) -> str:
    """The text, if it is known; UsageError names the option and the nearest that is."""
    if text not in known:
        raise UsageError(f"{option} {text!r} is unknown.{did_you_mean(text, known)} Known: {', '.join(known)}.")
    return text


def device_named(text: str) -> str:
    """The text, if it names a kind of device; UsageError otherwise."""
    name, colon, index = text.partition(":")
    if name not in _DEVICES or (colon and not (name == "cuda" and index.isascii() and index.isdigit())):
        raise UsageError(f"--device {text!r} is unknown: use auto, cpu, cuda or cuda:0.")
    return text


def settings(texts: Sequence[str]) -> tuple[tuple[str, Scalar], ...]:
    """`key=value` pairs, sorted; a key given twice is refused."""
    found: dict[str, Scalar] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key.replace(".", "").isidentifier():
            raise UsageError(f"--set {text!r} is no setting: write it like --set reduction=8.")
        if key in found:
            raise UsageError(f"--set {key} is given twice.")
        found[key] = _literal(value)
    return tuple(sorted(found.items()))


def _literal(text: str) -> Scalar:
    """An int, float, boolean or None where the text is one, else the text itself; nothing is ever evaluated."""
    words: dict[str, Scalar] = {"true": True, "false": False, "none": None}
    if text.lower() in words:
        return words[text.lower()]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    if len(text) >= 2 and text[0] == text[-1] and text[0] in "'\"":
        return text[1:-1]
    return text
