"""What the program wrote itself: run folders, checkpoints, unfinished evaluations and sweeps."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import yaml

from benchmarks.fuzz.damage import NUMBERS, TEXTS, Random, damage_any, number_or_text
from benchmarks.fuzz.inputs import Inputs
from benchmarks.fuzz.judge import Command
from benchmarks.fuzz.settings import change_yaml
from pipelines.commands import evaluate, predict, train, tune


def runs(inputs: Inputs, folder: Path, random: Random) -> Command:
    """One damaged file of a run, of an unfinished evaluation or of a sweep, and a command that goes on with it."""
    kind = random.choices(("run", "evaluation", "sweep"), (6, 3, 3))[0]
    if kind == "evaluation":
        copy = Path(shutil.copytree(inputs.evaluation, folder / "evaluation"))
        damage_stored(_some_file(copy, random), random)
        return Command("recon-evaluate", evaluate.main, [f"--resume={copy}"], copy, inputs.run("mri"))
    if kind == "sweep":
        copy = Path(shutil.copytree(inputs.sweep, folder / "sweep"))
        damage_stored(_some_file(copy, random), random)
        return Command("recon-tune", tune.main, [f"--resume={copy}"], None, inputs.run("mri"))
    copy = Path(shutil.copytree(inputs.run("mri"), folder / "run"))
    checkpoints = ("checkpoints/best.ckpt", "checkpoints/last.ckpt") * 3
    name = random.choice(("config.yaml", "config.yaml", "environment.json", "metrics.csv", *checkpoints))
    damage_stored(copy / name, random)
    if "best" in name and random.random() < 0.7:
        what = ["recon-predict", "recon-evaluate"][random.randrange(2)]
    else:
        what = random.choice(("recon-train", "recon-train", "recon-evaluate"))
    out = folder / "out"
    if what == "recon-predict":
        argv = [str(copy), str(inputs.data("mri") / "singlecoil_val"), f"--out={out}"]
        return Command(what, predict.main, argv, out, copy)
    if what == "recon-evaluate":
        argv = [str(copy), "--shifts=1", "--max-shift=4", f"--out={out}", "--protocols", "plain"]
        return Command(what, evaluate.main, argv, out, copy)
    return Command(what, train.main, [f"--resume={copy}", "--trainer.max_epochs=2"], None, inputs.data("mri"))


def _some_file(folder: Path, random: Random) -> Path:
    return random.choice(
        sorted(path for path in folder.rglob("*") if path.is_file() and "tensorboard" not in path.parts)
    )


def damage_stored(path: Path, random: Random) -> None:
    """Damage a file by what its format allows, or blindly."""
    ways: dict[str, Callable[[Path, Random], None]] = {
        ".ckpt": _change_checkpoint,
        ".json": _change_json,
        ".yaml": _change_config,
        ".csv": _change_table,
    }
    way = ways.get(path.suffix, _change_table if path.parent.name == ".parts" else damage_any)
    (damage_any if random.random() < 0.35 else way)(path, random)


def _change_config(path: Path, random: Random) -> None:
    if random.random() < 0.5:
        path.write_text(change_yaml(path.read_text(), random))
    else:
        path.write_text(yaml.safe_dump(change_tree(yaml.safe_load(path.read_text()), random)))


def _change_json(path: Path, random: Random) -> None:
    text = json.dumps(change_tree(json.loads(path.read_text()), random))
    path.write_text(
        text if random.random() < 0.9 else text.replace(": ", f": {random.choice(('NaN', '1e999', '9' * 5000))}", 1)
    )


def _change_table(path: Path, random: Random) -> None:
    """A cell or a row of a CSV file."""
    lines = path.read_text().splitlines()
    at = random.randrange(len(lines)) if lines else 0
    cells = lines[at].split(",") if lines else [""]
    kind = random.randrange(5)
    if kind < 3:
        value = str(random.choice((*NUMBERS, *TEXTS, "nan248", "9" * 131_000, "9" * 200_000)))
        cells[random.randrange(len(cells))] = value.replace("\n", " ")
        lines[at : at + 1] = [",".join(cells)]
    elif kind == 3:
        lines[at : at + 1] = random.choice(
            ([], [lines[at]] * 2 if lines else [], [""], [",".join(cells[:-1])], [f"{','.join(cells)},1"])
        )
    else:
        lines = lines[:1]
    path.write_text("\n".join(lines) + "\n")


def change_tree(tree: Any, random: Random) -> Any:
    """A nested structure with one value exchanged, removed, wrapped, or under another key."""
    if isinstance(tree, dict) and tree and random.random() < 0.9:
        key = random.choice(list(tree))
        kind = random.randrange(8)
        if kind == 0:
            return {name: value for name, value in tree.items() if name != key}
        if kind == 1:
            return {
                random.choice((f"{key}x", "", "more")) if name == key else name: value for name, value in tree.items()
            }
        return tree | {key: change_tree(tree[key], random)}
    if isinstance(tree, list) and tree and random.random() < 0.7:
        at = random.randrange(len(tree))
        return [*tree[:at], change_tree(tree[at], random), *tree[at + 1 :]]
    value = random.choice(
        (None, [], {}, [1], {"a": 1}, True, [tree], {"a": tree}, number_or_text(random), random.choice(NUMBERS))
    )
    return value


def _change_checkpoint(path: Path, random: Random) -> None:
    """Its tree, or one of its tensors."""
    content = torch.load(path, weights_only=True)
    kind = random.randrange(6)
    state = content["state_dict"]
    name = random.choice(list(state))
    if kind == 0:
        key = random.choice(list(content))
        content[key] = random.choice(
            (None, 3, [], {}, "x", [content[key]], {b"a": 1}, {float("nan"): 1}, number_or_text(random))
        )
    elif kind == 1:
        tensors: tuple[Callable[[], Any], ...] = (
            *(lambda: state[name][0], lambda: state[name].to_sparse(), lambda: state[name] * float("nan"), lambda: "x"),
            *(lambda: state[name].double(), lambda: state[name].to(torch.complex64), lambda: [1.0], lambda: None),
            *(lambda: state[name].to(torch.int8), lambda: torch.zeros(0), lambda: state[name].to(torch.float8_e5m2)),
            *(
                lambda: state[name].expand(10**6, *state[name].shape),
                lambda: state[name].to("meta"),
                lambda: state[name] * 0,
            ),
        )
        state[name] = random.choice(tensors)()
    elif kind == 2:
        content["state_dict"] = random.choice(
            ({**state, b"x": 1}, {**state, 3: 1}, list(state), {"a": state}, {}, {**state, "x": 1})
        )
    elif kind == 3:
        content = random.choice(
            ([content], content["state_dict"], None, {"state_dict": content}, torch.zeros(3), "x", {})
        )
    else:
        content = change_tree(content, random)
    torch.save(content, path, _use_new_zipfile_serialization=random.random() < 0.8)
