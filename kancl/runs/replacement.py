"""What takes the place of finished files: made beside them, then put there as a whole."""

import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from kancl.reading import MOST_JSON, read_bytes
from kancl.runs import names
from kancl.runs.files import (
    WriteError,
    check_place,
    delete,
    entries,
    own_folder,
    sync,
    write_whole,
    writing,
)
from kancl.runs.lock import RunLocked, run_lock


class Replacement:
    """New files for a folder, made in one inside it.

    The old ones stay until all new ones are on the disk; a list of these is written then,
    and from there on a kill leaves nothing to do but to move the rest.

    Args:
        patterns: of old files that go where there is no new one (see ``delete``).
    """

    def __init__(self, folder: Path, *patterns: str) -> None:
        self.folder, self._patterns = folder, patterns
        self.path = folder / names.REPLACEMENT  # where to make them
        self._list = self.path / names.WHOLE

    @property
    def is_whole(self) -> bool:
        """Whether a kill has left files to be moved."""
        return not self.path.is_symlink() and self._list.is_file()

    def start(self) -> None:
        """Clear what is there of an earlier one."""
        with writing(self.path):
            if self.path.exists():
                shutil.rmtree(self.path)
        own_folder(self.path)

    def commit(self) -> None:
        """Put the new files in the place of the old ones.

        Raises: WriteError.
        """
        files = entries(self.path)
        check_place(*(self.folder / name for name in files))
        self._make_folders(files)
        with writing(self.path):
            for path in (self.path / name for name in files):
                if not path.is_symlink():
                    sync(path)
        write_whole(self._list, json.dumps(files).encode())
        self.finish()

    def finish(self) -> bool:
        """End what a kill cut off; False if there is nothing to end.

        Raises: WriteError.
        """
        if not self.is_whole:
            return False
        new = [name for name in entries(self.path) if name != names.WHOLE]
        try:  # of a stranger's list, nothing is believed but what is to stay
            listed = list(map(str, json.loads(read_bytes(self._list, MOST_JSON))))
        except (OSError, ValueError, TypeError):
            listed = new
        staged = [f"{names.REPLACEMENT}/{name}" for name in new]
        delete(self.folder, *self._patterns, but=[*listed, *new, *staged])
        self._make_folders(new)
        for name in sorted(new, key=lambda name: name == names.SUMMARY):
            with writing(self.folder / name):
                os.replace(self.path / name, self.folder / name)
        with writing(self.folder):
            sync(self.folder)
            shutil.rmtree(self.path)
        return True

    def _make_folders(self, files: Iterable[str]) -> None:
        for inside in sorted({parent for f in files for parent in Path(f).parents}):
            if inside != Path():
                own_folder(self.folder / inside)


@contextmanager
def replacing(folder: Path, *patterns: str) -> Iterator[Path]:
    """Give a folder to make files in, which take the place of the old ones at the end.

    Args:
        folder: may be a link: it is its caller's to say whether links are followed.
        patterns: as for ``Replacement``.
    Raises: WriteError; the old files are there then.
    """
    new = Replacement(folder, *patterns)
    try:
        with run_lock(folder):
            new.finish()
            new.start()
            try:
                yield new.path
                new.commit()
            except BaseException:
                if not new.is_whole:
                    with suppress(OSError):
                        shutil.rmtree(new.path)
                raise
    except RunLocked as error:
        raise WriteError(f"{error}: wait for it") from error
