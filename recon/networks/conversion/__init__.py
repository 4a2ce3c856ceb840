"""Somebody's network, made exactly shift equivariant: every feature map knows which pixels it stands on.

``following``: a run, the phases chosen in it, refusals. ``pointwise``, ``shapes``, ``strided``: the rules, one for each
function of torch; ``rules`` is their table, and a new one is a row there. ``selector``: by what the content chooses.
``converted``: the copy of the network, and what is measured.
"""

from recon.networks.conversion.converted import ConversionReport, make_equivariant

__all__ = ["ConversionReport", "make_equivariant"]
