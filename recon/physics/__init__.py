"""What is true of scanners.

``mri``: Fourier transform, masks applied, coils, objects that move. ``ct``: ray transform, filtered back-projection,
Hounsfield units, photon noise.
"""

from recon.physics import ct, mri

__all__ = ["ct", "mri"]
