"""From files to samples: fastMRI, LoDoPaB, classified images, masks, batches, simulation, the bundled samples."""

from data_prep.bundled import bundled_ct, bundled_mri
from data_prep.fastmri.dataset import FastMRIDataset
from data_prep.fastmri.folder import fastmri_files, find_volumes, index_folder, split_folder
from data_prep.fastmri.headers import Header, parse_header, write_header
from data_prep.fastmri.kspace_file import Undersampling
from data_prep.fastmri.masks import MASK_TYPES, check_mask, make_mask
from data_prep.fastmri.simulation import coil_maps, simulate_kspace, write_fastmri
from data_prep.fastmri.volume import Volume, read_volume
from data_prep.hounsfield.dataset import HUDataset
from data_prep.hounsfield.volume import HUVolume, open_hu, read_hu
from data_prep.labelled.base import LabelledDataset, LabelledImage
from data_prep.labelled.cifar import CIFARDataset
from data_prep.labelled.fashion_mnist import FashionMNISTDataset
from data_prep.labelled.imagenet import ImageNetDataset
from data_prep.lodopab.dataset import LoDoPaBDataset
from data_prep.lodopab.fbp_cache import fbp_image, fbp_images
from data_prep.lodopab.folder import ct_splits, find_ct_volumes
from data_prep.lodopab.scan import Scan, moved_scan
from data_prep.lodopab.simulation import observe, simulate_observation, write_lodopab
from data_prep.lodopab.volume import CTVolume, geometry_of, read_ct_volume, volume_name
from data_prep.outside import OUTSIDE, OutsideImage, outside_images
from data_prep.slices.base import Panel, SliceDataset, SliceVolume
from data_prep.slices.batches import ShapeBatchSampler
from data_prep.slices.crop import center_crop, fit_center
from data_prep.slices.inputs import InputFiles
from data_prep.slices.sample import Sample, normalise
from data_prep.slices.seeds import generator, stable_seed
from data_prep.storage.cache import cache_folder, replace_file, write_hdf5

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
    "InputFiles",
    "LabelledDataset",
    "LabelledImage",
    "LoDoPaBDataset",
    "OutsideImage",
    "Panel",
    "Sample",
    "Scan",
    "ShapeBatchSampler",
    "SliceDataset",
    "SliceVolume",
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
    "moved_scan",
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
