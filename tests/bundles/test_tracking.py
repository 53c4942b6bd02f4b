"""Losses and metrics of a training in the trackers that MONAI has handlers for."""

from __future__ import annotations

import pytest
import semisam_runs

LA = "semisam_la2018"


def train(phantoms, output, tracker):
    training = semisam_runs.workflow(
        LA, "train.json", phantoms, output, method="supervised", tracker=tracker, epochs=2, val_interval=1
    )
    training.run()
    training.finalize()


def test_no_tracker_is_the_default(phantoms, tmp_path):
    training = semisam_runs.workflow(LA, "train.json", phantoms, tmp_path, method="supervised")
    names = [type(handler).__name__ for handler in training.parser.get_parsed_content("train::handlers")]
    assert "TrainingLog" in names and not {"TensorBoardStatsHandler", "MLFlowHandler"} & set(names)


@pytest.mark.slow
def test_tensorboard_holds_losses_and_validation(phantoms, tmp_path):
    pytest.importorskip("tensorboard", reason="the extra tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(phantoms, tmp_path, "tensorboard")
    events = EventAccumulator(str(tmp_path / "tensorboard" / "train"))
    events.Reload()
    scalars = {tag: [event.step for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
    assert scalars == {"loss": [1, 2, 3, 4, 5, 6], "val_mean_dice": [1, 2]}


@pytest.mark.slow
def test_mlflow_holds_losses_and_validation_in_one_run(phantoms, tmp_path):
    mlflow = pytest.importorskip("mlflow", reason="the extra mlflow is not installed")
    train(phantoms, tmp_path, "mlflow")
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    [run] = client.search_runs([client.get_experiment_by_name(tmp_path.name).experiment_id])
    assert run.info.run_name == "train" and run.data.params["max_epochs"] == "2"
    history = {name: len(client.get_metric_history(run.info.run_id, name)) for name in ("loss", "val_mean_dice")}
    assert history == {"loss": 6, "val_mean_dice": 2}
