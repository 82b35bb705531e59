"""Energy by a counter that ticks at a known power and a clock that moves only when somebody takes time."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from fake_nvml import OTHER_UUID, READINGS, FakeGpu, FakeNvml, install, process
from metrics_subjects import subject_of, values

from attnbench.core.record import Note, Reading
from attnbench.core.units import UNITS
from attnbench.metrics import energy, energy_counters
from attnbench.metrics.energy import Tick, energy_of, measure_energy, ticks_of, watts
from attnbench.metrics.energy_counters import NvmlCounter, RaplCounter, nvml_counter, rapl_counter
from attnbench.metrics.metric import Options, known
from attnbench.metrics.nvml import gpu_of
from attnbench.metrics.subject import Subject
from attnbench.report.footnotes import QUIET_KINDS


class World:
    """Time, power over time, and a counter that shows the energy of its last tick; a reading lasts `read_s`."""

    how, period_s = "a counter", 0.1

    def __init__(self, every: float = 0.1, busy: float = 300.0, idle: float = 50.0, read_s: float = 0.0) -> None:
        self.now, self.every, self.busy, self.idle, self.read_s = 1000.0, every, busy, idle, read_s
        self._joules, self._shown, self._next = 5e5, 5e5, 1000.0 + 0.6 * every

    def clock(self) -> float:
        return self.now

    def spend(self, seconds: float, drawn: float) -> None:
        end = self.now + seconds
        while self._next <= end:
            self._joules += (self._next - self.now) * drawn
            self.now, self._shown = self._next, self._joules
            self._next += self.every
        self._joules += (end - self.now) * drawn
        self.now = end

    def wait(self, seconds: float) -> None:
        self.spend(seconds, self.idle)

    def read(self) -> float | None:
        self.spend(self.read_s, self.idle)
        return self._shown

    def subject(self, step_ms: float, mode: str = "fwd") -> Subject:
        """Steps of so many milliseconds at full power, two samples in each."""

        def step(x: Any) -> Any:
            self.spend(step_ms / 1000, self.busy)
            return x

        return subject_of(step, (3,), where="cpu", mode=mode)

    def measured(self, step_ms: float, **options: Any) -> tuple[dict[str, Any], list[Note]]:
        subject = self.subject(step_ms)
        return values(energy_of(subject, Options(**options), self, self.clock, self.wait))


@pytest.mark.parametrize("every", [0.001, 0.02, 0.1])
@pytest.mark.parametrize("step_ms", [0.05, 0.7, 3.0, 11.0, 16.0])
def test_a_known_power_is_found_within_one_per_cent(step_ms: float, every: float) -> None:
    found, notes = World(every).measured(step_ms)
    assert found["energy.watts"] == pytest.approx(300, rel=0.01)
    assert found["energy.joules_per_step"] == pytest.approx(0.3 * step_ms, rel=0.01)
    assert found["energy.joules_per_sample"] == pytest.approx(0.15 * step_ms, rel=0.01)
    assert [note.kind for note in notes] == ["not_measured"]  # idle_watts, for which nobody asked


@pytest.mark.parametrize("every", [0.001, 0.02, 0.1, 0.3])
@pytest.mark.parametrize("step_ms", [25.0, 40.0, 90.0, 350.0, 2_000.0])
def test_a_long_step_blurs_the_ticks_and_the_method_says_by_how_much(step_ms: float, every: float) -> None:
    world = World(every)
    world.period_s = every
    found, notes = world.measured(step_ms)
    blur = _method(found)[3]
    assert found["energy.watts"] == pytest.approx(300, rel=max(0.01, blur))
    assert found["energy.joules_per_step"] == pytest.approx(0.3 * step_ms, rel=max(0.01, blur))
    assert blur <= max(min(every, step_ms / 1000) / 1.9, 0.01) + 0.0005  # rounded to a tenth of a per cent
    if blur > 0.021:
        assert any(note.kind == "imprecise" and f"±{blur:.1%}" in note.text for note in notes)


def test_joules_are_printed_as_millijoules_and_only_one_column_is() -> None:
    world = World()
    subject = world.subject(2.0)
    found = [each for each in energy_of(subject, Options(), world, world.clock, world.wait)
             if isinstance(each, Reading)]  # fmt: skip
    (column,) = (each for each in found if each.title)
    assert (column.name, column.title, column.unit, column.better) == (
        "energy.joules_per_step", "Energy", "J", "lower"
    )  # fmt: skip
    assert UNITS["J"].heading("Energy") == "Energy (mJ)"
    assert UNITS["J"].cell(0.0123) == "12.30"
    assert {each.name: (each.unit, each.better) for each in found}["energy.watts"] == ("W", "")
    assert UNITS["W"].cell(612.345) == "612.3"


@pytest.mark.parametrize(
    ("every", "max_time", "seconds", "ticks"),
    [
        (0.001, 2.0, 1.5, 94),  # a hundred times a chunk, whatever the ticks
        (0.1, 2.0, 1.9, 20),  # twenty ticks, whatever the second
        (0.3, 2.0, 2.5, 9),  # three seconds are all there is
        (0.3, 60.0, 5.7, 20),  # but when more is allowed
    ],
)
def test_the_window_holds_a_second_and_twenty_ticks(every: float, max_time: float, seconds: float, ticks: int) -> None:
    found, notes = World(every).measured(1.0, max_time=max_time)
    how, count, over, blur, kept = _method(found)
    assert (how, kept) == ("a counter", "gross: what idleness takes is in it")
    assert abs(count - ticks) <= (8 if ticks > 20 else 1 if ticks < 20 else 0)
    assert over == pytest.approx(seconds, abs=0.2)
    assert 0.001 < blur <= 0.01
    assert ("imprecise" in {note.kind for note in notes}) == (count < 20)


def _method(found: dict[str, Any]) -> tuple[str, int, float, float, str]:
    """Of `a counter, 20 ticks over 1.90 s, ±0.8%, gross: ...`: how, ticks, seconds, blur, what it is."""
    how, ticks, blur, kept = found["energy.method"].split(", ", 3)
    count, seconds = ticks.removesuffix(" s").split(" ticks over ")
    return how, int(count), float(seconds), float(blur.strip("±%")) / 100, kept


def test_few_ticks_are_said_with_their_distance() -> None:
    _, notes = World(0.5).measured(1.0)
    (note,) = (note for note in notes if note.kind == "imprecise")
    assert "6 ticks" in note.text
    assert "498 ms apart" in note.text
    assert "--max-time" in note.text


def test_a_step_longer_than_the_window_still_gets_its_two_ticks() -> None:
    world = World()
    found, notes = world.measured(60_000.0)
    assert found["energy.joules_per_step"] == pytest.approx(300 * 60, rel=0.01)
    assert "imprecise" in {note.kind for note in notes}
    assert world.now - 1000 < 5 * 60


def test_a_counter_that_never_ticks_gives_nothing_and_says_why() -> None:
    world = World(every=1e9)
    found, notes = world.measured(1.0)
    assert found == {}
    (note,) = notes
    assert note.kind == "not_measured"
    assert note.text.startswith("energy: a counter was not seen to move twice")
    assert world.now - 1000 < 4


class Canned:
    """A counter that gives these, then None."""

    how, period_s = "canned", 0.1

    def __init__(self, *readings: float | None) -> None:
        self._left = iter(readings)

    def read(self) -> float | None:
        return next(self._left, None)


@pytest.mark.parametrize("readings", [(), (None,), (5.0, 6.0, 7.0, None), (5.0, 6.0, 7.0, 1.0, *range(2, 400))])
def test_a_counter_that_fails_or_goes_back_has_no_ticks(readings: tuple[float | None, ...]) -> None:
    times = iter(range(1000))
    ticks = ticks_of(Canned(*readings), lambda: 1, 100.0, lambda: float(next(times)))
    assert ticks == []


def test_power_is_the_slope_between_the_first_and_the_last_tick() -> None:
    assert watts([Tick(1.0, 50.0, 0), Tick(2.0, 999.0, 5), Tick(3.5, 300.0, 9)]) == 100


def test_what_happens_before_things_settled_does_not_count() -> None:
    """A clock that ramps up: a tenth of a second at another power, inside the first 0.2 s."""
    world = World(0.02, busy=300)
    begin = world.now

    def advance() -> int:
        world.spend(0.015, 30.0 if world.now - begin < 0.1 else 300.0)
        return 3

    ticks = ticks_of(world, advance, 3.0, world.clock)
    assert ticks[0].seconds - begin >= 0.2
    assert watts(ticks) == pytest.approx(300, rel=0.01)
    assert (ticks[-1].steps - ticks[0].steps) / (ticks[-1].seconds - ticks[0].seconds) == pytest.approx(200)


def test_what_idleness_takes_is_taken_off_on_request() -> None:
    found, notes = World(busy=300, idle=50).measured(2.0, subtract_idle=True)
    assert found["energy.idle_watts"] == pytest.approx(50, rel=0.01)
    assert found["energy.watts"] == pytest.approx(300, rel=0.01)
    assert found["energy.joules_per_step"] == pytest.approx(0.002 * 250, rel=0.01)
    assert _method(found)[4] == "net: idle_watts are taken off the joules"
    assert notes == []


def test_a_small_difference_of_two_powers_is_as_blurred_as_both() -> None:
    """60 W less 50 W, each to 0.8 %: 0.9 W of 10."""
    found, notes = World(busy=60, idle=50).measured(1.0, subtract_idle=True)
    assert _method(found)[3] == pytest.approx(0.087, abs=0.006)
    assert found["energy.joules_per_step"] == pytest.approx(0.01, rel=0.09)
    assert [note.kind for note in notes] == ["imprecise"]


def test_steps_that_draw_less_than_idleness_have_no_net_energy() -> None:
    found, notes = World(busy=50, idle=60).measured(2.0, subtract_idle=True)
    assert set(found) == {"energy.method", "energy.watts", "energy.idle_watts"}
    assert [note.kind for note in notes] == ["not_measured"]
    assert "energy.joules_per_step" in notes[0].text


def test_a_counter_that_stands_still_at_rest_gives_no_net_energy() -> None:
    found, notes = World(every=1e9).measured(2.0, subtract_idle=True)
    assert found == {}
    assert "while the machine was idle" in notes[0].text


class Device:
    """A device with a queue of its own: it works while the host reads the counter, and idles when that is empty."""

    def __init__(self, world: World, step_s: float) -> None:
        self.world, self.step_s, self.end = world, step_s, world.now

    def pass_until(self, when: float) -> None:
        """Let time pass, at full power as long as there is work."""
        busy = min(when, self.end) - self.world.now
        if busy > 0:
            self.world.spend(busy, self.world.busy)
        if when > self.world.now:
            self.world.spend(when - self.world.now, self.world.idle)

    def launch(self, steps: int) -> None:
        self.end = max(self.end, self.world.now) + steps * self.step_s

    def read(self) -> float | None:
        self.pass_until(self.world.now + 0.005)
        return self.world.read()


class DeviceMark:
    def __init__(self, device: Device) -> None:
        self._device, self._end = device, device.end

    def synchronize(self) -> None:
        self._device.pass_until(self._end)


def test_on_cuda_the_device_never_waits_for_the_counter_to_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading takes a third of a chunk; a device that idled meanwhile would show 250 W and too many joules."""
    world = World(0.02, busy=300, idle=100)
    device = Device(world, 20e-6)
    subject = subject_of(lambda x: x, (3,), where="cpu")
    subject.case = subject.case.with_(device="cuda")
    monkeypatch.setattr(Subject, "repeat", lambda self, steps: device.launch(steps))
    monkeypatch.setattr(Subject, "synchronize", lambda self: device.pass_until(device.end))
    monkeypatch.setattr(energy, "_mark", lambda: DeviceMark(device))

    class ReadWhileItWorks:
        how, period_s = "a counter", 0.1

        def read(self) -> float | None:
            return device.read()

    found, _ = values(energy_of(subject, Options(), ReadWhileItWorks(), world.clock, world.wait))
    assert found["energy.watts"] == pytest.approx(300, rel=0.01)
    assert found["energy.joules_per_step"] == pytest.approx(300 * 20e-6, rel=0.01)
    assert world.now == device.end  # and nothing is left in the queue


