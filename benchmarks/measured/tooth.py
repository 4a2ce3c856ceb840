"""A tooth in a parallel beam (tomopy's): few of the views by FBP, TV and a network, against FBP of all of them."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.measured.pictures import save_images
from benchmarks.measured.total_variation import least_squares_tv
from data_prep.projections.dataset import ScanDataset
from data_prep.projections.exchange import Projections, read_exchange
from data_prep.projections.scan_file import read_scan, write_scan
from pipelines.commands.predict import Network, open_network
from pipelines.reconstruction.task import denormalise
from recon.metrics import nmse, psnr, ssim
from recon.physics.ct import fbp

EVERY = (1, 3, 6)
WINDOW = "hann"


def measure(path: Path, out: Path, run: str) -> None:
    """Print how far each method is from the reference, and draw the first slice."""
    scan = read_exchange(path, pixel_size=1e-3)
    print(scan.described())
    network = open_network(Path(run))
    reference = fbp(scan.sinogram, scan.geometry, WINDOW)
    limit = float(reference.max())
    print("| views | method | PSNR | SSIM | NMSE |\n|---|---|---|---|---|")
    rows = []
    for every in EVERY:
        few = scan.thinned(every)
        images = {
            f"FBP, {WINDOW}": fbp(few.sinogram, few.geometry, WINDOW),
            "TV": torch.stack([least_squares_tv(slice_, few.geometry) for slice_ in few.sinogram]),
            "network": reconstruct(network, few, limit),
        }
        n = few.sinogram.shape[1]
        for method, found in images.items():
            if found is reference or (every == 1 and method.startswith("FBP")):
                continue
            figures = f"{psnr(found, reference, limit):.2f} dB | {ssim(found, reference, limit):.3f} | "
            print(f"| {n} | {method} | {figures}{nmse(found, reference):.4f} |", flush=True)
        rows.append([(f"{method}, {n} views", image[0].mT) for method, image in images.items()])
    save_images(out / "tooth.png", rows, "tooth, parallel beam, measured", (0, limit))


@torch.inference_mode()
def reconstruct(network: Network, scan: Projections, mu_max: float) -> Tensor:
    """The images ``(slices, rows, columns)`` in 1/m that recon-predict would make of a scan."""
    settings = network.config.dataset
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "scan.h5"
        write_scan(file, scan.sinogram, scan.geometry, mu_max)
        dataset = ScanDataset(read_scan(file), network.task.total_stride, settings.window, settings.frequency_scaling)
        batch = torch.utils.data.default_collate([dataset[number] for number in range(len(dataset))])
    image = denormalise(network.task.eval()(batch), batch)[:, 0]
    return dataset.without_padding(image, 0) * mu_max
