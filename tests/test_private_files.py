"""Private files: only the owner reads them, and they are replaced whole, or swept after a kill."""

import os
import subprocess
import sys
import threading

import pytest

from rio_terrascope import SettingsError, private_files
from rio_terrascope.private_files import PrivateFolder, replace_private_file


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


class TestPrivateFolder:
    """The folder is private, and swept after its process was killed."""

    def test_written_and_closed(self, clean_surroundings, no_umask):
        folder = PrivateFolder()
        folder.write("header", "one")
        file = folder.write("header", "two")
        assert file.read_text() == "two"
        assert [path.name for path in folder.path.iterdir()] == ["header"]
        assert folder.path.parent == clean_surroundings
        assert folder.path.stat().st_mode & 0o777 == 0o700
        assert file.stat().st_mode & 0o777 == 0o600
        folder.close()
        folder.close()
        assert list(clean_surroundings.iterdir()) == []

    def test_readers_meet_the_old_text_or_the_new_one(self):
        folder = PrivateFolder()
        file = folder.write("header", "a" * 4000)
        done = threading.Event()
        wrong = []

        def read():
            while not done.is_set():
                text = file.read_text()
                if len(text) != 4000:
                    wrong.append(text)

        readers = [threading.Thread(target=read) for _ in range(2)]
        for reader in readers:
            reader.start()
        for number in range(300):
            folder.write("header", str(number % 10) * 4000)
        done.set()
        for reader in readers:
            reader.join()
        assert wrong == []
        folder.close()

    def test_a_folder_collected_as_garbage_is_removed(self, clean_surroundings):
        folder = PrivateFolder()
        folder.write("header", "text")
        del folder
        assert list(clean_surroundings.iterdir()) == []

    def test_sweeping_leaves_everything_else_alone(self, clean_surroundings, tmp_path):
        mine = PrivateFolder()
        strangers = left_behind(clean_surroundings, "strangers")
        (strangers / "thesis.txt").write_text("five years of work")
        link = clean_surroundings / f"{private_files._PREFIX}link"
        link.symlink_to(tmp_path)
        abandoned = left_behind(clean_surroundings)
        private_files.sweep()
        assert mine.path.exists()
        assert (strangers / "thesis.txt").exists()
        assert link.is_symlink()
        assert not abandoned.exists()
        mine.close()

    def test_without_a_runtime_folder_it_is_the_temporary_one(self, monkeypatch, tmp_path):
        monkeypatch.delenv("XDG_RUNTIME_DIR")
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
        folder = PrivateFolder()
        assert folder.path.parent == tmp_path
        folder.close()

    def test_no_folder_that_can_be_written_to(self, monkeypatch, tmp_path):
        file = tmp_path / "file"
        file.touch()
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(file))
        monkeypatch.setattr("tempfile.tempdir", str(file))
        with pytest.raises(SettingsError, match="make TMPDIR name a folder"):
            PrivateFolder()


def left_behind(parent, name="killed"):
    """Make a folder as version 0.1.0 left it when its process was killed."""
    folder = parent / f"{private_files._PREFIX}{name}"
    folder.mkdir(mode=0o700)
    (folder / "header").write_text("Authorization: Bearer old\n")
    return folder


def test_what_0_1_0_left_behind_is_swept_at_the_first_login(sandbox, clean_surroundings):
    script = (
        "import os, sys, rio_terrascope as t, tempfile\n"
        "def folders(): return len(os.listdir(os.environ['XDG_RUNTIME_DIR']))\n"
        "before = folders()\n"
        "with t.terrascope_env(): print(before, folders())\n"
        "os.mkdir(os.path.join(os.environ['XDG_RUNTIME_DIR'], '.rio-terrascope-header-x'))\n"
        "with t.terrascope_env(): print(folders())\n"
    )
    left_behind(clean_surroundings)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert (done.stdout.split(), done.stderr) == (["1", "0", "1"], "")
