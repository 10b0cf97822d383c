"""Items turned into vectors by real models: encoders, the embedding table, incremental re-use.

Belongs here: loading of models, batching, the table of vectors with its provenance.
Does not: the geometry of the vectors (see `aura.topology`) and what is learnt on top of them (`aura.experts`).
"""
