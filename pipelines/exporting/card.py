"""What lies beside an exported model: export.json for programs, README.md for people."""

from __future__ import annotations

from pathlib import Path

import torch

from pipelines.exporting.formats import FORMATS
from pipelines.exporting.proof import TOLERANCE, Proof
from pipelines.measuring.kind import AnyRun
from pipelines.measuring.portable import Port, Portable
from pipelines.runtime.nested import Tree
from pipelines.runtime.run_folder import write_json
from recon import __version__


def card(run: AnyRun, portable: Portable, fixed: bool, proof: Proof, format_name: str, data: str) -> Tree:
    """What export.json says.

    Args:
        run: that was exported.
        portable: what of it.
        fixed: it takes images of the run's size alone.
        proof: what was measured.
        format_name: a key of FORMATS.
        data: on what data, in words.
    """
    chosen, multiple = FORMATS[format_name], portable.multiple
    rows, columns = portable.slices[0].size
    free = f"rows and columns are multiples of {multiple}, {2 * multiple} or more"
    return {
        "format": format_name,
        "model": chosen.model,
        "run": run.name,
        "task": run.config.task,
        "seed": run.config.seed,
        "network": run.config.network.as_dict(),
        "inputs": [_port(port) for port in portable.inputs],
        "output": _port(portable.output),
        "size": {
            "rule": f"{rows} x {columns} alone" if fixed else f"{free}; the run's have {rows} x {columns}",
            "multiple": multiple,
            "of_the_run": [rows, columns],
            "fixed": fixed,
        },
        "proof": {
            "data": data,
            "run_by": chosen.run_by,
            "slices": proof.slices,
            "difference_from_the_run": proof.difference,
            "shifted_slices": proof.shifted,
            "shifts_of_each": proof.n_shifts,
            "shift_error_max": proof.shift_error,
            "shift_error_median": proof.median_shift_error,
            "tolerance": TOLERANCE,
            "shift_equivariant": proof.exact,
        },
        "versions": {"shift-equivariant-recon": __version__, "torch": str(torch.__version__)},
    }


def title(run: AnyRun) -> str:
    """What was exported, in a line."""
    network = run.config.network
    return f"{run.name}, a run of {run.config.task} with {network.name}, sampling {network.get('sampling', 'none')}"


def _port(port: Port) -> Tree:
    dtype = str(port.dtype).removeprefix("torch.")
    return {"name": port.name, "shape": list(port.shape), "dtype": dtype, "meaning": port.meaning}


def write_card(folder: Path, facts: Tree) -> None:
    """Write export.json and README.md."""
    write_json(folder / "export.json", facts)
    (folder / "README.md").write_text(_readme(facts), "utf-8")


def _readme(facts: Tree) -> str:
    proof, errors = facts["proof"], [f"{facts['proof'][f'shift_error_{which}']:.1e}" for which in ("max", "median")]
    ports = "\n".join(
        f"| {which} `{port['name']}` | {port['dtype']} ({', '.join(map(str, port['shape']))}) | {port['meaning']} |"
        for which, port in [*(("input", each) for each in facts["inputs"]), ("output", facts["output"])]
    )
    sampling = facts["network"].get("sampling", "none")
    kept = "is" if proof["shift_equivariant"] else "is **not**"
    return f"""\
# {facts["run"]}, exported as {facts["format"]}

`{facts["model"]}` is the network of a run of the task {facts["task"]}, seed {facts["seed"]}, sampling {sampling},
with the run's normalisation and clamp inside. export.json says the same for programs.

| | type and shape | |
|---|---|---|
{ports}

Sizes: {facts["size"]["rule"]}. Any batch.

```python
{FORMATS[facts["format"]].usage([port["name"] for port in facts["inputs"]])}
```

## Proof

Measured when it was written, by {proof["run_by"]}.
Data: {proof["data"]}; {", ".join(proof["slices"])}.
Differences are |a - b| / |b| of each image, the root of NMSE.

- From the run's own outputs: {proof["difference_from_the_run"]:.1e}.
- f(T x) from T f(x), over {proof["shifts_of_each"]} circular shifts T by whole pixels of each of
  {len(proof["shifted_slices"])} slices: {errors[0]} at most, median {errors[1]}.

It {kept} shift equivariant (below {proof["tolerance"]:.0e}).

Not a medical device: its images must not be used for diagnosis.
"""
