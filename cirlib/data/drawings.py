"""Drawn by code: text, panels, thin lines, gradients, stars. Clean, and no photographs at all."""

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

SIDE = 128  # pixels of a drawing for training: small, so that there are many colours
LETTERS = "etaoinshrdlu ETAOINSHRDLU 0123456789 .,:;-+()"


def drawing(side: int, generator: torch.Generator) -> np.ndarray:
    """A random one, uint8 side x side x 3: a ground, and most often something on it."""

    def number(high: int) -> int:
        return int(torch.randint(high, (), generator=generator))

    def colour() -> tuple[int, int, int]:
        extreme = number(3) == 0  # saturated, black or white
        return tuple(255 * number(2) if extreme else number(256) for _ in range(3))

    ends = np.array([colour(), colour(), colour()], np.float32)
    ends[1:] = ends[0] if number(3) else ends[1:]  # flat, else a gradient
    y, x = np.mgrid[:side, :side][..., None] / side
    ground = ends[0] + (ends[1] - ends[0]) * x / 2 + (ends[2] - ends[0]) * y / 2
    picture = Image.fromarray(ground.round().astype(np.uint8))
    draw = ImageDraw.Draw(picture)
    for _ in range(number(4)):  # panels
        left, top = number(side), number(side)
        draw.rectangle((left, top, left + number(side), top + number(side)), colour())
    ink, kind = colour(), number(5)
    if kind in (0, 1):
        size = 8 + number(20)
        font, step = ImageFont.load_default(size), int(size * 1.4)
        for top in range(number(step), side, step):
            text = "".join(LETTERS[number(len(LETTERS))] for _ in range(2 * side // size))
            draw.text((number(9) - 4, top), text, ink, font)
    elif kind == 2:
        for _ in range(1 + number(12)):
            box = sorted(number(2 * side) - side // 2 for _ in range(4))
            draw.ellipse(box, outline=colour(), width=1 + number(3))
            draw.line([number(side) for _ in range(4)], colour(), 1 + number(3))
    elif kind == 3:
        draw.point([number(side) for _ in range(2 * number(60))], ink)
    return np.array(picture)


def drawings(pixels: int, seed: int) -> list[np.ndarray]:
    """Drawings of ``pixels`` altogether, about; each uint8 SIDE x SIDE x 3."""
    generator = torch.Generator().manual_seed(seed)
    return [drawing(SIDE, generator) for _ in range(round(pixels / SIDE**2))]
