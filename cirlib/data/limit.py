"""How large a picture may be: our limit in place of Pillow's."""

from PIL import Image, PngImagePlugin

from cirlib.base.files import UserError

MAX_PIXELS = 120_000_000

# Pillow bounds each text or profile of a PNG by 1 MB, which some have, and their sum by 64: that
# alone is enough to stop bombs.
PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY

# Pillow's own limit, a warning at 89 megapixels, gives way to check_size.
Image.MAX_IMAGE_PIXELS = None


def check_size(name: str, width: int, height: int) -> None:
    """Raises UserError when that is nothing, or over ``MAX_PIXELS``."""
    if not width * height:
        raise UserError(f"{name} has no pixels ({width} x {height}): copy or download it again")
    if width * height > MAX_PIXELS:
        raise UserError(
            f"{name} is too large: {width} x {height} is over the limit of "
            f"{MAX_PIXELS // 1_000_000} megapixels; scale it down or cut a part out"
        )
