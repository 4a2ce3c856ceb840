"""LoDoPaB-CT's files: sinograms, ground truth and the back-projections made of them."""
