"""Runs a program of torch.export as another machine would: in an interpreter of its own, in which this project is not.

Started by its path, ``python -I elsewhere.py PROGRAM THREADS``. For each line on standard input, a file of inputs by
name, the first of which goes by its place, it writes the output into that file and says so.
"""

from __future__ import annotations

import sys

ABSENT = ("recon", "data_prep", "pipelines", "configs")


def main(program: str, n_threads: str) -> None:
    """Answer until standard input ends."""
    for name in ABSENT:
        sys.modules[name] = None  # type: ignore[assignment]  # what asks for it is told that there is none
    import torch

    torch.set_num_threads(int(n_threads))
    network = torch.export.load(program).module()
    for line in sys.stdin:
        path = line.removesuffix("\n")
        first, *others = torch.load(path, weights_only=True).items()
        with torch.no_grad():
            torch.save({"output": network(first[1], **dict(others))}, path)
        print("written", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
