"""A real controller, killed -9 at every durable step of a promotion and of a rollback (R9)."""

import json
import subprocess
import sys
from pathlib import Path


def test_whenever_it_dies_the_next_one_finishes_alike(tmp_path: Path) -> None:
    script = Path(__file__).with_name("killed_controller.py")
    done = subprocess.run([sys.executable, str(script), str(tmp_path)], capture_output=True,
                          text=True, timeout=100, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    kills = json.loads(done.stdout)
    assert kills["promote"] > 40 and kills["rollback"] > 25, kills
