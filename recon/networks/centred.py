"""Any reconstruction network, made to commute with every translation by one alignment of the whole image."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from recon.physics.movement import centroid, move_image, move_kspace


class Centred(nn.Module):
    """Align, run, restore, once for the whole image: f(k) = T_t g(T_-t k), t the centroid of the object's energy.

    t is read from the calibration lines (:func:`recon.physics.movement.centroid`) and moves with the object by any real
    number of pixels, so that f commutes with every movement before the acquisition whatever g is, trained or not.
    Several coils must move along with the object, and given maps are handed to g as they are, so for several coils g
    should estimate its own.

    Args:
        network: g, called as ``network(kspace, mask, ...)``; gives images ``(batch, rows, columns)``.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    @property
    def total_stride(self) -> int:
        """The network's: each side of k-space must be a multiple of it."""
        return int(getattr(self.network, "total_stride", 1))

    @property
    def coil_maps(self) -> nn.Module | None:
        """What estimates the network's coil maps, if anything does."""
        return getattr(self.network, "coil_maps", None)

    def forward(self, kspace: Tensor, mask: Tensor, *others: Any, **named: Any) -> Tensor:
        """Reconstruct.

        Args:
            kspace: complex ``(batch, coil, rows, columns)``.
            mask: bool ``(columns,)`` or ``(batch, columns)``, with calibration lines.
            others: what else the network takes.
            named: the same by name.

        Returns:
            What the network gives, at the object's place. A real image loses its Nyquist frequencies.

        Raises:
            InputError: the mask has no calibration lines.
        """
        position, _ = centroid(kspace.detach(), mask)
        return move_image(self.network(move_kspace(kspace, -position), mask, *others, **named), position)
