"""A Spec: what a built-in module or network says of itself; the decorators of attnbench.modules.spec make them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from attnbench.core.formula import Formula

__all__ = ["Spec"]


@dataclass(frozen=True, slots=True)
class Spec:
    """What a module says of itself.

    `complexity` and `memory` are the published claims in the number of tokens N ("N", "N^2", "N log N"; "1" for a
    module that does not look at pairs of positions). `params` and `macs` are formulas in B, N, H, W, C, the
    constructor's own parameter names, and the local symbols of `where`.

    `computes` says how it stands to softmax attention over the tokens: "softmax" is that, exactly, also when each
    query sees only some of the keys; "approximation" approximates it; "other" is a function of its own. `causal` says
    whether an output may be kept from seeing later tokens: "no", "flag" (a hyper-parameter), "always". `may_be_zero`
    names integer hyper-parameters that switch something off at zero, though their default is not.
    """

    name: str
    kind: str
    layout: str
    complexity: str
    memory: str
    params: Formula
    macs: Formula
    paper: str
    computes: str = "other"
    causal: str = "no"
    may_be_zero: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    where: Mapping[str, Formula] = field(default_factory=dict)
    module: str = ""
    qualname: str = ""
    doc: str = ""
    hyper_parameters: Mapping[str, Any] = field(default_factory=dict)
    required: tuple[str, ...] = ()

    @property
    def family(self) -> str:
        """The file the module lives in: `softmax`, `linear`, `channel` ..."""
        return self.module.rpartition(".")[2]

    @property
    def summary(self) -> str:
        """The first sentence of its docstring."""
        return self.doc.split("\n", 1)[0]

    def least(self, hyper_parameter: str) -> int | None:
        """The least integer that makes sense for a hyper-parameter: 1 for a width, a number or a size, 0 where that
        switches something off; None for one that is no integer, or not known."""
        default = self.hyper_parameters.get(hyper_parameter, "")
        if isinstance(default, bool) or not isinstance(default, int | None):
            return None
        return 0 if default == 0 or hyper_parameter in self.may_be_zero else 1

    def symbols(self, **shape: object) -> dict[str, object]:
        """The values that the formulas see: the shape, the constructor's defaults under it, then `where`."""
        values: dict[str, object] = {**self.hyper_parameters, **shape}
        for name, formula in self.where.items():
            values[name] = formula(**values)
        return values
