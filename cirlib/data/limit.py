"""How large a picture may be: our limit in place of Pillow's."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import Image, PngImagePlugin

from cirlib.base.files import UserError

MAX_PIXELS = 120_000_000

# Pillow bounds each text or profile of a PNG by 1 MB, which some have, and their sum by 64: that
# alone is enough to stop bombs.
PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY

_lifted = threading.Lock()


def check_size(name: str, width: int, height: int) -> None:
    """Raises UserError when that is nothing, or over ``MAX_PIXELS``."""
    if not width * height:
        raise UserError(f"{name} has no pixels ({width} x {height}): copy or download it again")
    if width * height > MAX_PIXELS:
        raise UserError(
            f"{name} is too large: {width} x {height} is over the limit of "
            f"{MAX_PIXELS // 1_000_000} megapixels; scale it down or cut a part out"
        )


@contextmanager
def own_limit() -> Iterator[None]:
    """Lift Pillow's limit, a warning at 89 megapixels, for a moment: ``MAX_PIXELS`` is ours.

    The limit is a global of Pillow's, hence the lock and the short time.
    """
    with _lifted:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = limit
