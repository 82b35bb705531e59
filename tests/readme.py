"""Takes README.md apart: its commands, its Python, its tables. Run as a script, it measures the tables anew."""

import os
import re
import subprocess
import sys
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"

TABLES = {
    "main": "run --module self_attn --res 64",
    "vgg16": "run --network vgg16,vgg16+pseudo_linear_attn,vgg16+linear_attn --img-size 224 --metrics static",
    "audit": "audit self_attn linear_attn pseudo_linear_attn vgg16+pseudo_linear_attn",
    "breakdown": "show sdpa --by op --mode fwd_bwd",
    "swap": "run --network hf:vit --swap none,linear_attn,xca --img-size 384",
    "sweep": "run --module self_attn,pseudo_linear_attn,linear_attn --res 16,32,64",
}


# The library that a command's networks come from, by what they are called.
_LIBRARIES = {"timm:": "timm", "torchvision:": "torchvision", "hf:": "transformers"}


def libraries(command: str) -> list[str]:
    """What a command needs installed beyond attnbench."""
    return [library for prefix, library in _LIBRARIES.items() if prefix in command]


def blocks(language: str) -> list[str]:
    """The fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", README.read_text(), flags=re.S | re.M)


def commands() -> list[str]:
    """Every `attnbench ...` line, without its comment."""
    lines = [line.partition("#")[0].strip() for block in blocks("bash") for line in block.splitlines()]
    return [part.strip() for line in lines for part in line.split("&&") if part.strip().startswith("attnbench ")]


def table(name: str) -> str:
    """The text of the table under `<!-- table: name -->`."""
    return _pattern(name).search(README.read_text())[2]  # type: ignore[index]


def _pattern(name: str) -> re.Pattern[str]:
    return re.compile(rf"(<!-- table: {name} -->\n```\n)(.*?)(\n```)", flags=re.S)


def printed(words: str, cwd: Path) -> str:
    """What the command prints on a terminal of 80 columns, without the blanks at the ends of lines."""
    environment = {**os.environ, "COLUMNS": "80"}
    command = [sys.executable, "-m", "attnbench", *words.split()]
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=True, timeout=600)
    return "\n".join(line.rstrip() for line in done.stdout.strip().splitlines())


def main() -> None:
    """Measure every table of the README on this machine and write it there."""
    import tempfile

    text = README.read_text()
    with tempfile.TemporaryDirectory() as folder:
        for name, words in TABLES.items():
            measured = printed(words, Path(folder))
            text = _pattern(name).sub(lambda match, new=measured: match[1] + new + match[3], text)
    README.write_text(text)


if __name__ == "__main__":
    main()
