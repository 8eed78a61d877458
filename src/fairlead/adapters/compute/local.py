"""Jobs as processes of this machine: fewer priorities than serving, a bounded number of threads."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from fairlead.errors import Invalid, Unavailable

__all__ = ["LocalCompute"]

OUTPUT = "output.log"
TAIL = 2_000
"""Characters of a failed job's output that its error shows."""
NICE = 10
"""How far a job steps back behind the processes that answer requests."""
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "POLARS_MAX_THREADS")


class LocalCompute:
    """Implements `ports.Compute`; each job is one Python process with a process group of its own."""

    def __init__(
        self, environment: Mapping[str, str] | None = None, *, threads: int = 0,
        timeout: float = 6 * 3600.0,
    ) -> None:  # fmt: skip
        """`environment`: what jobs inherit. `threads` 0: one per core this process may use.
        `timeout`: seconds until a job is ended."""
        self._environment = dict(environment or {})
        self._threads = threads or len(os.sched_getaffinity(0))
        self._timeout = timeout

    def run(self, job: Sequence[str], workdir: Path, env: Mapping[str, str]) -> None:
        """See `ports.Compute.run`. What the job prints stays in ``output.log`` of `workdir`."""
        with (workdir / OUTPUT).open("wb") as output:
            try:
                process = subprocess.Popen(
                    [sys.executable, "-m", "fairlead", *job], cwd=workdir, stdout=output,
                    stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, process_group=0,
                    env={**self._environment, **self._settings(), **env},
                )  # fmt: skip
            except OSError as error:
                raise Unavailable(f"a job cannot be started: {error}",
                                  hint="free memory or processes, then try again") from error  # fmt: skip
            status = self._wait(process, job)
        if status:
            raise Invalid(f"the job `{' '.join(job[:1])}` {_ended(status)}{_tail(workdir)}",
                          hint="the end of its output is shown above")  # fmt: skip

    def _settings(self) -> dict[str, str]:
        """Threads that wait sleep: on shared cores spinning ones cost more than all the work."""
        return {**dict.fromkeys(THREADS, str(self._threads)), "OMP_WAIT_POLICY": "PASSIVE",
                "PYTHONHASHSEED": "0"}  # fmt: skip

    def _wait(self, process: "subprocess.Popen[bytes]", job: Sequence[str]) -> int:
        try:
            os.setpriority(os.PRIO_PROCESS, process.pid, NICE)
            return process.wait(self._timeout)
        except ProcessLookupError:
            return process.wait()
        except subprocess.TimeoutExpired:
            _end(process)
            raise Invalid(f"the job `{' '.join(job[:1])}` took longer than {self._timeout:g} s",
                          hint="use fewer rows or a smaller model, or allow more time") from None  # fmt: skip
        except BaseException:
            _end(process)
            raise


def _end(process: "subprocess.Popen[bytes]") -> None:
    """The job and whatever it started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _ended(status: int) -> str:
    if status == -signal.SIGKILL:
        return "was killed (out of memory?)"
    if status < 0:
        return f"was ended by {signal.Signals(-status).name}"
    return f"ended with status {status}"


def _tail(workdir: Path) -> str:
    text = (workdir / OUTPUT).read_bytes()[-TAIL:].decode(errors="replace").strip()
    return f":\n{text}" if text else ", without output"