def package(root: Path, number: str, name: str, now: int, most: int = 262_143_328_850) -> Path:
    folder = root / f"intel-rapl:{number}"
    folder.mkdir(exist_ok=True)
    for file, value in (("name", name), ("energy_uj", now), ("max_energy_range_uj", most)):
        (folder / file).write_text(f"{value}\n")
    return folder


def test_rapl_sums_packages_and_nothing_twice(tmp_path: Path) -> None:
    packages = [package(tmp_path, "0", "package-0", 5_000_000), package(tmp_path, "1", "package-1", 7_000_000)]
    others = [package(tmp_path, "0:0", "core", 1), package(tmp_path, "0:1", "dram", 1),
              package(tmp_path, "2", "psys", 1)]  # fmt: skip
    counter = rapl_counter(tmp_path)
    assert isinstance(counter, RaplCounter)
    assert counter.read() == 0
    for folder in others:
        (folder / "energy_uj").write_text("99000000\n")
    assert counter.read() == 0
    for folder, now in zip(packages, (6_500_000, 7_250_000), strict=True):
        (folder / "energy_uj").write_text(f"{now}\n")
    assert counter.read() == pytest.approx(1.5 + 0.25)


def test_rapl_begins_anew_at_its_range(tmp_path: Path) -> None:
    folder = package(tmp_path, "0", "package-0", 262_143_000_000)
    other = package(tmp_path, "1", "package-1", 0)
    counter = rapl_counter(tmp_path)
    assert isinstance(counter, RaplCounter)
    (folder / "energy_uj").write_text("671150\n")
    (other / "energy_uj").write_text("500000\n")
    assert counter.read() == pytest.approx(0.32885 + 0.67115 + 0.5)
    (folder / "energy_uj").write_text("1671150\n")
    assert counter.read() == pytest.approx(2.5)


