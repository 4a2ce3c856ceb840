"""How exact is exact: random (image, shift) pairs through a trained network, at every blur size.

    python -m benchmarks.exactness runs/mri/RUN --pairs 2000

The run's weights are moved to aps networks with blur 1, 3, 5 and 7 (they share one state dict). Each pair compares
the shifted output with the output of the shifted input. Control: the same network with its score summed in float32,
where phases flip. Prints a table in Markdown.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from tqdm import tqdm

from data_prep import center_crop
from pipelines.reconstruction.task import ReconstructionTask, batch_of
from pipelines.runs.checkpoints import build_task, load_weights
from pipelines.runs.config import load
from pipelines.runtime.arithmetic import exact_arithmetic
from pipelines.runtime.run_folder import check_run_folder
from pipelines.runtime.shell import Parser, run_command
from pipelines.tasks import open_dataset
from recon.errors import InputError
from recon.layers import MaxNorm, circular_shift, split_phases
from recon.metrics import draw_shifts
from recon.networks import record_margins

BLURS = (1, 3, 5, 7)
CONTROL = "control: float32, scored in float32"
LIMITS = {torch.float32: 1e-5, torch.float64: 1e-10}


class Float32Score(MaxNorm):
    """The control: l2 scores whose squares are summed in float32, as one would at first write them."""

    @torch.no_grad()
    def score(self, x: Tensor, stride: int) -> Tensor:
        """The score ``(batch, phase)``, in float32."""
        return split_phases(x, stride).square().flatten(2).sum(-1)


class Outcome(NamedTuple):
    """What the pairs of one network showed."""

    n_pairs: int
    n_above: int
    largest: float
    n_equal: int
    smallest_margin: float  # nan without a selector


class OfImages(nn.Module):
    """A task as a map of normalised images, its clamp included."""

    def __init__(self, task: ReconstructionTask) -> None:
        super().__init__()
        self.task = task

    def forward(self, image: Tensor) -> Tensor:
        """Reconstruct ``(batch, 1, rows, columns)``."""
        result: Tensor = self.task(batch_of(image))
        return result


def load_network(run: Path, blur: int, score: type[MaxNorm] = MaxNorm) -> OfImages:
    """The run's weights in an aps network of another blur, in eval mode."""
    config = load(check_run_folder(run) / "config.yaml")
    if config.network.name != "unet":
        raise InputError(f"{run} is a run of the network {config.network.name}: give one of --network unet")
    config.network.sampling, config.network.blur = "aps", blur
    task = build_task(config)
    load_weights(task, run / "checkpoints" / "best.ckpt")
    for pool in task.network.pools:
        pool.selector = score()
    return OfImages(task).eval()


@torch.inference_mode()
def check(network: nn.Module, images: Tensor, n_pairs: int, max_shift: int = 128, seed: int = 0) -> Outcome:
    """Compare T f(x) with f(T x) for random pairs of an image and a circular shift.

    Args:
        network: in eval mode, on the images' device.
        images: ``(images, 1, rows, columns)``, normalised; their dtype is what the network is cast to.
        n_pairs: how many.
        max_shift: the shifts' range in pixels.
        seed: of the pairs.
    """
    network = network.to(images.dtype)
    generator = torch.Generator().manual_seed(seed)
    which = torch.randint(0, len(images), (n_pairs,), generator=generator).sort().values
    shifts = draw_shifts(n_pairs, max_shift, seed).to(images.device)
    errors, n_equal, margins, output, last = [], 0, [], images[:1], -1
    with exact_arithmetic():
        for index, shift in tqdm(zip(which.tolist(), shifts, strict=True), total=n_pairs, disable=None, leave=False):
            image = images[index : index + 1]
            if index != last:
                with record_margins(network) as recorded:
                    output = network(image)
                margins += [float(margin) for margin in recorded]
                last = index
            expected = circular_shift(output, shift[None])
            found = network(circular_shift(image, shift[None]))
            n_equal += int(torch.equal(expected, found))
            errors.append(float((found - expected).double().norm() / expected.double().norm()))
    n_above = sum(error > LIMITS[images.dtype] for error in errors)
    return Outcome(n_pairs, n_above, max(errors), n_equal, min(margins, default=float("nan")))


def images_of(run: Path) -> Tensor:
    """Every image of the run's training and evaluation splits that has the first one's size, normalised."""
    config = load(check_run_folder(run) / "config.yaml")
    datasets = [open_dataset(config, split) for split in ("train", config.evaluation.split)]
    images = [dataset[index].image for dataset in datasets for index in range(len(dataset))]
    return torch.stack([image for image in images if image.shape == images[0].shape])


def cases(run: Path, n_pairs: int, n_pairs64: int, seed: int) -> Iterator[tuple[int, str, float, Outcome]]:
    """Check the run's weights at every blur: yields (blur, what, limit, outcome)."""
    images = images_of(run)
    crops = center_crop(images, [min(64, side) for side in images.shape[2:]]).double()
    for blur in BLURS:
        for what, score, some, n in (
            ("float32, scored in float64", MaxNorm, images, n_pairs),
            ("float64, 64 x 64 crops", MaxNorm, crops, n_pairs64),
            (CONTROL, Float32Score, images, n_pairs),
        ):
            yield blur, what, LIMITS[some.dtype], check(load_network(run, blur, score), some, n, seed=seed)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the check and print its table."""
    return run_command(_main, argv)


def _main(argv: list[str]) -> None:
    parser = Parser(prog="python -m benchmarks.exactness", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("run", type=Path, help="a run folder")
    parser.add_argument("--pairs", type=int, default=2000, help="float32 pairs at each blur (default %(default)s)")
    parser.add_argument("--pairs64", type=int, default=100, help="float64 pairs on 64 x 64 crops (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="(default %(default)s)")
    arguments = parser.parse_args(argv)
    print("| blur | dtype, score | pairs | above limit | largest relative error | bitwise equal | smallest margin |")
    print("|---|---|---|---|---|---|---|")
    n_above = 0
    for blur, what, limit, outcome in cases(arguments.run, arguments.pairs, arguments.pairs64, arguments.seed):
        n_above += outcome.n_above if what != CONTROL else 0
        print(
            f"| {blur} | {what} | {outcome.n_pairs} | {outcome.n_above} (> {limit:.0e}) | {outcome.largest:.1e} "
            f"| {outcome.n_equal} | {outcome.smallest_margin:.1e} |",
            flush=True,
        )
    print(
        f"\nSeed {arguments.seed}, torch {torch.__version__}, {torch.get_num_threads()} threads, {platform.machine()}."
    )
    if n_above:
        raise SystemExit(1)


if __name__ == "__main__":
    raise SystemExit(main())
