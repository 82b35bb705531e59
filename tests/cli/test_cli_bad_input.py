"""Bad input of every kind: exit code 2 and one sentence that says what, where, and what to do instead."""

import os
from pathlib import Path

import pytest

SE = ["run", "--no-isolate", "-m", "se", "--metrics", "static"]

# The words typed, and what the sentence must hold.
BAD: list[tuple[list[str], str]] = [
    (["run"], "nothing to run"),
    (["run", "-m", "self_atn"], "Did you mean 'self_attn'?"),
    (["run", "-m", "xyzzy"], "unknown module 'xyzzy'"),
    (["run", "-n", "vgg61"], "Did you mean 'vgg16'?"),
    (["run", "-m", "vgg16"], "'vgg16' is a network: give it with --network"),
    (["run", "-n", "self_attn"], "'self_attn' is a module: give it with --module"),
    (["run", "-n", "vgg16+nothing"], "unknown module 'nothing'"),
    (["run", "-m", "se", "--attn", "se"], "--attn puts an attention into a network"),
    (["run", "-n", "vgg16", "--attn", "sse"], "Did you mean 'se'?"),
    ([*SE, "--res", "0"], "--res 0 is out of range"),
    ([*SE, "--res", "-8"], "--res -8 is out of range"),
    ([*SE, "--res", "big"], "--res 'big' is no size"),
    ([*SE, "--res", "8x8x8"], "--res '8x8x8' is no size"),
    ([*SE, "--res", "16.5"], "--res '16.5' is no size"),
    ([*SE, "--res", "99999999999"], "out of range"),
    ([*SE, "--batch-size", "-1"], "--batch-size -1 is out of range"),
    ([*SE, "--batch-size", "two"], "--batch-size 'two' is not a whole number"),
    ([*SE, "--batch-size", "auto,8"], "--batch-size auto,8: auto stands alone"),
    ([*SE, "-b", "8", "-b", "auto"], "--batch-size 8,auto: auto stands alone"),
    ([*SE, "--batch-size", "auto", "--mode", "bwd"], "--batch-size auto seeks the best throughput"),
    (["audit", "se", "--batch-size", "auto"], "--batch-size auto is found by measuring, which only `attnbench run`"),
    (["fit", "se", "--batch-size", "auto"], "--batch-size auto is found by measuring, which only `attnbench run`"),
    (["fit", "se", "--res", "8", "--batch-size", "auto"], "--batch-size auto is found by measuring"),
    ([*SE, "--processes", "0"], "--processes 0 is out of range"),
    ([*SE, "--processes", "many"], "--processes"),
    (["run", "-m", "se", "--no-isolate", "--processes", "2"], "--processes 2 needs worker processes: leave --no-isol"),
    (["run", "-m", "se", "--metrics", "static", "--processes", "2"], "--processes 2 is for the latency: add it to"),
    ([*SE, "--dim", "0"], "--dim 0 is out of range"),
    ([*SE, "--dim", "sixty"], "--dim 'sixty' is not a whole number"),
    ([*SE, "--heads", "x"], "--heads 'x' is not a whole number"),
    (["run", "-m", "mha", "--dim", "64", "--heads", "5"], "--dim 64 is not divisible by --heads 5"),
    ([*SE, "--dtype", "fp23"], "unknown dtype 'fp23'. Did you mean"),
    ([*SE, "--dtype", "tf32", "--device", "cpu"], "tf32 is a mode of CUDA's tensor cores"),
    ([*SE, "--device", "tpu"], "--device 'tpu' is unknown"),
    ([*SE, "--mode", "forward"], "--mode 'forward' is unknown"),
    ([*SE, "--layout", "bhcw"], "--layout 'bhcw' is unknown. Did you mean"),
    ([*SE, "--layout", "bnc"], "se reads bchw, not bnc"),
    ([*SE, "--set", "reduction"], "--set 'reduction' is no setting"),
    ([*SE, "--set", "reducton=8"], "se has no parameter 'reducton'. Did you mean 'reduction'?"),
    ([*SE, "--set", "reduction=8", "--set", "reduction=4"], "--set reduction is given twice"),
    ([*SE, "--set", "reduction=0"], "--set reduction=0: se needs 1 or more there"),
    ([*SE, "--set", "reduction=65"], "refuses"),
    ([*SE, "--metrics", "speed"], "unknown metric 'speed'"),
    ([*SE, "--precision-target", "much"], "'much' is no fraction"),
    ([*SE, "--precision-target", "0"], "out of range"),
    ([*SE, "--max-time", "0"], "--max-time 0 is out of range"),
    ([*SE, "--max-time", "soon"], "--max-time"),
    ([*SE, "--timeout", "-1"], "--timeout -1 is out of range"),
    ([*SE, "--threads", "0"], "--threads 0 is out of range"),
    ([*SE, "--seed", "x"], "--seed"),
    ([*SE, "--seed", "-1"], "--seed -1 is out of range"),
    ([*SE, "--seq-len", "64"], "se reads feature maps: give --res instead of --seq-len"),
    ([*SE, "--res", "8", "--seq-len", "64"], "--res and --seq-len exclude each other"),
    ([*SE, "--img-size", "32"], "--img-size is for networks"),
    (["run", "-n", "vgg16", "--res", "32"], "--res is for modules"),
    (["run", "--no-isolate", "-n", "vgg16", "--img-size", "8"], "vgg16"),
    ([*SE, "--format", "pdf"], "unknown export format 'pdf'"),
    ([*SE, "--baseline", "self_attn"], "--baseline 'self_attn' is not among what is measured"),
    ([*SE, "-o", "table.pdf"], "unknown export format 'pdf'"),
    ([*SE, "-o", "table"], "does not say in which format"),
    ([*SE, "-o", "folder.md"], "cannot write to folder.md"),
    ([*SE, "-o", "a.jsonl", "-o", "b.jsonl"], "records go to one .jsonl file"),
    ([*SE, "--colour", "red"], "--colour"),
    (["run", "--no-isolate", "-m", "nowhere.py:MyAttn"], "the file nowhere.py does not exist"),
    (["run", "--no-isolate", "-m", "folder.md/my.py:MyAttn"], "does not exist"),
    (["run", "--no-isolate", "-m", "broken.py:MyAttn"], "broken.py does not import: SyntaxError"),
    (["run", "--no-isolate", "-m", "raises.py:MyAttn"], "raises.py does not import: ValueError: oh no (line 1)"),
    (["run", "--no-isolate", "-m", "fine.py:MyAtn"], "fine.py has no 'MyAtn'. Did you mean 'MyAttn'?"),
    (["run", "--no-isolate", "-m", "fine.py:MyAttn"], "needs 'landmarks', which the shape does not tell"),
    (["run", "--no-isolate", "-m", "two.py"], "does not hold exactly one torch.nn.Module"),
    (["run", "--no-isolate", "-m", "empty.py"], "it holds: none"),
    (["run", "--no-isolate", "-m", "no.such.package:Thing"], "no.such.package does not import: ModuleNotFoundError"),
    (["run", "--no-isolate", "-m", "torch.nn:NoSuchModule"], "torch.nn has no 'NoSuchModule'"),
    (["run", "--no-isolate", "-m", "torch:nothing at all"], "is no target"),
    (["run", "--no-isolate", "-m", "json:dumps", "--set", "obj=1"], "not a torch.nn.Module"),
    (["run", "--no-isolate", "-m", ":"], "is no target"),
    (["list", "--family", "softmx"], "unknown family 'softmx'. Did you mean 'softmax'?"),
    (["show", "self_atn"], "Did you mean 'self_attn'?"),
    (["show", "nowhere.jsonl"], "cannot read nowhere.jsonl"),
    (["show", "garbage.jsonl"], "garbage.jsonl holds no attnbench record"),
    (["show", "binary.jsonl"], "binary.jsonl holds no attnbench record"),
    (["show", "nothing.jsonl"], "it is empty"),
    (["show", "./folder.md"], "cannot read folder.md"),
    (["export", "garbage.jsonl", "-o", "x.md"], "garbage.jsonl holds no attnbench record"),
    (["export", "nowhere.jsonl", "-o", "x.md"], "cannot read nowhere.jsonl"),
    (["export", "garbage.jsonl"], "out"),
    (["check", "nowhere.jsonl", "garbage.jsonl"], "cannot read nowhere.jsonl"),
    (["check", "nowhere.jsonl"], "cannot read the baseline nowhere.jsonl"),
    (["mesure"], "mesure"),
]  # fmt: skip

