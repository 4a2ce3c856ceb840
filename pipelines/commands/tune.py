"""``recon-tune``: find good settings of a task, on this machine or on a Ray cluster."""

from __future__ import annotations

import argparse
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path

import torch

from data_prep.storage.locks import locked
from pipelines.commands import evaluate
from pipelines.reports import write_report
from pipelines.runs.config import load
from pipelines.runtime.cluster import (
    check_address,
    check_cluster,
    check_installed,
    check_local,
    check_remote_storage,
    check_storage,
    ray_cluster,
)
from pipelines.runtime.nested import Tree
from pipelines.runtime.run_folder import environment, make_folder, remove_leftovers, write_json
from pipelines.runtime.shell import DONE, INTERRUPTED, Interrupted, Parser, command_line, run_command
from pipelines.runtime.stored import read_json, read_text
from pipelines.tasks import TASKS, describe_data
from pipelines.tuning.ledger import ENDED, Ledger
from pipelines.tuning.report import sweep_report
from pipelines.tuning.request import (
    DEFAULTS,
    SCHEDULERS,
    SEARCHERS,
    KeptSweep,
    Request,
    Settings,
    check_trials,
    make_request,
    read_request,
)
from pipelines.tuning.results import Findings, find, write_best, write_summary, write_table
from recon.errors import InputError

EPILOG = """\
every other flag is recon-train's and goes for all trials: --task, --data, --seed, --trainer.max_epochs, ...
Without --data the bundled sample is used, with a small space.

the space is YAML; its keys are the task's own (recon-train --print_config), dotted or nested:
  optimizer.lr: {loguniform: [1e-4, 1e-2]}
  network.sampling: {choice: [stride, lpf, aps, lps]}
  network.blur: {choice: [1, 3], when: {network.sampling: aps}}
  scheduler.step_size: {int: [3, 15]}          also: uniform, logint
  trainer.max_epochs: 10                       a plain value goes for all trials
  sweep: {samples: 32, reduction: 3}           defaults of the flags above
"""


def build_parser() -> argparse.ArgumentParser:
    """The flags that are ``recon-tune``'s own."""
    parser = Parser(
        prog="recon-tune",
        description="Train many variants of a task side by side, stop the hopeless ones, and write the best one's "
        "configuration. A trial is an ordinary run folder of recon-train.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--space", metavar="YAML", help="what to vary (default: configs/tune/<task>.yaml, or <task>_sample.yaml)")
    add("--samples", type=int, help=f"trials (default {DEFAULTS['samples']})")
    add("--objective", nargs="+", metavar="METRIC[:max|min]",
        help="columns of metrics.csv; of several, the first decides (default val_psnr or val_accuracy)")  # fmt: skip
    add("--scheduler", choices=SCHEDULERS, help="asha prunes, pbt changes settings on the way (default asha)")
    add("--searcher", choices=SEARCHERS, help="where the next point comes from (default random)")
    add("--grace", type=int, help=f"asha: epochs that every trial gets (default {DEFAULTS['grace']})")
    add("--reduction", type=int, help=f"asha: one of so many goes on (default {DEFAULTS['reduction']})")
    add("--interval", type=int, help=f"pbt: epochs between two changes (default {DEFAULTS['interval']})")
    add("--cpus-per-trial", type=int, metavar="N", help="threads and loaders together (default 1)")
    add("--gpus-per-trial", type=float, metavar="X", help="0, a share such as 0.5, or 1 (default 0)")
    add("--concurrent", type=int, metavar="N", help="trials side by side (default: as many as there is room for)")
    add("--retries", type=int, metavar="N", help="restarts of a trial whose process or node was lost (default 2)")
    add("--address", help="a running Ray cluster: auto, or HOST:PORT (default: this machine, for the sweep alone)")
    add(
        "--storage", help="a folder that all nodes share, for the sweep's own, or an address such as s3://bucket/sweeps"
    )
    add("--out", help="the sweep's folder (default: runs/tune/<task>/<time>)")
    add("--resume", metavar="SWEEP", help="go on with an interrupted sweep")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    return run_command(_tune, argv)


def _tune(argv: list[str]) -> None:
    arguments, others = build_parser().parse_known_args(argv)
    check_installed("recon-tune")
    if arguments.resume is None:
        request = make_request(vars(arguments) | {"storage": _address_of(arguments.storage)}, others)
        folder = _new_folder(arguments, request)
    else:
        folder, request = _stored(arguments, others)
    if arguments.address is None:
        check_local(request.settings.cpus, request.settings.gpus)
    else:
        check_address(arguments.address)
    if request.settings.storage is not None:
        check_remote_storage(request.settings.storage)
    if arguments.resume is None:
        make_folder(folder)
    with _alone(folder):
        if arguments.resume is None:
            _store(folder, request)
        ledger = Ledger(folder)
        check_trials(ledger, request.space)
        if not _is_done(ledger, request.settings):
            _run(ledger, request, arguments.address)
        _report(ledger, request)


def _address_of(storage: str | None) -> str | None:
    """The storage, if it is an address and no folder."""
    return storage if storage is not None and "://" in storage else None


