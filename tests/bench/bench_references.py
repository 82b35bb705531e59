"""Every module of the catalogue against its references, and mistakes against them: writes `results/references.md`.

    python tests/bench/bench_references.py [--out FILE]

It needs attnbench with its `test` extra; a reference whose package is not installed is left out, and the page says so.
It takes about a minute on two cores.
"""

import argparse
import platform
import sys
import warnings
from collections import defaultdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from textwrap import fill

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests" / "modules"), str(ROOT)]

import pytest  # noqa: E402
import torch  # noqa: E402
from comparisons import CAUGHT, CONTROLS, REFERENCES, Declared  # noqa: E402
from families import FAMILIES  # noqa: E402

from attnbench.targets.catalogue import catalogue  # noqa: E402

# Where the package on PyPI is not called as it is imported.
_DISTRIBUTIONS = {"fla": "flash-linear-attention", "mmcv": "mmcv-lite", "cv2": "opencv-python-headless"}


def page() -> str:
    """The page: one row for each module and reference, then one for each mistake."""
    rows, left_out = compared()
    sections = [head(rows, left_out), "\n".join(rows_of(rows)), mistakes()]
    return "\n\n".join(section for section in sections if section) + "\n"


_WHAT = (
    "Every module, all parameters filled with noise, against a published implementation or an own oracle in another "
    "form: the largest of max|ours - theirs| / max|theirs| over the output, the gradients of the inputs and those of "
    "the parameters. A right implementation lies near 1e-6 in float32 and 1e-14 in float64; a mistake counts as caught "
    f"above {CAUGHT:g}."
)
Row = tuple[Declared, float, float, bool]


def compared() -> tuple[list[Row], list[Declared]]:
    """Each reference with its errors in float32 and in float64; and those whose package is not here."""
    rows: list[Row] = []
    left_out = []
    for declared in REFERENCES:
        try:
            comparison = declared.comparison()
        except pytest.skip.Exception:
            left_out.append(declared)
            continue
        errors = comparison.error(torch.float32), comparison.error(torch.float64)
        rows.append((declared, *errors, comparison.in_float32))
        print(f"{declared.name:22} {declared.what:70} {errors[0]:.1e} {errors[1]:.1e}", file=sys.stderr)
    return rows, left_out


def head(rows: list[Row], left_out: list[Declared]) -> str:
    modules = [spec for spec in catalogue() if spec.kind == "module"]
    families = dict.fromkeys(spec.family for spec in modules)
    worst32, worst64 = max(row[1] for row in rows), max(row[2] for row in rows if not row[3])
    packages = sorted({package for row in rows for package in row[0].needs})
    versions = ", ".join(f"{name} {_version(name)}" for name in packages)
    made = (f"Made by `python tests/bench/bench_references.py` with torch {torch.__version__} on {platform.machine()}, "
            f"Python {platform.python_version()}; {versions}.")  # fmt: skip
    found = (f"{len(modules)} modules in {len(families)} families, {len({row[0].name for row in rows})} of them "
             f"compared in {len(rows)} comparisons: at most {worst32:.1e} off in float32, and {worst64:.1e} in float64 "
             "where the reference computes in float64 too (marked * where it computes in float32 inside).")  # fmt: skip
    if left_out:
        missing = ", ".join(sorted({package for declared in left_out for package in declared.needs}))
        found += f" {len(left_out)} comparisons are left out, since {missing} did not import here."
    texts = (fill(text, 120) for text in (_WHAT, made, found))
    return "\n\n".join(["# The catalogue against independent truths", *texts])


def _version(package: str) -> str:
    try:
        return version(_DISTRIBUTIONS.get(package.split(".")[0], package.split(".")[0].replace("_", "-")))
    except PackageNotFoundError:
        return ""


def rows_of(rows: list[Row]) -> list[str]:
    order = {spec.name: place for place, spec in enumerate(catalogue())}
    family = {spec.name: spec.family for spec in catalogue()}
    lines = ["| Family | Module | Reference | fp32 | fp64 |", "|---|---|---|---:|---:|"]
    for declared, in32, in64, casts in sorted(rows, key=lambda row: order[row[0].name]):
        star = "*" if casts else ""
        lines.append(f"| {family[declared.name]} | {declared.name} | {declared.what} | {in32:.1e} | {in64:.1e}{star} |")
    return lines


def mistakes() -> str:
    """What the comparisons find when the oracle makes a mistake."""
    found = defaultdict(list)
    for declared in CONTROLS:
        try:
            found[declared.name].append((declared.what, declared.comparison().error()))
        except pytest.skip.Exception:
            continue
    count = sum(map(len, found.values()))
    smallest = min(error for rows in found.values() for _, error in rows)
    lines = ["## Mistakes that are caught\n",
             f"{count} wrong forms, each compared in the same way: the smallest error is {smallest:.1e}.\n",
             "| Module | Mistake | fp32 |", "|---|---|---:|"]  # fmt: skip
    lines += [f"| {name} | {what} | {error:.1e} |" for name, rows in found.items() for what, error in rows]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "references.md")
    out = parser.parse_args().out
    assert FAMILIES  # importing them declares the comparisons
    warnings.simplefilter("ignore")  # of the packages
    out.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