FINE = """
class MyAttn(__import__("torch").nn.Module):
    def __init__(self, dim, landmarks):
        super().__init__()
"""


@pytest.fixture
def files(tmp_path: Path) -> None:
    (tmp_path / "folder.md").mkdir()
    (tmp_path / "broken.py").write_text("class MyAttn(:\n")
    (tmp_path / "raises.py").write_text("raise ValueError('oh no')\n")
    (tmp_path / "fine.py").write_text(FINE)
    (tmp_path / "two.py").write_text(FINE + FINE.replace("MyAttn", "Other"))
    (tmp_path / "empty.py").write_text("")
    (tmp_path / "garbage.jsonl").write_text('{"schema": 99}\nnot json\n')
    (tmp_path / "binary.jsonl").write_bytes(b"\xff\xfe\x00\x01")
    (tmp_path / "nothing.jsonl").write_text("")


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize(("words", "sentence"), BAD, ids=[" ".join(words) for words, _ in BAD])
def test_bad_input_is_one_sentence_and_exit_code_2(cli, words: list[str], sentence: str) -> None:
    code, out, err = cli(*words)
    assert code == 2
    assert sentence.lower() in err.lower()  # click and typer write the names of arguments differently
    assert err.startswith("attnbench: ")
    assert err.count("\n") == 1
    assert "Traceback" not in out + err
    assert not out
    assert not Path("results").exists()


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_the_right_to_write(cli, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    code, _, err = cli(*SE, "-o", "x.jsonl")
    tmp_path.chmod(0o700)
    assert code == 2
    assert "cannot write to x.jsonl" in err


def test_a_place_that_is_no_folder(cli, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for name in ("file/x.md", "file/x.jsonl"):
        code, _, err = cli(*SE, "-o", name)
        assert code == 2
        assert f"cannot write to {name}" in err


def test_a_gpu_that_is_not_there(cli) -> None:
    import torch

    device = f"cuda:{torch.cuda.device_count()}"
    code, _, err = cli("run", "--no-isolate", "-m", "se", "--device", device)  # to measure there, not to predict
    assert code == 2
    assert f"--device {device}" in err
    assert err.count("\n") == 1


def test_there_are_many_more_than_thirty() -> None:
    assert len(BAD) >= 30
