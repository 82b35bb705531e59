"""The user's files go to another machine with what they import, and nobody sees in a record that they did."""

import json
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attnbench.core.case import Case
from attnbench.core.errors import UsageError
from attnbench.engine.executors import far_end, travel
from attnbench.engine.executors.far_end import FarEnd
from attnbench.engine.executors.travel import Names, Parcel, packed, unpacked
from attnbench.engine.workers.channels import Event, WorkerDied


def written(folder: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's working directory."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def names(parcel: Parcel) -> list[str]:
    return sorted(name for name, _ in parcel.files)


def test_a_file_goes_with_all_that_it_imports_from_its_folder(here: Path) -> None:
    written(here, {
        "lib/attn.py": "import torch, parts.core as c\nfrom tools import x\ndef later():\n    import late\n",
        "lib/parts/__init__.py": "", "lib/parts/core.py": "from . import rest\nimport deep", "lib/parts/rest.py": "",
        "lib/parts/more/kernel.cu": "", "lib/parts/weights.bin": "", "lib/parts/.git/hooks": "", "lib/late.py": "",
        "lib/tools.py": "import tools", "lib/deep.py": "", "lib/fast.cpp": "", "lib/other.py": "", "lib/torch.txt": "",
        "late.py": "", "other/x.py": "",
    })  # fmt: skip
    parcel = packed(["lib/attn.py:A", "lib/attn.py:B", "se", "timm:resnet18"])
    own = ["attn.py", "deep.py", "fast.cpp", "late.py", "parts/__init__.py", "parts/core.py", "parts/more/kernel.cu",
           "parts/rest.py", "tools.py"]  # fmt: skip
    assert names(parcel) == [f"1/{name}" for name in own]
    assert parcel.places == (("lib/attn.py", "1/attn.py"),)


def test_an_import_path_goes_from_the_working_directory_if_it_begins_there(here: Path) -> None:
    written(here, {"mine.py": "import pack", "pack/a.py": "", "pack/b.py": "", "model.py": "", "model/weights.py": ""})
    assert names(packed(["mine:A", "torch.nn:Linear"])) == ["0/mine.py", "0/pack/a.py", "0/pack/b.py"]
    assert names(packed(["pack.a:A"])) == ["0/pack/a.py", "0/pack/b.py"]
    assert names(packed(["model:A"])) == ["0/model.py", "0/model/weights.py"]  # which one wins is for Python to know


def test_what_does_not_parse_goes_as_it_is_since_who_runs_it_says_so(here: Path) -> None:
    written(here, {"a.py": "import b\nclass A(:", "b.py": ""})
    (here / "c.py").write_bytes(b"\0")
    assert names(packed(["a.py:A", "c.py"])) == ["1/a.py", "2/c.py"]


@pytest.mark.parametrize(
    ("limit", "value", "complaint"),
    [("_MOST_FILES", 3, "a.py cannot be sent to the nodes"), ("_MOST_BYTES", 2**20, "a.py cannot be sent"),
     ("_MOST_SEEN", 3, "pack cannot be sent to the nodes")],
)  # fmt: skip
def test_what_is_no_module_with_its_helpers_is_to_be_installed(
    here: Path, monkeypatch: pytest.MonkeyPatch, limit: str, value: int, complaint: str
) -> None:
    written(here, {"a.py": "import pack"} | {f"pack/{n}.py": "#" * 2**19 for n in range(4)})
    packed(["a.py"])
    monkeypatch.setattr(travel, limit, value)
    with pytest.raises(UsageError, match=f"{complaint}.*install it there as a package"):
        packed(["a.py"])


def test_a_file_that_is_gone_is_said(here: Path) -> None:
    with pytest.raises(UsageError, match=r"gone.py cannot be sent to the nodes: No such file"):
        packed(["gone.py:A"])


SPELLED = ("my.py", "./my.py", "sub/my.py", "../here/my.py", "ABSOLUTE/my.py")
TARGETS = st.sampled_from([f"{place}{name}" for place in SPELLED for name in (":A", ":B.c", "")] + ["se", "os:path"])


@pytest.fixture(scope="module")
def sent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Names, str, Path]]:
    """All spellings sent at once, that of the absolute one, and where they lie there."""
    here, there = tmp_path_factory.mktemp("here"), tmp_path_factory.mktemp("there")
    written(here, {"my.py": "X = 'top'", "sub/my.py": "X = 'sub'"})
    before = Path.cwd()
    os.chdir(here)
    places = [place.replace("ABSOLUTE", str(here)).replace("../here", f"../{here.name}") for place in SPELLED]
    try:
        yield unpacked(packed(places), there), str(here), there
    finally:
        os.chdir(before)


