"""The registered model: no pickle, the same answers, the run untouched."""

import ast
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from aura.experts.registration import REQUIREMENTS, SCRIPT, log_expert_model


def test_the_served_script_needs_nothing_but_what_its_requirements_name():
    imported = set()
    for node in ast.walk(ast.parse(SCRIPT.read_text())):
        if isinstance(node, ast.Import):
            imported |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(node.module.partition(".")[0])
    assert imported - sys.stdlib_module_names == set(REQUIREMENTS)


@pytest.mark.slow
def test_a_registered_model_answers_like_the_trained_one_and_holds_no_pickle(digit_model, digits, tmp_path):
    import mlflow

    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    client = mlflow.MlflowClient(tracking_uri=uri, registry_uri=uri)
    experiment = client.create_experiment("experts", artifact_location=(tmp_path / "artifacts").as_uri())
    run = client.create_run(experiment)
    before = mlflow.get_tracking_uri()
    model_uri = log_expert_model(
        digit_model, tracking_uri=uri, run_id=run.info.run_id, registered_name="digits", tags={"corpus": "digits"}
    )

    assert mlflow.get_tracking_uri() == before
    assert client.get_run(run.info.run_id).info.status == "RUNNING"
    version = client.get_model_version_by_alias("digits", "current")
    assert model_uri == f"models:/digits/{version.version}"
    assert version.tags["corpus"] == "digits"
    assert version.run_id == run.info.run_id

    assert version.source == f"models:/{client.get_run(run.info.run_id).outputs.model_outputs[0].model_id}"
    names = sorted(path.name for path in (tmp_path / "artifacts").rglob("*") if path.is_file())
    assert {"model.safetensors", "card.json", "registered.py"} <= set(names)
    assert [name for name in names if Path(name).suffix in {".pkl", ".pickle", ".pt", ".bin"}] == []

    mlflow.set_tracking_uri(uri)
    try:
        loaded = mlflow.pyfunc.load_model(model_uri)
    finally:
        mlflow.set_tracking_uri(before)
    with torch.no_grad():
        logits, routing = digit_model.to_module()(torch.from_numpy(digits.vectors))
    answers = loaded.predict(digits.vectors)
    assert answers["label"].tolist() == [digit_model.card.labels[index] for index in logits.argmax(dim=1)]
    assert answers["expert"].tolist() == routing.choices[:, 0].tolist()
    np.testing.assert_allclose(answers["gate"], routing.weights[:, 0], rtol=1e-5)
    frame = loaded.predict(pd.DataFrame(digits.vectors[:5]))
    assert frame["label"].tolist() == answers["label"].tolist()[:5]
