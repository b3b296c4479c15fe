"""A file is whole or as it was before, and what the user can mend is said in one line."""

import errno
import os

import pytest

from cirlib.base.files import UserError, atomic, atomic_set


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_file_appears_when_the_block_succeeds(tmp_path):
    path = tmp_path / "new" / "folder" / "table.csv"
    with atomic(path) as temporary:
        temporary.write_text("whole")
        assert not path.exists()
        assert temporary.parent == path.parent  # else it could not be renamed atomically
        assert temporary.suffix == ".csv" and temporary.name.startswith(".")
    assert path.read_text() == "whole"
    assert names(path.parent) == ["table.csv"]


def test_path_may_be_a_string(tmp_path):
    with atomic(f"{tmp_path}/a.txt") as temporary:
        temporary.write_text("a")
    assert names(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("mistake", [ValueError, KeyboardInterrupt, SystemExit])
def test_failure_leaves_the_previous_file_and_nothing_else(mistake, tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("before")
    with pytest.raises(mistake), atomic(path) as temporary:
        temporary.write_text("hal")
        raise mistake
    assert path.read_text() == "before"
    assert names(tmp_path) == ["table.csv"]


def test_failure_leaves_no_file_where_there_was_none(tmp_path):
    with pytest.raises(ValueError), atomic(tmp_path / "table.csv"):
        raise ValueError
    assert names(tmp_path) == []


def test_previous_file_is_there_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("before")
    with atomic(path) as temporary:
        temporary.write_text("after")
        assert path.read_text() == "before"
    assert path.read_text() == "after"


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
def test_permissions_are_those_of_any_new_file(tmp_path):
    umask = os.umask(0o027)
    try:
        with atomic(tmp_path / "table.csv") as temporary:
            temporary.write_text("whole")
    finally:
        assert os.umask(umask) == 0o027  # and the umask is as it was
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


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EROFS])
def test_folder_that_cannot_be_written_is_the_users_to_mend(number, tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("tempfile.mkstemp", refuse)
    with pytest.raises(UserError, match="cannot write .*table.csv: .*; choose another place"):
        with atomic(tmp_path / "table.csv"):
            pytest.fail("nothing to write into")


def test_folder_below_a_file_is_the_users_to_mend(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(UserError, match="cannot write"):
        with atomic(tmp_path / "file" / "below" / "table.csv"):
            pytest.fail("nothing to write into")


def test_name_that_is_too_long_is_the_users_to_mend(tmp_path):
    with pytest.raises(UserError, match="cannot write .*: File name too long; choose another"):
        with atomic(tmp_path / f"{'a' * 250}.png"):
            pytest.fail("nothing to write into")


def test_other_errors_of_the_system_pass(tmp_path):
    with pytest.raises(FileNotFoundError), atomic(tmp_path / "table.csv"):
        (tmp_path / "not there").read_text()
