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
from functools import reduce
from pathlib import Path
from typing import Any, Self

from pydantic import (
    BaseModel,
    Field,
    ValidationError,
    model_validator,
)
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from aura.settings_sections import (
    CorpusSettings,
    DriftSettings,
    EmbeddingSettings,
    EventSettings,
    ExpertSettings,
    GraphSettings,
    JointSettings,
    LanguageSettings,
    MeasureSettings,
    PostgresSettings,
    RedisSettings,
    SearchSettings,
    ServiceSettings,
    TierSettings,
    TopologySettings,
)

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
    joint: JointSettings = JointSettings()
    search: SearchSettings = SearchSettings()
    topology: TopologySettings = TopologySettings()
    drift: DriftSettings = DriftSettings()
    experts: ExpertSettings = ExpertSettings()
    language: LanguageSettings = LanguageSettings()
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

    def digest(self, names: Iterable[str]) -> str:
        """16 hexadecimal digits that change with the values of these sections or settings; secrets do not count.

        Args:
            names: Sections ("tiers") and single settings ("experts.seed").
        """
        chosen = json.dumps(self._chosen(names), sort_keys=True)
        return hashlib.blake2b(chosen.encode(), digest_size=8).hexdigest()

    def parameters(self, names: Iterable[str]) -> dict[str, str]:
        """The values of these sections or settings, by name and as text, for a record of what was made with them.

        Args:
            names: As for `digest`.
        """
        found: dict[str, str] = {}
        for name, value in self._chosen(names).items():
            section = {f"{name}.{part}": each for part, each in value.items()} if isinstance(value, dict) else {}
            found |= {each: _text(held) for each, held in (section or {name: value}).items()}
        return found

    def _chosen(self, names: Iterable[str]) -> dict[str, Any]:
        everything = self.model_dump(mode="json")
        return {name: reduce(lambda value, part: value[part], name.split("."), everything) for name in names}

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
    known = {variable_of(name) for name, _ in fields_of(Settings)} | {"AURA_CONFIG", "AURA_NOTEBOOK_SOURCE"}
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


def _text(value: object) -> str:
    return "none" if value is None else value if isinstance(value, str) else json.dumps(value)
