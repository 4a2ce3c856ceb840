"""FBP and ray transform in slices per second, against ASTRA on the CPU and scikit-image, and the PSNR of each FBP.

Of parallel rays and of a fan beam; ASTRA has no FBP of a fan on a CPU, its back-projection alone stands for it.

    python -m benchmarks.tomography --slices 32

All use as many cores: ours has one thread for each, the others, which take one slice at a time in one thread, one
process for each, with their data at hand. They run in turn, compiled and warm; the ratios are those of each turn. The
phantoms are random ellipses with sinograms in closed form, each FBP is a Ram-Lak one, and PSNR is that of the mean
squared error over the phantoms, each relative to its range. Prints a table in Markdown; exit code 1 if the PSNR of
ASTRA is better than ours.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import math
import multiprocessing
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import torch
from skimage.transform import iradon, radon
from torch import Tensor
from tqdm import tqdm

from pipelines.runtime.shell import Parser, run_command
from recon.errors import InputError
from recon.physics.ct import LODOPAB, FanBeam, ParallelBeam, fbp, photon_noise, ray_transform
from recon.physics.geometry import CTGeometry

N_ELLIPSES = 14
KINDS = ("FBP", "projection", "fan beam, FBP", "fan beam, projection")


class Ellipses(NamedTuple):
    """A phantom: the sum of ellipses. All float64 ``(ellipses, 1, 1)``, lengths in metres, mu in 1/m."""

    x: Tensor
    y: Tensor
    along: Tensor
    across: Tensor
    turn: Tensor
    mu: Tensor

    def image(self, geometry: CTGeometry, finer: int = 4, offset: float = 0.0) -> Tensor:
        """mu of each pixel, the mean over finer x finer points, float64 ``(rows, columns)``; offset in pixels."""
        fine = replace(geometry, rows=geometry.rows * finer, columns=geometry.columns * finer)
        x, y = (
            (torch.arange(n, dtype=torch.float64) - (n - 1) / 2 + offset * finer) * size
            for n, size in zip((fine.rows, fine.columns), fine.pixel_size, strict=True)
        )
        total = torch.zeros(fine.rows, fine.columns, dtype=torch.float64)
        for a, b, along, across, turn, mu in zip(*self, strict=True):
            u = (x[:, None] - a) * turn.cos() + (y - b) * turn.sin()
            v = (y - b) * turn.cos() - (x[:, None] - a) * turn.sin()
            total += mu * ((u / along) ** 2 + (v / across) ** 2 <= 1)
        return torch.nn.functional.avg_pool2d(total[None], finer)[0]

    def sinogram(self, geometry: CTGeometry) -> Tensor:
        """The line integrals in closed form, float64 ``(angles, detectors)``."""
        angle, s = lines(geometry)
        s = s - self.x * angle.cos() - self.y * angle.sin()
        squared = (self.along * (angle - self.turn).cos()) ** 2 + (self.across * (angle - self.turn).sin()) ** 2
        chord = 2 * self.along * self.across * (squared - s**2).clamp(min=0).sqrt() / squared
        return (self.mu * chord).sum(0)


def phantom(geometry: CTGeometry, seed: int) -> Ellipses:
    """A body of water with ellipses in it, inside the image."""
    generator, radius = torch.Generator().manual_seed(seed), min(geometry.extent) / 2

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(N_ELLIPSES, 1, 1, dtype=torch.float64, generator=generator)

    distance, direction = uniform(0, 0.6 * radius), uniform(0, 2 * math.pi)
    x, y = distance * direction.cos(), distance * direction.sin()
    along, across = uniform(0.02 * radius, 0.25 * radius), uniform(0.02 * radius, 0.25 * radius)
    parts = Ellipses(x, y, along, across, uniform(0, math.pi), uniform(-10, 10))
    for part, of_body in zip(parts, (0.0, 0.0, 0.9 * radius, 0.8 * radius, 0.3, 20.0), strict=True):
        part[0] = of_body
    return parts


def lines(geometry: CTGeometry) -> tuple[Tensor, Tensor]:
    """Phi and s of each ray, the line x cos(phi) + y sin(phi) = s, that fit ``(angles, detectors)``."""
    angle, s = geometry.angles[:, None], geometry.detectors
    if not isinstance(geometry, FanBeam):
        return angle, s
    gamma = torch.atan(s / geometry.source_to_detector)
    return angle - gamma, geometry.source_to_origin * gamma.sin()


def fan_beam(geometry: CTGeometry) -> FanBeam:
    """A fan beam for the same image, as many rays from 4 times as far as its corners, and the detector twice as far."""
    far = 2 * math.hypot(*geometry.extent)
    same = {field.name: getattr(geometry, field.name) for field in dataclasses.fields(ParallelBeam)}
    same["detector_extent"] *= 2.1
    return FanBeam(**same, source_to_origin=far, source_to_detector=2 * far)


def astra_projection(image: np.ndarray, geometry: CTGeometry) -> np.ndarray:
    """ASTRA's projection on the CPU, ``(angles, detectors)``; its x axis is that of our rows.

    Parallel rays by Joseph's method, a fan by the length of each ray in each pixel.
    """
    import astra

    projector = _astra_projector(geometry)[0]
    try:
        return astra.create_sino(np.ascontiguousarray(image.T[::-1]), projector)[1]
    finally:
        astra.clear()


def astra_fbp(sinogram: np.ndarray, geometry: CTGeometry) -> np.ndarray:
    """ASTRA's Ram-Lak FBP of parallel rays on the CPU, ``(rows, columns)`` in 1/m."""
    return _astra_image(sinogram, geometry, {"type": "FBP", "option": {"FilterType": "ram-lak"}})


