from __future__ import annotations

import logging

import pytest
import torch
from ignite.engine import Events
from ignite.metrics import Average
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from monai.handlers import ValidationHandler
from torch import nn

from weakmedsam_ext.handlers import EvaluationLog, ResumableEpochs, TrainingLog, loss_of, read_history, uses_tracker

DATA = [{"image": torch.full((2, 1), float(n)), "label": torch.zeros(2, 1)} for n in (1, 2, 3)]


class Fixed(nn.Module):
    """Answers its input, times one."""

    def __init__(self):
        super().__init__()
        self.factor = nn.Parameter(torch.ones(1))

    def forward(self, x):
        return x * self.factor


def engines(folder, max_epochs, **log):
    """A trainer that learns nothing, so that the loss is the mean of 1, 2 and 3; validated every second epoch."""
    network = Fixed()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.0)
    metric = {"dice": Average(output_transform=lambda output: 0.5)}
    handlers = [EvaluationLog("validation")]
    validator = SupervisedEvaluator("cpu", DATA[:1], network, key_val_metric=metric, val_handlers=handlers)
    handlers = [
        ResumableEpochs(folder / "train.pt", {"network": network}, keep=True),
        ValidationHandler(2, validator),
        TrainingLog("network", folder / "logs" / "train.csv", validator, **log),
    ]
    loss = nn.L1Loss()
    return SupervisedTrainer("cpu", max_epochs, DATA, network, optimizer, loss, train_handlers=handlers)


def test_one_line_and_one_row_an_epoch(tmp_path, caplog, capsys):
    caplog.set_level(logging.INFO)
    engines(tmp_path, 3).run()
    rows = read_history(tmp_path / "logs" / "train.csv")
    assert [(row["epoch"], row["loss"], row["dice"]) for row in rows] == [(1, 2.0, None), (2, 2.0, 0.5), (3, 2.0, None)]
    lines = [record.getMessage() for record in caplog.records]
    mine = [line for line in lines if line.startswith("network: ")]
    assert [line.split(", ")[0] for line in mine] == [f"network: epoch {n} of 3" for n in (1, 2, 3)]
    assert "loss 2.0000, dice 0.5000, 0 s, about 0 s to go" in mine[1] and "to go" not in mine[2]
    assert [line for line in lines if line.startswith("validation: ")] == ["validation: done in 0 s, dice 0.5000"]
    assert not [line for line in lines if "Engine run" in line or "Complete. Time" in line]
    assert capsys.readouterr().err == ""


def test_a_training_that_goes_on_keeps_the_rows_before(tmp_path):
    trainer = engines(tmp_path, 4)
    trainer.add_event_handler(Events.EPOCH_COMPLETED(once=2), lambda engine: engine.terminate())
    trainer.run()
    first = read_history(tmp_path / "logs" / "train.csv")
    engines(tmp_path, 4).run()
    rows = read_history(tmp_path / "logs" / "train.csv")
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4] and rows[:2] == first
    (tmp_path / "train.pt").unlink()
    engines(tmp_path, 1).run()  # a new training replaces the table
    assert [row["epoch"] for row in read_history(tmp_path / "logs" / "train.csv")] == [1]


def test_after_the_first_steps_the_log_says_how_long_it_takes(tmp_path, caplog, monkeypatch):
    caplog.set_level(logging.INFO)
    monkeypatch.setattr("weakmedsam_ext.data.progress.MEASURED", 0.0)
    monkeypatch.setattr("weakmedsam_ext.data.progress.LEAST_ROUNDS", 1)
    monkeypatch.setattr("weakmedsam_ext.data.progress.WORTH_A_LINE", 0.0)
    engines(tmp_path, 2).run()
    told = [r.getMessage() for r in caplog.records if "steps, about" in r.getMessage()]
    assert len(told) == 1 and told[0].startswith("network: 1 of 5 steps, about 0 s to go; ")
    assert told[0].endswith(" GB of memory so far")


def test_the_loss_of_both_kinds_of_output():
    assert loss_of({"loss": 3.0, "pred": 0}) == 3.0
    assert loss_of([{"loss": 4.0}, {"loss": 4.0}]) == 4.0


def test_no_table_no_rows(tmp_path):
    assert read_history(tmp_path / "missing.csv") == []


def test_a_tracker_is_chosen_by_name(monkeypatch):
    assert not uses_tracker(None, "tensorboard")
    with pytest.raises(ValueError, match="mlflow"):
        uses_tracker("mlfow", "mlflow")
    monkeypatch.setattr("weakmedsam_ext.handlers.tracking.optional_import", lambda name: (None, False))
    with pytest.raises(
        ImportError, match=r'tracker: mlflow is not installed; run `pip install "weakmedsam-ext\[mlflow\]'
    ):
        uses_tracker("mlflow", "mlflow")
    monkeypatch.setattr("weakmedsam_ext.handlers.tracking.optional_import", lambda name: (None, True))
    assert uses_tracker("mlflow", "mlflow") and not uses_tracker("mlflow", "tensorboard")
