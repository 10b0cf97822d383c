"""The registered models: no pickle, the same answers, a script that anybody can run."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
import pytest
import torch
from torch.nn.functional import cross_entropy

from aura.experts.language.registration import log_language_models
from aura.experts.language.tokens import END_OF_TEXT


@pytest.mark.slow
def test_a_registered_model_answers_like_the_trained_one_and_holds_no_pickle(small_text, tiny_models, tmp_path):
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
    texts = ["The bridge of river.", "", f"naïve {END_OF_TEXT} 木", "木" * 40]
    answers = loaded.predict(pd.DataFrame({"text": texts}))
    tokenizer = tiny_models.tokenizer()
    tokenizer.encode_special_tokens = True
    network, sizes = tiny_models.moe_network(), small_text.token_bytes()
    for row, text in enumerate(texts):
        ids = tokenizer.encode(text).ids[: tiny_models.card.config.sequence]
        with torch.no_grad():
            logits = network(input_ids=torch.tensor([[0, *ids]])).logits[0, :-1]
        nats = cross_entropy(logits, torch.tensor(ids, dtype=torch.int64), reduction="sum").item()
        expected = nats / math.log(2) / sizes[ids].sum() if ids else math.nan
        assert answers["bits_per_byte"][row] == pytest.approx(expected, rel=1e-5, nan_ok=True)
        assert answers["tokens"][row] == len(ids)
    assert Path(loaded._model_impl.context.artifacts["dense"]).is_dir()
