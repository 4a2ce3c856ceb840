"""The configuration: YAML defaults, dotted overrides, and one sentence for a mistake.

There is no second schema: the keys are the arguments of the classes they configure.
"""

from __future__ import annotations

import inspect
import json
import re
from argparse import ArgumentError
from collections.abc import Iterator, Sequence
from importlib import resources
from itertools import zip_longest
from pathlib import Path
from typing import Any, get_args

import pytorch_lightning as pl
import yaml
from jsonargparse import ActionConfigFile, ArgumentParser, Namespace, get_loader, set_loader

import configs
from data_prep.storage.strict_yaml import strict_yaml
from pipelines.measuring.foreign import model_args
from pipelines.runs.trust import trust
from pipelines.runs.zoo import PREFIX
from pipelines.runtime.bounds import check_bounds
from pipelines.runtime.nested import Value, keys, leaves
from pipelines.runtime.shell import add_version
from pipelines.runtime.yaml_file import read_yaml
from pipelines.tasks import TASKS, TaskRow, is_foreign, network_entry, stands_for
from recon.errors import InputError, check_choice, nearest

# Arguments of a data set that are no settings of it
OF_THE_RUN = {"data", "split", "training", "seed", "progress", "measured", "given_maps"}
ALIASES = {
    "network": "network.name",
    "model": "network.name",
    "sampling": "network.sampling",
    "blur": "network.blur",
    "cascades": "network.n_cascades",
}
PRECISIONS = ("32-true", "16-mixed", "bf16-mixed")
# Trainer arguments that the run folder, the sampler and the callbacks decide
NO_SETTINGS = {
    "barebones", "callbacks", "default_root_dir", "enable_autolog_hparams", "enable_checkpointing", "fast_dev_run",
    "enable_model_summary",
    "limit_predict_batches", "limit_test_batches", "logger", "max_steps", "min_steps", "model_registry",
    "num_sanity_val_steps", "overfit_batches", "plugins", "precision", "reload_dataloaders_every_n_epochs", "strategy",
    "use_distributed_sampler", "val_check_interval", "check_val_every_n_epoch", "inference_mode",
}  # fmt: skip

_load_yaml = get_loader("yaml")


def _load_strict_yaml(text: str) -> Any:
    """What jsonargparse loads, from a file or a flag, once no key stands twice in it."""
    strict_yaml(text)
    return _load_yaml(text)


set_loader("yaml", _load_strict_yaml, exceptions=(yaml.YAMLError,))

FLAGS = {"config", "help", "print_config", "version"}  # of recon-train, beside the settings
CHOOSE_DEFAULTS = ("task", "data", "network.name", "network.takes")
ARGS = "network.args"  # whose keys are another program's
_NOT_SETTINGS = ("config", "__default_config__", "resume", "out", "ray_workers", "ray_address")


def config_file(task: str, sample: bool, network: str) -> Path:
    """The YAML file with a task's recipe, or the preset for the bundled sample.

    ``<task>.yaml`` and ``<task>_sample.yaml`` are those of the task's first network, ``<task>-<network>.yaml`` and, if
    it is there, ``<task>-<network>_sample.yaml`` those of the others. A network that is not ours has those of the one
    that it stands for.
    """
    stem = task if network == next(iter(TASKS[task].networks)) else f"{task}-{network}"
    folder = resources.files(configs)
    preset = folder / (f"{stem}_sample.yaml" if sample else f"{stem}.yaml")
    return Path(str(preset if preset.is_file() else folder / f"{stem}.yaml"))


