from __future__ import annotations

import json

import pytest
import torch
from ignite.engine import Engine

from weakmedsam_ext.handlers import WeightsLoader


def start(network, path):
    engine = Engine(lambda engine, batch: None)
    WeightsLoader(network, path).attach(engine)
    engine.run([0])


@pytest.mark.parametrize("wrap", [lambda state: state, lambda state: {"model": state}])
def test_weights_are_loaded_when_the_engine_starts(tmp_path, wrap):
    trained, network = torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)
    loader = WeightsLoader(network, tmp_path / "model.pt")  # the file need not be there yet
    torch.save(wrap(trained.state_dict()), tmp_path / "model.pt")
    assert not torch.equal(network.weight, trained.weight)
    start(loader.network, loader.path)
    assert torch.equal(network.weight, trained.weight) and torch.equal(network.bias, trained.bias)


def test_other_files_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="checkpoint .*model.pt does not exist; correct the path"):
        start(torch.nn.Linear(3, 2), tmp_path / "model.pt")
    torch.save(torch.nn.Linear(4, 2).state_dict(), tmp_path / "model.pt")
    with pytest.raises(ValueError, match="model.pt does not fit Linear, nothing was loaded: 1 wrongly shaped"):
        start(torch.nn.Linear(3, 2), tmp_path / "model.pt")


def test_weights_of_other_settings_are_refused(tmp_path):
    """A network that was trained at another spacing would run, and find nothing."""
    network, path = torch.nn.Linear(3, 2), tmp_path / "model.pt"
    torch.save(network.state_dict(), path)
    (tmp_path / "model.json").write_text(json.dumps({"settings": {"spacing": 2.0, "classes": {"a": [1, 2]}, "b": 1}}))
    engine = Engine(lambda engine, batch: None)
    WeightsLoader(network, path, {"spacing": 2.0, "classes": {"a": (1, 2)}, "stride": 3})(engine)
    (tmp_path / "model.json").write_text(json.dumps({"settings": {"spacing": 2.0, "classes": {"a": 1, "b": 2}}}))
    with pytest.raises(ValueError, match="model.pt was trained with classes"):  # channels in another order
        WeightsLoader(network, path, {"classes": {"b": 2, "a": 1}})(engine)
    with pytest.raises(ValueError, match="model.pt was trained with spacing 2.0, but this run has 1.5; give --spacing"):
        WeightsLoader(network, path, {"spacing": 1.5})(engine)
