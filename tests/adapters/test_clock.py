import subprocess
import sys
import time
from pathlib import Path

import pytest

from fairlead.adapters.clock import SharedClock, SystemClock
from fairlead.errors import Missing


def test_the_system_clock_is_the_systems() -> None:
    assert abs(SystemClock().now() - time.time()) < 5


def test_one_hand_sets_the_clock_of_every_process(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "clock"
    clock = SharedClock.create(path, 1e9)
    other = SharedClock(path)
    assert other.now() == 1e9
    clock.set(1e9 + 0.125)
    assert other.now() == 1e9 + 0.125
    code = "import sys; from pathlib import Path; from fairlead.adapters.clock import SharedClock; "
    code += "c = SharedClock(Path(sys.argv[1])); c.set(c.now() + 1)"
    subprocess.run([sys.executable, "-c", code, str(path)], check=True)
    assert clock.now() == 1e9 + 1.125 and path.stat().st_size == 8
    SharedClock.create(path, 5.0)
    assert clock.now() == 5.0


def test_a_clock_must_exist(tmp_path: Path) -> None:
    with pytest.raises(Missing, match="no clock"):
        SharedClock(tmp_path / "none")
    (tmp_path / "empty").touch()
    with pytest.raises(Missing):
        SharedClock(tmp_path / "empty")
