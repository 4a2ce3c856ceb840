"""Samples that are changed before a network is measured on them: noise, and flips; of images, and of measurements."""

from __future__ import annotations

import torch
from numpy.random import Generator

from data_prep import Sample
from pipelines.reconstruction.subjects import Subject
from recon.physics.mri import apply_mask, ifft2c, rss


def noisy(sample: Sample, level: float, random: Generator) -> Sample:
    """A batch of one with white Gaussian noise: of images on the normalised image, of measurements on k-space.

    Of k-space, the real and the imaginary part of each measured value in each coil get noise of standard deviation
    ``level``, in units of the std that k-space was divided by, that of the zero-filled image. The Fourier transform is
    unitary: fully sampled, each part of the image would have the same noise. Mean and std stay.
    """
    if not sample.kspace.numel():
        values = torch.from_numpy(random.standard_normal(sample.image.shape, dtype="float32"))
        return sample._replace(image=sample.image + level * values.to(sample.image.device))
    parts = torch.from_numpy(random.standard_normal((*sample.kspace.shape, 2), dtype="float32"))
    values = torch.view_as_complex(parts).to(sample.kspace.device)
    kspace = sample.kspace + level * apply_mask(values, sample.mask[:, None, None, :])
    image = rss(ifft2c(kspace), 1)[:, None] - (sample.mean / sample.std).view(-1, 1, 1, 1)
    return sample._replace(kspace=kspace, image=image)


def flipped(subject: Subject, sample: Sample, index: int, axis: int) -> Sample:
    """A batch of one flipped along one axis: image and target; of measurements the object, before the acquisition.

    Args:
        subject: whose sample it is.
        sample: on the network's device.
        index: the data set's number of it.
        axis: -2 for upside down, -1 for left and right.
    """
    if not subject.dataset.measured:
        return sample._replace(image=sample.image.flip(axis), target=sample.target.flip(axis))
    return subject.batch(subject.dataset.flipped(index, axis))
