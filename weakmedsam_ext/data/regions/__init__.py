"""Regions found without labels, and drawn structures, that a promptable network learns to answer clicks with."""
