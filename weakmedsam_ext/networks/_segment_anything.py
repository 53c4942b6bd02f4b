"""The modelling code of the `segment-anything` package (Kirillov et al., ICCV 2023), without its torchvision import.

`import segment_anything` loads its predictor, which needs torchvision. Its sub-package `modeling` needs only torch, so
it is loaded here on its own, under a private name: a later `import segment_anything` of the user's is not disturbed.
"""

from __future__ import annotations

import sys
from importlib.machinery import PathFinder
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

__all__ = ["modeling"]

_PRIVATE_NAME = "weakmedsam_ext.networks._segment_anything_modeling"


def _load_modeling() -> ModuleType:
    package = PathFinder.find_spec("segment_anything")
    if package is None or package.origin is None:
        raise ImportError("The package segment-anything is not installed; run `pip install segment-anything`.")
    folder = Path(package.origin).parent / "modeling"
    spec = spec_from_file_location(_PRIVATE_NAME, folder / "__init__.py", submodule_search_locations=[str(folder)])
    if spec is None or spec.loader is None:
        raise ImportError(f"The installed segment-anything has no sub-package {folder}; install version 1.0.")
    module = module_from_spec(spec)
    sys.modules[_PRIVATE_NAME] = module
    spec.loader.exec_module(module)
    return module


modeling: Any = _load_modeling()
