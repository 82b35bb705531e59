"""How measured peaks are kept: read, replaced, joined, and passed over where a file is not what it should be."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from roof_samples import CACHE, LADDER, PEAKS

from attnbench.core.errors import UnsupportedError
from attnbench.metrics.roof import cache
from attnbench.metrics.roof.cache import cache_folder, measured_peaks, no_peak
from attnbench.metrics.roof.peaks import Found, Peaks


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "attnbench"


@pytest.fixture
def measured(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Which dtypes were measured; each measurement is faster than the one before, and not disturbed."""
    asked: list[str] = []

    def measure(device: str, dtype: str, fingerprint: str) -> Peaks:
        asked.append(dtype)
        return replace(PEAKS, device=device, dtype=dtype, fingerprint=fingerprint, flops_per_s=1e9 * len(asked))

    monkeypatch.setattr(cache, "environment", lambda device: {"fingerprint": "abc"})
    monkeypatch.setattr(cache, "_measure", measure)
    monkeypatch.setattr(cache, "_known", {})
    yield asked


def forget() -> None:
    """What a new process knows."""
    cache._known.clear()


def test_what_was_measured_once_is_kept_for_the_next_process(measured: list[str], folder: Path) -> None:
    first = measured_peaks("cpu", "fp32")
    assert measured_peaks("cpu", "fp32") is first
    forget()
    assert measured_peaks("cpu", "fp32") == first
    assert measured == ["fp32"]
    assert [path.name for path in folder.iterdir()] == ["roof-abc.json"]


def test_each_dtype_is_kept_beside_the_others(measured: list[str]) -> None:
    for dtype in ("fp32", "bf16", "fp32", "bf16"):
        forget()
        assert measured_peaks("cpu", dtype).dtype == dtype
    assert measured == ["fp32", "bf16"]


def test_fresh_measures_anew_and_replaces(measured: list[str]) -> None:
    assert measured_peaks("cpu", "fp32").flops_per_s == 1e9
    assert measured_peaks("cpu", "fp32", fresh=True).flops_per_s == 2e9
    forget()
    assert measured_peaks("cpu", "fp32").flops_per_s == 2e9


def test_another_environment_has_its_own(measured: list[str], monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    measured_peaks("cpu", "fp32")
    monkeypatch.setattr(cache, "environment", lambda device: {"fingerprint": "other"})
    measured_peaks("cpu", "fp32")
    assert measured == ["fp32", "fp32"]
    assert {path.name for path in folder.iterdir()} == {"roof-abc.json", "roof-other.json"}


def _changed(**changes: Any) -> str:
    return json.dumps({"schema": 1, "peaks": [{**replace(PEAKS, fingerprint="abc").to_dict(), **changes}]})


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", "5", '{"schema": 1}', '{"schema": 2, "peaks": []}', '{"schema": 1, "peaks": [5]}',
     '{"schema": 1, "peaks": 7}', '{"schema": 1, "peaks": [{}]}', "\x00\xff", _changed(flops_per_s="fast"),
     _changed(flops_per_s=0), _changed(flops_per_s=float("nan")), _changed(ladder=[]), _changed(ladder=None),
     _changed(ladder=[{"footprint": 1}]), _changed(ladder=[5]), _changed(surprise=1), _changed(fingerprint="another"),
     _changed(ladder=[{"footprint": 1, "copy": -1, "read": 1, "fill": 1}]), _changed(cache_bytes=None),
     _changed(times="often"), _changed(threads="two"),
     _changed(ladder=[{"footprint": "long", "copy": 1, "read": 1, "fill": 1}])],
)  # fmt: skip
def test_a_file_that_is_not_what_it_should_be_is_measured_anew(text: str, measured: list[str], folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "roof-abc.json").write_text(text, encoding="latin-1")
    assert measured_peaks("cpu", "fp32").flops_per_s == 1e9
    forget()
    measured_peaks("cpu", "fp32")
    assert measured == ["fp32"]


