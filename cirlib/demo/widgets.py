"""What the slider demo's page is made of: four widgets with a JavaScript side each (anywidget).

Each trait is set by the page or by Python; what both may set is said. All scripts and styles lie
in ``web/`` and are sent by the kernel: nothing is loaded from elsewhere.
"""

from collections.abc import Callable
from pathlib import Path

import anywidget
import traitlets

_WEB = Path(__file__).with_name("web")
_STYLE = _WEB / "style.css"

MAX_UPLOAD = 40_000_000  # bytes of a file


class Viewer(anywidget.AnyWidget):
    """Before and after of one photo, with a movable split, zoom and pan.

    before, after: PNG files, shown as width x height pixels of the photo, whatever their own size.
    texts: what the two show, in words, for those who cannot see them; set with each picture.
    stale: after is of another before, and is taken off if that lasts.
    split: where the line stands, 0 (left) to 1; set by both sides. progress: 0 to 1; 1 hides it.
    """

    _esm, _css = _WEB / "viewer.js", _STYLE
    before = traitlets.Bytes(b"").tag(sync=True)
    after = traitlets.Bytes(b"").tag(sync=True)
    texts = traitlets.List(traitlets.Unicode(), ["", ""]).tag(sync=True)
    stale = traitlets.Bool(False).tag(sync=True)
    width = traitlets.Int(0).tag(sync=True)
    height = traitlets.Int(0).tag(sync=True)
    split = traitlets.Float(0.5).tag(sync=True)
    progress = traitlets.Float(1.0).tag(sync=True)

    def download(self, name: str, data: bytes) -> None:
        """Hand the reader a file; the browser asks where to put it, or puts it where it does."""
        self.send({"download": name}, buffers=[data])


class Sliders(anywidget.AnyWidget):
    """Labelled sliders. ``values`` is set by both sides; ``held`` while one is being dragged.

    labels: one each. low, high, step: of each. texts: what to call each stop, from low to high
    (an empty list: the number).
    """

    _esm, _css = _WEB / "sliders.js", _STYLE
    labels = traitlets.List(traitlets.Unicode()).tag(sync=True)
    low = traitlets.List(traitlets.Float()).tag(sync=True)
    high = traitlets.List(traitlets.Float()).tag(sync=True)
    step = traitlets.List(traitlets.Float()).tag(sync=True)
    texts = traitlets.List(traitlets.List(traitlets.Unicode())).tag(sync=True)
    values = traitlets.List(traitlets.Float()).tag(sync=True)
    held = traitlets.Bool(False).tag(sync=True)


class Strip(anywidget.AnyWidget):
    """Thumbnails to choose from, cut from one PNG ``sheet`` of cells, row by row.

    captions: one a thumbnail. groups: names of the sheet's rows, each of which is shown as a square
    block. hint: what is said while no thumbnail is pointed at. current: the marked one, -1 for
    none.
    """

    _esm, _css = _WEB / "strip.js", _STYLE
    sheet = traitlets.Bytes(b"").tag(sync=True)
    captions = traitlets.List(traitlets.Unicode()).tag(sync=True)
    groups = traitlets.List(traitlets.Unicode()).tag(sync=True)
    hint = traitlets.Unicode().tag(sync=True)
    columns = traitlets.Int(9).tag(sync=True)
    ratio = traitlets.Float(1.5).tag(sync=True)  # width / height of a cell
    current = traitlets.Int(-1).tag(sync=True)

    def on_click(self, callback: Callable[[int], None]) -> None:
        """Call back with the number of a thumbnail that is clicked."""
        self.on_msg(lambda _widget, content, _buffers: callback(content["clicked"]))


class Upload(anywidget.AnyWidget):
    """A button to open any file of at most ``limit`` bytes, which comes in pieces.

    Servers close a connection on messages of more than 10 MB. Only one file is in memory, and only
    until it is handed over.
    """

    _esm, _css = _WEB / "upload.js", _STYLE
    limit = traitlets.Int(MAX_UPLOAD).tag(sync=True)

    def __init__(
        self,
        received: Callable[[str, bytes], None],
        failed: Callable[[str], None],
    ):
        super().__init__()
        self._received, self._failed = received, failed
        self._name, self._pieces = "", []  # of the file that is on its way
        self.on_msg(self._piece)

    def _piece(self, _widget, content: dict, buffers: list) -> None:
        name, size = str(content["name"]), int(content["size"])
        if content["start"] == 0:
            self._name, self._pieces = name, []
        elif name != self._name or content["start"] != sum(map(len, self._pieces)):
            return  # of a file that gave way to another
        self._pieces += [bytes(buffer) for buffer in buffers]
        have = sum(map(len, self._pieces))
        if max(size, have) > self.limit:  # of such a file the page sends no more than the size
            self._pieces = []
            megabytes = f"{size / 1e6:.1f} MB, of {self.limit / 1e6:.0f} allowed"
            self._failed(f"{name} has {megabytes}: save it smaller, or cut a part out")
            return
        if have >= size:
            data, self._pieces = b"".join(self._pieces), []
            self._received(name, data)
