"""Write all.lock and dev.lock: every dependency pinned and hashed, no package-index host named."""

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
QUIET = ("--quiet", "--generate-hashes", "--no-emit-index-url", "--no-emit-find-links",
         "--no-emit-trusted-host", "--strip-extras", "--allow-unsafe", "--no-header", "--no-annotate")  # fmt: skip
ALL = ("--extra=serve", "--extra=lab", "--extra=sign", "--extra=sklearn", "--extra=build")


def compile_lock(name: str, *options: str) -> None:
    """Resolve the extras into `name`."""
    command = [sys.executable, "-m", "piptools", "compile", *QUIET, *options]
    subprocess.run([*command, f"--output-file={HERE / name}", "pyproject.toml"],
                   check=True, cwd=HERE.parent)  # fmt: skip


if __name__ == "__main__":
    compile_lock("all.lock", *ALL)
    compile_lock("dev.lock", *ALL, "--extra=grpc", "--extra=dev", f"--constraint={HERE.name}/all.lock")
