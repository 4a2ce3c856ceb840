"""What scanners measured: fastMRI's files and LoDoPaB's."""

from __future__ import annotations

from pathlib import Path

from benchmarks.fuzz.damage import Random, copy_beside, rename
from benchmarks.fuzz.hdf5 import COMMON, FASTMRI, damage_hdf5
from benchmarks.fuzz.inputs import OF_TASK, Inputs
from benchmarks.fuzz.judge import Command
from pipelines.commands import evaluate, predict, prepare, train


def fastmri(inputs: Inputs, folder: Path, random: Random) -> Command:
    """A folder of fastMRI's files, one of them damaged."""
    name = random.choice(("mri", "mri", "multicoil"))
    data = inputs.copy(name, folder / "data")
    split = random.choice(("train", "val"))
    (path,) = data.glob(f"*_{split}/*.h5")
    if random.random() < 0.3:
        copy_beside(path, random)
    damage_hdf5(path, FASTMRI, random)
    challenge = "multicoil" if name == "multicoil" else "singlecoil"
    return _command(inputs, folder, data, "mri", path.parent, random, [f"--dataset.challenge={challenge}"])


def lodopab(inputs: Inputs, folder: Path, random: Random) -> Command:
    """A folder of LoDoPaB's files, one of them damaged, or renamed."""
    data = inputs.copy("ct", folder / "data")
    path = random.choice(sorted(data.glob("*.hdf5")))
    if random.random() < 0.1:
        name = random.choice(("observation_train_002.hdf5", "observation_val_000 (1).hdf5", "ground_truth_x.hdf5"))
        path = path.rename(path.with_name(name))
    elif random.random() < 0.1:
        place = data / "ground_truth_train" / path.name
        place.parent.mkdir()
        path = path.rename(place)
    elif random.random() < 0.1:
        path = rename(path, random)
    damage_hdf5(path, COMMON, random)
    what = random.choice((data, *data.glob("observation_val*"))) if random.random() < 0.9 else path
    return _command(inputs, folder, data, "ct", what, random, [])


def _command(
    inputs: Inputs, folder: Path, data: Path, task: str, what: Path, random: Random, extra: list[str]
) -> Command:
    """One of the four commands that read raw data."""
    out = folder / "out"
    kind = random.choices(("predict", "train", "evaluate", "index", "cache"), (5, 2, 2, 1, 1 if task == "ct" else 0))[0]
    if kind == "predict":
        more = [f"--format={random.choice(('hdf5', 'nifti'))}"]
        more += [f"--dataset.image_size=[{random.choice((16, 32, 48))},32]"] if random.random() < 0.2 else []
        argv = [str(inputs.run(task)), str(what), f"--out={out}", *more]
        return Command("recon-predict", predict.main, argv, out, data)
    if kind == "train":
        argv = [f"--task={task}", f"--data={data}", *OF_TASK[task], *extra, f"--out={out}"]
        return Command("recon-train", train.main, argv, out, data)
    if kind == "evaluate":
        argv = [str(inputs.run(task)), f"--data={data}", *extra, "--shifts=1", "--max-shift=4", f"--out={out}"]
        return Command("recon-evaluate", evaluate.main, [*argv, "--protocols", "plain"], out, data)
    if kind == "cache":
        return Command("recon-prepare", prepare.main, ["cache", f"--data={data}"], None, data)
    challenge = [extra[0].replace("dataset.", "")] if extra else []
    return Command("recon-prepare", prepare.main, ["index", f"--task={task}", *challenge, str(data)], None, data)
