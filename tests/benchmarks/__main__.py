"""Print the figures of this package beside what they are compared with.

``python -m tests.benchmarks`` measures all; ``python -m tests.benchmarks device steps`` some.
"""

import argparse

from . import at, device, importing, ranks, schedule_free, steps, tools, updates

MODULES = {
    module.__name__.rpartition(".")[2]: module
    for module in (updates, steps, device, schedule_free, at, tools, ranks, importing)
}

parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(MODULES)}")
names = parser.parse_args().names
if unknown := set(names) - set(MODULES):
    parser.error(f"NAME must be one of {', '.join(MODULES)}, got {', '.join(sorted(unknown))}")
for name in names or MODULES:
    MODULES[name].main()
