"""How fast ingest is, beside what else people run, in one run on this machine: `python bench/ingest.py`."""

import sys
from pathlib import Path

if __name__ == "__main__":
    if not __package__:
        # Run as a script, Python looks for modules in this folder, where `ingest` would be this file.
        sys.path[0] = str(Path(__file__).resolve().parents[1])
    # Only here: the publisher's process imports this file too, and needs none of it.
    from bench.run import main

    sys.exit(main())
