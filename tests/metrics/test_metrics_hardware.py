"""What the machine says of itself, from canned system files."""

import hashlib
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from fake_nvml import READINGS, FakeGpu, FakeNvml, install

from attnbench.core.commit import git_commit
from attnbench.metrics import hardware
from attnbench.metrics.hardware import environment, flags, free_bytes

MEMINFO = "MemTotal:       16000000 kB\nMemFree:         1000000 kB\nMemAvailable:    8000000 kB\nBuffers: 1 kB\n"
AVAILABLE = 8_000_000 * 1024
GROUP = "/sys/fs/cgroup/memory."

# The design's contract for the `env` object of a record.
CONTRACT = {"fingerprint", "device_name", "driver", "cuda", "torch", "python", "cpu", "git_commit", "clocks",
            "throttle_reasons", "started_at"}  # fmt: skip

Files = Callable[[dict[str, str]], None]


@pytest.fixture
def files(monkeypatch: pytest.MonkeyPatch) -> Files:
    """Put these files in the place of the whole file system."""

    def put(contents: dict[str, str]) -> None:
        def read_text(self: Path, *_: object, **__: object) -> str:
            if str(self) not in contents:
                raise FileNotFoundError(2, "No such file", str(self))
            return contents[str(self)]

        monkeypatch.setattr(Path, "read_text", read_text)

    return put


def cgroup(limit: str, used: int, inactive: int | None = 0) -> dict[str, str]:
    stat = "anon 5\nfile 7\n" + ("" if inactive is None else f"inactive_file {inactive}\n")
    return {f"{GROUP}max": f"{limit}\n", f"{GROUP}current": f"{used}\n", f"{GROUP}stat": stat}


@pytest.mark.parametrize(
    ("contents", "free"),
    [
        ({"/proc/meminfo": MEMINFO}, AVAILABLE),
        ({"/proc/meminfo": MEMINFO, **cgroup("max", 5)}, AVAILABLE),
        ({"/proc/meminfo": MEMINFO, **cgroup("4000000000", 1_000_000_000)}, 3_000_000_000),
        ({"/proc/meminfo": MEMINFO, **cgroup("4000000000", 1_000_000_000, 300)}, 3_000_000_300),
        ({"/proc/meminfo": MEMINFO, **cgroup("4000000000", 1_000_000_000, None)}, 3_000_000_000),
        ({"/proc/meminfo": MEMINFO, **cgroup("4000000000", 5_000_000_000)}, 0),
        ({"/proc/meminfo": MEMINFO, **cgroup("99999999999999", 1)}, AVAILABLE),
        (cgroup("100", 40), 60),
        ({"/proc/meminfo": "MemTotal: 5 kB\n"}, None),
        ({"/proc/meminfo": "MemAvailable: many kB\n"}, None),
        ({f"{GROUP}max": "100\n"}, None),
        ({}, None),
    ],
)
def test_free_memory_is_what_the_host_and_the_container_leave(
    files: Files, contents: dict[str, str], free: int | None
) -> None:
    files(contents)
    assert free_bytes("cpu") == free


def test_the_environment_has_the_fields_of_the_contract() -> None:
    found = environment("cpu")
    assert set(found) >= CONTRACT
    assert found["torch"] == torch.__version__
    assert (found["driver"], found["cuda"]) == (None, None)
    assert found["started_at"].endswith("+00:00")
    assert len(found["fingerprint"]) == 16


def test_the_fingerprint_is_the_same_twice_and_another_with_other_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    first, again = environment("cpu"), environment("cpu")
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    other = environment("cpu")
    assert first["fingerprint"] == again["fingerprint"] != other["fingerprint"]
    assert (first["threads"], other["threads"]) == (3, 4)


