"""The main job as people start it: real processes, real files, the figures that can be known exactly."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from attnbench.core.store import load

THREE = "self_attn,pseudo_linear_attn,linear_attn"


def attnbench(*words: str, cwd: Path, **fields: object) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "COLUMNS": "120"}
    command = [sys.executable, "-m", "attnbench", *words]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300, **fields)


def test_the_first_command_shows_a_true_table_and_keeps_the_record(tmp_path: Path) -> None:
    done = attnbench("run", "--module", "self_attn", "--res", "64", "--max-time", "0.1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (row,) = [line for line in done.stdout.splitlines() if line.startswith("self_attn")]
    assert "64x64" in row
    assert "5,201" in row
    assert "1.229" in row
    (kept,) = (tmp_path / "results").glob("*.jsonl")
    assert str(kept.relative_to(tmp_path)) in done.stderr
    (record,) = load(kept).records
    assert record.value("static.macs") == 1_228_931_072
    assert record.value("static.verified") is True
    assert record.value("latency.ci_low_ms") <= record.value("latency.median_ms") <= record.value("latency.ci_high_ms")
    # The N x N map twice (scores and softmax), 64 MiB each, and little else.
    assert 2 * 4096**2 * 4 < record.value("memory.peak_bytes") < 2.1 * 4096**2 * 4
    assert record.value("memory.peak_bytes") == record.value("static.predicted_peak_bytes")


def test_the_repro_line_gives_the_same_question_again(tmp_path: Path) -> None:
    attnbench("run", "-m", "cbam", "--res", "8x6", "--dim", "32", "--set", "kernel_size=7", "--max-time", "0.05",
              "-o", "a.jsonl", cwd=tmp_path)  # fmt: skip
    (first,) = load(tmp_path / "a.jsonl").records
    words = first.repro.split()[1:]
    done = attnbench(*words, "--max-time", "0.05", "-o", "b.jsonl", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (again,) = load(tmp_path / "b.jsonl").records
    assert again.case == first.case
    assert again.key == first.key


def test_a_sweep_in_every_format(cli, tmp_path: Path) -> None:
    outs = [word for name in ("t.md", "t.csv", "t.json", "t.jsonl") for word in ("-o", name)]
    code, out, err = cli("run", "--no-isolate", "-m", THREE, "--res", "4,8", "--max-time", "0.02", *outs)
    assert code == 0
    assert "6 records in t.jsonl, t.md, t.csv, t.json" in err
    assert not (tmp_path / "results").exists()
    assert out.count("1.00 (base)") >= 2
    records = load(tmp_path / "t.jsonl").records
    assert [record.case.name for record in records] == THREE.split(",") * 2
    assert len(json.loads((tmp_path / "t.json").read_text())) == 6
    with (tmp_path / "t.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["Params"] for row in rows[:3]] == ["5201", "9360", "16640"]
    base, other = (float(rows[index]["Latency (ms)"]) for index in (0, 2))
    assert float(rows[2]["Speed-up (×)"]) == pytest.approx(base / other)
    assert "| linear_attn" in (tmp_path / "t.md").read_text()


def test_another_baseline(cli, tmp_path: Path) -> None:
    code, out, _ = cli("run", "--no-isolate", "-m", "self_attn,linear_attn", "--res", "4", "--max-time", "0.02",
                       "--baseline", "linear_attn", "-o", "t.md", "-o", "t.jsonl")  # fmt: skip
    assert code == 0
    for text in (out, (tmp_path / "t.md").read_text()):
        based = [line for line in text.splitlines() if "(base)" in line]
        assert len(based) == 1
        assert based[0].lstrip("| ").startswith("linear_attn")


@pytest.mark.parametrize("isolate", ["--isolate", "--no-isolate"])
def test_the_users_folder_gives_packages_but_does_not_shadow_the_standard_library(tmp_path: Path, isolate: str) -> None:
    for name in ("queue", "json", "inspect"):
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('I am not the standard library')\n")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "attn.py").write_text("from torch.nn import Identity as Same\n")
    (tmp_path / "start.py").write_text("from attnbench.cli import main\nmain()\n")
    words = ["run", isolate, "-m", "mine.attn:Same", "--res", "4", "--metrics", "static", "-o", "x.jsonl"]
    # As the installed command starts: the folder is not on the path of the parent.
    done = subprocess.run([sys.executable, "-P", "start.py", *words], cwd=tmp_path, capture_output=True, text=True,
                          timeout=120, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path[1:])})  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "mine.attn:Same" in done.stdout


def test_a_second_run_into_the_same_file_appends(cli, tmp_path: Path) -> None:
    for _ in range(2):
        assert cli("run", "--no-isolate", "-m", "se", "--metrics", "static", "-o", "all.jsonl").code == 0
    assert len(load(tmp_path / "all.jsonl").records) == 2


@pytest.mark.parametrize("name", ["json", "jsonl", "csv", "md"])
def test_standard_output_holds_nothing_but_the_format(cli, name: str) -> None:
    """A module's own prints, the progress and the farewell must not get into a pipe."""
    code, out, _ = cli("run", "-m", "se,cbam", "--res", "4", "--metrics", "static", "--format", name)
    assert code == 0
    if name == "json":
        assert [record["case"]["target"] for record in json.loads(out)] == ["se", "cbam"]
    else:
        first = {"jsonl": "{", "csv": "Module,", "md": "cpu"}[name]
        assert out.lstrip("*_ ").startswith(first)


