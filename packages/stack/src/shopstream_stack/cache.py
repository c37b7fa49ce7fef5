"""Binaries of the local stack, fetched or built once and kept by version.

Guarantees: an entry is complete or absent (built beside it and renamed), and two commands at
once build it once (a lock file an entry).
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from shopstream_stack import tools
from shopstream_stack.console import Reporter
from shopstream_stack.errors import StackError
from shopstream_stack.process import group_of
from shopstream_stack.settings import project_root

# The last version of MinIO's module; the module has no semantic tags.
MINIO_VERSION: Final = "v0.0.0-20260212201848-7aac2a2c5b7c"
# The last 1.x; 16 minutes of it are the load gate.
K6_VERSION: Final = "v1.8.1"
BUILD_SECONDS_MAX: Final = 3_600.0
BUILD_OUTPUT_CHARACTERS_MAX: Final = 3000
_HERE: Final = Path(__file__).parent
POM: Final = _HERE / "jars" / "pom.xml"
ADMIN_PAGE: Final = _HERE / "admin_page"
LOAD: Final = _HERE / "bench" / "load"
QUIX_LOCK: Final = project_root() / "requirements" / "bench-quix.lock"


@dataclass(frozen=True, slots=True)
class Cache:
    """The cache folder and the environment its builds run in."""

    root: Path
    environ: Mapping[str, str]

    def jars(self, profile: str) -> Path:
        """Where the jars of one profile of the pom are."""
        return self.root / f"{profile}-{_digest(POM)}"

    @property
    def minio(self) -> Path:
        """MinIO's binary."""
        return self.root / f"minio-{MINIO_VERSION}" / "minio"

    @property
    def k6(self) -> Path:
        """k6's binary, which drives the load gate."""
        return self.root / f"k6-{K6_VERSION}" / "k6"

    @property
    def admin_page(self) -> Path:
        """Where dynamodb-admin and what it needs are installed."""
        return self.root / f"dynamodb-admin-{_digest(ADMIN_PAGE / 'package-lock.json')}"

    @property
    def load(self) -> Path:
        """The load generator's binary."""
        return self.root / f"load-{_digest(*sorted(LOAD.iterdir()))}" / "load"

    @property
    def quix(self) -> Path:
        """The Python of the environment in which Quix Streams is installed."""
        return self.root / f"quix-{_digest(QUIX_LOCK)}" / "bin" / "python"

    def ensure_jars(self, profile: str, title: str, reporter: Reporter) -> Path:
        """Fetch the jars of one profile by Maven unless they are here."""

        def build(target: Path) -> None:
            argv = [tools.find(tools.MAVEN), "-B", "-q", "-f", str(POM), "-P", profile]
            argv += ["dependency:copy-dependencies", f"-DoutputDirectory={target}"]
            argv += ["-DincludeScope=runtime"]
            # One Maven at a time: its local repository takes no two writers.
            with locked(self.root / "maven.lock"):
                self._run(argv, f"fetch {title} by Maven")

        return self._ensure(self.jars(profile), build, f"Fetching {title}", reporter)

    def ensure_minio(self, reporter: Reporter) -> Path:
        """Build MinIO by `go install` unless it is here."""

        def build(target: Path) -> None:
            argv = [tools.find(tools.GO), "install", "-trimpath", "-buildvcs=false"]
            argv += ["-ldflags=-s -w", f"github.com/minio/minio@{MINIO_VERSION}"]
            self._run(argv, "build MinIO", {"GOBIN": str(target)})

        title = "Building MinIO (once, some minutes)"
        self._ensure(self.minio.parent, build, title, reporter)
        return self.minio

    def ensure_admin_page(self, reporter: Reporter) -> Path:
        """Install dynamodb-admin by its locked packages unless it is here."""

        def build(target: Path) -> None:
            for name in ("package.json", "package-lock.json"):
                shutil.copy(ADMIN_PAGE / name, target / name)
            argv = [tools.find(tools.NPM), "ci", "--silent", "--no-audit", "--no-fund"]
            self._run([*argv, "--ignore-scripts"], "install dynamodb-admin", cwd=target)

        return self._ensure(self.admin_page, build, "Installing dynamodb-admin", reporter)

    def ensure_load(self, reporter: Reporter) -> Path:
        """Build the load generator of the benchmarks unless it is here."""

        def build(target: Path) -> None:
            argv = [tools.find(tools.GO), "build", "-trimpath", "-buildvcs=false"]
            argv += ["-mod=readonly", "-ldflags=-s -w", "-o", str(target / "load"), "."]
            self._run(argv, "build the load generator", {"GOWORK": "off"}, cwd=LOAD)

        self._ensure(self.load.parent, build, "Building the load generator (once)", reporter)
        return self.load

    def ensure_k6(self, reporter: Reporter) -> Path:
        """Build k6 by `go install` unless it is here."""

        def build(target: Path) -> None:
            argv = [tools.find(tools.GO_OF_K6), "install", "-trimpath", "-buildvcs=false"]
            argv += ["-ldflags=-s -w", f"go.k6.io/k6@{K6_VERSION}"]
            self._run(argv, "build k6", {"GOBIN": str(target)})

        self._ensure(self.k6.parent, build, "Building k6 (once, some minutes)", reporter)
        return self.k6

    def ensure_quix(self, reporter: Reporter) -> Path:
        """Install Quix Streams, a peer of a benchmark, by its locked packages unless it is here.

        In an environment of its own: what it needs is not ours.
        """

        def build(target: Path) -> None:
            self._run([sys.executable, "-m", "venv", str(target)], "make an environment")
            argv = [str(target / "bin" / "python"), "-m", "pip", "install", "--quiet"]
            argv += ["--disable-pip-version-check", "--require-hashes", "-r", str(QUIX_LOCK)]
            self._run(argv, "install Quix Streams")

        title = "Installing Quix Streams (once)"
        self._ensure(self.quix.parent.parent, build, title, reporter)
        return self.quix

    def _ensure(
        self, target: Path, build: Callable[[Path], None], title: str, reporter: Reporter
    ) -> Path:
        if target.exists():
            return target
        with reporter.step(title), locked(self.root / f"{target.name}.lock"):
            if not target.exists():
                self._build(target, build)
        return target

    def _build(self, target: Path, build: Callable[[Path], None]) -> None:
        for stale in self.root.glob(f".{target.name}.*"):
            shutil.rmtree(stale, ignore_errors=True)
        part = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=self.root))
        try:
            part.chmod(0o755)
            build(part)
            part.replace(target)
        finally:
            shutil.rmtree(part, ignore_errors=True)

    def _run(
        self,
        argv: Sequence[str],
        title: str,
        extra: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        run_build(argv, title, environ={**self.environ, **(extra or {})}, cwd=cwd)


def run_build(
    argv: Sequence[str],
    title: str,
    *,
    environ: Mapping[str, str],
    cwd: Path | None = None,
    user: str | None = None,
) -> None:
    """Run a build tool to its end; raises StackError with the end of its output if it fails."""
    try:
        done = subprocess.run(  # noqa: S603 - the argv is ours
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env=dict(environ),
            cwd=cwd,
            user=user,
            group=None if user is None else group_of(user),
            extra_groups=None if user is None else [],
            timeout=BUILD_SECONDS_MAX,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise StackError(
            f"Could not {title} within {BUILD_SECONDS_MAX:.0f} s; call it again: compilers go on "
            "where they were"
        ) from error
    if done.returncode != 0:
        raise StackError(
            f"Could not {title} (exit {done.returncode}):\n"
            f"{done.stdout[-BUILD_OUTPUT_CHARACTERS_MAX:]}"
        )


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock between processes; waits as long as another build may take."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = os.open(path, os.O_CREAT | os.O_RDWR, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _digest(*paths: Path) -> str:
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]
