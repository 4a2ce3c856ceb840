"""Networks: layers put together."""

from recon.networks.unet import UNet, record_margins, resolve_blur

__all__ = ["UNet", "record_margins", "resolve_blur"]
