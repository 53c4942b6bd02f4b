"""Slices of volumes: geometry, store, image-level labels, sub-classes, and the study that the weak stages share."""
