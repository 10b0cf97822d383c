"""Nearest neighbours among embeddings: the index, queries of any modality, and how a result is shown.

Belongs here: the index, the choice of the space that a query is asked in, previews.
Does not: how vectors are made (see `aura.embeddings`).
"""
