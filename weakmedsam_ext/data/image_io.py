"""Image reader with checks and image writer with atomic writes, for MONAI's `LoadImage` and `SaveImage`."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from monai.config import NdarrayOrTensor, PathLike
from monai.data import ImageReader, NibabelWriter
from monai.utils import MetaKeys, ensure_tuple

from .cases import case_name
from .intensity import check_contrast
from .io import check_same_grid, decode_volume, naming_full_disk, volume_of

__all__ = ["AtomicNibabelWriter", "CheckedReader", "name_of_output"]


class CheckedReader(ImageReader):
    """Reader of NIfTI, NRRD, MetaImage, DICOM, PNG and JPEG as 3-D volumes, see `load_volume`.

    It refuses damaged files and NaN with a one-sentence error.

    {"_target_": "LoadImaged", "keys": "image", "reader": "weakmedsam_ext.data.CheckedReader"}
    """

    def verify_suffix(self, filename: Sequence[PathLike] | PathLike) -> bool:
        """Accept every file: this reader also tells what is wrong with unsupported ones."""
        return True

    def read(self, data: Sequence[PathLike] | PathLike, **kwargs: Any) -> Sequence[Any] | Any:
        """Return the path or a tuple of them; `get_data` reads, as `LoadImage` hides errors that are raised here."""
        paths = ensure_tuple(data)
        return paths[0] if len(paths) == 1 else paths

    def get_data(self, img: Any) -> tuple[np.ndarray, dict]:
        """Read a file, or several whose images become channels.

        Returns:
            the voxels, float32, and MONAI's metadata.

        Raises:
            FileNotFoundError: see `load_volume`.
            ValueError: see `load_volume`; also when several files lie on different grids, or one of them is constant.
        """
        if not isinstance(img, tuple):
            return decode_volume(img)
        decoded = [decode_volume(path) for path in img]
        # only here are the names of all channels' files known; one file may be a mask, which may be empty
        for path, (array, _) in zip(img, decoded, strict=True):
            check_contrast(array, path)
        first, *others = (volume_of(path, *one) for path, one in zip(img, decoded, strict=True))
        for other in others:
            check_same_grid(first, other)
        _, meta = decoded[0]
        return np.stack([array for array, _ in decoded], axis=-1), {**meta, MetaKeys.ORIGINAL_CHANNEL_DIM: -1}


def name_of_output(meta: Mapping[str, Any], transform: Any = None) -> dict[str, Any]:
    """Name of a saved file, for `output_name_formatter` of `SaveImage`: that of its image, all of a folder's name.

    MONAI takes what follows the last dot for an ending, also in the name of a DICOM folder.

    Args:
        meta: metadata of the array to save.
        transform: the `SaveImage` that asks.

    Returns:
        "subject" and "idx", for its folder layout.
    """
    subject = case_name(str(meta.get("filename_or_obj", getattr(transform, "_data_index", 0))))
    return {"subject": f"{subject}.nii.gz", "idx": meta.get("patch_index")}


class AtomicNibabelWriter(NibabelWriter):
    """NIfTI writer whose files appear complete or not at all.

    {"_target_": "SaveImaged", "keys": "pred", "writer": "weakmedsam_ext.data.AtomicNibabelWriter", ...}
    """

    def set_data_array(
        self, data_array: NdarrayOrTensor, channel_dim: int | None = 0, squeeze_end_dims: bool = True, **kwargs: Any
    ) -> None:
        """Set the voxels, channel last, without the channel axis if there is one channel.

        MONAI's writer also drops the last axis of single-slice volumes, which changes the grid.

        Args:
            data_array: the voxels.
            channel_dim: axis of the channel; None where there is none.
            squeeze_end_dims: whether to take away the only channel.
            kwargs: see `NibabelWriter`.
        """
        if squeeze_end_dims and isinstance(channel_dim, int) and data_array.shape[channel_dim] == 1:
            data_array, channel_dim = data_array.squeeze(channel_dim), None
        super().set_data_array(data_array, channel_dim, squeeze_end_dims=False, **kwargs)
        if squeeze_end_dims and channel_dim is None:
            self.data_obj: Any = self.data_obj[..., 0]

    def write(self, filename: PathLike, verbose: bool = False, **kwargs: Any) -> None:
        """Write the image.

        Args:
            filename: ends in ".nii.gz" or ".nii".
            verbose: log the path.
            kwargs: see `NibabelWriter`.
        """
        path = Path(filename)
        # nibabel goes by the ending, so the unfinished file keeps its name in a hidden folder beside
        with (
            naming_full_disk(path),
            tempfile.TemporaryDirectory(prefix=".partial-", dir=path.parent) as folder,
        ):
            super().write(Path(folder, path.name), verbose=verbose, **kwargs)
            os.replace(Path(folder, path.name), path)
