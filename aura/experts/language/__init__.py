"""Small language models with mixtures of experts, and their dense twins.

Belongs here: the model, its training on text, its comparison with the twin. Does not: the layer (`aura.experts.gating`,
`aura.experts.kernels`, `aura.experts.losses`).
"""
