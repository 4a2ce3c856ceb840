"""From an opened run to a folder: the model, its proof and what is to be known of it, whole or not there at all."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import torch

from data_prep.storage.cache import temporary_sibling
from pipelines.exporting.card import card, title, write_card
from pipelines.exporting.formats import FORMATS
from pipelines.exporting.program import export_program, has_fixed_size
from pipelines.exporting.proof import prove
from pipelines.measuring.kind import AnyRun
from pipelines.runtime.arithmetic import exact_arithmetic
from pipelines.runtime.nested import Tree
from pipelines.runtime.run_folder import make_folder
from recon.errors import InputError


def export_run(run: AnyRun, format_name: str, out: Path, data: str) -> Tree:
    """Export a run, prove it, and write it.

    Args:
        run: opened, on the CPU.
        format_name: a key of FORMATS.
        out: a folder that is not there yet.
        data: what the run's data are, in words.

    Returns:
        What export.json says.

    Raises:
        InputError: the folder is there, the network cannot be exported, or does not compute the same outside.
    """
    refuse_existing(out)
    chosen = FORMATS[format_name]
    with exact_arithmetic(), torch.no_grad():
        portable = run.kind.portable(run.task, run.dataset)
        program = export_program(portable)
        make_folder(out.absolute().parent)
        folder = temporary_sibling(out.absolute())
        folder.mkdir()
        try:
            model = folder / chosen.model
            model.parent.mkdir(exist_ok=True)
            chosen.write(program, portable, model, title(run))
            with chosen.running(model, portable) as exported:
                proof = prove(portable, exported)
            facts = card(run, portable, has_fixed_size(program), proof, format_name, data)
            write_card(folder, facts)
            refuse_existing(out)
            os.rename(folder, out)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    return facts


def refuse_existing(out: Path) -> None:
    """Refuse to write over anything.

    Raises:
        InputError: there is something of that name.
    """
    if out.exists() or out.is_symlink():
        raise InputError(f"{out} is there already: give another --out, which is then made")
