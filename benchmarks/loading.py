"""How much faster fastMRI slices become a network's input than by fastmri's own SliceDataset and UnetDataTransform.

    python -m benchmarks.loading --volumes 4 --slices 16

Both run in turn on one core, a volume each, on files of noise in fastMRI's schema that are written for it: with k-space
and target in memory, and from the file. fastmri normalises and clamps the target as well; ours leaves it in the file's
units, since it is the network's output that is brought to them.
Then the slices per second of PyTorch's loader by its number of processes. Prints a table in Markdown; exit code 1 if
the inputs differ by more than 1e-5 standard deviations.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import h5py
import torch
from fastmri.data.mri_data import SliceDataset
from fastmri.data.subsample import RandomMaskFunc
from fastmri.data.transforms import UnetDataTransform
from torch.utils.data import DataLoader
from tqdm import tqdm

from benchmarks.fastmri_files import IMAGE_SIZE, KSPACE_SIZE, write_volumes
from benchmarks.harness import seconds
from data_prep import FastMRIDataset, ShapeBatchSampler, make_mask, normalise
from pipelines.runtime.shell import Parser, run_command
from recon.errors import InputError
from recon.physics.mri import zero_filled

LIMIT = 1e-5
FRACTIONS, ACCELERATIONS = (0.08,), (4,)
BATCH = 16

Turn = Callable[[int], object]  # takes the number of a volume


class Loading:
    """Both ways to the slices of one folder.

    Args:
        root: holds the folder `<challenge>_val`.
        challenge: singlecoil or multicoil.
    """

    def __init__(self, root: Path, challenge: str) -> None:
        masks = RandomMaskFunc(list(FRACTIONS), list(ACCELERATIONS))
        self.transform = UnetDataTransform(challenge, masks)
        self.ours = FastMRIDataset(root, "val", challenge, progress=False)
        self.training = FastMRIDataset(root, "val", challenge, training=True, progress=False)
        files = root / f"{challenge}_val"
        self.theirs = SliceDataset(files, challenge, self.transform)
        self.theirs_training = SliceDataset(files, challenge, UnetDataTransform(challenge, masks, use_seed=False))
        self.n_slices, self.coil_dim = self.ours.volumes[0].n_slices, 0 if challenge == "multicoil" else None
        with h5py.File(self.ours.volumes[0].path) as file:
            self.kspace, self.target = file["kspace"][()], file[self.ours.volumes[0].recon_key][()]

    def turns(self) -> dict[str, tuple[Turn, Turn]]:
        """What is compared, ours and fastmri's."""

        def read(dataset: Any) -> Turn:
            return lambda v: [dataset[v * self.n_slices + s] for s in range(self.n_slices)]

        return {
            "from memory": (self.ours_from_memory, self.theirs_from_memory),
            "from the file, evaluation": (read(self.ours), read(self.theirs)),
            "from the file, training": (read(self.training), read(self.theirs_training)),
        }

    def ours_from_memory(self, volume: int) -> None:
        """K-space of the first volume, with the mask of another."""
        seed = tuple(map(ord, self.ours.volumes[volume].path.name))
        for kspace in self.kspace:
            mask = make_mask("random", kspace.shape[-1], FRACTIONS, ACCELERATIONS, seed)
            normalise(zero_filled(torch.from_numpy(kspace), mask, self.coil_dim, IMAGE_SIZE))

    def theirs_from_memory(self, volume: int) -> None:
        """The same."""
        attributes = {"max": self.ours.volumes[0].maximum}
        for s, (kspace, target) in enumerate(zip(self.kspace, self.target, strict=True)):
            self.transform(kspace, None, target, attributes, self.ours.volumes[volume].path.name, s)

    def difference(self) -> float:
        """The largest difference of two inputs."""
        pairs = ((self.ours[i].image[0].clamp(-6, 6), self.theirs[i].image) for i in range(len(self.ours)))
        return max(float((ours - theirs).abs().max()) for ours, theirs in pairs)

    def rate(self, n_workers: int, n_epochs: int) -> float:
        """Slices per second of shuffled batches of the training set, by so many processes that are running already."""
        sampler = ShapeBatchSampler(self.training.shapes, min(BATCH, len(self.training)), shuffle=True)
        loader = DataLoader(
            self.training, batch_sampler=sampler, num_workers=n_workers, persistent_workers=n_workers > 0
        )
        times = []
        for epoch in range(n_epochs + 1):
            sampler.set_position(epoch)
            times.append(seconds(lambda: list(loader)))
        return len(self.training) / median(times[1:])


