"""Somebody's network, made exactly shift equivariant: every feature map knows which pixels it stands on.

``following``: a run, the phases chosen in it, refusals. ``pointwise``, ``shapes``, ``strided``: the rules, one for each
function of torch; a new one is a row of their tables. ``converted``: the copy of the network, and what is measured.
"""

from recon.networks.conversion.converted import ConversionReport, make_equivariant

__all__ = ["ConversionReport", "make_equivariant"]
