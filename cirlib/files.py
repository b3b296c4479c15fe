"""Files that are either whole or absent, and errors that a user can act on."""

import errno
import glob
import os
import tempfile
from collections.abc import Iterator
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
    path = Path(path)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(
            dir=path.parent, prefix=f".{path.stem}-", suffix=path.suffix
        )
        os.close(descriptor)
        temporary = Path(name)
        yield temporary
        with open(temporary, "rb") as written:
            os.fsync(written.fileno())
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        os.replace(temporary, path)
    except OSError as error:
        if error.errno in _FULL:
            raise UserError(f"no space left on disk for {path}: free some and rerun") from error
        if error.errno in _NOT_WRITABLE:
            raise UserError(
                f"cannot write {path}: {error.strerror}; choose another place"
            ) from error
        raise
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def remove_leftovers(path: Path) -> None:
    """Delete the temporary files that killed runs left of writing ``path`` with atomic.

    Nobody may be writing it meanwhile.
    """
    # eight characters of tempfile's: "tsnet" must not take those of "tsnet-m" for its own
    for file in path.parent.glob(f".{glob.escape(path.stem)}-????????{path.suffix}"):
        file.unlink(missing_ok=True)
