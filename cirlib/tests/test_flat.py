"""What restoring does to flat colours."""

import numpy as np

from cirlib.measure.flat import COLOURS, shifts


class Nothing:
    """Leaves damage as it is, and adds 3 levels of red to clean images."""

    def load(self, image: np.ndarray) -> None:
        self.image = image

    def effect(self, task) -> np.ndarray:
        return self.image

    def effects(self, tasks) -> list[np.ndarray]:
        return [np.clip(self.image.astype(int) + (3, 0, 0), 0, 255).astype(np.uint8)] * len(tasks)


def test_clipped_noise_moves_saturated_colours_and_hardly_others():
    found = shifts(Nothing(), side=32).set_index("colour")
    assert list(found.index) == list(COLOURS)
    # clipped at 0, noise of sigma raises the mean by sigma / sqrt(2 pi): by 0, 10, 20 in thirds
    assert 8 < found["own"]["black"] < 14 and found["own"]["grey"] < 3
    assert found["any"]["grey"] == 3 and found["any"]["white"] == 0
