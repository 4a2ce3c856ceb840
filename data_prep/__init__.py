"""From files to samples: fastMRI, LoDoPaB, classified images, masks, batches, simulation, the bundled samples."""

from data_prep.batches import ShapeBatchSampler
from data_prep.cache import cache_folder, replace_file, write_hdf5
from data_prep.cifar import CIFARDataset
from data_prep.crop import center_crop, fit_center
from data_prep.ct_folder import ct_splits, find_ct_volumes
from data_prep.ct_simulation import observe, simulate_observation, write_lodopab
from data_prep.ct_volume import CTVolume, geometry_of, read_ct_volume, volume_name
from data_prep.dataset import FastMRIDataset
from data_prep.fashion_mnist import FashionMNISTDataset
from data_prep.fbp_cache import fbp_image, fbp_images
from data_prep.headers import Header, parse_header, write_header
from data_prep.hu_dataset import HUDataset
from data_prep.hu_volume import HUVolume, open_hu, read_hu
from data_prep.imagenet import ImageNetDataset
from data_prep.index import fastmri_files, find_volumes, index_folder, split_folder
from data_prep.labelled import LabelledDataset, LabelledImage
from data_prep.lodopab import LoDoPaBDataset
from data_prep.masks import MASK_TYPES, check_mask, make_mask
from data_prep.outside import OUTSIDE, OutsideImage, outside_images
from data_prep.sample import Sample, normalise
from data_prep.samples import bundled_ct, bundled_mri
from data_prep.seeds import generator, stable_seed
from data_prep.simulation import Undersampling, coil_maps, simulate_kspace, write_fastmri
from data_prep.volume import Volume, read_volume

__all__ = [
    "MASK_TYPES",
    "OUTSIDE",
    "CIFARDataset",
    "CTVolume",
    "FashionMNISTDataset",
    "FastMRIDataset",
    "HUDataset",
    "HUVolume",
    "Header",
    "ImageNetDataset",
    "LabelledDataset",
    "LabelledImage",
    "LoDoPaBDataset",
    "OutsideImage",
    "Sample",
    "ShapeBatchSampler",
    "Undersampling",
    "Volume",
    "bundled_ct",
    "bundled_mri",
    "cache_folder",
    "center_crop",
    "check_mask",
    "coil_maps",
    "ct_splits",
    "fastmri_files",
    "fbp_image",
    "fbp_images",
    "find_ct_volumes",
    "find_volumes",
    "fit_center",
    "generator",
    "geometry_of",
    "index_folder",
    "make_mask",
    "normalise",
    "observe",
    "open_hu",
    "outside_images",
    "parse_header",
    "read_ct_volume",
    "read_hu",
    "read_volume",
    "replace_file",
    "simulate_kspace",
    "simulate_observation",
    "split_folder",
    "stable_seed",
    "volume_name",
    "write_fastmri",
    "write_hdf5",
    "write_header",
    "write_lodopab",
]