@given(target=TARGETS, insert=st.none() | TARGETS, swap=st.none() | TARGETS)
def test_names_lead_to_the_files_there_and_come_back_as_they_were_typed(
    sent: tuple[Names, str, Path], target: str, insert: str | None, swap: str | None
) -> None:
    names, here, there = sent

    def typed(text: str | None) -> str | None:
        return text and text.replace("ABSOLUTE", here).replace("../here", f"../{Path(here).name}")

    case = Case(str(typed(target)), insert=typed(insert), swap=typed(swap), height=4, width=4, tokens=16)
    request = {"do": "measure", "case": case.to_dict(), "options": {"metrics": ["static"]}}
    moved = names.outward(request)
    for text, new in ((case.target, moved["case"]["target"]), (case.insert, moved["case"]["insert"])):
        if text and ".py" in text:
            place = Path(new.partition(".py")[0] + ".py")
            assert place.is_relative_to(there)
            assert place.read_text() == ("X = 'sub'" if "sub/" in text else "X = 'top'")
            assert new.rpartition("my.py")[2] == text.rpartition("my.py")[2]
        else:
            assert new == text
    assert request["case"] == case.to_dict()
    assert names.homeward(json.loads(json.dumps(moved))) == json.loads(json.dumps(request))
    assert Case.from_dict(names.homeward(moved)["case"]).key == case.key


def test_messages_come_back_in_the_users_own_words(sent: tuple[Names, str, Path]) -> None:
    names, _, there = sent
    said = f"{there}/3/my.py does not import: No module named 'x' ({there}/3/a/b.py, {there}/1/my.py:A, {there}/0/m.py)"
    back = names.homeward({"reason": said, "samples": [1.5, None], "deep": [{"a": (said, 1)}]})
    plain = "sub/my.py does not import: No module named 'x' (sub/a/b.py, my.py:A, m.py)"
    assert back == {"reason": plain, "samples": [1.5, None], "deep": [{"a": [plain, 1]}]}


def test_a_request_without_a_case_goes_as_it_is() -> None:
    assert Names({}, {}).outward({"do": "hello", "device": "auto"}) == {"do": "hello", "device": "auto"}


class Worker:
    """Answers with the target it was asked about, and dies of a Case with seed 1."""

    def __init__(self, *, quiet: bool) -> None:
        self.stands = Path.cwd()
        self.threads: list[str | None] = []
        self.fresh_calls = 0

    def ask(self, request: Event, timeout: float | None = None) -> Iterator[Event]:
        self.threads.append(os.environ.get("OMP_NUM_THREADS"))
        target = request["case"]["target"]
        yield {"event": "note", "kind": "k", "text": f"{target[::-1]} {timeout}"}
        if request["case"]["seed"] == 1:
            raise WorkerDied("crashed", f"{target} crashed")
        yield {"event": "done", "status": "ok", "reason": target}

    def fresh(self) -> None:
        self.fresh_calls += 1


@pytest.fixture
def end(here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FarEnd]:
    written(here, {"my.py": ""})
    (tmp_path / "there").mkdir()
    monkeypatch.setattr(far_end.tempfile, "tempdir", str(tmp_path / "there"))
    monkeypatch.setattr(far_end, "WorkerChannel", Worker)
    end = FarEnd(packed(["my.py:A"]), quiet=True)
    yield end
    os.close(end._until)


def asked(end: FarEnd, **changes: Any) -> tuple[list[Event], Any]:
    return end.ask({"do": "measure", "case": Case("my.py:A", **changes).to_dict()}, 7.0)


def test_the_far_end_asks_about_a_copy_and_speaks_of_the_original(end: FarEnd, tmp_path: Path) -> None:
    (note, done), death = asked(end)
    there, timeout = note["text"].split()
    assert there[::-1].startswith(str(tmp_path / "there" / "attnbench-"))
    assert (timeout, done["reason"], death) == ("7.0", "my.py:A", None)


def test_the_far_end_tells_of_a_death_as_of_an_answer(end: FarEnd) -> None:
    events, death = asked(end, seed=1)
    assert [event["event"] for event in events] == ["note"]
    assert death == ("crashed", "my.py:A crashed")
    end.fresh()
    worker: Any = end._channel
    assert worker.fresh_calls == 1


def test_the_far_end_stands_among_the_files_and_is_swept_up_when_its_process_ends(end: FarEnd, tmp_path: Path) -> None:
    worker: Any = end._channel
    folder = worker.stands.parent
    assert worker.stands.name == "0"
    assert folder.parent == tmp_path / "there"
    os.close(end._until)  # as the kernel does
    end._until = os.open(os.devnull, os.O_RDONLY)
    until = time.monotonic() + 30
    while folder.exists() and time.monotonic() < until:
        time.sleep(0.01)
    assert not folder.exists()


@pytest.mark.parametrize("own", [True, False])
def test_threads_are_those_of_the_node_and_not_what_ray_counts(
    end: FarEnd, monkeypatch: pytest.MonkeyPatch, own: bool
) -> None:
    """What a process was started with stands in /proc; the rest came later."""
    environ = b"HOME=/root\0OMP_NUM_THREADS=3\0" if own else b"HOME=/root\0NO_OMP_NUM_THREADS=3\0"
    monkeypatch.setattr(far_end.Path, "read_bytes", lambda path: environ)
    monkeypatch.setenv("OMP_NUM_THREADS", "3" if own else "1")
    asked(end)
    worker: Any = end._channel
    assert worker.threads == ["3" if own else None]


def test_the_gpu_that_was_given(end: FarEnd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    assert end.ready() == "3"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert end.ready() is None
