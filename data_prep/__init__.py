"""From files to samples: fastMRI folders, masks, batches, simulation and the bundled sample."""

from data_prep.batches import ShapeBatchSampler
from data_prep.cache import cache_folder, replace_file, write_hdf5
from data_prep.crop import center_crop, fit_center
from data_prep.dataset import FastMRIDataset, Sample
from data_prep.headers import Header, parse_header, write_header
from data_prep.index import index_folder, split_folder
from data_prep.masks import MASK_TYPES, check_mask, make_mask
from data_prep.samples import bundled_mri
from data_prep.seeds import generator, stable_seed
from data_prep.simulation import coil_maps, simulate_kspace, write_fastmri
from data_prep.volume import Volume, read_volume

__all__ = [
    "MASK_TYPES",
    "FastMRIDataset",
    "Header",
    "Sample",
    "ShapeBatchSampler",
    "Volume",
    "bundled_mri",
    "cache_folder",
    "center_crop",
    "check_mask",
    "coil_maps",
    "fit_center",
    "generator",
    "index_folder",
    "make_mask",
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
