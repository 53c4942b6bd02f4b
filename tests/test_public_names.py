"""Names that bundles give as `_target_` lead to the same thing in all versions of Python."""

from __future__ import annotations

import importlib
import pkgutil
from importlib.util import find_spec

import pytest

import weakmedsam_ext

PACKAGES = [f"weakmedsam_ext.{module.name}" for module in pkgutil.iter_modules(weakmedsam_ext.__path__) if module.ispkg]


@pytest.mark.parametrize("name", PACKAGES)
def test_no_function_is_named_like_its_module(name):
    # pydoc.locate, with which MONAI looks names up, prefers the module from Python 3.12 on
    package = importlib.import_module(name)
    assert package.__all__
    assert [public for public in package.__all__ if find_spec(f"{name}.{public}")] == []
