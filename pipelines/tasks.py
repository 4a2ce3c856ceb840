"""The table of tasks: all that differs from one ``--task`` to the next. A new one is a row here and a YAML file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from jsonargparse import Namespace

from data_prep import (
    CIFARDataset,
    FashionMNISTDataset,
    FastMRIDataset,
    ImageNetDataset,
    InputFiles,
    LoDoPaBDataset,
    bundled_ct,
    bundled_mri,
)
from data_prep.fastmri.inputs import KSPACE
from data_prep.hounsfield.inputs import SERIES, VOLUMES
from data_prep.lodopab.inputs import SINOGRAMS
from data_prep.projections.inputs import SCANS
from pipelines.classification.kind import CLASSIFICATION
from pipelines.measuring.foreign import TAKES, ForeignNetwork
from pipelines.measuring.kind import AnyKind, NetworkEntry
from pipelines.reconstruction import prepare_ct, prepare_mri
from pipelines.reconstruction.kind import RECONSTRUCTION
from pipelines.reconstruction.preparation import Preparation
from pipelines.reconstruction.task import attenuation_of, magnitude_of, measurement_of, sinogram_of
from pipelines.runtime.nested import Tree
from pipelines.runtime.notes import say_aloud
from recon.errors import InputError, check_choice
from recon.networks import MoDL, PrimalDual, ResNet, UNet, UnrolledCT, VarNet, ZeroFilledUNet


class BundledSample(NamedTuple):
    """Images that come with the package, for a task to be tried without a download.

    Attributes:
        folder: where their files lie, by the settings of the data set; None where the data set knows.
        name: what they are called where figures are told.
        content: what they are, for the notice.
        not_about: what a training with them says nothing of.
        instead: the data that it says something of.
        network: which is trained on it where nothing else is said; None for the task's first.
    """

    folder: Callable[[Tree], Path | None]
    name: str
    content: str
    not_about: str
    instead: str
    network: str | None = None


class TaskRow(NamedTuple):
    """What ``--task`` chooses.

    Attributes:
        kind: reconstruction or classification: how it is trained, measured and shown.
        dataset: ``dataset(folder, split, training=, seed=, **settings)``; its arguments are the keys ``dataset.*``.
        fixed: arguments of the data set that the task's name says.
        networks: by ``network.name``; the first is that of a configuration without a name.
        layout: some files or folders that a data folder holds.
        sample: the bundled one; None where data must be given.
        inputs: the files that recon-predict reads.
        preparation: what recon-prepare does for such data.
    """

    kind: AnyKind
    dataset: type[Any]
    networks: Mapping[str, NetworkEntry]
    layout: str
    fixed: Tree = {}
    sample: BundledSample | None = None
    inputs: tuple[InputFiles, ...] = ()
    preparation: Preparation | None = None


GIVEN_TO_UNETS = frozenset({"spatial_dims", "in_channels", "out_channels", "selector", "up_path"})
IMAGE_NETWORKS = {"unet": NetworkEntry(UNet, GIVEN_TO_UNETS)}
OF_KSPACE = {
    name: NetworkEntry(
        build,
        frozenset({"network", "jointly", "correction"}),
        measurement_of,
        magnitude_of,
        measured=True,
        alignable=True,
        older={"phase_correction": False, "maps": "learned"},
    )
    for name, build in (("complex_unet", ZeroFilledUNet), ("varnet", VarNet), ("modl", MoDL))
}
OF_SINOGRAMS = {
    name: NetworkEntry(build, GIVEN_TO_UNETS, sinogram_of, attenuation_of, measured=True)
    for name, build in (("unrolled", UnrolledCT), ("primal_dual", PrimalDual))
}
CLASSIFIERS = {"resnet": NetworkEntry(ResNet, frozenset({"selector", "pool_size"}))}

TASKS = {
    "mri": TaskRow(
        RECONSTRUCTION,
        FastMRIDataset,
        IMAGE_NETWORKS | OF_KSPACE,
        layout="singlecoil_train",
        sample=BundledSample(
            lambda settings: bundled_mri(challenge=settings["challenge"]),
            "bundled brain sample, simulated from magnitude",
            "63 real brain slices, k-space simulated from magnitude",
            "clinical quality",
            "fastMRI",
            network="varnet",
        ),
        inputs=(KSPACE,),
        preparation=prepare_mri.PREPARE,
    ),
    "ct": TaskRow(
        RECONSTRUCTION,
        LoDoPaBDataset,
        IMAGE_NETWORKS | OF_SINOGRAMS,
        layout="ground_truth_train_000.hdf5, observation_train_000.hdf5",
        sample=BundledSample(
            lambda settings: bundled_ct(),
            "bundled chest sample, simulated from HU images",
            "62 real chest CT slices, sinograms simulated from HU images",
            "clinical quality",
            "LoDoPaB-CT",
        ),
        inputs=(SCANS, SINOGRAMS, VOLUMES, SERIES),
        preparation=prepare_ct.PREPARE,
    ),
    "fashion_mnist": TaskRow(
        CLASSIFICATION,
        FashionMNISTDataset,
        CLASSIFIERS,
        layout="train-images-idx3-ubyte.gz",
        sample=BundledSample(
            lambda settings: None,
            "bundled part of Fashion-MNIST",
            "5,000 real images of Fashion-MNIST",
            "large images",
            "all of Fashion-MNIST",
        ),
    ),
    "cifar10": TaskRow(
        CLASSIFICATION, CIFARDataset, CLASSIFIERS, layout="cifar-10-batches-py", fixed={"n_classes": 10}
    ),
    "cifar100": TaskRow(CLASSIFICATION, CIFARDataset, CLASSIFIERS, layout="cifar-100-python", fixed={"n_classes": 100}),
    "imagenet": TaskRow(
        CLASSIFICATION, ImageNetDataset, CLASSIFIERS, layout="train/<class>/*.JPEG, val/<class>/*.JPEG"
    ),
}
OF_LOADERS = ("batch_size", "n_workers")  # keys of "dataset" that are not the data set's
GIVEN_TO_OTHERS = {
    RECONSTRUCTION: frozenset({"factory", "n_classes", "in_channels"}),
    CLASSIFICATION: frozenset({"factory", "takes"}),
}


def is_foreign(name: str) -> bool:
    """Whether a network's name is that of another program's factory, ``package.module:factory``."""
    return ":" in name


def stands_for(task: str, name: str, takes: str = "image") -> str:
    """The network of ours that a network is configured, fed and read like: itself, or the first that takes the same.

    Args:
        task: a row of TASKS.
        name: of the network, or of another program's factory.
        takes: what a network that is not ours is handed: a key of TAKES.

    Raises:
        InputError: there is no such network, or the task has no such input.
    """
    row = TASKS[task]
    if not is_foreign(name):
        check_choice(f"network of the task {task}", name, row.networks)
        return name
    check_choice("network.takes", takes, TAKES)
    for own, entry in row.networks.items():
        if entry.measured == (takes != "image") and (takes != "maps" or entry.alignable):
            return own
    raise InputError(f"networks of the task {task} cannot take {takes}: leave out network.takes, or give another")


def network_entry(task: str, name: str, takes: str = "image") -> NetworkEntry:
    """The row of a network; arguments and errors are those of :func:`stands_for`."""
    row = TASKS[task]
    entry = row.networks[stands_for(task, name, takes)]
    if not is_foreign(name):
        return entry
    return entry._replace(build=ForeignNetwork, given=GIVEN_TO_OTHERS[row.kind], older={}, fixed={"factory": name})


def network_of(config: Namespace) -> NetworkEntry:
    """The row of the network that a configuration names."""
    return network_entry(config.task, config.network.name, config.network.get("takes", "image"))


def open_dataset(config: Namespace, split: str, training: bool = False) -> Any:
    """The data set of one split: the configured folder's, or the bundled sample's; says its notes aloud.

    Raises:
        InputError: no such folder or split, or broken files.
    """
    row, folder = TASKS[config.task], None if config.data is None else Path(config.data)
    settings = {key: value for key, value in config.dataset.items() if key not in OF_LOADERS}
    if folder is None and row.sample is not None:
        folder = row.sample.folder(settings)
    settings |= measurement_settings(config)
    dataset = row.dataset(folder, split, training=training, seed=config.seed, **settings, **row.fixed)
    say_aloud(dataset.notes())
    return dataset


def measurement_settings(config: Namespace) -> dict[str, Any]:
    """What the network of a configuration needs of samples beside the image: arguments of the data set."""
    measured = {"measured": True} if network_of(config).measured else {}
    given_maps = config.network.get("maps") == "given" or config.network.get("takes") == "maps"
    return measured | ({"given_maps": True} if given_maps else {})


def describe_data(config: Namespace) -> str:
    """On what the figures were measured, in words."""
    row = TASKS[config.task]
    source = row.sample.name if config.data is None and row.sample is not None else str(config.data)
    how = row.dataset.describe(config.dataset)
    return f"{source}; {config.evaluation.split} split" + (f", {how}" if how else "")
