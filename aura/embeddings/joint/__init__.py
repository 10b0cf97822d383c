"""A model of several modalities that is trained here: texts, images and sounds that belong together, in one space.

Belongs here: which items belong together, the towers, their training and what it reaches, vectors of new items.
Does not: pretrained models (the other modules of `aura.embeddings`), which assets hold the results.
"""
