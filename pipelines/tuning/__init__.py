"""Sweeps: a space of settings, trials that are ordinary run folders, and Ray that runs them."""
