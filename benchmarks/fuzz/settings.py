"""What users write themselves: flags, YAML, and the spaces of sweeps."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml

from benchmarks.fuzz.damage import NAMES, NUMBERS, TEXTS, Random, damage_any, number_or_text
from benchmarks.fuzz.inputs import OF_TASK, UNET, Inputs
from benchmarks.fuzz.judge import Command
from pipelines.commands import evaluate, predict, prepare, train, tune
from pipelines.runs.config import parse, settings_of
from pipelines.runtime.nested import flat
from pipelines.runtime.shell import run_command
from pipelines.tuning.request import make_request

ANCHORS = (
    "&a [*a, *a]",
    "&a {x: *a}",
    "*lost",
    "!!python/tuple [1]",
    "!!binary x",
    "2024-01-01",
    "{a: 1, a: 2}",
    "0o17",
    "!!float x",
)
NESTED = ("[" * 2000, "{a: " * 500 + "1" + "}" * 500, "[" + "1," * 100_000 + "1]")
ENDLESS = ("max_epochs", "max_steps", "min_epochs", "min_steps")
"""Settings whose large values rightly train for ever."""
LONG = ("shifts", "n_workers", "threads")
"""Settings whose large values rightly take long: only those that nobody can mean are tried."""


def flags_and_yaml(inputs: Inputs, folder: Path, random: Random) -> Command:
    """A valid command with one or two odd values."""
    make = random.choices((_train, _train_yaml, _evaluate, _predict, _prepare), (6, 5, 2, 2, 2))[0]
    return make(inputs, folder, random)


def _odd(random: Random, value: Any) -> Any:
    """Something in the place of a setting: near its value, of another type, or far off."""
    kind = random.randrange(8)
    if kind < 3:
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return random.choice([number for number in NUMBERS if type(number) is type(value)])
        if isinstance(value, list) and random.random() < 0.5:
            return [random.choice(NUMBERS[:20]) for _ in value]
        return number_or_text(random)
    if kind == 3 and isinstance(value, list):
        return random.choice((value * 2, [], value[:1], [random.choice(NUMBERS) for _ in value], [value], [None]))
    if kind == 4 and isinstance(value, (int, float)) and not isinstance(value, bool):
        return random.choice((-value, value * 1000, value + 0.5, str(value), [value], {"a": value}))
    if kind == 5:
        return random.choice((None, True, False, [], {}, [[]], {"": 1}, [0], [1, 1]))
    if kind == 6 and isinstance(value, str):
        return random.choice((value.upper(), value[:-1], f" {value}", [value]))
    return random.choice((0, -1, 1, 2, 3, 0.5, "a", "auto", [4, 4], [2**31], [10**5], 10**4))


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value.replace("\0", "")
    if isinstance(value, float):
        return repr(value)
    return yaml.safe_dump(value, default_flow_style=True, width=10**6).removesuffix("\n...\n").strip()


def _settings(task: str, data: Path) -> dict[str, Any]:
    return settings_of(parse([f"--task={task}", f"--data={data}", *OF_TASK[task]]))


def _task(random: Random) -> str:
    return random.choice(("mri", "mri", "mri", "ct", "cifar10"))


def _setting(random: Random, task: str, data: Path) -> tuple[str, Any]:
    """A key and an odd value."""
    values = flat(_settings(task, data))
    key = random.choice(sorted(values))
    value = _odd(random, values[key])
    return key, _not_for_ever(key, value, random)


def _not_for_ever(key: str, value: Any, random: Random) -> Any:
    if key.endswith(ENDLESS):
        return random.choice((0, 1, 2, -2, 0.5, "a", [], {}, float("nan"), [1], 1e308))
    large = isinstance(value, (int, float)) and 8 < value < 2**31
    return random.choice((2**31, 2**63, 1e308, 1)) if key.endswith(LONG) and large else value


def _train(inputs: Inputs, folder: Path, random: Random) -> Command:
    task = _task(random)
    argv = [f"--task={task}", f"--data={inputs.data(task)}", *OF_TASK[task], f"--out={folder / 'out'}"]
    for _ in range(random.choice((1, 1, 2))):
        key, value = _setting(random, task, inputs.data(task))
        given = [f"--{key}={_text(value)}"] if random.random() < 0.9 else [f"--{key}", _text(value)]
        argv += random.choice((given, given, given, given, [f"--{key}"], [f"--{key[:-1]}=1"], [_text(value)]))
    return Command("recon-train", train.main, argv, folder / "out", inputs.data(task))


def _train_yaml(inputs: Inputs, folder: Path, random: Random) -> Command:
    task = _task(random)
    settings, path = _settings(task, inputs.data(task)), folder / "config.yaml"
    kind = random.randrange(4)
    if kind < 2:
        key, value = _setting(random, task, inputs.data(task))
        put(settings, key, value)
    text = yaml.safe_dump(settings, sort_keys=False, allow_unicode=random.random() < 0.5)
    path.write_text(change_yaml(text, random) if kind == 2 else text, "utf-8", "surrogateescape")
    if kind == 3:
        damage_any(path, random)
    argv = [f"--config={path}", f"--out={folder / 'out'}"]
    return Command("recon-train", train.main, argv, folder / "out", inputs.data(task))


def put(tree: dict[str, Any], key: str, value: Any) -> None:
    """Set a dotted key of a nested configuration."""
    *path, last = key.split(".")
    for part in path:
        tree = tree[part]
    tree[last] = value


def change_yaml(text: str, random: Random) -> str:
    """A line doubled, missing, indented or with an odd value."""
    lines = text.splitlines()
    at = random.randrange(len(lines))
    name, _, value = lines[at].partition(":")
    odd = random.choice(
        (*ANCHORS, *NESTED, *(text.replace("\0", "\x07") for text in TEXTS), "\t", "|", ">", "- a", "? x", "%", "@")
    )
    ways: tuple[Callable[[], list[str]], ...] = (
        *(lambda: [lines[at], lines[at]], list, lambda: ["  " + lines[at]], lambda: ["\t" + lines[at]]),
        *(lambda: [f"{name}: {odd}"],) * 4,
        *(lambda: [f"{odd}: {value}"], lambda: [f"{name}:"], lambda: ["---", lines[at]], lambda: [lines[at].lstrip()]),
    )
    lines[at : at + 1] = random.choice(ways)()
    return "\n".join(lines) + "\n"


def _with_flags(argv: list[str], flags: Sequence[str], random: Random) -> list[str]:
    for _ in range(random.choice((1, 1, 2))):
        flag = random.choice(flags)
        value = _odd(random, [32, 32] if flag.endswith("image_size") else random.choice((1, 1, 1.0, "a")))
        argv = [*argv, f"{flag}={_text(_not_for_ever(flag, value, random))}"]
    return argv


def _evaluate(inputs: Inputs, folder: Path, random: Random) -> Command:
    flags = (
        *("--protocols", "--shifts", "--max-shift", "--noise-levels", "--data", "--split", "--dataset.image_size"),
        *("--dataset.challenge", "--seed", "--batch-size", "--devices", "--out", "--resume", "--save-reconstructions"),
    )
    given = [str(inputs.run("mri")), "--shifts=1", "--max-shift=4", f"--out={folder / 'out'}"]
    given += [
        "--protocols",
        random.choice(("plain", "equivariance", "noise", "flip", "physical-shift", "realistic-shift")),
    ]
    argv = _with_flags(given, flags, random)
    return Command("recon-evaluate", evaluate.main, argv, folder / "out", inputs.run("mri"))


def _predict(inputs: Inputs, folder: Path, random: Random) -> Command:
    task = random.choice(("mri", "ct"))
    flags = ("--format", "--device", "--batch-size", "--dataset.image_size", "--photons", "--out")
    what = inputs.data("nifti") / "chest.nii" if task == "ct" else inputs.data("mri") / "singlecoil_val"
    name = random.choice(("out", *NAMES)) if random.random() < 0.5 else "out"
    argv = _with_flags([str(inputs.run(task)), str(what), f"--out={folder / name}"], flags, random)
    return Command("recon-predict", predict.main, argv, folder / name, what.parent)


def _prepare(inputs: Inputs, folder: Path, random: Random) -> Command:
    task = random.choice(("mri", "ct"))
    which = random.choice(("simulate", "simulate", "cache", "index"))
    if which == "simulate":
        own = (
            ["--photons"]
            if task == "ct"
            else ["--slice-axis", "--matrix", "--band-limit", "--coils", "--noise", "--seed"]
        )
        argv = ["simulate", str(inputs.data("nifti") / "chest.nii"), f"--task={task}", f"--out={folder / 'out'}"]
        argv = _with_flags([*argv, *(["--matrix=32"] if task == "mri" else [])], own, random)
    elif which == "cache":
        flags = ("--dataset.window", "--dataset.frequency_scaling", "--split")
        argv = _with_flags(["cache", f"--data={inputs.data('ct')}"], flags, random)
    else:
        argv = _with_flags(["index", str(inputs.data(task)), f"--task={task}"], ("--challenge", "--task"), random)
    return Command("recon-prepare", prepare.main, argv, folder / "out", inputs.data("nifti"))


SPACE: dict[str, Any] = {
    "optimizer.lr": {"loguniform": [1e-4, 1e-2]},
    "network.sampling": {"choice": ["stride", "lpf", "aps"]},
    "network.blur": {"choice": [1, 3], "when": {"network.sampling": "aps"}},
    "network.widths": {"choice": [[4, 6], [4, 8]]},
    "scheduler.step_size": {"int": [3, 15]},
    "trainer.max_epochs": 2,
    "sweep": {"samples": 2, "cpus_per_trial": 1, "reduction": 2, "scheduler": "asha", "searcher": "random"},
}


def request(argv: Sequence[str]) -> int:
    """All that recon-tune does before it starts Ray."""

    def check(argv: list[str]) -> None:
        arguments, others = tune.build_parser().parse_known_args(argv)
        make_request(vars(arguments) | {"storage": None}, others)

    return run_command(check, argv)


def spaces(inputs: Inputs, folder: Path, random: Random) -> Command:
    """A space, or a flag of recon-tune, with something odd."""
    space, path = copy.deepcopy(SPACE), folder / "space.yaml"
    kind = random.randrange(6)
    argv = [f"--space={path}", "--task=mri", f"--data={inputs.data('mri')}", *UNET[1:]]
    if kind < 3:
        for _ in range(random.choice((1, 1, 2))):
            _change_space(space, random, inputs.data("mri"))
    text = yaml.safe_dump(space, sort_keys=False)
    path.write_text(change_yaml(text, random) if kind == 3 else text)
    if kind == 4:
        damage_any(path, random)
    if kind == 5:
        flags = ("--samples", "--objective", "--grace", "--reduction", "--interval", "--cpus-per-trial", "--concurrent")
        argv = _with_flags(
            argv, (*flags, "--gpus-per-trial", "--retries", "--scheduler", "--searcher", "--seed"), random
        )
    return Command("recon-tune", request, argv, None, inputs.data("mri"))


def _change_space(space: dict[str, Any], random: Random, data: Path) -> None:
    key = random.choice(list(space))
    kind = random.randrange(6)
    if kind == 0:
        space[key] = _odd(random, space[key])
    elif kind == 1:
        name: Any = random.choice((f"{key}x", "network", "sweep.samples", "seed", "data", "task", "", 3, None))
        space[name] = space.pop(key)
    elif kind == 2:
        name, value = _setting(random, "mri", data)
        space[name] = {random.choice(("choice", "int", "uniform", "logint")): [value, random.choice(NUMBERS)]}
    elif isinstance(space[key], dict):
        inner = random.choice(list(space[key]))
        old = space[key][inner]
        if kind == 3:
            space[key][inner] = _odd(random, old)
        elif kind == 4:
            space[key][random.choice(("uniform", "int", "loguniform", "logint", "choice", "grid", "when"))] = space[
                key
            ].pop(inner)
        elif isinstance(old, list):
            space[key][inner] = [number_or_text(random) for _ in range(random.choice((0, 1, 2, 2, 2, 3)))]
