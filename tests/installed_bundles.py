"""Bundles as users install them, with fresh weights; tests that serve, train or export a bundle share them."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import monai.bundle
import torch
from monai.bundle import ConfigParser

from weakmedsam_ext.bundle import package_bundle

BUNDLES = sorted(path.parent.parent for path in (Path(__file__).parents[1] / "bundles").glob("*/configs/metadata.json"))
SMALL_SEMISAM = {"roi_size": [32, 32, 16], "stride": [16, 16, 16], "spacing": 2.0, "batches_per_epoch": 2}
# settings of train.json that make a training short
SMALL = {
    "weakmedsam_msd_heart": {"roi_size": 32, "slices_per_volume": 2, "volumes_per_batch": 2, "epochs": 1},
    "semisam_la2018": SMALL_SEMISAM,
    "semisam_brats2019": SMALL_SEMISAM,
    "promptable_pretrain_2d": {"batch_size": 8, "num_clicks": 2, "num_rounds": 1, "epochs": 1},
    "promptable_pretrain_3d": {"samples_per_volume": 1, "num_clicks": 2, "num_rounds": 1, "epochs": 1},
}
DEEP = {"semisam_la2018", "semisam_brats2019", "weakmedsam_abdomenct1k", "weakmedsam_brats2019"}
# what a bundle is told about a volume beside the image; one that is asked by clicks answers nothing without
CLICKS = [[20, 12, 3, 1], [9, 25, 4, 1]]
SAID = {"promptable_pretrain_2d": {"clicks": CLICKS}, "promptable_pretrain_3d": {"clicks": CLICKS}}


def install(source, folder):
    """A bundle as a user gets it: packaged with fresh weights, downloaded from a URL, its network beside it."""
    torch.manual_seed(0)
    network = read(source, "inference").get_parsed_content("network_def").eval()
    meta = json.loads((source / "configs" / "metadata.json").read_text())
    if source.name in DEEP:
        say_all_classes(network, network_input(meta))
    torch.save({"model": network.state_dict()}, folder / "trained.pt")
    package = package_bundle(source, folder / "packed.zip", folder / "trained.pt")
    hub = folder / "a hub"
    monai.bundle.download(name=source.name, url=package.as_uri(), bundle_dir=str(hub), progress=False)
    root = hub / source.name
    meta = json.loads((root / "configs" / "metadata.json").read_text())
    return SimpleNamespace(name=source.name, root=root, hub=hub, network=network, meta=meta)


def shorten(bundle):
    """Make the training of an installed bundle short; what it shares with inference is the same there."""
    for config in (bundle / "configs" / "train.json", bundle / "configs" / "inference.json"):
        settings = json.loads(config.read_text())
        small = {key: value for key, value in SMALL.get(bundle.name, {}).items() if key in settings}
        config.write_text(json.dumps({**settings, **small}))


@torch.no_grad()
def say_all_classes(network, image):
    """Fresh weights of a deep network say the same everywhere: the biases of its last layer make classes equal."""
    last = [module for module in network.modules() if isinstance(module, torch.nn.Conv2d | torch.nn.Conv3d)][-1]
    last.bias -= network(image).transpose(0, 1).flatten(1).median(1).values


def read(bundle, kind):
    """A config as MONAI Label reads it: without metadata."""
    parser = ConfigParser()
    parser.read_config(str(bundle / "configs" / f"{kind}.json"))
    parser.config["bundle_root"] = str(bundle)
    return parser


def network_input(meta, n=2):
    """Random values of the shape that the metadata promises."""
    image = meta["network_data_format"]["inputs"]["image"]
    shape = [size if isinstance(size, int) else eval(size, {"n": n, "p": 1}) for size in image["spatial_shape"]]
    return torch.rand(1, image["num_channels"], *shape)
