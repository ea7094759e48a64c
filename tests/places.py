"""Where the tests find the repository, their golden figures, and data that is not part of it."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).parents[1]
GOLDEN = ROOT / "tests" / "golden"
DATA = Path(os.environ.get("JDE_TEST_DATA", ROOT.parent / "shared/data"))