def _new_folder(arguments: argparse.Namespace, request: Request) -> Path:
    task = request.config["task"]
    base = Path("runs/tune") if _address_of(arguments.storage) or not arguments.storage else Path(arguments.storage)
    folder = Path(arguments.out) if arguments.out else base / task / time.strftime("%Y%m%d-%H%M%S")
    if folder.is_dir() and any(folder.iterdir()):
        hint = f", or go on with it by {command_line('--resume', folder)}" if (folder / "sweep.json").exists() else ""
        raise InputError(f"{folder} is not empty: give another --out{hint}")
    return folder


def _store(folder: Path, request: Request) -> None:
    machine = environment("gpu" if request.settings.gpus else "cpu")
    kept = KeptSweep(request.settings, request.config, request.source, machine)
    write_json(folder / "sweep.json", asdict(kept))


def _stored(arguments: argparse.Namespace, others: Sequence[str]) -> tuple[Path, Request]:
    """The sweep to go on with."""
    folder = Path(arguments.resume)
    given = [key for key, value in vars(arguments).items() if value is not None and key not in ("resume", "address")]
    if given or others:
        what = f"--{given[0].replace('_', '-')}" if given else others[0]
        raise InputError(f"--resume goes on with the sweep's own settings: leave out {what}")
    try:
        return folder, read_request(folder / "sweep.json")
    except InputError as error:
        raise InputError(f"{folder} is no folder of recon-tune to go on with: {error}") from None


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep a second recon-tune out of the folder.

    Raises:
        InputError: there is one already.
    """
    lock = folder / ".lock"
    lock.touch()
    with ExitStack() as held:
        try:
            held.enter_context(locked(lock, wait=False))
        except BlockingIOError:
            raise InputError(f"another recon-tune is at work in {folder}: wait for it, or stop it") from None
        remove_leftovers(folder)
        yield


def _is_done(ledger: Ledger, settings: Settings) -> bool:
    ended = [trial for trial in ledger if trial.status in ENDED]
    return len(ended) == len(ledger.trials) and (
        len(ended) >= settings.samples or (ledger.folder / "results.csv").exists()
    )


def _run(ledger: Ledger, request: Request, address: str | None) -> None:
    """Run what is left of the sweep."""
    settings, folder = request.settings, ledger.folder
    resume = command_line("recon-tune", "--resume", folder, *(["--address", address] if address else []))
    print(f"Sweep folder: {folder}\nGo on after an interruption with: {resume}", flush=True)
    try:
        with ray_cluster(address) as ray:
            check_cluster(ray, settings.cpus, settings.gpus)
            if address is not None and settings.storage is None:
                check_storage(ray, folder.resolve())
            from pipelines.tuning.sweep import run_sweep  # Ray Tune takes seconds to import

            run_sweep(ledger, request.space, request.config, settings)
    except KeyboardInterrupt:
        ended = sum(trial.status in ENDED for trial in Ledger(folder))
        raise Interrupted(f"{ended} of {settings.samples} trials have ended; go on with: {resume}") from None


def _report(ledger: Ledger, request: Request) -> None:
    """Write all results; measure the best trial."""
    folder, settings = ledger.folder, request.settings
    ledger = Ledger(folder)
    findings = find(ledger, settings.objectives)
    write_table(folder / "results.csv", ledger, findings)
    machine = read_json(folder / "sweep.json", KeptSweep).environment
    about = {key: request.config[key] for key in ("task", "data", "seed")} | {"environment": machine}
    write_summary(folder / "summary.json", findings, about)
    if findings.best is None:
        first = next(iter(ledger))
        why = first.reason or first.status
        raise InputError(f"no trial came to the end of an epoch, see {folder / 'results.csv'}; the first: {why}")
    write_best(folder / "best.yaml", ledger, findings.best)
    shutil.rmtree(folder / "ray", ignore_errors=True)  # the run folders have it all
    best = ledger.run_folder(findings.best.trial.number)
    about |= {
        "title": f"Sweep of {len(findings.outcomes)} trials: {request.config['task']}",
        "data": describe_data(load(best / "config.yaml")),
        "settings": asdict(settings),
    }
    measured = _measure(folder, best, request.config)
    best_yaml = read_text(folder / "best.yaml")
    write_report(folder / "report.html", sweep_report(findings, request.space, about, best_yaml, measured))
    _say(findings, folder)


def _measure(folder: Path, best: Path, config: Tree) -> str:
    """Measure the best trial as recon-evaluate does; gives where its report is, relative to the sweep."""
    out = folder / "evaluation"
    if not (out / "report.html").exists():
        shutil.rmtree(out, ignore_errors=True)
        torch.set_num_threads(os.cpu_count() or 1)
        shifts = str(max(config["evaluation"]["shifts"], 1))
        protocols = TASKS[config["task"]].kind.at_the_end
        code = evaluate.main([str(best), "--out", str(out), "--protocols", *protocols, "--shifts", shifts])
        if code == INTERRUPTED:
            raise KeyboardInterrupt
        if code != DONE:
            return ""
    return str((out / "report.html").relative_to(folder))


def _say(findings: Findings, folder: Path) -> None:
    assert findings.best is not None
    metric = findings.objectives[0][0]
    print(f"Best: trial {findings.best.trial.number}, {metric} {findings.best.best[metric]:.4f}")
    print(f"Written: {folder / 'results.csv'}, {folder / 'summary.json'}\nReport:  {folder / 'report.html'}")
    print(f"Repeat the best with: {command_line('recon-train', '--config', folder / 'best.yaml')}")


if __name__ == "__main__":
    raise SystemExit(main())
