"""The registered models: no pickle, the same answers, a script that anybody can run."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
import pytest
import torch
from torch.nn.functional import cross_entropy

from aura.experts.language.registration import log_language_models


@pytest.mark.slow
def test_a_registered_model_answers_like_the_trained_one_and_holds_no_pickle(tiny_models, tmp_path):
    import mlflow

    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    client = mlflow.MlflowClient(tracking_uri=uri, registry_uri=uri)
    experiment = client.create_experiment("language", artifact_location=(tmp_path / "artifacts").as_uri())
    run = client.create_run(experiment)
    before = mlflow.get_tracking_uri()
    model_uri = log_language_models(
        tiny_models, tracking_uri=uri, run_id=run.info.run_id, registered_name="language", tags={"aura.partition": "0"}
    )
    assert mlflow.get_tracking_uri() == before
    version = client.get_model_version_by_alias("language", "current")
    assert (model_uri, version.tags["aura.partition"]) == (f"models:/language/{version.version}", "0")
    names = [path.relative_to(tmp_path) for path in (tmp_path / "artifacts").rglob("*") if path.is_file()]
    assert [name for name in names if name.suffix in {".pkl", ".pickle", ".pt", ".bin"}] == []
    weights = [name.parent.name for name in names if name.name == "model.safetensors"]
    assert sorted(weights) == ["dense", "moe"]

    mlflow.set_tracking_uri(uri)
    try:
        loaded = mlflow.pyfunc.load_model(model_uri)
    finally:
        mlflow.set_tracking_uri(before)
    answers = loaded.predict(pd.DataFrame({"text": ["The bridge of river.", ""]}))
    ids = tiny_models.tokenizer().encode("The bridge of river.").ids[: tiny_models.card.config.sequence]
    with torch.no_grad():
        logits = tiny_models.moe_network()(input_ids=torch.tensor([[0, *ids]])).logits[0, :-1]
    nats = cross_entropy(logits, torch.tensor(ids), reduction="sum").item()
    size = int(sum(len(tiny_models.tokenizer().id_to_token(token)) for token in ids))
    assert answers["bits_per_byte"][0] == pytest.approx(nats / math.log(2) / size, rel=1e-5)
    assert math.isnan(answers["bits_per_byte"][1])
    assert answers["tokens"].tolist() == [len(ids), 0]
    assert Path(loaded._model_impl.context.artifacts["dense"]).is_dir()
