"""What is true of scanners: ``mri`` (Fourier transform, masks applied, coils, objects that move)."""

from recon.physics import mri

__all__ = ["mri"]
