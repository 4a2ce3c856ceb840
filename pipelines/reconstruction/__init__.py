"""Reconstruction: how networks are trained, what is measured of them, and how that is shown."""
