"""The lanes of a cluster: one for each place on its nodes, opened in another place when its own is lost."""

import time
import warnings
from collections import Counter
from collections.abc import Container, Sequence
from concurrent.futures import wait
from contextlib import suppress
from threading import Lock
from typing import Any

from attnbench.core.commit import git_commit
from attnbench.core.errors import CannotJudgeError
from attnbench.engine.executors.executor import Lane, LaneLost, LaneWarning, Wanted
from attnbench.engine.executors.far_channel import FarChannel
from attnbench.engine.executors.far_end import FarEnd
from attnbench.engine.executors.nodes import Node, bound, measuring, see_alike
from attnbench.engine.executors.travel import Parcel

__all__ = ["Cluster"]

# Seconds for a lane to start; and where the cluster says that others use what it would take.
_TO_START, _WHERE_IN_USE = 60.0, 20.0
# Seconds that a lane without a place looks for one, since a node may come back; and between two looks.
_TO_FIND, _LOOK = 30.0, 1.0


class Cluster:
    """Starts what measures on the nodes, and ends all of it in `close`. `ray` is the library, and connected."""

    def __init__(self, ray: Any, parcel: Parcel, wanted: Wanted) -> None:
        self._ray, self._wanted = ray, wanted
        self._far_end = ray.remote(FarEnd)
        self._parcel = ray.put(parcel)
        self._lock = Lock()  # no call reaches Ray once it is let go: that would start another cluster
        self._closed = False
        self._actors: list[Any] = []
        self._taken: Counter[str] = Counter()

    def lanes(self) -> list[Lane]:
        """A lane for each place that is free; a LaneWarning says which are not.

        Raises:
            UsageError: a node is not set up as this machine is.
            CannotJudgeError: no place is free.
        """
        nodes = self._nodes()
        see_alike(self._ray, nodes)
        patience = self._patience(nodes)
        begun = [self._taken_up(node) for node in nodes for _ in range(node.lanes)]
        wait([channel.readiness for channel in begun], patience)
        lanes, left_out = [], []
        for channel in begun:
            try:
                lanes.append(_Place(self, channel, self._device(channel.node)).lane)
            except LaneLost as loss:
                left_out.append(str(loss))
                self.leave(channel.node)
        reasons = Counter(left_out)
        if not lanes:
            raise CannotJudgeError(f"no lane of the cluster can be had: {'; '.join(reasons) or 'it has no CPU'}.")
        for reason, count in reasons.items():
            warnings.warn(f"{'a lane is' if count == 1 else f'{count} lanes are'} left out: {reason}", LaneWarning,
                          stacklevel=2)  # fmt: skip
        return lanes

    def _nodes(self) -> list[Node]:
        return measuring(self._ray.nodes(), self._wanted.device)

    def _patience(self, nodes: Sequence[Node]) -> float:
        free = self._ray.available_resources()
        needed = Counter[str]()
        for node in nodes:
            needed[node.kind] += node.count
        return _TO_START if all(free.get(kind, 0) >= count for kind, count in needed.items()) else _WHERE_IN_USE

    def _device(self, node: Node) -> str:
        """Where there is no GPU, Cases that are for one stay so: what is counted and predicted can be had without."""
        if node.kind == "GPU":
            return "cuda"
        return "" if self._wanted.device == "cuda" else "cpu"

    def _taken_up(self, node: Node) -> FarChannel:
        with self._lock:
            self._taken[node.id] += 1
        return self.begun(node)

    def begun(self, node: Node) -> FarChannel:
        """A channel to a far end that is being started on the node."""
        return FarChannel(self._ray, node, self._started, self._ended)

    def _started(self, node: Node) -> Any:
        with self._lock:
            self._see_open()
            options = {**node.share, "scheduling_strategy": bound(self._ray, node)}
            actor = self._far_end.options(**options).remote(self._parcel, quiet=self._wanted.quiet)
            self._actors.append(actor)
        return actor

    def _see_open(self) -> None:
        if self._closed:
            raise LaneLost("the run is over")

    def _ended(self, actor: Any) -> None:
        with self._lock:
            if not self._closed and actor in self._actors:  # a lane may find it lost while it is let go
                self._actors.remove(actor)
                self._kill(actor)

    def _kill(self, actor: Any) -> None:
        with suppress(Exception):  # it may be gone with its node
            self._ray.kill(actor)

    def room(self, first: Node, tried: Container[str]) -> Node | None:
        """A node with a place that is free, which is taken by this; that one before others. LaneLost in the end."""
        with self._lock:
            self._see_open()
            nodes = sorted(self._nodes(), key=lambda node: node.id != first.id)
            fit = (each for each in nodes if each.kind == first.kind and each.id not in tried)
            found = next((each for each in fit if self._taken[each.id] < each.lanes), None)
            if found is not None:
                self._taken[found.id] += 1
            return found

    def leave(self, node: Node) -> None:
        """Give its place back."""
        with self._lock:
            self._taken[node.id] -= 1

    def close(self) -> None:
        """End everything, whatever it is doing."""
        with self._lock:
            self._closed = True
            for actor in self._actors:
                self._kill(actor)


class _Place:
    """Where one lane is, and where it goes when that is lost: to the same node if that lives, else to another.

    Raises:
        LaneLost: what it would take is in use, or cannot be started.
    """

    def __init__(self, cluster: Cluster, channel: FarChannel, device: str) -> None:
        self._cluster = cluster
        self.lane = Lane("", self._open, device)
        self._settle(channel, patience=0)
        self._opened: FarChannel | None = channel

    def _settle(self, channel: FarChannel, patience: float) -> None:
        gpu = channel.ready(patience)
        node = self._node = channel.node
        self.lane.name, self.lane.host = node.lane_name(gpu), node.host
        here = {"executor": "ray", "node": node.id, "git_commit": git_commit()}  # the user stands on this machine
        self.lane.facts = here if gpu is None else here | {"gpu": gpu}

    def _open(self) -> FarChannel:
        """The channel that waits since the start, and later one that is started anew."""
        channel, self._opened = self._opened, None
        return channel or self._elsewhere()

    def _elsewhere(self) -> FarChannel:
        tried: set[str] = set()
        lost, until = self._node, time.monotonic() + _TO_FIND
        self._cluster.leave(lost)
        while (node := self._cluster.room(lost, tried)) or time.monotonic() < until:
            if node is None:
                time.sleep(_LOOK)
                continue
            try:
                channel = self._cluster.begun(node)
                self._settle(channel, _TO_START)
            except LaneLost:
                tried.add(node.id)
                self._cluster.leave(node)
            else:
                return channel
        what = "GPU" if lost.kind == "GPU" else "node"
        raise LaneLost(f"{lost} was lost, and no other {what} of the cluster is free")
