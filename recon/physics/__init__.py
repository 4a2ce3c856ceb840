"""What is true of scanners.

- ``mri``: Fourier transform, masks applied, coils
- ``coil_maps``: the maps of several coils from the calibration lines; ``conjugate_gradients``: CG-SENSE
- ``movement``: where an object lies, read from k-space, and moving it
- ``geometry``: where the pixels and the rays of a CT scan lie; ``fan_beam``: where they diverge
- ``ct``: ray transform, filtered back-projection, Hounsfield units; ``photons``: their noise, and counts as measured
- ``rotation``: where the centre of rotation falls on the detector
"""

from recon.physics import ct, movement, mri

__all__ = ["ct", "movement", "mri"]
