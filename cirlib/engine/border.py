"""What lies beyond the border of an image: nothing, or more of the same where a side is flat.

The networks are trained with zeros around every patch and have learnt from photographs what those
mean. So photographs keep them: continued by their edge pixels, noisy ones lose 1 dB within 8 pixels
of the border, and mirrored, blurred ones up to 6. But in a flat colour, most of all a saturated
one, the zeros leave up to 56 grey levels. There, to continue the image is no guess.
"""

import numpy as np

MARGIN = 16  # pixels; of the spill less than a grey level is left
FLAT, SHARE = 2, 0.75  # grey levels by which a flat side may vary inwards, and on how much of it


def margins(image: np.ndarray) -> tuple[tuple[int, int], tuple[int, int]]:
    """Pixels to continue an image by, uint8 H x W x 3: (top, bottom), (left, right)."""

    def margin(strip: np.ndarray) -> int:  # depth x length x 3, from the border inwards
        if len(strip) < MARGIN:  # too little is known
            return 0
        flat = (np.abs(np.subtract(strip, strip[0], dtype=np.int16)) <= FLAT).all((0, 2))
        return MARGIN if flat.mean() >= SHARE else 0

    sides = (image, image[::-1], image.transpose(1, 0, 2), image[:, ::-1].transpose(1, 0, 2))
    top, bottom, left, right = (margin(side[:MARGIN]) for side in sides)
    return (top, bottom), (left, right)