def build_parser(task: str, sample: bool, network: str, takes: str = "image") -> ArgumentParser:
    """The parser of ``recon-train``: every key of a task's configuration as a dotted flag.

    Args:
        task: a row of TASKS.
        sample: take the defaults of the bundled sample's preset instead of the full recipe.
        network: a row of the task's networks, or another program's factory.
        takes: what that one's network is handed.
    """
    row, entry = TASKS[task], network_entry(task, network, takes)
    preset = config_file(task, sample, stands_for(task, network, takes))
    parser = ArgumentParser(
        prog="recon-train",
        description="Train a network, measure it, and leave a run folder with all there is to know.",
        epilog="Short forms: --network, --sampling, --blur and --cascades stand for --network.name, "
        "--network.sampling, --network.blur and --network.n_cascades. "
        "--model package.module:factory --model-args k=v ... trains a network that is not ours: the factory is "
        "imported and called (it must be a class of torch.nn.Module, or annotated to return one). "
        "Without --data the bundled sample images are used, with a preset for two CPU cores and the network that does "
        "best there in that time.",
        exit_on_error=False,
        allow_abbrev=False,
        default_config_files=[] if is_foreign(network) else [str(preset)],
    )
    add_version(parser)
    add = parser.add_argument
    none = "needed" if row.sample is None else "none: the bundled sample"
    add("--config", action=ActionConfigFile, help="a YAML file with any of these keys")
    add("--task", type=str, default=task, help=f"what to train: {', '.join(TASKS)}")
    add("--data", type=str | None, default=None, help=f"folder with {row.layout}, ... ({none})")
    add("--out", type=str | None, default=None, help="the run folder (default: runs/<task>/<time>-<sampling>-s<seed>)")
    add("--resume", type=str | None, default=None, help="a run folder: go on where it stopped")
    init = "a run folder, one of its checkpoints, or zoo:NAME: start a new training from these weights"
    add("--init", type=str | None, default=None, help=init)
    add("--ray-workers", type=int | None, default=None, help="share the training among so many processes of Ray Train")
    add("--ray-address", type=str | None, default=None, help="of a running Ray cluster (none: this machine)")
    add("--seed", type=int, default=0, help="of the weights, the masks, the order and the shifts")
    add("--threads", type=int | None, default=None, help="CPU threads of torch (default: torch's own choice)")
    not_settings = (OF_THE_RUN | row.fixed.keys()) & inspect.signature(row.dataset).parameters.keys()
    parser.add_class_arguments(row.dataset, "dataset", skip=set(not_settings))
    add("--dataset.batch_size", type=int, default=1, help="samples in a batch, on each device")
    add("--dataset.n_workers", type=int, default=0, help="processes that load data, for each device")
    row.kind.add_arguments(parser, entry.build, set(entry.given))
    add("--network.name", type=str, default=network, help=f"which network: {', '.join(row.networks)}")
    if entry.alignable:
        align = "centroid: bring the object to the centre before the network, and the image back after it"
        add("--network.align", type=str, default="none", help=align)
    parser.add_class_arguments(pl.Trainer, "trainer", skip=NO_SETTINGS)
    add("--trainer.precision", type=str, default="32-true", help=f"of the training: {', '.join(PRECISIONS)}")
    add("--trainer.strategy", type=str, default="auto", help="how several devices share the work")
    add("--evaluation.split", type=str, default="val", help="the split measured at the end: val or test")
    add("--evaluation.shifts", type=int, default=4, help="circular shifts drawn for each image")
    add("--evaluation.max_shift", type=int, default=16, help="largest shift, in pixels")
    if is_foreign(network):
        parser.set_defaults({key: value for key, value in leaves(_read_yaml(preset)) if not key.startswith("network.")})
    return parser


def parse(argv: Sequence[str]) -> Namespace:
    """Parse the arguments of ``recon-train``.

    Returns:
        The whole configuration. ``--help`` and ``--print_config`` print and raise SystemExit(0).

    Raises:
        InputError: an unknown key (with the nearest known one), a value of the wrong type, a missing config file.
    """
    argv = expand_aliases(argv)
    given = _peek(argv)
    task = given.get("task", next(iter(TASKS)))
    check_choice("task", str(task), TASKS)
    row = TASKS[task]
    if given.get("data") == "":
        raise InputError("--data is empty: give a folder, or leave it out for the bundled sample")
    sample = given.get("data") is None and row.sample is not None
    network = given.get("network.name") or _network_of(row, sample and "config" not in given)
    parser = build_parser(task, sample, str(network), str(given.get("network.takes", "image")))
    _check_keys(parser, argv)
    try:
        config = parser.parse_args(argv)
    except (ArgumentError, TypeError, ValueError) as error:
        raise InputError(_one_sentence(str(error))) from None
    _check_nothing_is_empty(parser, config)
    if config.data is None and row.sample is None:
        raise InputError(f"--task {task} needs --data: a folder with {row.layout}")
    _check_values(config)
    name = config.network.name
    if is_foreign(name) and given_options(argv).get("network.name") == name:
        trust(name, config.network.args or {})
    return config


def _network_of(row: TaskRow, sample: bool) -> str:
    """The network where none is named: a configuration file without a name is that of the task's first."""
    return (row.sample.network if sample and row.sample else None) or next(iter(row.networks))


def _check_nothing_is_empty(parser: ArgumentParser, config: Namespace) -> None:
    """Refuse null where a value is needed: jsonargparse takes it for one that was not given."""
    for key in ("dataset", "network", "loss", "optimizer", "scheduler", "trainer", "evaluation"):
        if not isinstance(config.get(key), Namespace):
            raise InputError(f"{key} is {config.get(key)!r}: give it keys, or leave it out")
    for action in parser._actions:
        hint = getattr(action, "_typehint", None)  # jsonargparse has no public way to ask for it
        needed = hint not in (None, Any) and type(None) not in get_args(hint)
        if needed and action.dest in config and config[action.dest] is None:
            raise InputError(f"{action.dest} has no value: give one, or leave the key out")


def load(path: Path) -> Namespace:
    """The configuration that a run folder's ``config.yaml`` records.

    Raises:
        InputError: the file is missing or is not a configuration of ours.
    """
    try:
        return parse(recorded(path))
    except InputError as error:
        raise error if str(path) in str(error) else InputError(f"{path}: {error}") from None


