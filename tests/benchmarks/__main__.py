"""Print the figures of this package beside what they are compared with."""

from . import at, importing, ranks, schedule_free, steps, tools, updates

for module in (updates, steps, schedule_free, at, tools, ranks, importing):
    module.main()
