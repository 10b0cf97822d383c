"""The code locations: `workspace.yaml` loads `everything`, `deploy/workspace.gpu.yaml` the other two.

Loading must stay cheap: nothing here or below imports torch, transformers, gudhi or mlflow.
"""

from __future__ import annotations

import dagster as dg

from aura.settings import load_settings
from aura_assets.build import build_defs


@dg.definitions
def everything() -> dg.Definitions:
    """The whole graph in one location."""
    return build_defs(load_settings())


@dg.definitions
def cpu() -> dg.Definitions:
    """The assets that need no GPU."""
    return build_defs(load_settings(), location="cpu")


@dg.definitions
def gpu() -> dg.Definitions:
    """The assets that want a GPU."""
    return build_defs(load_settings(), location="gpu")
