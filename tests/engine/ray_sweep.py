"""A sweep over a real Ray cluster of four nodes on this machine, while nodes die: prints what came of it as JSON.

Called with the folder to work in and the number of Cases. The user's files are deleted as soon as a node has answered.
"""

import json
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

from ray.cluster_utils import Cluster

from attnbench.api import Case, Options, benchmark

NODES = 4

MODULES = {
    "parts/width.py": "def doubled(dim):\n    return 2 * dim\n",
    "naps.py": """
import os, signal, time
from torch import nn
from parts.width import doubled

class Nap(nn.Module):
    def __init__(self, dim, seconds=0.02, what=""):
        super().__init__()
        if what == "told":  # where the file is, in a way that nobody puts right
            raise ValueError(__file__[::-1])
        if what == "fatal":  # to the node: its own process is the parent of the one that has started our worker
            actor = os.getppid()
            node = int(open(f"/proc/{actor}/stat").read().rpartition(")")[2].split()[1])
            for each in (node, actor):
                os.kill(each, signal.SIGKILL)
        time.sleep(seconds)
        self.inner = nn.Linear(dim, doubled(dim))
        self.outer = nn.Linear(doubled(dim), dim)

    def forward(self, x):
        return self.outer(self.inner(x))
""",
}


def nodes_up(count: int, **more: Any) -> tuple[Cluster, list[Any]]:
    """A cluster whose head measures nothing, and its nodes with a CPU each."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    return cluster, [cluster.add_node(num_cpus=1, **more) for _ in range(count)]


def cases(count: int) -> list[Case]:
    """Naps, and in the middle of them one that tells and one that kills."""
    nap = Case("../theirs/naps.py:Nap", height=4, width=4, tokens=16, dim=8, layout="bnc", device="auto")
    odd = {count // 2: "told", count // 2 + 1: "fatal"}
    return [nap.with_(seed=seed, params=(("what", odd[seed]),) if seed in odd else ()) for seed in range(count)]


def main(folder: Path, count: int) -> dict[str, Any]:
    for name, text in MODULES.items():
        path = folder / "theirs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (folder / "mine").mkdir()
    os.chdir(folder / "mine")
    cluster, nodes = nodes_up(NODES)
    try:
        begun = time.perf_counter()
        records = benchmark(cases(count), Options(metrics=("params",)), out="kept.jsonl", executor="ray",
                            address=cluster.address)  # fmt: skip
        found = []
        for number, record in enumerate(records, 1):
            found.append({"seed": record.case.seed, "status": record.status, "reason": record.reason,
                          "key": record.case.key, "target": record.case.target, "node": record.env.get("node"),
                          "lost": record.env.get("machines_lost", 0), "at": time.perf_counter() - begun})  # fmt: skip
            if number == 1:
                shutil.rmtree(folder / "theirs")
            if number == count // 4:
                cluster.remove_node(nodes[0], allow_graceful=False)
        return {"records": found, "seconds": time.perf_counter() - begun}
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    print(f"\n{json.dumps(main(Path(sys.argv[1]), int(sys.argv[2])))}")  # noqa: T201
