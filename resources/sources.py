"""The corpus sources that this deployment watches."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
from pydantic import Field

from aura.corpus.registry import SourceRegistry
from aura.settings import Settings


class SourcesResource(dg.ConfigurableResource[SourceRegistry]):
    """The register of sources: the built-in ones and those that `aura sources add` wrote into it."""

    file: str = Field(description="JSON file that lists the sources.")

    @classmethod
    def of(cls, settings: Settings) -> SourcesResource:
        """The register under the home."""
        return cls(file=str(settings.sources_file))

    def create_resource(self, context: dg.InitResourceContext) -> SourceRegistry:
        """Hand out the register."""
        return SourceRegistry(Path(self.file))
