"""AURA: embeddings, topology, expert routing and memory placement as assets, with their measured cost.

The domain in plain Python, one package per capability. It never imports Dagster or Streamlit. `aura.load`,
`aura.published` and `aura.find` are the way from a notebook or a script to what the assets have made.
"""

from aura.loading import find, load, published

__all__ = ["find", "load", "published"]