def test_the_blog_posts_table(cli) -> None:
    networks = "vgg16,vgg16+pseudo_linear_attn,vgg16+linear_attn"
    code, out, _ = cli("run", "--no-isolate", "--network", networks, "--img-size", "224", "--metrics", "static")
    assert code == 0
    cells = {line.split()[0]: line for line in out.splitlines() if line.startswith("vgg16")}
    assert "138,357,544" in cells["vgg16"]
    assert "15.47" in cells["vgg16"]
    assert "139,734,040" in cells["vgg16+pseudo_linear_attn"]
    assert "224.6" in cells["vgg16+pseudo_linear_attn"]


def test_show_prints_the_formula_and_a_file(cli) -> None:
    cli("run", "--no-isolate", "-m", "se", "--res", "4", "--metrics", "static", "-o", "one.jsonl")
    code, out, _ = cli("show", "one.jsonl", "--notes")
    assert code == 0
    assert "built as se(dim=64), layout bchw" in " ".join(out.split())
    for name in ("se", "self_attn", "vgg16", "mha", "additive_attn"):
        code, out, _ = cli("show", name)
        assert code == 0
        assert "MACs" in out


def test_check_of_two_files(cli, tmp_path: Path) -> None:
    static = ["run", "--no-isolate", "-m", "se", "--res", "4", "--metrics", "static", "-o"]
    cli(*static, "a.jsonl")
    cli(*static, "b.jsonl")
    assert cli("check", "a.jsonl", "b.jsonl").code == 0
    text = (tmp_path / "b.jsonl").read_text()
    (tmp_path / "b.jsonl").write_text(text.replace('"params":2128', '"params":2129'))
    code, out, _ = cli("check", "a.jsonl", "b.jsonl")
    assert code == 1
    assert "2,129" in out
    assert cli("export", "a.jsonl", "-o", "a.md").code == 0
    assert "2,128" in (tmp_path / "a.md").read_text()


def test_a_latency_of_one_process_is_not_judged(cli) -> None:
    cli("run", "--no-isolate", "-m", "se", "--res", "4", "--max-time", "0.02", "-o", "a.jsonl")
    code, out, _ = cli("check", "a.jsonl", "a.jsonl")
    assert code == 3
    assert "measured in one process" in " ".join(out.split())


def test_ctrl_c_keeps_what_was_measured_and_exits_130(tmp_path: Path) -> None:
    sizes = ",".join(map(str, range(4, 40)))
    command = [sys.executable, "-m", "attnbench", "run", "-m", "se", "--res", sizes, "--max-time", "1",
               "--precision-target", "0.0001%", "-o", "kept.jsonl"]  # fmt: skip
    process = subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        # A shell that runs the tests in the background has them ignore Ctrl-C; a user's shell does not.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    kept = tmp_path / "kept.jsonl"
    deadline = time.monotonic() + 200
    while not kept.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "interrupted" in err
    assert "Traceback" not in err
    assert len(load(kept).records) == out.count("\nse ")


def test_version_and_module_entry(cli, tmp_path: Path) -> None:
    import attnbench as package

    assert cli("--version").out == f"attnbench {package.__version__}\n"
    assert attnbench("--version", cwd=tmp_path).stdout == f"attnbench {package.__version__}\n"


def test_a_pipe_that_closes_early_is_no_mistake(tmp_path: Path) -> None:
    command = f"{sys.executable} -m attnbench list | head -1"
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.stderr == ""
