"""How exact the untrained ResNets are: the logits of shifted photographs against those of the photographs.

    python -m benchmarks.resnets --architectures resnet18 resnet50 --blurs 1 3 5 7 --shifts 200

Each architecture is drawn once; its weights then serve every blur (they share one state dict) and the control, the
same network with sampling stride. Shifts are circular, drawn for each photograph from half its size either way without
(0, 0). The change is |f(T x) - f(x)| / |f(x)|. Prints a table in Markdown; exit code 1 if an aps network is above 1e-5
or changes an answer.
"""

from __future__ import annotations

import platform
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from skimage import data
from torch import Tensor, nn
from tqdm import tqdm

from pipelines.runtime.arithmetic import exact_arithmetic
from pipelines.runtime.shell import Parser, run_command
from recon.errors import InputError, check_choice
from recon.layers import circular_shift
from recon.metrics import draw_shifts
from recon.networks import ResNet, record_margins
from recon.networks.resnet import ARCHITECTURES

PHOTOGRAPHS = ("astronaut", "coffee", "chelsea", "rocket")  # in scikit-image's wheel, in colour
SIZES = {"imagenet": 224, "cifar": 32}
LIMIT = 1e-5


class Outcome(NamedTuple):
    """What the shifts of all photographs showed."""

    largest: float
    n_same: int
    n_shifts: int
    smallest_margin: float | None


def photographs(size: int) -> Tensor:
    """Photographs ``(4, 3, size, size)`` float32: the middle square, anti-aliased, each channel standardised."""
    images = []
    for name in PHOTOGRAPHS:
        image = torch.from_numpy(np.asarray(getattr(data, name)())).permute(2, 0, 1).float()
        side = min(image.shape[1:])
        top, left = ((n - side) // 2 for n in image.shape[1:])
        square = image[None, :, top : top + side, left : left + side]
        images.append(F.interpolate(square, (size, size), mode="bilinear", antialias=True))
    x = torch.cat(images)
    return (x - x.mean((2, 3), keepdim=True)) / x.std((2, 3), keepdim=True)


@torch.inference_mode()
def check(network: nn.Module, images: Tensor, n_shifts: int, batch_size: int = 8, seed: int = 0) -> Outcome:
    """Compare the logits of each image with those of its shifts.

    Args:
        network: in eval mode, on the device and of the dtype of the images.
        images: ``(images, channel, height, width)``.
        n_shifts: over all images.
        batch_size: shifts at a time, after the image itself: another batch size would round otherwise.
        seed: of the shifts.
    """
    largest, n_same, margins = 0.0, 0, []
    with exact_arithmetic():
        for index, image in enumerate(images):
            n = len(range(index, n_shifts, len(images)))
            if n == 0:
                continue
            for shifts in draw_shifts(n, image.shape[-1] // 2, (seed, index)).to(images.device).split(batch_size):
                moves = F.pad(shifts, (0, 0, 1, 0))  # the image itself comes first, in the same batch
                with record_margins(network) as recorded:
                    logits = network(circular_shift(image.expand(len(moves), *image.shape), moves))
                margins += [float(margin[0]) for margin in recorded]
                change = (logits[1:] - logits[0]).double().norm(dim=1) / logits[0].double().norm()
                largest = max(largest, float(change.max()))
                n_same += int((logits[1:].argmax(1) == logits[0].argmax()).sum())
    return Outcome(largest, n_same, n_shifts, min(margins, default=None))


def variants(architecture: str, form: str, blurs: Sequence[int], seed: int = 0) -> dict[str, ResNet]:
    """One draw of weights in an aps network of each blur, and in the stride network, all in eval mode."""
    torch.manual_seed(seed)
    stride = ResNet(architecture, form, sampling="stride").eval()
    networks = {"stride": stride}
    for blur in blurs:
        networks[f"aps{blur}"] = ResNet(architecture, form, sampling="aps", blur=blur).eval()
        networks[f"aps{blur}"].load_state_dict(stride.state_dict(), assign=True)
    return networks


def main(argv: Sequence[str] | None = None) -> int:
    """Run the check and print its table."""
    return run_command(_main, argv)


def _main(argv: list[str]) -> None:
    arguments = _parser().parse_args(argv)
    if min(arguments.shifts, arguments.batch_size) < 1:
        raise InputError("--shifts and --batch-size must be at least 1")
    if arguments.device.startswith("cuda") and not torch.cuda.is_available():
        raise InputError(f"--device {arguments.device} is not available here: use --device cpu")
    known = ARCHITECTURES[arguments.form]
    for name in arguments.architectures or ():
        check_choice("architecture", name, known)
    size, dtype = arguments.size or SIZES[arguments.form], getattr(torch, arguments.dtype)
    images = photographs(size).to(arguments.device, dtype)
    print("| architecture | sampling | shifts | largest change of the logits | same answer | smallest margin |")
    print("|---|---|---|---|---|---|")
    failed = False
    for name in tqdm(arguments.architectures or known, disable=None, leave=False):
        for variant, network in variants(name, arguments.form, arguments.blurs, arguments.seed).items():
            network = network.to(arguments.device, dtype)
            found = check(network, images, arguments.shifts, arguments.batch_size, arguments.seed)
            failed |= variant != "stride" and (found.largest > LIMIT or found.n_same < found.n_shifts)
            margin = "" if found.smallest_margin is None else f"{found.smallest_margin:.1e}"
            what = "stride (control)" if variant == "stride" else variant
            cells = (name, what, found.n_shifts, f"{found.largest:.1e}", found.n_same, margin)
            print(f"| {' | '.join(map(str, cells))} |", flush=True)
    print(f"\n{arguments.form} form, {size} x {size}, {arguments.dtype}, seed {arguments.seed}, {arguments.device};")
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {platform.machine()}.")
    if failed:
        raise SystemExit(1)


def _parser() -> Parser:
    parser = Parser(prog="python -m benchmarks.resnets", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--form", choices=ARCHITECTURES, default="imagenet", help="(default %(default)s)")
    parser.add_argument("--architectures", nargs="+", help="of that form (default: all of them)")
    parser.add_argument("--blurs", nargs="+", type=int, default=[1, 3, 5, 7], help="of aps (default 1 3 5 7)")
    parser.add_argument("--shifts", type=int, default=16, help="over the four photographs (default %(default)s)")
    parser.add_argument("--size", type=int, help="of the photographs, in pixels (default 224, for cifar 32)")
    parser.add_argument("--batch-size", type=int, default=8, help="shifts at a time (default %(default)s)")
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float32", help="(default %(default)s)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of weights and shifts (default %(default)s)")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