def astra_back_projection(sinogram: np.ndarray, geometry: CTGeometry) -> np.ndarray:
    """ASTRA's unfiltered back-projection on the CPU, ``(rows, columns)``."""
    return _astra_image(sinogram, geometry, {"type": "BP"})


def _astra_image(sinogram: np.ndarray, geometry: CTGeometry, algorithm: dict[str, Any]) -> np.ndarray:
    import astra

    projector, rays, volume = _astra_projector(geometry)
    try:
        into = astra.data2d.create("-vol", volume)
        ids = {"ProjectionDataId": astra.data2d.create("-sino", rays, sinogram), "ReconstructionDataId": into}
        astra.algorithm.run(astra.algorithm.create({"ProjectorId": projector, **ids, **algorithm}))
        return astra.data2d.get(into)[::-1].T.copy()
    finally:
        astra.clear()


def _astra_projector(geometry: CTGeometry) -> tuple[int, Any, Any]:
    import astra

    x, y = (side / 2 for side in geometry.extent)
    volume = astra.create_vol_geom(geometry.columns, geometry.rows, -x, x, -y, y)
    detector = geometry.detector_spacing, geometry.n_detectors, geometry.angles.numpy()
    if isinstance(geometry, FanBeam):
        near, far = geometry.source_to_origin, geometry.source_to_detector - geometry.source_to_origin
        rays = astra.create_proj_geom("fanflat", *detector, near, far)
        return astra.create_projector("line_fanflat", rays, volume), rays, volume
    rays = astra.create_proj_geom("parallel", *detector)
    return astra.create_projector("linear", rays, volume), rays, volume


def skimage_projection(image: np.ndarray, geometry: CTGeometry) -> np.ndarray:
    """scikit-image's projection by rotating the image, on detectors of its own, not in metres."""
    return radon(image, _skimage_degrees(geometry), circle=False)


def skimage_fbp(sinogram: np.ndarray, geometry: CTGeometry) -> np.ndarray:
    """scikit-image's FBP in 1/m, on pixels as wide as a detector, of which number n // 2 is the centre."""
    degrees = _skimage_degrees(geometry)
    image = iradon(sinogram.T, degrees, output_size=geometry.rows, filter_name="ramp", circle=False)
    return image / geometry.detector_spacing


