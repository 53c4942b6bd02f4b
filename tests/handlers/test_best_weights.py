from __future__ import annotations

import torch
from ignite.engine import Engine, Events

from weakmedsam_ext.handlers import BestWeights


def validate(handler, *values):
    """An evaluator that measures these values one run after the other; the network's weight says which run it is."""
    engine = Engine(lambda engine, batch: None)
    engine.state.key_metric_name = "dice"
    handler.attach(engine)
    for value in values:
        handler.network.weight.data.fill_(value)
        engine.state.metrics = {"dice": value}
        engine.fire_event(Events.COMPLETED)


def saved(path):
    return float(torch.load(path, weights_only=True)["weight"])


def test_only_a_higher_value_is_saved(tmp_path):
    handler = BestWeights(torch.nn.Linear(1, 1, bias=False), tmp_path / "models" / "best.pt")
    validate(handler, 0.2)
    assert abs(saved(handler.path) - 0.2) < 1e-6
    first = handler.path.stat().st_mtime_ns
    validate(handler, 0.1, 0.2, float("nan"))
    assert handler.path.stat().st_mtime_ns == first
    validate(handler, 0.5, 0.4)
    assert abs(saved(handler.path) - 0.5) < 1e-6


def test_what_was_best_survives_a_restart(tmp_path):
    before = BestWeights(torch.nn.Linear(1, 1, bias=False), tmp_path / "best.pt")
    validate(before, 0.5)
    after = BestWeights(torch.nn.Linear(1, 1, bias=False), tmp_path / "best.pt")
    after.load_state_dict(before.state_dict())
    validate(after, 0.4)
    assert abs(saved(after.path) - 0.5) < 1e-6
