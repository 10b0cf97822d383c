"""Who is sent where: the routing of any mixture of experts, taken without changing it, and what tables say of it.

Belongs here: listening to the routers of `transformers` models, counting as texts stream through, the routing table and
its figures, the activations of single requests, DeepSpeed's checkpoints. Does not: the layers themselves
(`aura.experts.gating`), where experts live (`aura.experts.offload`).
"""