def test_rapl_that_goes_away_is_none(tmp_path: Path) -> None:
    folder = package(tmp_path, "0", "package-0", 5)
    counter = rapl_counter(tmp_path)
    assert isinstance(counter, RaplCounter)
    (folder / "energy_uj").unlink()
    assert counter.read() is None


def test_a_system_without_rapl_says_so(tmp_path: Path) -> None:
    assert "shows no energy counter" in str(rapl_counter(tmp_path / "none"))
    package(tmp_path, "0", "psys", 5)
    assert "shows no energy counter" in str(rapl_counter(tmp_path))


def test_rapl_that_is_for_root_alone_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package(tmp_path, "0", "package-0", 5)
    read = Path.read_text

    def refused(self: Path) -> str:
        if self.name == "energy_uj":
            raise PermissionError(13, "Permission denied")
        return read(self)

    monkeypatch.setattr(Path, "read_text", refused)
    assert "for root alone" in str(rapl_counter(tmp_path))


def test_rapl_that_is_not_a_number_says_so(tmp_path: Path) -> None:
    (package(tmp_path, "0", "package-0", 5) / "energy_uj").write_text("\n")
    assert "cannot be read" in str(rapl_counter(tmp_path))


def test_the_counter_of_a_gpu_is_in_joules(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, FakeNvml(FakeGpu()))
    counter = nvml_counter(gpu_of("cuda"))
    assert isinstance(counter, NvmlCounter)
    assert counter.read() == 123_456.789


