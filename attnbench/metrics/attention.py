"""Which kernel of scaled_dot_product_attention a step really runs: what torch's own dispatcher calls, and nothing else.

torch chooses among kernels by shape, dtype, mask and switches, and falls back to a slower one without a word. Fields:
`attention.kernel` ("flash", or "flash, math" where layers differ) and `attention.operators`, {operator: calls a step}.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from torch.autograd import profiler_legacy

from attnbench.core.errors import named
from attnbench.core.record import Note, Reading
from attnbench.metrics.metric import Finding, Options, metric
from attnbench.metrics.subject import Subject

__all__ = ["KERNELS", "kernel_names", "measure_attention", "operators_of"]

# The operator that runs -> what people, and --backend, call it.
KERNELS: Mapping[str, str] = {
    "_scaled_dot_product_attention_math": "math",
    "_scaled_dot_product_attention_math_for_mps": "math",
    "_scaled_dot_product_flash_attention": "flash",
    "_scaled_dot_product_flash_attention_for_cpu": "flash",
    "_scaled_dot_product_efficient_attention": "efficient",
    "_scaled_dot_product_cudnn_attention": "cudnn",
    "_scaled_dot_product_fused_attention_overrideable": "overrideable",
    "_native_multi_head_attention": "native MHA",
}
_FIELDS = "attention.kernel, attention.operators"


@metric(name="attention", on="after", fields=("attention.kernel", "attention.operators"))
def measure_attention(subject: Subject, options: Options) -> Iterator[Finding]:
    """The kernels of one step; of a recorded graph those that were recorded, as they run when it is written out."""
    step = subject.forward if subject.case.engine == "cudagraph" else subject.step
    try:
        found = operators_of(step)
    except Exception as error:  # the profiler's own
        yield Note("not_measured", f"{_FIELDS}: torch's profiler failed ({named(error)})")
        return
    if not found:
        yield Note("not_measured", f"{_FIELDS}: the step calls no scaled_dot_product_attention")
        return
    yield Reading("attention.kernel", ", ".join(kernel_names(found)))
    yield Reading("attention.operators", dict(found))
    other = [name for name in kernel_names(found) if name != subject.case.backend]
    if subject.case.backend is not None and other:
        yield Note("kernel_fell_back", f"asked for {subject.case.backend}, and {', '.join(other)} ran: the module, or "
                                       "the compiler, chooses for itself")  # fmt: skip


def operators_of(run: Callable[[], Any]) -> Counter[str]:
    """How often each operator of KERNELS is called in one run.

    This is torch's profiler of before Kineto: it hears the dispatcher alone, also of what is composed of other
    operators or called by compiled code, and loads nothing of CUDA's into the process.
    """
    with profiler_legacy.profile() as heard:  # type: ignore[no-untyped-call]
        run()
    names = (event.name.removeprefix("aten::") for event in heard.function_events)
    return Counter(name for name in names if name in KERNELS)


def kernel_names(operators: Mapping[str, int]) -> list[str]:
    """`flash`, `math` ... of these operators, the most called first."""
    calls: Counter[str] = Counter()
    for operator, number in operators.items():
        calls[KERNELS[operator]] += number
    return [name for name, _ in calls.most_common()]