def _skimage_degrees(geometry: CTGeometry) -> np.ndarray:
    return np.rad2deg(geometry.angles.numpy()) - 90  # it counts from the columns' axis


Function = Callable[[np.ndarray, CTGeometry], np.ndarray]
PACKAGES: dict[str, dict[str, Function]] = {
    "ASTRA": dict(zip(KINDS, (astra_fbp, astra_projection, astra_back_projection, astra_projection), strict=True)),
    "scikit-image": {"FBP": skimage_fbp, "projection": skimage_projection},
}
_data: dict[str, Any] = {}  # of a worker process


def example(kind: str, geometry: CTGeometry) -> tuple[Tensor, CTGeometry]:
    """What a kind of work is done on, float32: an image or a sinogram of a phantom, and the scan."""
    some = phantom(geometry, 0)
    scan = fan_beam(geometry) if kind.startswith("fan beam") else geometry
    return (some.sinogram(scan) if kind.endswith("FBP") else some.image(geometry, finer=1)).float(), scan


def _start_worker(geometry: CTGeometry) -> None:
    torch.set_num_threads(1)
    for kind in KINDS:
        x, scan = example(kind, geometry)
        _data[kind] = x.numpy(), scan


def _work(name: str, kind: str, n: int) -> None:
    for _ in range(n):
        PACKAGES[name][kind](*_data[kind])


def measure(geometry: CTGeometry, n_slices: int, n_theirs: int, repeats: int) -> dict[tuple[str, str], list[float]]:
    """Slices per second of every repeat, by name and kind.

    Args:
        geometry: of all.
        n_slices: that ours takes at once.
        n_theirs: that each process of the others takes, one after the other.
        repeats: timed turns of each.
    """
    n_cores = torch.get_num_threads()
    with multiprocessing.get_context("spawn").Pool(n_cores, _start_worker, (geometry,)) as pool:

        def theirs(name: str, kind: str, n: int) -> Callable[[], object]:
            return lambda: pool.starmap(_work, [(name, kind, n)] * n_cores, chunksize=1)

        def ours(kind: str) -> Callable[[], object]:
            x, scan = example(kind, geometry)
            x, function = x.expand(n_slices, -1, -1).contiguous(), fbp if kind.endswith("FBP") else ray_transform
            return lambda: function(x, scan)

        turns: dict[tuple[str, str], tuple[int, Callable[[], object]]] = {}
        for kind in KINDS:
            turns["ours", kind] = n_slices, ours(kind)
            names = [name for name in rivals() if kind in PACKAGES[name]]
            turns |= {(name, kind): (n_theirs * n_cores, theirs(name, kind, n_theirs)) for name in names}
        for (name, kind), (_, function) in turns.items():
            function() if name == "ours" else theirs(name, kind, 1)()
        speeds: dict[tuple[str, str], list[float]] = {turn: [] for turn in turns}
        for _ in tqdm(range(repeats), disable=None, leave=False):
            for turn, (n, function) in turns.items():
                start = time.perf_counter()
                function()
                speeds[turn].append(n / (time.perf_counter() - start))
    return speeds


def rivals() -> list[str]:
    """Those of the others that are installed."""
    return [name for name in PACKAGES if name != "ASTRA" or importlib.util.find_spec("astra")]


