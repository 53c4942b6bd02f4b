"""What one of the processes does that torchrun starts in test_pseudo_label_handlers.py."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from test_pseudo_label_handlers import left_half, make_study, run

from weakmedsam_ext.bundle import RunKey
from weakmedsam_ext.handlers import PseudoLabelWriter

folder = Path(sys.argv[1])
cases, store, labels = make_study(folder / os.environ["RANK"])
writer = PseudoLabelWriter(cases, store, labels, folder / "two", run_key=RunKey(folder, {"threshold": 0.5}))
writer.prepare()  # as the stage does, before it asks for the remaining cases
run(writer, store, labels, left_half)
