"""All compiled loops of recon in one room; the truth of each is its reference form in torch. See README.md.

- :mod:`recon.kernels.switches`: whether loops or reference forms run, as far as that is the same for all
- :mod:`recon.kernels.runner`: compiling a loop, and sharing its work between threads
- :mod:`recon.kernels.pool`, :mod:`~recon.kernels.join`, :mod:`~recon.kernels.normalise`: operators of torch, their
  loops in ``*_cpu`` and ``*_cuda``, and :mod:`recon.kernels.reference`: their gradients of torch's own operators
- ``metrics_cpu``: the sums of :mod:`recon.metrics.quality`
- ``tomography_reference``, ``tomography_cpu``: the ray transform of :mod:`recon.physics.ct`, its transpose, the filter
- ``fan_reference``, ``fan_cpu``: the same of a fan beam, and the back-projection of its FBP
"""
