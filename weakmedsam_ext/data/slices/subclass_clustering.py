"""Sub-class exploration: appearance clusters of the slices that show a class."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import torch
from monai.data import DataLoader
from sklearn.cluster import KMeans
from torch import nn

from ...networks.weakmedsam_net import encode_features
from ..progress import show_progress
from .dataset import SliceDataset
from .subclasses import Subclasses

__all__ = ["SubclassClustering"]

logger = logging.getLogger(__name__)


class SubclassClustering:
    """KMeans over the pooled features of a frozen backbone (stage 1 of WeakMedSAM, Wang et al., IEEE TMI 2025).

    Fit it on training slices only. The same slices, weights and seed give the same clusters.

    Args:
        backbone: network with `encode(image) -> (features (B, E, h, w), embedding)`; it is not trained.
        num_subclasses: S, clusters a class.
        seed: of KMeans.
        batch_size: slices that are encoded at once.
        device: where the backbone runs.
        progress: show a progress bar.

    Raises:
        ValueError: when `num_subclasses` is below 1.
    """

    def __init__(
        self,
        backbone: nn.Module,
        num_subclasses: int = 8,
        seed: int = 0,
        batch_size: int = 16,
        device: str | torch.device = "cpu",
        progress: bool = True,
    ) -> None:
        if num_subclasses < 1:
            raise ValueError(f"num_subclasses: expected at least 1, but got {num_subclasses}.")
        self.backbone = backbone
        self.num_subclasses = num_subclasses
        self.seed = seed
        self.batch_size = batch_size
        self.device = torch.device(device)
        self.progress = progress

    def run(self, dataset: SliceDataset, output: str | Path) -> Subclasses:
        """Cluster the slices of every class and write the result.

        Args:
            dataset: training slices.
            output: JSON file.

        Returns:
            what was written.

        Raises:
            ValueError: when a class is visible in fewer slices than there are clusters.
        """
        names = dataset.labels.classes
        labels = np.stack([item["class_label"].numpy() for item in dataset.data]) > 0  # (N, K)
        for name, count in zip(names, labels.sum(0), strict=True):
            if count < self.num_subclasses:
                raise ValueError(
                    f"class {name!r} is visible in {count} training slices, but num_subclasses is "
                    f"{self.num_subclasses}; give more cases, or fewer sub-classes."
                )
        features = self._features(dataset)
        cases: dict[str, dict[str, dict[str, int]]] = {}
        for position, name in enumerate(names):
            visible = np.flatnonzero(labels[:, position])
            clusters = self._cluster(features[visible])
            for index, cluster in zip(visible, clusters, strict=True):
                item = dataset.data[index]
                cases.setdefault(item["case"], {}).setdefault(str(item["slice"]), {})[name] = int(cluster)
            logger.info("%s: clusters of %s slices", name, np.bincount(clusters).tolist())
        subclasses = Subclasses(names, self.num_subclasses, cases)
        subclasses.write(output)
        return subclasses

    def _cluster(self, features: np.ndarray) -> np.ndarray:
        kmeans = KMeans(self.num_subclasses, n_init=10, random_state=self.seed)
        return kmeans.fit_predict(features)

    @torch.no_grad()
    def _features(self, dataset: SliceDataset) -> np.ndarray:
        """Pooled features of all slices, (N, E)."""
        backbone = self.backbone.to(self.device).eval()
        loader = DataLoader(dataset, batch_size=self.batch_size)
        pooled = [
            encode_features(backbone, batch["image"].to(self.device)).mean((2, 3)).cpu()
            for batch in show_progress(loader, "features", "batch", enabled=self.progress)
        ]
        return torch.cat(pooled).numpy()
