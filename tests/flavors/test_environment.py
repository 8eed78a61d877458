"""A model is opened where its libraries are, in the versions it was made with, and nowhere else."""

from pathlib import Path

import msgspec
import pytest

from fairlead.errors import Corrupt, Invalid
from fairlead.flavors import environment


def test_what_is_written_down_here_holds_here(tmp_path: Path) -> None:
    environment.record(tmp_path, ("numpy", "scikit-learn", "no-such-thing"))
    environment.demand(tmp_path)
    known = msgspec.json.decode((tmp_path / environment.FILE).read_bytes(), type=dict[str, str])
    assert known.keys() == {"python", "numpy", "scikit-learn", "no-such-thing"}
    assert known["no-such-thing"] == "nothing" and known["python"].count(".") == 1


@pytest.mark.parametrize("name", ["python", "numpy", "scikit-learn"])
def test_each_difference_is_named_with_both_versions(tmp_path: Path, name: str) -> None:
    environment.record(tmp_path, ("numpy", "scikit-learn"))
    known = msgspec.json.decode((tmp_path / environment.FILE).read_bytes(), type=dict[str, str])
    files = {environment.FILE: msgspec.json.encode({**known, name: "0.1"})}
    with pytest.raises(Invalid, match=rf"made with {name} 0\.1 \(here is {known[name]}\); train it again here"):
        environment.demand(files)


def test_a_package_of_before_is_opened_as_it_is(tmp_path: Path) -> None:
    environment.demand(tmp_path)
    environment.demand({})


def test_what_is_no_list_of_versions_is_refused() -> None:
    with pytest.raises(Corrupt):
        environment.demand({environment.FILE: b"\x80\x04."})
