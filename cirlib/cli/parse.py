"""What is typed, as numbers and names: sizes, tasks, shares, models.

Apart from the options, since the slot's machine has nothing that reads those.
"""

from collections.abc import Callable

from cirlib.base.files import UserError


def _numbers(text: str, between: str, kind: type, fit: Callable[..., bool], form: str) -> tuple:
    """The numbers of a text. Raises UserError, with their form, unless they are so many and fit."""
    try:
        numbers = tuple(kind(part) for part in text.lower().split(between))
        if fit(*numbers):
            return numbers
    except (ValueError, TypeError):  # no numbers, or another number of them
        pass
    raise UserError(f"{form}, not {text!r}")


def parse_size(size: str) -> tuple[int, int]:
    """'1280x720' -> (1280, 720). Raises UserError."""
    form = "a size is WIDTHxHEIGHT in pixels, as 1280x720"
    return _numbers(size, "x", int, lambda width, height: width > 0 < height, form)


def parse_task(task: str) -> tuple[float, float, float]:
    """'0.5,0.5,0' -> (0.5, 0.5, 0.0). Raises UserError."""
    form = "a task is DEBLUR,DENOISE,DEJPEG, each from 0 to 1, as 0.5,0.5,0"
    return _numbers(task, ",", float, lambda *t: len(t) == 3 and all(0 <= x <= 1 for x in t), form)


def parse_share(share: str) -> tuple[int, int]:
    """'2/8' -> (2, 8). Raises UserError."""
    form = "a share is K/N with K from 1 to N, as 2/8"
    return _numbers(share, "/", int, lambda k, n: 1 <= k <= n, form)


def parse_names(names: str) -> list[str]:
    """'cresmd, tsnet' -> ['cresmd', 'tsnet'], of models, metrics or sizes. Raises UserError."""
    found = [name.strip() for name in names.split(",") if name.strip()]
    if not found:
        raise UserError(f"name one or several, joined by commas, not {names!r}")
    return found
