"""Print the figures of this package beside what they are compared with."""

from . import at, importing, steps, updates

for module in (updates, steps, at, importing):
    module.main()
