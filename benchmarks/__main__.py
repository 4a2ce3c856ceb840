"""What measures speed, memory, exactness and robustness.

python -m benchmarks                        # lists the benchmarks
python -m benchmarks layers --repeats 10    # runs one, with its flags (--help explains them)
python -m benchmarks layers networks        # runs them one after the other
python -m benchmarks all                    # runs all that need no run folder
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from importlib import import_module
from itertools import takewhile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from pipelines.runtime.shell import run_command
from recon.errors import InputError, check_choice

NAMES = (
    "layers",
    "networks",
    "translation",
    "unrolled",
    "metrics",
    "loading",
    "scale",
    "tomography",
    "vision",
    "resnets",
    "tuning",
)
OF_A_RUN = ("exactness", "evaluation")
"""Those that measure a trained network, and take its run folder."""
OF_A_GPU = ("gpu",)
"""Those that need a GPU; `make gpu`."""
OF_ROBUSTNESS = ("fuzz", "chaos")
"""Those that break something: they take hours, and are no part of all."""
OF_EVIDENCE = ("claims", "measured")
"""Those that train for hours, or need measured data that are not here; `make claims`."""
ALL = NAMES + OF_A_RUN + OF_A_GPU + OF_ROBUSTNESS + OF_EVIDENCE


def main(argv: Sequence[str] | None = None) -> int:
    """List or run benchmarks; the exit code is the largest of theirs."""
    codes: list[int] = []
    code = run_command(lambda arguments: codes.extend(_run(arguments)), argv)
    return max(code, *codes, 0)


def _run(arguments: list[str]) -> list[int]:
    if not arguments or arguments[0] in ("-h", "--help"):
        _list()
        return []
    if arguments == ["all"]:
        arguments = list(NAMES)
    names = list(takewhile(ALL.__contains__, arguments))
    flags = arguments[len(names) :]
    if not names:
        check_choice("benchmark", arguments[0], ("all", *ALL))
    if flags and len(names) > 1:
        raise InputError(f"{flags[0]} is no benchmark, and flags go to one at a time: run {' and '.join(names)} apart")
    return [_call(name, flags) for name in names]


def _call(name: str, arguments: list[str]) -> int:
    print(f"{name}: {_summary(name)}", flush=True)
    return import_module(f"benchmarks.{name}").main(arguments)


def _list() -> None:
    table = Table("name", "what it measures", title="python -m benchmarks NAME ... | all", show_header=False)
    for name in NAMES:
        table.add_row(name, _summary(name))
    for name in OF_A_RUN:
        table.add_row(f"{name} RUN", _summary(name))
    for name in OF_A_GPU + OF_ROBUSTNESS + OF_EVIDENCE:
        table.add_row(name, _summary(name))
    Console().print(table)


def _summary(name: str) -> str:
    """The first sentence of a benchmark's docstring, without importing it."""
    module = Path(__file__).with_name(f"{name}.py")
    source = (module if module.exists() else module.with_suffix("") / "__init__.py").read_text()
    text = ast.get_docstring(ast.parse(source)) or ""
    return text.split("\n")[0]


if __name__ == "__main__":
    raise SystemExit(main())