def test_a_slice_of_a_gpu_has_no_energy_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = FakeGpu(readings={**READINGS, "nvmlDeviceGetMigMode": [1, 1]})
    part = FakeGpu(uuid=f"MIG-{OTHER_UUID}", readings={}, parent=whole)
    for gpus in ((whole, part), (whole,)):
        install(monkeypatch, FakeNvml(*gpus))
        assert "MIG" in str(nvml_counter(gpu_of("cuda")))


def test_a_gpu_that_counts_no_energy_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    readings = {name: value for name, value in READINGS.items() if "Energy" not in name}
    install(monkeypatch, FakeNvml(FakeGpu(readings=readings)))
    assert "counts no energy" in str(nvml_counter(gpu_of("cuda")))
    assert "NVML cannot be read" in str(nvml_counter(None))


@pytest.fixture
def silent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A CPU without RAPL."""
    monkeypatch.setattr(energy, "counter_of", lambda device: rapl_counter(tmp_path))


@pytest.mark.usefixtures("silent")
def test_without_a_counter_nothing_is_run_and_only_a_quiet_note_tells() -> None:
    ran: list[int] = []
    subject = subject_of(lambda x: ran.append(1) or x, (3,), where="cpu")
    found, notes = values(measure_energy(subject, Options()))
    assert (found, ran) == ({}, [])
    assert {note.kind for note in notes} == {"not_measured"} <= QUIET_KINDS
    assert notes[0].text.startswith("energy: this system shows no energy counter of its CPU")


def test_a_backward_alone_has_no_energy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(energy, "counter_of", lambda device: World())
    subject = subject_of(lambda x: x, (3,), where="cpu", mode="fwd_bwd")
    subject.case = subject.case.with_(mode="bwd")
    found, (note,) = values(measure_energy(subject, Options()))
    assert found == {}
    assert (note.kind, note.text) == ("not_measured", "energy: a backward alone cannot be run back to back")


def test_the_counter_is_that_of_the_device(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    install(monkeypatch, FakeNvml(FakeGpu()))
    assert isinstance(energy_counters.counter_of("cuda"), NvmlCounter)
    package(tmp_path, "0", "package-0", 5)
    monkeypatch.setattr(energy_counters, "_POWERCAP", tmp_path)
    assert isinstance(energy_counters.counter_of("cpu"), RaplCounter)


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., tuple[dict[str, Any], list[Note]]]]:
    """`measure_energy` of steps of 2 ms in a canned world, with so many cores busy for others."""

    def measure(others: float | None, device: str = "cpu") -> tuple[dict[str, Any], list[Note]]:
        world = World()
        whole = energy_of
        subject = world.subject(2.0)
        monkeypatch.setattr(energy, "counter_of", lambda _: world)
        monkeypatch.setattr(energy, "energy_of", lambda *words: whole(*words, world.clock, world.wait))
        monkeypatch.setattr(energy.OtherLoad, "cores", lambda self: others)
        found = list(measure_energy(subject, Options()))
        subject.case = subject.case.with_(device=device)
        found += energy._doubts(subject.case, energy.OtherLoad()) if device != "cpu" else []
        return values(iter(found))

    return measure


@pytest.mark.parametrize(("others", "loud"), [(None, []), (0.05, []), (0.5, ["busy"])])
def test_a_package_holds_the_energy_of_others_and_says_so_aloud_where_there_are_any(
    timed: Callable[..., tuple[dict[str, Any], list[Note]]], others: float | None, loud: list[str]
) -> None:
    found, notes = timed(others)
    assert found["energy.joules_per_step"] == pytest.approx(0.6, rel=0.01)
    assert [note.kind for note in notes if note.kind not in QUIET_KINDS] == loud
    assert any("whole CPU package" in note.text for note in notes)


def test_others_on_the_gpu_are_in_its_energy(monkeypatch: pytest.MonkeyPatch) -> None:
    case = subject_of(lambda x: x, (3,), where="cpu").case.with_(device="cuda")
    for running, kinds in (([], []), ([process(9_000_001, 5), process(9_000_002, 5)], ["busy"])):
        readings = {**READINGS, "nvmlDeviceGetComputeRunningProcesses": running}
        install(monkeypatch, FakeNvml(FakeGpu(readings=readings)))
        assert [note.kind for note in energy._doubts(case, energy.OtherLoad())] == kinds


def test_the_instrument_is_known() -> None:
    assert known()["energy"].fields == ("energy",)
    assert known()["energy"].live


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_work_takes_energy() -> None:
    counter = nvml_counter(gpu_of("cuda"))
    if isinstance(counter, str):
        pytest.skip(counter)
    subject = subject_of(lambda x: x @ x, (4096, 4096), where="cuda")
    subject.case = subject.case.with_(device="cuda")
    before = counter.read()
    found, notes = values(measure_energy(subject, Options(subtract_idle=True)))
    after = counter.read()
    assert before is not None
    assert after is not None
    assert after > before, "the energy counter did not rise under load"
    assert 1 < found["energy.idle_watts"] < found["energy.watts"] < 2000
    # 137 GFLOP: no GPU of today does more than 10 TFLOP a joule, nor less than 1 GFLOP.
    assert 0.0137 < found["energy.joules_per_step"] < 137
    assert {note.kind for note in notes} <= {"not_measured", "imprecise", "busy"}
