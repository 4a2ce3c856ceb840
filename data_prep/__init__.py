"""From files to samples: fastMRI folders, masks, batches, simulation, the bundled sample and images from outside."""

from data_prep.batches import ShapeBatchSampler
from data_prep.cache import cache_folder, replace_file, write_hdf5
from data_prep.crop import center_crop, fit_center
from data_prep.dataset import FastMRIDataset
from data_prep.headers import Header, parse_header, write_header
from data_prep.index import find_volumes, index_folder, split_folder
from data_prep.masks import MASK_TYPES, check_mask, make_mask
from data_prep.outside import OUTSIDE, OutsideImage, outside_images
from data_prep.sample import Sample, normalise
from data_prep.samples import bundled_mri
from data_prep.seeds import generator, stable_seed
from data_prep.simulation import coil_maps, simulate_kspace, write_fastmri
from data_prep.volume import Volume, read_volume

__all__ = [
    "MASK_TYPES",
    "OUTSIDE",
    "FastMRIDataset",
    "Header",
    "OutsideImage",
    "Sample",
    "ShapeBatchSampler",
    "Volume",
    "bundled_mri",
    "cache_folder",
    "center_crop",
    "check_mask",
    "coil_maps",
    "find_volumes",
    "fit_center",
    "generator",
    "index_folder",
    "make_mask",
    "normalise",
    "outside_images",
    "parse_header",
    "read_volume",
    "replace_file",
    "simulate_kspace",
    "split_folder",
    "stable_seed",
    "write_fastmri",
    "write_hdf5",
    "write_header",
]