def quality(geometry: CTGeometry, n_phantoms: int, seed: int, n_photons: float | None) -> dict[str, float]:
    """The PSNR of each FBP in dB, of sinograms with the noise of ``n_photons`` or without."""
    errors: dict[str, list[float]] = {name: [] for name in ("ours", *rivals())}
    size = geometry.detector_spacing
    theirs = replace(geometry, extent=(geometry.rows * size, geometry.columns * size))
    for index in range(n_phantoms):
        some = phantom(geometry, seed + index)
        sinogram, target = some.sinogram(geometry), some.image(geometry)
        if n_photons is not None:
            sinogram = photon_noise(sinogram, np.random.default_rng(seed + index), n_photons)
        for name, values in errors.items():
            one = sinogram.float()
            image = fbp(one, geometry) if name == "ours" else torch.tensor(PACKAGES[name]["FBP"](one.numpy(), geometry))
            # scikit-image's middle lies half a pixel further if their number is even
            shown = some.image(theirs, offset=(geometry.rows % 2 - 1) / 2) if name == "scikit-image" else target
            values.append(float((image - shown).square().mean()) / float(target.max() - target.min()) ** 2)
    return {name: -10 * math.log10(sum(values) / n_phantoms) for name, values in errors.items()}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the comparison and print its table."""
    return run_command(_main, argv)


def _main(argv: list[str]) -> None:
    parser = Parser(prog="python -m benchmarks.tomography", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--slices", type=int, default=32, help="that ours takes at once (default %(default)s)")
    parser.add_argument("--theirs", type=int, default=2, help="of the others, for each core (default %(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="timed turns of each (default %(default)s)")
    parser.add_argument("--size", type=int, default=362, help="rows; 362 is LoDoPaB's (default %(default)s)")
    parser.add_argument("--phantoms", type=int, default=2, help="for the PSNR (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the phantoms (default %(default)s)")
    arguments = parser.parse_args(argv)
    counts = (arguments.slices, arguments.theirs, arguments.repeats, arguments.size, arguments.phantoms)
    if min(counts) < 1:
        raise InputError("--slices, --theirs, --repeats, --size and --phantoms must be at least 1")
    geometry = _geometry(arguments.size)
    levels = {"no noise": None, "4096 photons": 4096}
    psnrs = {what: quality(geometry, arguments.phantoms, arguments.seed, n) for what, n in levels.items()}
    speeds = measure(geometry, arguments.slices, arguments.theirs, arguments.repeats)
    size = f"{geometry.rows} x {geometry.columns} pixels, {geometry.n_angles} angles, {geometry.n_detectors} detectors"
    ours = f"{arguments.slices} slices at once, theirs {arguments.theirs} in each process"
    n_repeats = f"{torch.get_num_threads()} cores, medians of {arguments.repeats} interleaved turns"
    _print(speeds, psnrs, f"{size}; {ours}; {n_repeats}; {arguments.phantoms} phantoms, seed {arguments.seed}")
    if any(psnr["ours"] < psnr.get("ASTRA", -math.inf) for psnr in psnrs.values()):
        print("The PSNR of ASTRA's FBP is better than ours.", file=sys.stderr)
        raise SystemExit(1)


def _geometry(size: int) -> CTGeometry:
    n_angles, n_detectors = (max(1, round(n * size / LODOPAB.rows)) for n in (LODOPAB.n_angles, LODOPAB.n_detectors))
    return replace(LODOPAB, rows=size, columns=size, n_angles=n_angles, n_detectors=n_detectors)


def _print(speeds: dict[tuple[str, str], list[float]], psnrs: dict[str, dict[str, float]], caption: str) -> None:
    print(f"| | slices/s | ours is faster by | {' | '.join(f'PSNR, {noise}' for noise in psnrs)} |")
    print("|---|---|---|" + "---|" * len(psnrs))
    for (name, kind), values in sorted(speeds.items(), key=lambda item: item[0][1]):
        ratios = [ours / value for ours, value in zip(speeds["ours", kind], values, strict=True)]
        ratio = f"{median(ratios):.1f} ({min(ratios):.1f} to {max(ratios):.1f})" if name != "ours" else ""
        of_fbp = [f"{psnr[name]:.2f} dB" if kind == "FBP" else "" for psnr in psnrs.values()]
        print(f"| {kind}, {name} | {median(values):.2f} | {ratio} | {' | '.join(of_fbp)} |")
    print(f"\n{caption}. ASTRA's FBP of a fan beam is its back-projection alone.")


if __name__ == "__main__":
    raise SystemExit(main())
