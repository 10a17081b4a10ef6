"""What R says about small data sets (data/reference.R wrote data/reference.json with R 4.2.2 and rpact 3.3.4)."""

import json
from pathlib import Path
from typing import Any

R: dict[str, dict[str, Any]] = json.loads((Path(__file__).parent / "data" / "reference.json").read_text())
SIDES = {"two.sided": "two-sided", "greater": "greater", "less": "less"}
