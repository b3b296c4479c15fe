"""Photos in, effects out: one task, or the 27 of the paper with a contact sheet, for any number."""

import os
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from cirlib.base.files import Tell, UserError, check_free, check_writable, say
from cirlib.cli.crew import each_photo, shown
from cirlib.data.images import (
    FORMATS,
    check_room,
    check_target,
    list_images,
    list_others,
    read_image,
    read_kept,
    read_metadata,
    write_image,
)
from cirlib.degradation import TASKS
from cirlib.engine.modulator import (
    Modulator,
    Progress,
    between,
    photo_effect,
    task_metadata,
    task_text,
)

THUMBNAIL = 240  # pixels of the longest side, on a contact sheet
MARGIN, CAPTION = 8, 16  # pixels between thumbnails, and below one


def task_name(task) -> str:
    """(0.5, 0.46, 0) -> '0.50_0.46_0.00', for file names."""
    return "_".join(f"{t:.2f}" for t in task)


def contact_sheet(effects: Sequence[np.ndarray], tasks) -> np.ndarray:
    """Small versions of effects with their tasks below, nine in a row: uint8, H x W x 3."""
    height, width, _ = effects[0].shape
    scale = THUMBNAIL / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    cell = max(size[0], 100) + MARGIN, size[1] + CAPTION + MARGIN
    rows = -(-len(effects) // 9)
    sheet = Image.new("RGB", (9 * cell[0] + MARGIN, rows * cell[1] + MARGIN), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(11)
    for k, (each, task) in enumerate(zip(effects, tasks, strict=True)):
        left, top = MARGIN + k % 9 * cell[0], MARGIN + k // 9 * cell[1]
        sheet.paste(Image.fromarray(each).resize(size, Image.Resampling.LANCZOS), (left, top))
        text = ", ".join(f"{t:.2g}" for t in task)
        draw.text((left, top + size[1] + 2), text, fill="black", font=font)
    return np.asarray(sheet)


def grid_files(stem: Path) -> list[Path]:
    """Those of the 27 effects, in the order of TASKS, and of the contact sheet."""
    return [Path(f"{stem}_{end}.png") for end in (*map(task_name, TASKS), "contact_sheet")]


def result_names(photos: Sequence[Path]) -> list[str]:
    """A name without suffix for the results of each photo: its own where no other has it.

    a.jpg and a.png must not write over each other, nor A.jpg where case does not count: they become
    a_jpg and a_png, with a number where that is another photo's.
    """

    def key(name: str) -> str:  # accents, too, may be one letter or two
        return unicodedata.normalize("NFC", name.casefold())

    stems = [key(photo.stem) for photo in photos]
    taken, names = {stem for stem in stems if stems.count(stem) == 1}, []
    for photo, stem in zip(photos, stems, strict=True):
        name = photo.stem
        if stems.count(stem) > 1:
            plain, number = photo.name.replace(".", "_"), 1
            name = plain
            while key(name) in taken:
                number += 1
                name = f"{plain}_{number}"
            taken.add(key(name))
        names.append(name)
    return names


def left_out(source: Path, output: Path) -> str:
    """A line on what of a folder is not restored: other files, and sub-folders but the output.

    Empty where there is nothing.
    """
    others = list_others(source)
    files = [path for path in others if not path.is_dir()]
    folders = [path for path in others if path.is_dir() and not path.samefile(output)]
    kinds = sorted({file.suffix.lower() or "no suffix" for file in files})
    parts = []
    if files:
        what = "file that is no photo" if len(files) == 1 else "files that are no photos"
        parts.append(f"{len(files)} {what} we read ({', '.join(kinds)})")
    if folders:
        parts.append(f"{len(folders)} folder{'s' * (len(folders) > 1)}")
    return f"left out: {', '.join(parts)}" if parts else ""


def restore_one(
    modulator: Modulator, photo: Path, task, output: Path, about: dict, page, tell: Tell,
    progress: Progress,
) -> None:  # fmt: skip
    """Write one effect of a photo; its metadata are the camera's, and the task.

    task: None takes modulator.suggest(), and tells which that is.
    """
    image, kept = read_image(photo, page, tell), read_kept(photo, page)
    check_room(output, image, kept.exif)  # before the work
    modulator.load(image, between(progress, 0, 1 / 2))
    del image  # the modulator has its own: of 100 megapixels that is 300 MB
    if task is None:
        task = modulator.suggest()
        tell(f"{photo}: task {task_text(task)}")
    restored = photo_effect(modulator, task, between(progress, 1 / 2, 1))
    write_image(output, restored, metadata=task_metadata(about, task), kept=kept, tell=tell)


def restore_grid(
    modulator: Modulator, photo: Path, stem: Path, about: dict, page, tell: Tell,
    progress: Progress,
) -> None:  # fmt: skip
    """Write 27 effects of a photo and a contact sheet, PNG files that begin with stem."""
    *files, sheet = grid_files(stem)
    small, kept, parts = [], read_kept(photo, page), len(TASKS) + 1
    modulator.load(read_image(photo, page, tell), between(progress, 0, 1 / parts))
    for k, (task, file) in enumerate(zip(TASKS, files, strict=True), 1):
        restored = photo_effect(modulator, task, between(progress, k / parts, (k + 1) / parts))
        write_image(file, restored, metadata=task_metadata(about, task), kept=kept, tell=tell)
        thumbnail = Image.fromarray(restored)
        thumbnail.thumbnail((2 * THUMBNAIL, 2 * THUMBNAIL))
        small.append(np.asarray(thumbnail))
    write_image(sheet, contact_sheet(small, TASKS), metadata=about)


def restore(
    modulator: Modulator,
    sources: Path | Sequence[Path],
    task,
    output: Path | None,
    grid: bool,
    about: dict,
    page: int | None = None,
) -> list[str]:
    """Restore photos, and every photo of folders; returns what went wrong, a line a photo.

    task: of the effect; None: the one that seems to fit each photo. Not used with grid.
    output: a file for one effect of one photo, else a folder, made if it is not there; default
    "restored.png" or "restored". Of several photos one that cannot be read, or its result not
    be written, is left out; of a folder also other files and sub-folders, which stderr tells. What
    is there is never written over, unless it is a result of before.

    page: as for read_image; what is written into a folder has it in its name. torch's number of
    threads share several photos (see crew.py).

    about: what the metadata of a result shall tell: "model" and "profile", by which it is later
    known as ours, and whatever else.

    Raises UserError when the only photo, or none of several, can be restored, or the disk is full.
    """
    sources = [sources] if isinstance(sources, Path) else sources
    source, single = sources[0], len(sources) == 1 and not sources[0].is_dir()
    if single and not grid:
        target = output or Path("restored.png")
        check_target(target)
        _keep_original(source, target)
        check_free(target, read_metadata)
        check_writable(target)
        with shown(source.name) as progress:
            restore_one(modulator, source, task, target, about, page, say, progress())
        return []
    folder = output or Path("restored")
    if folder.is_file() or folder.suffix.lower() in FORMATS:
        raise UserError(f"{folder} must be a folder, since several images are written")
    for source in sources:
        _keep_original(source, folder)
    within = [list_images(source) if source.is_dir() else [source] for source in sources]
    photos = list(dict.fromkeys(photo for some in within for photo in some))
    end = f"_page_{page}" if page else ""  # each page of a folder's scans has its results
    names = [folder / f"{name}{end}" for name in result_names(photos)]
    stems = dict(zip(photos, names, strict=True))
    for photo, stem in stems.items():
        for file in grid_files(stem) if grid else [Path(f"{stem}.png")]:
            _keep_original(photo, file)
            check_free(file, read_metadata)
    check_writable(folder / "result.png")
    if single:
        with shown(source.name) as progress:
            restore_grid(modulator, source, stems[source], about, page, say, progress())
        return []
    for source in sources:
        if source.is_dir() and (others := left_out(source, folder)):
            say(others)

    def work(mine: Modulator, photo: Path, *how) -> None:
        if grid:
            restore_grid(mine, photo, stems[photo], about, page, *how)
        else:
            restore_one(mine, photo, task, Path(f"{stems[photo]}.png"), about, page, *how)

    title = source.name if len(sources) == 1 else f"{len(photos)} photos"
    problems = each_photo(modulator, photos, work, title, torch.get_num_threads())
    if len(problems) == len(photos):
        raise UserError(f"none of {len(photos)} photos could be restored:", *problems)
    return problems


def _keep_original(source: Path, target: Path) -> None:
    """Raises UserError when the target is the photo, or the folder of photos, itself."""
    if os.path.exists(source) and os.path.exists(target) and os.path.samefile(source, target):
        raise UserError(f"{target} would be written over: name another place with -o")
