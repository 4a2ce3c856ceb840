"""Any reconstruction network, made to commute with every translation by one alignment of the whole image."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from recon.physics.movement import centroid, move_image, move_kspace, move_maps


class Centred(nn.Module):
    """Align, run, restore, once for the whole image: f(k) = T_t g(T_-t k), t the centroid of the object's energy.

    t is read from the calibration lines (:func:`recon.physics.movement.centroid`) and moves with the object by any real
    number of pixels, so that f commutes with every movement before the acquisition whatever g is, trained or not.
    Several coils, and maps that are given, must move along with the object; g gets the maps in its own frame.

    Args:
        network: g, called as ``network(kspace, mask)`` or, with maps that are given, ``network(kspace, mask, maps)``;
            gives images ``(batch, rows, columns)``.
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

    def forward(self, kspace: Tensor, mask: Tensor, maps: Tensor | None = None, **others: Any) -> Tensor:
        """Reconstruct.

        Args:
            kspace: complex ``(batch, coil, rows, columns)``.
            mask: bool ``(columns,)`` or ``(batch, columns)``, with calibration lines.
            maps: complex ``(coil, rows, columns)`` or ``(batch, coil, rows, columns)``, handed on where they are given.
            others: what else the network takes.

        Returns:
            What the network gives, at the object's place. A real image loses its Nyquist frequencies.

        Raises:
            InputError: the mask has no calibration lines.
        """
        position, _ = centroid(kspace.detach(), mask)
        given = () if maps is None else (move_maps(maps.expand_as(kspace), -position),)
        return move_image(self.network(move_kspace(kspace, -position), mask, *given, **others), position)
