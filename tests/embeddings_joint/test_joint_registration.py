"""The registered model: no pickle, the same vectors, the run untouched."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from joint_material import images, sounds

from aura.embeddings.joint.registration import log_joint_model


@pytest.mark.slow
def test_a_registered_model_encodes_like_the_trained_one_and_holds_no_pickle(joint_model, tmp_path):
    import mlflow

    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    client = mlflow.MlflowClient(tracking_uri=uri, registry_uri=uri)
    experiment = client.create_experiment("joint", artifact_location=(tmp_path / "artifacts").as_uri())
    run = client.create_run(experiment)
    before = mlflow.get_tracking_uri()
    model_uri = log_joint_model(
        joint_model, tracking_uri=uri, run_id=run.info.run_id, registered_name="digits", tags={"corpus": "digits"}
    )

    assert mlflow.get_tracking_uri() == before
    assert client.get_run(run.info.run_id).info.status == "RUNNING"
    version = client.get_model_version_by_alias("digits", "current")
    assert model_uri == f"models:/digits/{version.version}"
    assert version.tags["corpus"] == "digits"
    assert version.run_id == run.info.run_id
    assert version.source == f"models:/{client.get_run(run.info.run_id).outputs.model_outputs[0].model_id}"
    names = sorted(path.name for path in (tmp_path / "artifacts").rglob("*") if path.is_file())
    assert {"model.safetensors", "card.json", "cost.json", "registered.py"} <= set(names)
    assert [name for name in names if Path(name).suffix in {".pkl", ".pickle", ".pt", ".bin"}] == []

    mlflow.set_tracking_uri(uri)
    try:
        loaded = mlflow.pyfunc.load_model(model_uri)
    finally:
        mlflow.set_tracking_uri(before)
    image, sound = images(1)[0].content, sounds(1)[0].content
    rows = pd.DataFrame(
        {"modality": ["text", "image", "audio", "image"], "content": [b"nine", image, sound, b"broken"]}
    )
    vectors = loaded.predict(rows)
    np.testing.assert_allclose(vectors[0], joint_model.encoder("text").encode(["nine"]).vectors[0], rtol=1e-5)
    np.testing.assert_allclose(vectors[1], joint_model.encoder("image").encode([image]).vectors[0], rtol=1e-5)
    np.testing.assert_allclose(vectors[2], joint_model.encoder("audio").encode([sound]).vectors[0], rtol=1e-5)
    assert np.isnan(vectors[3]).all()
