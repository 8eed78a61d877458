"""Jobs as processes: their end, their words and their limits reach the caller."""

from pathlib import Path

import pytest

from fairlead.adapters.compute.local import LocalCompute
from fairlead.errors import Invalid
from fairlead.settings import child_environment

HOME = child_environment({})


def test_a_job_runs_and_its_words_are_kept(tmp_path: Path) -> None:
    LocalCompute(HOME).run(["--help"], tmp_path, {})
    assert "train" in (tmp_path / "output.log").read_text()


def test_a_failing_job_shows_the_end_of_its_words(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="the job `job` ended with status 1") as caught:
        LocalCompute(HOME).run(["job", "no-such-folder"], tmp_path, {})
    assert str(caught.value).endswith("No such file or directory: 'no-such-folder/failure.json'")


def test_a_job_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match=r"took longer than 0\.02 s"):
        LocalCompute(HOME, timeout=0.02).run(["--help"], tmp_path, {})
