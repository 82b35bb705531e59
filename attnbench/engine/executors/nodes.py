"""The nodes of a cluster that can measure: what each has, what a lane takes of it, and whether it is set up as here."""

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import wait
from dataclasses import dataclass
from typing import Any, Literal

from attnbench import __version__
from attnbench.core.errors import UsageError

__all__ = ["Node", "bound", "measuring", "see_alike"]

# Seconds for a node to start a process and look what it has.
_TO_LOOK = 60.0


@dataclass(frozen=True, slots=True)
class Node:
    """A node of the cluster: it has a lane for each of its GPUs, or one that takes all its CPUs."""

    id: str
    host: str
    kind: Literal["GPU", "CPU"]
    count: int

    @property
    def lanes(self) -> int:
        return self.count if self.kind == "GPU" else 1

    @property
    def share(self) -> dict[str, int]:
        """What one lane takes, as options of an actor: a whole GPU; or every CPU, so that no two run side by side."""
        return {"num_gpus": 1, "num_cpus": 0} if self.kind == "GPU" else {"num_cpus": self.count}

    def __str__(self) -> str:
        return f"{self.host} (node {self.id[:6]})"

    def lane_name(self, gpu: str | None) -> str:
        return str(self) if gpu is None else f"{self.host}, GPU {gpu}"


def measuring(found: Iterable[Mapping[str, Any]], device: str) -> list[Node]:
    """Those of `ray.nodes()` that measure for this device: those with GPUs, where there are any and one is wanted."""
    alive = [each for each in found if each["Alive"]]
    gpus = [] if device == "cpu" else _with("GPU", alive)
    return gpus or _with("CPU", alive)


def _with(kind: Literal["GPU", "CPU"], alive: Iterable[Mapping[str, Any]]) -> list[Node]:
    return [Node(each["NodeID"], each["NodeManagerHostname"], kind, int(each["Resources"][kind]))
            for each in alive if each["Resources"].get(kind, 0) >= 1]  # fmt: skip


def bound(ray: Any, node: Node) -> Any:
    """The strategy of scheduling that means this node and no other."""
    return ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(node.id, soft=False)


def see_alike(ray: Any, nodes: Sequence[Node]) -> None:
    """See that each node has the attnbench that this machine has; one that dies over it will be missed later.

    Raises:
        UsageError: one has another, or none, or no torch.
    """

    def look() -> tuple[str | None, bool]:  # in here it travels whole, and needs nothing there
        import importlib.util

        try:
            import attnbench
        except ImportError:
            return None, False
        return attnbench.__version__, importlib.util.find_spec("torch") is not None

    task = ray.remote(num_cpus=0, max_retries=0)(look)
    looks = {task.options(scheduling_strategy=bound(ray, node)).remote().future(): node for node in nodes}
    for done in wait(looks, _TO_LOOK).done:
        if done.exception() is None:
            _see(looks[done], *done.result())


def _see(node: Node, version: str | None, torch: bool) -> None:
    if version is None:
        raise UsageError(f"attnbench is not installed on {node}: pip install attnbench=={__version__} there.")
    if version != __version__:
        raise UsageError(f"{node} has attnbench {version} and this machine {__version__}: install the same on both.")
    if not torch:
        raise UsageError(f"torch is not installed on {node}, in the Python that Ray runs there.")
