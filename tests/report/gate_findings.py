"""A check with a finding of each kind, and text that is hostile wherever text of others can stand."""

from dataclasses import replace

from report_records import live, module, record, static, sweep

from attnbench.report.gate.judged import Judged
from attnbench.report.gate.records import judge
from attnbench.report.gate.verdict import Verdict

# What a name from a file, a commit message or an error may hold, and what each of them would do.
HOSTILE = [
    "a | b", "a \\| b", "a\\", "<script>alert(1)</script>", "<!-- hidden", "--> shown", "&lt; &amp; &#64;you",
    "`code`", "``` fence", "~~~ fence", "line\nbreak", "line\r\n\r\nbreak", "# heading", "- item", "1. item", "1) item",
    "+ item", "> quote", "---", "===", "*bold* **bold** _i_ __b__ ~~gone~~", "@you, @org/team and me@example.org",
    "#12 org/repo#12 GH-12", "https://evil.example/x www.evil.example", "[text](https://evil.example)", "[ref]: /evil",
    "![image](https://evil.example)", ":tada:", "$x$ $$y$$", "\x1b[31mred\x00\u202e", "]]> ]]&gt;", "::error::no",
    "%0A::error::no", "</details>", "a,b:c=d", "é 注意 𝕏", "\udc80",
]  # fmt: skip


def findings(**fields) -> Judged:
    """What the golden files show: a check with a verdict of each outcome."""
    rows = sweep()[3:9]
    after = [
        replace(rows[0], status="oom", reason="needs 3 GiB", readings=rows[0].readings[:4]),
        rows[1],
        rows[3],
        replace(rows[4], readings=static(16640, 20_971_521, 2_621_440) + live(0.5, 0.007, 2_883_584)),
        replace(rows[5], readings=static(16640, 83_886_080, 10_485_760) + live(2.6, 0.006, 11_534_336)),
        record(module("simam"), *live(1.0)),
    ]
    verdicts = [
        replace(found, file="models/attention.py", line=12, launches=(1.208, 1.211, 1.21), settled=True)
        if found.reading == "latency.median_ms" and found.outcome == "worse"
        else found
        for found in judge(rows, after)
    ]
    told = {
        "machine": "cpu, AMD EPYC 7B13, 2 threads",
        "noise": "Where nothing changed, this machine finds up to 0.3 %.",
        "remarks": ("One case was not measured: it needs CUDA.",),
        "seconds": 83.2,
        "command": "attnbench check --base main",
    }
    return Judged(tuple(verdicts), "main (3f2a1c9)", "working tree at abc1234, changed", **(told | fields))


def hostile(text: str) -> Judged:
    """A check in which everything that others can name is this text."""
    verdict = Verdict("k", text, text, "worse", text, text, None, text, text, text, text, text, 3, text)
    same = replace(verdict, outcome="same")
    return Judged((verdict, same), text, text, machine=text, noise=text, remarks=(text,), command=text)
