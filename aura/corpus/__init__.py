"""What AURA watches: sources of items, and the manifest that lists them.

Belongs here: readers of directory trees and of the built-in sources, content addressing, the manifest type.
Does not: anything that looks at what an item means (see `aura.embeddings`).
"""
