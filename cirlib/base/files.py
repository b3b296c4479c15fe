"""Files that are either whole or absent, and errors that a user can act on."""

import errno
import glob
import hashlib
import os
import secrets
import sys
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

Tell = Callable[[str], None]  # takes a line, as say does
_FULL = (errno.ENOSPC, errno.EDQUOT)


def one_line(text: str) -> str:
    """Line ends, and what else a terminal obeys, as escapes: names of files may hold them."""
    return "".join(
        repr(c)[1:-1] if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") else c for c in text
    )


def say(text: str) -> None:
    """A line on stderr, past any progress bar."""
    from tqdm import tqdm  # which a command that only shows its help need not wait for

    tqdm.write(one_line(text), file=sys.stderr)


class UserError(Exception):
    """A mistake or lack that the user can mend: one line naming the cause and the cure.

    others: lines below it, one for each thing that went wrong.
    """

    def __init__(self, what: str, *others: str):
        super().__init__("\n".join(map(one_line, (what, *others))))


class FullDisk(UserError):
    """Nothing more can be written there."""


@contextmanager
def atomic(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; it becomes ``path`` when the block succeeds.

    A killed run or a full disk leaves the previous file as it was. The temporary name keeps the
    suffix of ``path``, so that writers which look at it choose the same format.

    Raises UserError when the disk is full or ``path`` cannot be written; what goes wrong with other
    files in the block passes.
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
        for temporary in temporaries:
            with open(temporary, "rb") as written:
                os.fsync(written.fileno())
        for temporary, path in zip(temporaries, paths, strict=True):
            os.replace(temporary, path)
    except OSError as error:
        # a full disk tells no name, and files that are only read do not fill it
        if error.errno in _FULL or str(error.filename) in map(str, temporaries):
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


def _mark(path: Path) -> str:
    """How the names of its temporary files begin: as long for a long name as for a short one."""
    return f".{hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16]}-"


def _suffix(path: Path) -> str:
    return path.suffix if len(path.suffix) <= 16 else ""  # longer ones are no format's


def _beside(path: Path) -> Path:
    """A new empty file with a name of its own in the folder of ``path``, which is made."""
    temporary = path.with_name(_mark(path) + secrets.token_hex(8) + _suffix(path))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            path.lstat()  # which a name that is too long fails, too
        # The kernel takes the umask off 0o666: the process has one for all its threads.
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    except OSError as error:
        raise _unwritten(path, error) from error
    return temporary


def _unwritten(path: Path, error: OSError) -> UserError:
    if error.errno in _FULL:
        return FullDisk(f"no space left on disk for {path}: free some and rerun")
    in_the_way = isinstance(error, FileExistsError | NotADirectoryError)
    why = "a file is where its folder must be" if in_the_way else error.strerror
    return UserError(f"cannot write {path}: {why}; choose another place")


def expanded(path: Path | str) -> Path:
    """``path`` with a home for its ~ or ~name. Raises UserError for the home of nobody."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise UserError(f"{path} is in the home of nobody here: write it out") from error


def remove_leftovers(path: Path) -> None:
    """Delete the temporary files that killed runs left of writing ``path`` with atomic.

    Nobody may be writing it meanwhile.
    """
    for file in path.parent.glob(f"{_mark(path)}*{glob.escape(_suffix(path))}"):
        file.unlink(missing_ok=True)


def check_free(path: Path, told: Callable[[Path], dict]) -> None:
    """Raises UserError where there is a file other than a result of before: it would be lost.

    told: what gives the metadata of a file of that kind.
    """
    # os.path: a name that is too long does not exist there; for pathlib it is an error
    # a pipe is not opened: that may wait for ever
    ours = os.path.isfile(path) and {"model", "profile"} <= told(path).keys()
    if os.path.exists(path) and not ours:
        raise UserError(f"{path} is there, and no result of ours: name another place with -o")
