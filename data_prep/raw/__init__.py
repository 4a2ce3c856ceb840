"""Measured raw data as scanners and labs give them: ISMRMRD, MATLAB, NumPy and HDF5, to become fastMRI files."""
