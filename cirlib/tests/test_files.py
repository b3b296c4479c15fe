"""A file is whole or as it was before, and what the user can mend is said in one line."""

import errno
import os

import pytest

from cirlib.base.files import (
    UserError,
    atomic,
    atomic_set,
    check_writable,
    remove_leftovers,
)


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_file_appears_when_the_block_succeeds(tmp_path):
    path = tmp_path / "new" / "folder" / "table.csv"
    with atomic(str(path)) as temporary:
        temporary.write_text("whole")
        assert not path.exists()
        assert temporary.parent == path.parent  # else it could not be renamed atomically
        assert temporary.suffix == ".csv" and temporary.name.startswith(".")
    assert path.read_text() == "whole"
    assert names(path.parent) == ["table.csv"]


@pytest.mark.parametrize("mistake", [ValueError, KeyboardInterrupt, SystemExit])
def test_failure_leaves_the_previous_file_and_nothing_else(mistake, tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("before")
    with pytest.raises(mistake), atomic(path) as temporary:
        temporary.write_text("hal")
        assert path.read_text() == "before"
        raise mistake
    assert path.read_text() == "before"
    assert names(tmp_path) == ["table.csv"]


def test_files_that_belong_together_are_whole_before_the_first_takes_its_place(
    tmp_path, monkeypatch
):
    places = [tmp_path / "card.json", tmp_path / "weights.bin"]
    for place in places:
        place.write_text("before")

    fsync, room = os.fsync, [False, True]

    def full(descriptor):
        if not room.pop():  # some disks tell only now
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(UserError, match="no space left"), atomic_set(*places) as temporaries:
            for temporary in temporaries:
                temporary.write_text("after")
    assert [place.read_text() for place in places] == ["before"] * 2
    with atomic_set(*places) as temporaries:
        for number, temporary in enumerate(temporaries):
            temporary.write_text(str(number))
    assert [place.read_text() for place in places] == ["0", "1"]
    assert names(tmp_path) == ["card.json", "weights.bin"]


def test_two_writers_do_not_meet(tmp_path):
    path = tmp_path / "table.csv"
    with atomic(path) as one, atomic(path) as other:
        assert one != other
        one.write_text("one")
        other.write_text("other")
    assert path.read_text() == "one"  # the last to finish
    assert names(tmp_path) == ["table.csv"]


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_permissions_are_those_of_any_new_file_and_other_threads_keep_the_umask(
    tmp_path, monkeypatch
):
    umask = os.umask(0o027)
    try:
        monkeypatch.setattr(os, "umask", lambda _: pytest.fail("the process's, not ours"))
        with atomic(tmp_path / "table.csv") as temporary:
            temporary.write_text("whole")
    finally:
        monkeypatch.undo()
        os.umask(umask)
    assert (tmp_path / "table.csv").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_full_disk_or_quota_is_the_users_to_mend(number, tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("before")
    with pytest.raises(UserError, match="no space left on disk for .*table.csv: free some"):
        with atomic(path):
            raise OSError(number, os.strerror(number))
    assert path.read_text() == "before"
    assert names(tmp_path) == ["table.csv"]


LONG = "\N{CJK UNIFIED IDEOGRAPH-5199}" * 82  # 246 bytes


@pytest.mark.parametrize(
    "place", ["file/below/table.csv", f"{LONG}{LONG}.png", f"{LONG}/{'a' * 256}/b.png"]
)
def test_place_that_cannot_be_written_is_the_users_to_mend(place, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    for write in (lambda path: atomic(path).__enter__(), check_writable):
        with pytest.raises(UserError, match="cannot write .*; choose another place"):
            write(tmp_path / place)


def test_a_file_in_the_way_is_told(tmp_path):
    (tmp_path / "photo.png").write_text("no folder")
    with pytest.raises(UserError, match="a file is where its folder must be"):
        check_writable(tmp_path / "photo.png" / "sharp.png")


def test_folder_in_the_way_is_the_users_to_mend(tmp_path):
    (tmp_path / "table.csv").mkdir()
    with pytest.raises(UserError, match="cannot write .*table.csv: .*; choose another place"):
        with atomic(tmp_path / "table.csv") as temporary:
            temporary.write_text("whole")
    assert names(tmp_path) == ["table.csv"]


@pytest.mark.parametrize("name", [f"{LONG}.png", f"a.{LONG}", "a" * 255])
def test_name_may_be_as_long_as_the_file_system_allows(name, tmp_path):
    with atomic(tmp_path / name) as temporary:
        temporary.write_text("whole")
        assert temporary.suffix in (".png", "")
    assert names(tmp_path) == [name]


@pytest.mark.parametrize("place", ["not there", ".", "a" * 300])
def test_what_goes_wrong_with_a_source_is_not_said_of_the_target(place, tmp_path):
    with pytest.raises(OSError), atomic(tmp_path / "table.csv"):
        (tmp_path / place).read_text()
    assert names(tmp_path) == []


def test_leftovers_of_killed_runs_are_removed_and_those_of_others_stay(tmp_path):
    writers = [atomic(tmp_path / name) for name in ("tsnet.csv", "tsnet-m.csv", "tsnet.json")]
    for writer in writers:
        writer.__enter__()
    assert len(names(tmp_path)) == 3
    remove_leftovers(tmp_path / "tsnet.csv")
    assert len(names(tmp_path)) == 2
    remove_leftovers(tmp_path / "tsnet-m.csv")
    remove_leftovers(tmp_path / "tsnet.json")
    assert names(tmp_path) == []


def test_previous_file_is_there_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "table.csv"
    with pytest.raises(ValueError), atomic(path):
        raise ValueError
    assert names(tmp_path) == []
    path.write_text("before")
    with atomic(path) as temporary:
        temporary.write_text("after")
        assert path.read_text() == "before"
    assert path.read_text() == "after"
