"""fastMRI files: k-space, masks and targets."""
