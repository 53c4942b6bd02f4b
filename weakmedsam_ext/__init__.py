"""MONAI components that train segmentation networks from cheap labels, with SAM-like models as teachers."""

__version__ = "0.1.0"
