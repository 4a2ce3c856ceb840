"""Ray, started here for a while or already running elsewhere; and whether it can do what is asked of it."""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import torch

from data_prep.storage.locks import locked
from recon.errors import InputError

OBJECT_STORE = 100 * 2**20  # bytes; trials exchange files, not objects
PREFIX = "recon-ray-"
SECONDS = 90  # to wait for a cluster and for its nodes
LONGEST_SOCKET = 107  # bytes in the path of a Unix socket
_QUIET = {
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",  # a trial without a GPU sees none
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # the run folder has it all
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C ends the sweep as it ends any command
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # a trial that failed has no metric
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}
_LOOPBACK = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # Ray's own switch for: every port on the loopback interface
    "RAY_AUTH_MODE": "token",
}


def check_installed(what: str) -> None:
    """Refuse to start without the packages of the extra "sweeps".

    Args:
        what: needs them, for the sentence.

    Raises:
        InputError: names those that are missing, and how they are installed.
    """
    missing = [name for name in ("ray", "optuna") if find_spec(name) is None]
    if missing:
        raise InputError(f"{what} needs {' and '.join(missing)}: pip install 'shift-equivariant-recon[sweeps]'")


@contextmanager
def ray_cluster(address: str | None) -> Iterator[ModuleType]:
    """Ray, for as long as the block runs: on this machine's loopback interface alone, or the cluster at an address.

    Args:
        address: None, "auto" or "host:port" of a running cluster, see :func:`check_address`.
    """
    os.environ.update(_QUIET)
    on_terminate = signal.getsignal(signal.SIGTERM)
    if address is None:
        os.environ.update({**_LOOPBACK, "RAY_AUTH_TOKEN": secrets.token_hex(32)})
    with _temporary_folder() if address is None else nullcontext() as temporary:
        import ray

        try:
            if address is None:
                ray.init(
                    address="local",
                    include_dashboard=False,
                    object_store_memory=OBJECT_STORE,
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                    configure_logging=True,
                    _temp_dir=temporary,
                )
            else:
                ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, on_terminate)  # Ray puts one in its place that aborts the process
            for name in ("ray", "ray.tune", "ray.train"):
                logging.getLogger(name).setLevel(logging.CRITICAL)
            yield ray
        finally:
            ray.shutdown()


