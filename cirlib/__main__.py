"""The command line: python -m cirlib data|pack|train|cost|evaluate|bench|export|restore."""

import sys

import tyro

from cirlib.base import memory
from cirlib.base.files import UserError, say
from cirlib.cli import measure, restore, train  # noqa: F401  each adds its commands
from cirlib.cli.options import app


def main() -> int:
    """0, or 1 after a one-line error on stderr, or 130 when interrupted."""
    memory.keep_large_blocks()
    sys.stdout.reconfigure(errors="backslashreplace")  # names of files may be no text
    try:
        if "" in sys.argv[1:]:  # a path of no letters would be the current folder
            raise UserError("an argument is empty: is a variable of the shell not set?")
        app.cli(prog="python -m cirlib", config=(tyro.conf.FlagCreatePairsOff,))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)  # its lines are safe to print
        return 1
    except KeyboardInterrupt as stopped:
        say(str(stopped) or "interrupted")
        return 130
    except BrokenPipeError:
        return 1
    except OSError as error:
        if error.filename is None:
            raise
        say(f"error: {error.filename}: {error.strerror}; name another place")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