@pytest.mark.parametrize("fact", ["device_name", "torch", "python", "cpu", "cores", "system"])
def test_every_lasting_fact_is_in_the_fingerprint(fact: str, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = hardware._lasting_facts("cpu")
    before = environment("cpu")["fingerprint"]
    monkeypatch.setattr(hardware, "_lasting_facts", lambda device: {**facts, fact: "another"})
    assert environment("cpu")["fingerprint"] != before


def test_what_passes_is_not_in_the_fingerprint(monkeypatch: pytest.MonkeyPatch) -> None:
    before = environment("cpu")
    monkeypatch.setattr(hardware, "git_commit", lambda: "another")
    monkeypatch.setattr(hardware.os, "getloadavg", lambda: (99.0, 0.0, 0.0))
    after = environment("cpu")
    assert (after["git_commit"], after["load_average"]) == ("another", 99.0)
    assert after["fingerprint"] == before["fingerprint"]


def test_a_folder_without_git_has_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert git_commit.__wrapped__() is None
    monkeypatch.setenv("PATH", "")
    assert git_commit.__wrapped__() is None


def test_the_name_of_the_processor(files: Files) -> None:
    files({"/proc/cpuinfo": "processor : 0\nmodel name\t: A Fast One: 3 GHz\nmodel name\t: Another\n"})
    assert hardware._cpu_name.__wrapped__() == "A Fast One: 3 GHz"
    files({"/proc/cpuinfo": "Hardware : an arm board\n"})
    assert hardware._cpu_name.__wrapped__()


def test_the_best_device_is_what_torch_can_use(monkeypatch: pytest.MonkeyPatch) -> None:
    for available, device in ((True, "cuda"), (False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda answer=available: answer)
        assert hardware.best_device() == device


def _moment(monkeypatch: pytest.MonkeyPatch, files: Files, wall: float, own: float, ticks: str) -> None:
    monkeypatch.setattr(hardware.os, "sysconf", lambda name: 100)
    times = hardware.os.times_result((own / 2, own / 2, 0.0, 0.0, wall))
    monkeypatch.setattr(hardware.os, "times", lambda: times)
    files({"/proc/stat": f"cpu  {ticks}\ncpu0 1 2 3\n"})


@pytest.mark.parametrize(
    ("after", "own", "cores"),
    [
        # user nice system idle iowait irq softirq steal guest guest_nice: hundredths of a second over all cores
        ("1000 0 0 1000 0 0 0 0 0 0", 0.0, 0.0),
        ("2000 0 0 1000 0 0 0 0 0 0", 0.0, 1.0),
        ("2000 0 0 1000 0 0 0 0 0 0", 10.0, 0.0),
        ("2500 500 1000 1000 0 0 0 1000 0 0", 10.0, 3.0),  # stolen time is somebody's
        ("1000 0 0 3000 5000 0 0 0 0 0", 0.0, 0.0),  # waiting for a disk is idle
        ("2000 0 0 1000 0 0 0 0 900 0", 0.0, 1.0),  # a guest's time is in the user's already
        ("1500 0 0 1000 0 0 0 0 0 0", 10.0, 0.0),  # ticks are coarse: never below zero
    ],
)
def test_the_cores_that_others_keep_busy(
    files: Files, monkeypatch: pytest.MonkeyPatch, after: str, own: float, cores: float
) -> None:
    _moment(monkeypatch, files, 0.0, 0.0, "1000 0 0 1000 0 0 0 0 0 0")
    load = hardware.OtherLoad()
    _moment(monkeypatch, files, 10.0, own, after)
    assert load.cores() == pytest.approx(cores)


def test_where_the_system_does_not_tell_the_load_of_others_is_unknown(files: Files) -> None:
    files({})
    assert hardware.OtherLoad().cores() is None


# Of these a fingerprint was made before there were others, and records of that time are still compared by it.
FINGERPRINTED = ("device_name", "driver", "cuda", "torch", "python", "cpu", "cores", "system", "malloc", "threads")


def fingerprint_by_hand(facts: dict[str, Any]) -> str:
    text = "\n".join(f"{name}={value}" for name, value in sorted(facts.items()))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def test_the_fingerprint_of_a_cpu_is_made_of_what_it_always_was() -> None:
    found = environment("cpu")
    assert found["fingerprint"] == fingerprint_by_hand({name: found[name] for name in FINGERPRINTED})


def test_a_cpu_has_nothing_of_a_gpu() -> None:
    found = environment("cpu")
    names = ("ecc", "mig", "persistence", "cudnn", "compute_capability")
    assert {name: found[name] for name in names} == dict.fromkeys(names)


@pytest.fixture
def _fresh_facts() -> Iterator[None]:
    hardware._lasting_facts.cache_clear()
    yield
    hardware._lasting_facts.cache_clear()


def on_cuda(monkeypatch: pytest.MonkeyPatch, **changed: Any) -> dict[str, Any]:
    readings = {name: value for name, value in (READINGS | changed).items() if value is not None}
    install(monkeypatch, FakeNvml(FakeGpu(readings=readings)))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H100")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: 90701)
    return environment("cuda")


@pytest.mark.usefixtures("_fresh_facts")
def test_the_facts_of_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    found = on_cuda(monkeypatch)
    assert (found["device_name"], found["driver"]) == ("NVIDIA H100", "570.133.20")
    assert (found["ecc"], found["mig"], found["persistence"]) == (True, False, True)
    assert (found["cudnn"], found["compute_capability"]) == (90701, "9.0")


@pytest.mark.usefixtures("_fresh_facts")
def test_ecc_and_slices_make_another_gpu_and_other_facts_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    before = on_cuda(monkeypatch)
    assert before["fingerprint"] == fingerprint_by_hand(
        {name: before[name] for name in (*FINGERPRINTED, "ecc", "mig")}
    )  # fmt: skip
    assert on_cuda(monkeypatch, nvmlDeviceGetEccMode=[0, 0])["fingerprint"] != before["fingerprint"]
    assert on_cuda(monkeypatch, nvmlDeviceGetMigMode=[1, 1])["fingerprint"] != before["fingerprint"]
    after = on_cuda(monkeypatch, nvmlDeviceGetPersistenceMode=0)
    assert (after["persistence"], after["fingerprint"]) == (False, before["fingerprint"])


@pytest.mark.usefixtures("_fresh_facts")
def test_a_gpu_that_does_not_tell_its_modes_has_the_fingerprint_without_them(monkeypatch: pytest.MonkeyPatch) -> None:
    found = on_cuda(monkeypatch, nvmlDeviceGetEccMode=None, nvmlDeviceGetMigMode=None)
    assert (found["ecc"], found["mig"]) == (None, None)
    assert found["fingerprint"] == fingerprint_by_hand({name: found[name] for name in FINGERPRINTED})


CPUS = "/sys/devices/system/cpu"


def test_the_settings_of_the_cpu(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware.os, "sched_getaffinity", lambda _: {2, 3}, raising=False)
    files({
        f"{CPUS}/smt/active": "1\n",
        f"{CPUS}/cpu0/cpufreq/scaling_governor": "userspace\n",
        f"{CPUS}/cpu2/cpufreq/scaling_governor": "powersave\n",
        f"{CPUS}/cpu3/cpufreq/scaling_governor": "performance\n",
        f"{CPUS}/cpu2/cache/index0/level": "1\n", f"{CPUS}/cpu2/cache/index0/size": "48K\n",
        f"{CPUS}/cpu2/cache/index2/level": "2\n", f"{CPUS}/cpu2/cache/index2/size": "2048K\n",
        f"{CPUS}/cpu2/cache/index3/level": "3\n", f"{CPUS}/cpu2/cache/index3/size": "266240K\n",
    })  # fmt: skip
    assert hardware._cpu_facts() == {
        "governor": "performance, powersave", "smt": True, "affinity": 2, "l2_bytes": 2 * 2**20,
        "l3_bytes": 260 * 2**20,
    }  # fmt: skip


def test_a_cpu_of_which_the_system_tells_nothing(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(hardware.os, "sched_getaffinity", raising=False)
    files({f"{CPUS}/smt/active": "notimplemented\n", f"{CPUS}/cpu0/cache/index2/size": "lots\n"})
    names = ("governor", "smt", "affinity", "l2_bytes", "l3_bytes")
    assert hardware._cpu_facts() == dict.fromkeys(names)


def test_the_flags_are_those_of_torch_now(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    torch.use_deterministic_algorithms(True)
    try:
        found = flags()
    finally:
        torch.use_deterministic_algorithms(False)
    assert (found["cudnn_benchmark"], found["deterministic"]) == (True, True)
    assert (flags()["deterministic"], environment("cpu")["flags"]) == (False, flags())
    assert found["float32_matmul_precision"] in ("highest", "high", "medium")
    assert isinstance(found["allow_tf32_matmul"], bool)
    assert isinstance(found["allow_tf32_cudnn"], bool)


def test_switches_that_contradict_each_other_are_unknown_and_old_ones_do_not_complain(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def contradicts() -> str:
        raise RuntimeError("you have used mix of the legacy and new APIs")

    def old() -> str:
        warnings.warn("please use the new API", stacklevel=2)
        return "high"

    for switch, value in ((contradicts, None), (old, "high")):
        monkeypatch.setattr(torch, "get_float32_matmul_precision", switch)
        assert flags()["float32_matmul_precision"] == value


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_its_facts_are_known() -> None:
    found = environment("cuda")
    assert found["driver"]
    assert found["cudnn"] > 8000
    assert float(found["compute_capability"]) >= 5
    assert found["ecc"] in (True, False, None)
