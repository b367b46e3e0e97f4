"""What refinement is worth on street scenes with labels (CAMVID), from scratch.

    python benchmarks/camvid.py --data FOLDER --out FOLDER --report SPLIT [--seeds 0 1 2]

Tunes ESPNetv2-2.0 at full and at low resolution with the same budget, trains refiners on the low
one, chooses on part of the training split, and reports on another split once. A run that was
stopped goes on with the same command. The data is for research only; no image, label or weight of
it is in this repository, figures are. Writes camvid.json into the folder.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "labels"))
from dataset import CAMVID
from run import main

if __name__ == "__main__":
    sys.exit(main(CAMVID, (__doc__ or "").splitlines()[0]))
