"""Image reader with checks and image writer with atomic writes, for MONAI's `LoadImage` and `SaveImage`."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from monai.config import NdarrayOrTensor, PathLike
from monai.data import ImageReader, NibabelWriter
from monai.utils import MetaKeys, ensure_tuple

from .io import check_same_grid, decode_volume, naming_full_disk, volume_of

__all__ = ["AtomicNibabelWriter", "CheckedReader"]


class CheckedReader(ImageReader):
    """Reader of 3-D volumes that refuses damaged files and NaN with a one-sentence error, see `load_volume`.

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
            FileNotFoundError: when there is no such file.
            ValueError: when it is damaged, no medical volume or not 3-D, or holds NaN or infinity; also when several
                lie on different grids.
        """
        if not isinstance(img, tuple):
            return decode_volume(img)
        decoded = [decode_volume(path) for path in img]
        first, *others = (volume_of(path, *one) for path, one in zip(img, decoded, strict=True))
        for other in others:
            check_same_grid(first, other)
        _, meta = decoded[0]
        return np.stack([array for array, _ in decoded], axis=-1), {**meta, MetaKeys.ORIGINAL_CHANNEL_DIM: -1}


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
