"""Parameters of notebooks, and the kernel in which they run."""

from collections.abc import Iterable
from pathlib import Path

from cirlib.base.files import UserError

KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
CELL_TIMEOUT = 12 * 3600  # seconds; all of CBSD68 on a CPU is one cell


def parameters(notebook: Path | str) -> dict[str, dict]:
    """Name -> what papermill knows of a parameter: "inferred_type_name", "default", "help".

    Raises UserError when there is no such notebook.
    """
    from papermill import inspect_notebook  # here: it takes a second

    if not Path(notebook).is_file():
        raise UserError(f"there is no notebook {notebook}")
    return inspect_notebook(str(notebook))


def check(notebook: Path | str, names: Iterable[str]) -> None:
    """Raises UserError for a name that is no parameter: papermill would only warn, and run."""
    known = parameters(notebook)
    for name in names:
        if name not in known:
            raise UserError(
                f"{Path(notebook).name} has no parameter {name!r}: "
                f"choose from {', '.join(known) or 'none'}"
            )
