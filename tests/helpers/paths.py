"""Where things are in the checkout."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
POCKET = ROOT / "examples" / "pocket" / "model"
ROOMS = ("api", "service", "workers", "finetune", "storage", "evaluation", "search_space")
#: What is shared with programs outside: a distribution of its own.
SDK = ROOT / "sdk"
#: What every Python process of a test run reads at its start.
STARTUP = ROOT / "tests" / "helpers" / "startup"