def recorded(path: Path) -> list[str]:
    """The arguments that a run folder's config.yaml stands for, with keys of its network that its version did not know.

    Raises:
        InputError: the file cannot be read, or is no YAML.
    """
    flags = ["--config", str(path)]
    content = _read_yaml(path)
    network, row = content.get("network"), TASKS.get(str(content.get("task")))
    if row is None or not isinstance(network, dict) or network.get("name") not in row.networks:
        return flags
    older = row.networks[network["name"]].older
    words = ((key, value if isinstance(value, str) else json.dumps(value)) for key, value in older.items())
    return flags + [f"--network.{key}={word}" for key, word in words if key not in network]


def settings_of(config: Namespace) -> dict[str, Value]:
    """The settings alone, as a run folder's ``config.yaml`` records them, not where they came from."""
    return {key: value for key, value in config.as_dict().items() if key not in _NOT_SETTINGS}


def make_absolute(config: Namespace) -> None:
    """Let the paths among the settings hold wherever a process starts."""
    if config.data is not None:
        config.data = str(Path(config.data).resolve())
    if config.init is not None and not config.init.startswith(PREFIX):
        config.init = str(Path(config.init).resolve())


def _check_values(config: Namespace) -> None:
    check_bounds(config)
    for key in ("trainer.max_epochs", "trainer.limit_train_batches", "trainer.limit_val_batches"):
        if config[key] == 0:
            raise InputError(f"{key} is 0, which leaves nothing to measure: give 1 or more, or leave it out")
    check_choice("trainer.precision", config.trainer.precision, PRECISIONS)
    TASKS[config.task].kind.check_values(config)


def expand_aliases(argv: Sequence[str]) -> list[str]:
    """The arguments with short flags spelled out, and the words after --model-args as one mapping."""
    out: list[str] = []
    flag, words = "", list[str]()
    for token in argv:
        flag = token if token.startswith("--") else flag
        (words if flag == "--model-args" else out).append(token)
    argv, out = out + [f"--{ARGS}={json.dumps(model_args(words))}"] * bool(words), []
    for token, following in zip_longest(argv, argv[1:]):
        name, equals, value = token.partition("=")
        short = name.removeprefix("--")
        is_alias = name.startswith("--") and short in ALIASES
        named = value if equals else following or ""
        if short == "network" and Path(named).suffix and not is_foreign(named):
            is_alias = False  # a file of the keys network.*, which jsonargparse reads
        out.append(f"--{ALIASES[short]}{equals}{value}" if is_alias else token)
    return out


def _peek(argv: Sequence[str]) -> dict[str, Value]:
    """What chooses the defaults (the task, the data folder, the network), before anything else is parsed."""
    found: dict[str, Value] = {}
    for name, value in _options(argv):
        if name == "config" and value is not None:
            content = _read_yaml(Path(value))
            found["config"] = value
            network = content.get("network")
            network = network if isinstance(network, dict) else {}
            found |= {f"network.{key}": network[key] for key in ("name", "takes") if key in network}
            found |= {key: content[key] for key in CHOOSE_DEFAULTS if key in content}
        elif name in CHOOSE_DEFAULTS:
            found[name] = None if value == "null" else value
    return found


def given_options(argv: Sequence[str]) -> dict[str, str | None]:
    """The values of the flags as they were written; of a flag that stands twice the last."""
    return dict(_options(argv))


def _options(argv: Sequence[str]) -> Iterator[tuple[str, str | None]]:
    for token, following in zip_longest(argv, argv[1:]):
        if token.startswith("--"):
            name, equals, value = token[2:].partition("=")
            yield name, value if equals else following


def _read_yaml(path: Path) -> dict[str, Value]:
    return read_yaml(path, "the configuration", "give another --config", "--print_config prints")


def _check_keys(parser: ArgumentParser, argv: Sequence[str]) -> None:
    settings = set(parser.get_defaults().keys(branches=True))
    known = settings | FLAGS | {key.replace("_", "-") for key in settings if "." not in key}
    for name, value in _options(argv):
        _check_key(name, known, "option --")
        if name == "config" and value is not None:
            for key in keys(_read_yaml(Path(value))):
                _check_key(key, known, f"key in {value}: ")


def _check_key(name: str, known: set[str], what: str) -> None:
    if name.startswith(f"{ARGS}.") and ARGS in known:
        return
    if name.split("+")[0].removesuffix(".help") not in known:
        near = nearest(name, sorted(known), 0.5)
        hint = f"did you mean {near}?" if near else "recon-train --help lists them"
        raise InputError(f"unknown {what}{name}: {hint}")


def _one_sentence(message: str) -> str:
    """What jsonargparse says over several lines about a wrong type, in one."""
    key = re.search(r'key "(.+?)"', message)
    value = re.search(r"(?:Given|Got) value: (.*)", message)
    kinds = dict.fromkeys(re.findall(r"Expected an? <class '(?:[\w.]*\.)?(\w+)'>", message))
    if key and value and kinds:
        names = " or ".join("null" if kind == "NoneType" else kind for kind in kinds)
        names = names.replace("Sequence", f"a list, such as [{value.group(1).strip()}]")
        return f"{key.group(1)} cannot be {value.group(1).strip()!r}: expected {names}"
    sentence = " ".join(message.split())
    return f"{sentence}; recon-train --help lists the options" if "unrecognized" in sentence else sentence
