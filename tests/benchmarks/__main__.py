"""Print the figures of this package beside what they are compared with."""

from . import at, importing, steps, tools, updates

for module in (updates, steps, at, tools, importing):
    module.main()
