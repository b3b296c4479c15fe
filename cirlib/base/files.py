"""Files that are either whole or absent, and errors that a user can act on."""

import errno
import glob
import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

_FULL = (errno.ENOSPC, errno.EDQUOT)
_NOT_WRITABLE = (
    errno.EACCES, errno.EROFS, errno.EPERM, errno.ENOTDIR, errno.EEXIST, errno.EISDIR,
    errno.ENAMETOOLONG,
)  # fmt: skip


class UserError(Exception):
    """A mistake or lack that the user can mend: one line naming the cause and the cure."""


@contextmanager
def atomic(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; it becomes ``path`` when the block succeeds.

    A killed run or a full disk leaves the previous file as it was. The temporary name keeps the
    suffix of ``path``, so that writers which look at it choose the same format.

    Raises UserError when the disk is full or the folder cannot be written.
    """
    with atomic_set(path) as (temporary,):
        yield temporary


@contextmanager
def atomic_set(*paths: Path | str) -> Iterator[list[Path]]:
    """The same for files that belong together: all are whole before the first takes its place.

    They take their places one after the other, in the order given.
    """
    paths, temporaries = [Path(path) for path in paths], []
    try:
        for path in paths:
            temporaries.append(_beside(path))
        yield temporaries
        umask = os.umask(0)
        os.umask(umask)
        for temporary in temporaries:
            with open(temporary, "rb") as written:
                os.fsync(written.fileno())
            temporary.chmod(0o666 & ~umask)
        for temporary, path in zip(temporaries, paths, strict=True):
            os.replace(temporary, path)
    except OSError as error:
        if error.errno in _FULL + _NOT_WRITABLE:
            raise _unwritten(paths[0], error) from error
        raise
    finally:
        for temporary in temporaries:
            temporary.unlink(missing_ok=True)


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_writable(path: Path | str) -> None:
    """Make the folder of ``path``; raises UserError where atomic would, before any work."""
    _beside(Path(path)).unlink()


def _beside(path: Path) -> Path:
    """A new empty file with a name of its own in the folder of ``path``, which is made."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(
            dir=path.parent, prefix=f".{path.stem}-", suffix=path.suffix
        )
    except OSError as error:
        raise _unwritten(path, error) from error
    os.close(descriptor)
    return Path(name)


def _unwritten(path: Path, error: OSError) -> UserError:
    if error.errno in _FULL:
        return UserError(f"no space left on disk for {path}: free some and rerun")
    return UserError(f"cannot write {path}: {error.strerror}; choose another place")


def remove_leftovers(path: Path) -> None:
    """Delete the temporary files that killed runs left of writing ``path`` with atomic.

    Nobody may be writing it meanwhile.
    """
    # eight characters of tempfile's: "tsnet" must not take those of "tsnet-m" for its own
    for file in path.parent.glob(f".{glob.escape(path.stem)}-????????{path.suffix}"):
        file.unlink(missing_ok=True)


def check_free(path: Path, told: Callable[[Path], dict]) -> None:
    """Raises UserError where there is a file other than a result of before: it would be lost.

    told: what gives the metadata of a file of that kind.
    """
    # os.path: a name that is too long does not exist there; for pathlib it is an error
    if os.path.exists(path) and not {"model", "profile"} <= told(path).keys():
        raise UserError(f"{path} is there, and no result of ours: name another place with -o")
