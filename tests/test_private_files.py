"""Private files: only the owner reads them, and they are replaced whole or not at all."""

import os

import pytest
from rio_terrascope.private_file import replace_private_file


@pytest.fixture
def no_umask():
    before = os.umask(0)
    yield
    os.umask(before)


def test_it_is_private_whatever_the_umask_is(tmp_path, no_umask):
    file = tmp_path / "secret"
    replace_private_file(file, "first")
    replace_private_file(file, "second")
    assert file.read_text() == "second"
    assert file.stat().st_mode & 0o777 == 0o600
    assert not (tmp_path / "secret.next").exists()


def test_what_a_killed_process_left_is_not_in_the_way(tmp_path):
    file = tmp_path / "secret"
    (tmp_path / "secret.next").write_text("half a lo")
    replace_private_file(file, "whole")
    assert file.read_text() == "whole"


def test_a_failed_write_leaves_the_old_file(tmp_path):
    file = tmp_path / "secret"
    replace_private_file(file, "old")
    (tmp_path / "secret.next").mkdir()
    with pytest.raises(OSError, match=r"secret\.next"):
        replace_private_file(file, "new")
    assert file.read_text() == "old"