@contextmanager
def _temporary_folder() -> Iterator[str]:
    """Where Ray has its sockets and logs, locked while this process lives; those of killed processes are removed."""
    for left in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with suppress(OSError), locked(left, wait=False):
            shutil.rmtree(left)
    folder = Path(tempfile.mkdtemp(prefix=PREFIX))
    with locked(folder, wait=False):
        try:
            yield str(folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def check_address(address: str) -> None:
    """Look whether a cluster answers, in a process of its own: Ray itself would wait for minutes.

    Raises:
        InputError: nobody listens there, or not Ray, or it is no address.
    """
    host, colon, port = address.rpartition(":")
    if address != "auto" and ("/" in address or not colon or not port.isdigit()):
        raise InputError(f"--address {address} is none: give auto, or HOST:PORT as ray start --head prints it")
    try:
        if address != "auto":
            with socket.create_connection((host, int(port)), timeout=5):
                pass
        subprocess.run(
            [sys.executable, "-c", "import sys, ray; ray.init(address=sys.argv[1])", address],
            check=True,
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )
    except (OSError, OverflowError) as error:
        raise InputError(f"no Ray cluster answers at --address {address} ({error}): is ray start running?") from None
    except subprocess.TimeoutExpired:
        raise InputError(f"no Ray cluster answers at --address {address} within {SECONDS} s: is it Ray's?") from None
    except subprocess.CalledProcessError as error:
        why = next((line for line in reversed(error.stderr.splitlines()) if "Error" in line), "no reason is given")
        raise InputError(f"no Ray cluster takes this machine at --address {address}: {why.strip()}") from None


def check_local(cpus: float, gpus: float) -> None:
    """Refuse what this machine has not got, before Ray is started.

    Raises:
        InputError: names what was asked for and what there is.
    """
    _check_resources(cpus, gpus, [here()])
    check_temporary_folder()


def check_temporary_folder() -> None:
    """Refuse a temporary folder in which Ray's sockets would have too long a path.

    Raises:
        InputError: says how to get another.
    """
    folder = tempfile.gettempdir()
    longest = Path(
        folder, f"{PREFIX}abcdefgh", f"session_2026-01-01_00-00-00_000000_{os.getpid()}", "sockets/plasma_store"
    )
    if len(os.fsencode(longest)) > LONGEST_SOCKET:
        raise InputError(f"Ray's sockets do not fit into {folder}: set TMPDIR to a folder with a shorter path, as /tmp")


def here() -> dict[str, float]:
    """What this machine has, in Ray's words."""
    return {"CPU": float(os.cpu_count() or 1), "GPU": float(torch.cuda.device_count())}


def check_cluster(ray: ModuleType, cpus: float, gpus: float) -> None:
    """Refuse what no living node of the cluster has got.

    Raises:
        InputError: names what was asked for and what there is.
    """
    _check_resources(cpus, gpus, [node["Resources"] for node in ray.nodes() if node["Alive"]])


def _check_resources(cpus: float, gpus: float, nodes: list[dict[str, float]]) -> None:
    if any(node.get("CPU", 0) >= cpus and node.get("GPU", 0) >= gpus for node in nodes):
        return
    for flag, name, asked in (("--cpus-per-trial", "CPU", cpus), ("--gpus-per-trial", "GPU", gpus)):
        most = max((node.get(name, 0) for node in nodes), default=0)
        if asked > most:
            where = "this machine has" if len(nodes) == 1 else f"the largest of {len(nodes)} nodes has"
            raise InputError(f"{flag} is {asked:g}, but {where} {most:g} {name}s: give less")
    raise InputError(f"no node has {cpus:g} CPUs and {gpus:g} GPUs at once: give less --cpus-per-trial")


def check_storage(ray: ModuleType, folder: Path) -> None:
    """Refuse a folder that some node of the cluster does not share, or a node without this package.

    Raises:
        InputError: names the node.
    """
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    probe = folder / f".{secrets.token_hex(6)}.part"
    look = ray.remote(num_cpus=0)(_sees)
    answers = {}
    try:
        probe.touch()
        for node in ray.nodes():
            if node["Alive"]:
                there = NodeAffinitySchedulingStrategy(node["NodeID"], False)
                answers[node["NodeManagerAddress"]] = look.options(scheduling_strategy=there).remote(str(probe))
        for name, answer in answers.items():
            try:
                sees = ray.get(answer, timeout=SECONDS)
            except ray.exceptions.RayError as error:
                why = _first_line(error)
                raise InputError(f"the node {name} cannot run this program ({why}): install it there") from None
            if not sees:
                raise InputError(f"the node {name} does not see {folder}: give a --storage that all nodes share")
    finally:
        probe.unlink(missing_ok=True)


def check_remote_storage(storage: str) -> None:
    """Refuse an address at which this machine cannot write, before Ray is started.

    Raises:
        InputError: says why.
    """
    from pyarrow import fs

    try:
        files, path = fs.FileSystem.from_uri(storage)
        files.create_dir(path, recursive=True)
        probe = f"{path}/.{secrets.token_hex(6)}.part"
        with files.open_output_stream(probe):
            pass
        files.delete_file(probe)
    except (OSError, ValueError) as error:
        raise InputError(f"cannot write to --storage {storage} ({_first_line(error)}): give another") from None


def _sees(probe: str) -> bool:
    """Whether this node sees the file and can write beside it."""
    path = Path(probe)
    beside = path.with_name(f"{path.name}.{secrets.token_hex(3)}")
    try:
        beside.touch()
        beside.unlink()
    except OSError:
        return False
    return path.exists()


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
