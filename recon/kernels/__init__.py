"""All compiled loops of recon in one room; the truth of each is a plain form in torch. README.md here explains them.

- :mod:`recon.kernels.switches`: which of the two forms runs
- :mod:`recon.kernels.runner`: compiling a loop, and sharing its work between threads
- :mod:`recon.kernels.pool`, :mod:`~recon.kernels.join`, :mod:`~recon.kernels.normalise`: operators of torch, their
  loops in ``*_cpu`` and ``*_cuda``, their gradients in plain torch in :mod:`recon.kernels.plain`
- ``metrics_cpu``: the sums of :mod:`recon.metrics.quality`
- ``tomography_plain``, ``tomography_cpu``: the ray transform of :mod:`recon.physics.ct`, its transpose and the filter
"""
