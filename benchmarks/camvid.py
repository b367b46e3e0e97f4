"""What refinement is worth on street scenes with labels (CAMVID), from scratch.

    python benchmarks/camvid.py --data FOLDER --out FOLDER --report SPLIT [--seeds 0 1 2]

The same as `benchmarks/labels/run.py camvid`, which says more.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "labels"))
from run import main

if __name__ == "__main__":
    sys.exit(main(["camvid", *sys.argv[1:]]))