def measure(loading: Loading, repeats: int) -> dict[str, tuple[float, float]]:
    """The ms per slice of ours and of theirs, the medians of turns of one volume each."""
    rows = {}
    for name, pair in tqdm(loading.turns().items(), disable=None, leave=False):
        times = []
        for repeat in range(-1, repeats):
            volume = repeat % len(loading.ours.volumes)
            times.append([1e3 * seconds(partial(turn, volume)) / loading.n_slices for turn in pair])
        rows[name] = median(ours for ours, _ in times[1:]), median(theirs for _, theirs in times[1:])
    return rows


def main(argv: Sequence[str] | None = None) -> int:
    """Run the comparison and print its tables."""
    return run_command(_main, argv)


def _main(argv: list[str]) -> None:
    parser = Parser(prog="python -m benchmarks.loading", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--volumes", type=int, default=4, help="files (default %(default)s)")
    parser.add_argument("--slices", type=int, default=16, help="in each (default %(default)s)")
    parser.add_argument("--coils", type=int, default=0, help="0 is single-coil (default %(default)s)")
    parser.add_argument("--repeats", type=int, default=20, help="timed turns of each (default %(default)s)")
    parser.add_argument("--workers", type=int, nargs="*", default=[0, 1, 2], help="processes (default 0 1 2)")
    parser.add_argument("--seed", type=int, default=0, help="of the noise (default %(default)s)")
    arguments = parser.parse_args(argv)
    if min(arguments.volumes, arguments.slices, arguments.repeats) < 1 or arguments.coils < 0:
        raise InputError("--volumes, --slices and --repeats must be at least 1, --coils at least 0")
    challenge, n_threads = "multicoil" if arguments.coils else "singlecoil", torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with tempfile.TemporaryDirectory() as root:
            size = {"n_coils": arguments.coils, "seed": arguments.seed}
            write_volumes(Path(root) / f"{challenge}_val", arguments.volumes, arguments.slices, **size)
            loading = Loading(Path(root), challenge)
            difference = loading.difference()
            _print(measure(loading, arguments.repeats), arguments)
            print("\n| loading processes | slices/s |\n|---|---|")
            for n in arguments.workers:
                print(f"| {n} | {loading.rate(n, 3):.0f} |")
    finally:
        torch.set_num_threads(n_threads)
    print(f"\nLargest difference of two inputs: {difference:.1e} standard deviations.")
    if not difference <= LIMIT:
        print(f"The inputs differ by {difference:.1e}, more than {LIMIT:.0e}.", file=sys.stderr)
        raise SystemExit(1)


def _print(rows: dict[str, tuple[float, float]], arguments: Any) -> None:
    print("| slice to input | ours (ms) | fastmri (ms) | ratio | ours (slices/s) |\n|---|---|---|---|---|")
    for name, (ours, theirs) in rows.items():
        print(f"| {name} | {ours:.2f} | {theirs:.2f} | {theirs / ours:.1f} | {1e3 / ours:.0f} |")
    rows_, columns = KSPACE_SIZE
    what = (
        f"{arguments.volumes} volumes of {arguments.slices} slices, {arguments.coils or 1} coil(s), k-space {rows_} x"
    )
    print(f"\n{what} {columns}, acceleration 4; one core; medians of {arguments.repeats} interleaved turns.")


if __name__ == "__main__":
    raise SystemExit(main())