def test_where_nothing_can_be_written_it_is_measured_once_a_process(
    measured: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.parent.mkdir()
    folder.write_text("a file in the place of the folder")
    for _ in range(2):
        forget()
        assert measured_peaks("cpu", "fp32") == measured_peaks("cpu", "fp32")
    assert measured == ["fp32", "fp32"]
    assert folder.read_text() == "a file in the place of the folder"


def test_without_permission_no_half_file_is_left(
    measured: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path, target: Path) -> None:
        raise PermissionError(13, "Permission denied", str(target))

    monkeypatch.setattr(Path, "replace", refuse)
    measured_peaks("cpu", "fp32")
    assert list(folder.iterdir()) == []


def test_a_user_without_a_home_is_no_error(measured: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", homeless)
    assert measured_peaks("cpu", "fp32").flops_per_s == 1e9


@pytest.mark.parametrize(
    ("measured_rates", "told"),
    [
        ([(9e9, True), (8e9, False)], [(9e9, True), (9e9, False), (9e9, False), (9e9, False)]),
        ([(9e9, True), (5e9, True), (8e9, True)], [(9e9, True), (9e9, True), (9e9, True), (9e9, True)]),
        ([(7e9, False)], [(7e9, False)] * 4),
    ],
)
def test_what_was_disturbed_is_measured_again_by_the_next_processes_but_not_for_ever(
    measured: list[str], measured_rates: list[tuple[float, bool]], told: list[tuple[float, bool]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    found = iter(measured_rates)

    def measure(device: str, dtype: str, fingerprint: str) -> Peaks:
        rate, disturbed = next(found)
        return replace(PEAKS, fingerprint=fingerprint, flops_per_s=rate, disturbed=disturbed)

    monkeypatch.setattr(cache, "_measure", measure)
    heard = []
    for _ in told:
        forget()
        peaks = measured_peaks("cpu", "fp32")
        assert measured_peaks("cpu", "fp32") is peaks
        heard.append((peaks.flops_per_s, peaks.disturbed))
    assert heard == told
    assert list(found) == []
    assert peaks.times == len(measured_rates)


@pytest.mark.parametrize(
    ("platform", "environ", "folder"),
    [
        ("linux", {"XDG_CACHE_HOME": "/x"}, "/x/attnbench"),
        ("linux", {"XDG_CACHE_HOME": "relative"}, "/home/me/.cache/attnbench"),
        ("linux", {"XDG_CACHE_HOME": ""}, "/home/me/.cache/attnbench"),
        ("darwin", {}, "/home/me/Library/Caches/attnbench"),
        ("win32", {"LOCALAPPDATA": "/local"}, "/local/attnbench/Cache"),
        ("win32", {}, "/home/me/AppData/Local/attnbench/Cache"),
    ],
)
def test_the_usual_place_of_each_system(
    platform: str, environ: dict[str, str], folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(cache.sys, "platform", platform)
    monkeypatch.setattr(Path, "home", lambda: Path("/home/me"))
    assert cache_folder() == Path(folder)


@pytest.mark.parametrize(
    ("device", "dtype", "capability", "reason"),
    [("cpu", "tf32", None, "a CPU does not compute in tf32"), ("mps", "fp32", None, "no peak is measured on mps"),
     ("cuda:1", "fp32", None, "cuda:1 is not here"), ("cuda", "tf32", (7, 5), "this GPU has no tf32"),
     ("cuda", "tf32", (8, 0), ""), ("cuda", "bf16", (7, 5), ""), ("cpu", "fp16", None, "")],
)  # fmt: skip
def test_where_there_is_no_peak_it_is_said_why(
    device: str, dtype: str, capability: tuple[int, int] | None, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: capability is not None)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    found = no_peak(device, dtype)
    assert found.startswith(reason) and bool(found) == bool(reason)
    if reason:
        with pytest.raises(UnsupportedError, match=reason):
            measured_peaks(device, dtype)


def test_a_product_that_torch_does_not_have_is_a_reason(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise RuntimeError('"addmm_impl_cpu_" not implemented for \'Half\'')

    monkeypatch.setattr(cache, "find_peaks", refuse)
    monkeypatch.setattr(cache, "_known", {})
    with pytest.raises(UnsupportedError, match=r"the peak of fp16 on cpu cannot be measured.*not implemented"):
        measured_peaks("cpu", "fp16", fresh=True)


@pytest.mark.parametrize(("others", "disturbed"), [(None, False), (0.0, False), (0.4, False), (500.0, True)])
def test_what_was_measured_says_how(others: float | None, disturbed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "_found", lambda device, dtype: Found(1e9, "a product", LADDER, CACHE))
    monkeypatch.setattr(cache.OtherLoad, "cores", lambda self: others)
    torch.set_num_threads(1)
    found = cache._measure("cpu", "bf16", "abc")
    assert (found.device, found.dtype, found.fingerprint, found.threads) == ("cpu", "bf16", "abc", 1)
    assert (found.flops_per_s, found.ladder, found.disturbed) == (1e9, LADDER, disturbed)
    assert found.measured_at.endswith("+00:00")


@pytest.mark.parametrize(("others", "disturbed"), [(None, False), ((0, None), False), ((2, 5), True)])
def test_on_a_gpu_other_processes_disturb(others: Any, disturbed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    class Gpu:
        def others(self, pid: int) -> Any:
            return others

    monkeypatch.setattr(cache, "_found", lambda device, dtype: Found(1e9, "a product", LADDER, CACHE))
    monkeypatch.setattr(cache, "gpu_of", lambda device: Gpu())
    found = cache._measure("cuda", "bf16", "abc")
    assert (found.threads, found.disturbed) == (None, disturbed)
    monkeypatch.setattr(cache, "gpu_of", lambda device: None)
    assert not cache._measure("cuda", "bf16", "abc").disturbed


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_the_peaks_are_in_their_order(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "_known", {})
    found = {dtype: measured_peaks("cuda", dtype) for dtype in ("fp32", "bf16")}
    assert found["bf16"].flops_per_s > found["fp32"].flops_per_s > 1e11
    assert found["fp32"].bandwidth(1) >= found["fp32"].memory_bandwidth > 1e10
    assert found["fp32"].beyond_caches
    if torch.cuda.get_device_capability() >= (8, 0):
        assert measured_peaks("cuda", "tf32").flops_per_s > found["fp32"].flops_per_s
