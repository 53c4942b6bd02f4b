"""Targets for promptable training: regions found without labels, and drawn structures."""
