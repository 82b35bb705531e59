"""A Case: one frozen question, and the command line that asks it again."""

import hashlib
import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, cast, get_args

__all__ = ["BACKENDS", "DTYPES", "ENGINES", "INSERTED", "KINDS", "MODES", "SWAPPED", "Case", "Scalar"]

Scalar = bool | int | float | str | None

KINDS = ("module", "network")
MODES = ("fwd", "fwd_bwd", "bwd", "train")
ENGINES = ("eager", "compile", "cudagraph")
# Kernels of scaled_dot_product_attention; None leaves the choice to torch.
BACKENDS = ("math", "flash", "efficient", "cudnn")
# Hyper-parameters of an inserted and of a swapped attention begin with these, those of the target with neither.
INSERTED, SWAPPED = "attn.", "swap."
# Canonical name -> the other spellings people type.
DTYPES: Mapping[str, tuple[str, ...]] = {
    "fp32": ("float32", "float"),
    "bf16": ("bfloat16",),
    "fp16": ("float16", "half"),
    "tf32": (),
}
# Fields that came after the first stored records: where they say nothing the key is what it was before them.
_ADDED = ("swap", "at")


@dataclass(frozen=True, slots=True)
class Case:
    """Target, shape, dtype, device, mode, engine and hyper-parameters of one measurement.

    `height` and `width` are the sides of a feature map (or of a network's image), `tokens` the positions attended
    over (`height * width` for a map), `dim` the channels C. What a target does not have is None. Of a network,
    `insert` is the attention put behind its stages, `swap` the one in place of its own attentions, and `at` the
    patterns of the places that are meant, comma-separated, where not all are.
    """

    target: str
    kind: str = "module"
    params: tuple[tuple[str, Scalar], ...] = ()
    layout: str = "auto"
    batch_size: int = 1
    height: int | None = None
    width: int | None = None
    tokens: int | None = None
    dim: int | None = None
    heads: int | None = None
    dtype: str = "fp32"
    device: str = "cpu"
    mode: str = "fwd"
    engine: str = "eager"
    backend: str | None = None
    insert: str | None = None
    seed: int = 0
    swap: str | None = None
    at: str | None = None

    @property
    def key(self) -> str:
        """Hash of the content: two Cases that ask the same have the same key, on every machine."""
        content = self.to_dict()
        for name in _ADDED:
            if content[name] is None:
                del content[name]
        text = json.dumps(content, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def name(self) -> str:
        """How the target is called in a table: `self_attn`, `vgg16+linear_attn`, `timm:vit_tiny~linear_attn`."""
        parts = (("~", self.swap), ("+", self.insert), ("@", self.at))
        return self.target + "".join(f"{sign}{part}" for sign, part in parts if part)

    @property
    def targets(self) -> tuple[str, ...]:
        """The names of all that it is about: its target, and what is put into that."""
        return tuple(name for name in (self.target, self.insert, self.swap) if name)

    @property
    def differentiates(self) -> bool:
        """Whether a step computes gradients, which makes it one in train mode."""
        return self.mode != "fwd"

    @property
    def size(self) -> str:
        """The resolution or length, as it is typed: `64x64`, or `4096` tokens."""
        return f"{self.height}x{self.width}" if self.height is not None else str(self.tokens)

    @property
    def shape_key(self) -> tuple[Any, ...]:
        """Equal for two Cases whose figures may be compared: everything but the target and its own arguments."""
        return (self.kind, self.batch_size, self.height, self.width, self.tokens, self.dim, self.dtype, self.device,
                self.mode, self.engine)  # fmt: skip

    def with_(self, **changes: Any) -> "Case":
        """A copy with some fields replaced."""
        return replace(self, **changes)

    def settings(self, prefix: str) -> dict[str, Scalar]:
        """The hyper-parameters that begin with the prefix (`attn.`, `swap.`), without it."""
        return {name.removeprefix(prefix): value for name, value in self.params if name.startswith(prefix)}

    def to_dict(self) -> dict[str, Any]:
        """The `case` object of a record."""
        data = {field.name: getattr(self, field.name) for field in fields(self)}
        data["params"] = dict(self.params)
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Case":
        """The Case of a record's `case` object; fields that a newer version added are passed over.

        Raises:
            ValueError: a field is not of its type.
            TypeError: there is no target.
        """
        values = {name: value for name, value in data.items() if name in _TYPES}
        values["params"] = tuple(sorted(dict(values.get("params") or {}).items()))
        for name, value in values.items():
            if type(value) not in _TYPES[name]:
                raise ValueError(f"a record whose case has {value!r:.60} for {name}")
        if any(type(name) is not str or type(value) not in _SCALARS for name, value in values["params"]):
            raise ValueError("a record whose case has params that are not names and scalars")
        if values.get("kind", "module") not in KINDS:
            raise ValueError(f"a record whose case is of the kind {values['kind']!r:.60}")
        return cls(**values)

    def command(self) -> str:
        """The command line that measures this Case again, quoted for a shell."""
        words = ["attnbench", "run", f"--{self.kind}", self.target]
        if self.insert:
            words += ["--attn", self.insert]
        if self.swap:
            words += ["--swap", self.swap]
        if self.at:
            words += ["--at", self.at]
        words += self._shape_words()
        words += ["--batch-size", str(self.batch_size), "--dtype", self.dtype, "--device", self.device]
        words += ["--mode", self.mode, "--seed", str(self.seed)]
        if self.engine != "eager":
            words += ["--engine", self.engine]
        if self.backend is not None:
            words += ["--backend", self.backend]
        if self.layout != "auto" and self.kind == "module":
            words += ["--layout", self.layout]
        for name, value in self.params:
            words += ["--set", f"{name}={_typed(value)}"]
        return shlex.join(words)

    def _shape_words(self) -> list[str]:
        if self.kind == "network" and self.height is not None:
            words = ["--img-size", self.size]
        elif self.kind == "network" and self.tokens is None:  # its library has not been asked yet
            words = []
        else:
            words = ["--res", self.size] if self.height is not None else ["--seq-len", str(self.tokens)]
        if self.dim is not None:
            words += ["--dim", str(self.dim)]
        if self.heads is not None:
            words += ["--heads", str(self.heads)]
        return words


_SCALARS = get_args(Scalar)
# What each field may be when it is read from a file.
_TYPES: Mapping[str, tuple[type, ...]] = {
    field.name: (tuple,) if field.name == "params" else get_args(field.type) or (cast(type, field.type),)
    for field in fields(Case)
}


def taken_apart(name: str) -> tuple[str, str | None, str | None]:
    """The network, what is inserted and what is swapped in, of a name like `vgg16+se` or `timm:vit_tiny~linear_attn`.

    A tilde at the beginning is a home folder.
    """
    network, plus, insert = name.partition("+")
    target, tilde, swap = network[1:].partition("~")
    if not tilde:  # the other order: vit+se~linear_attn
        insert, tilde, swap = insert.partition("~")
    return network[:1] + target, insert if plus else None, swap if tilde else None


def _typed(value: Scalar) -> str:
    """The value as it is typed after `--set name=`; a text that would be read as something else stands in quotes."""
    if not isinstance(value, str):
        return str(value)
    quoted = len(value) >= 2 and value[0] == value[-1] and value[0] in "'\""
    return f"'{value}'" if quoted or value.lower() in ("true", "false", "none") or _is_number(value) else value


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
