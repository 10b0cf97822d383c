"""The servers that `aura services` runs, and where each lives."""

from __future__ import annotations

from aura.services.kafka_server import KAFKA
from aura.services.neo4j_server import NEO4J
from aura.services.postgres_server import POSTGRES
from aura.services.recipe import Recipe
from aura.services.redis_server import REDIS
from aura.services.server import Server
from aura.settings import Settings

RECIPES: dict[str, Recipe] = {recipe.name: recipe for recipe in (KAFKA, NEO4J, REDIS, POSTGRES)}


def configured_server(name: str, settings: Settings, *, tethered: bool = False) -> Server:
    """The server of this name under the home of the settings, with the port that they set.

    Raises:
        KeyError: There is no recipe of this name.
    """
    port: int | None = getattr(settings.services, f"{name}_port")
    return Server(RECIPES[name], settings.services_directory / name, port=port, tethered=tethered)
