"""Read a submission's folder without following anything it may point to."""

from __future__ import annotations

import hashlib
import itertools
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath

MAX_FILE = 20 << 20
MAX_TOTAL = 48 << 20
MAX_FILES = 1000
MAX_DEPTH = 8
MAX_ENTRIES = 5000
MAX_REMARKS = 20
IGNORED = frozenset({".ipynb_checkpoints", "__pycache__", ".git", "__MACOSX", ".DS_Store"})
# Controls of a terminal, and marks that reverse the direction of what follows or are not seen.
_UNPRINTABLE = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u00ad\u061c\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]"
)


def printable(name: str, limit: int = 200) -> str:
    """Return a file's name for a person to read: on one line, without control characters.

    Examples
    --------
    >>> printable("a\\x1b[2J\\nb")
    'a?[2J?b'
    """
    return _UNPRINTABLE.sub("?", name[:limit])


@dataclass
class Submission:
    """What was read of a submission's folder.

    Attributes
    ----------
    files : dict of str to bytes
        Contents by relative path, with ``/`` between folders.
    skipped : list of str
        What was left out, and why.
    entries, unpacked : int
        What was looked at so far, and how many bytes came out of archives.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)
    entries: int = 0
    unpacked: int = 0

    def skip(self, name: str, reason: str) -> None:
        """Note that a file was left out; after some, only that there are more."""
        if len(self.skipped) < MAX_REMARKS:
            self.skipped.append(f"{printable(name)}: {reason}")
        elif len(self.skipped) == MAX_REMARKS:
            self.skipped.append("and more")

    def digest(self) -> str:
        """Return a fingerprint of names and contents."""
        total = hashlib.sha256()
        for name in sorted(self.files):
            total.update(f"{name}\0{len(self.files[name])}\0".encode())
            total.update(self.files[name])
        return total.hexdigest()


def without_conflicts(files: Mapping[str, bytes], ours: Mapping[str, bytes]) -> dict[str, bytes]:
    """Merge two sets of files, of which the second wins, into one that a folder can hold.

    Parameters
    ----------
    files, ours : mapping of str to bytes
        Contents by relative path.

    Returns
    -------
    dict of str to bytes
        No path in it is at the same time a file and the folder of another.

    Examples
    --------
    >>> sorted(without_conflicts({"a": b"", "b/c": b""}, {"a/x": b"", "b": b""}))
    ['a/x', 'b']
    """
    merged: dict[str, bytes] = {}
    folders: set[str] = set()
    for name, data in [*sorted(ours.items()), *sorted(files.items())]:
        above = {str(folder) for folder in PurePosixPath(name).parents} - {"."}
        if name in merged or name in folders or above & merged.keys():
            continue
        merged[name] = data
        folders |= above
    return merged


def read_folder(path: str | os.PathLike[str]) -> Submission:
    """Read the regular files of a folder and nothing else.

    Symbolic links, hard links, pipes, sockets and devices are left out and reported, and so are
    files that are too large or too many. The folder itself is never changed.

    Parameters
    ----------
    path : path
        The folder.

    Returns
    -------
    Submission

    Raises
    ------
    OSError
        If the folder cannot be read at all.
    """
    submission = Submission()
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        _read(descriptor, "", 0, submission)
    finally:
        os.close(descriptor)
    return submission


def _read(folder: int, prefix: str, depth: int, submission: Submission) -> None:
    with os.scandir(folder) as entries:
        names = [entry.name for entry in itertools.islice(entries, MAX_ENTRIES + 1)]
    # Notebooks first: they count even where there is too much else.
    for name in sorted(names, key=lambda name: (not name.endswith(".ipynb"), name)):
        if name in IGNORED:
            continue
        relative = prefix + name
        submission.entries += 1
        if submission.entries > MAX_ENTRIES or len(submission.files) >= MAX_FILES:
            submission.skip(relative, f"more than {MAX_FILES} files")
            return
        if printable(name, len(name)) != name:
            submission.skip(relative, "the name is not valid text")
            continue
        try:
            _read_entry(folder, name, relative, depth, submission)
        except OSError as error:
            submission.skip(relative, error.strerror or str(error))


def _read_entry(folder: int, name: str, relative: str, depth: int, submission: Submission) -> None:
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    mode = os.lstat(name, dir_fd=folder).st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        submission.skip(relative, "a link" if stat.S_ISLNK(mode) else "not a regular file")
        return
    descriptor = os.open(name, flags, dir_fd=folder)
    try:
        facts = os.fstat(descriptor)
        if stat.S_ISDIR(facts.st_mode):
            if depth >= MAX_DEPTH:
                submission.skip(relative, "folders nested too deeply")
            else:
                _read(descriptor, relative + "/", depth + 1, submission)
            return
        if not stat.S_ISREG(facts.st_mode):
            submission.skip(relative, "not a regular file")
            return
        if facts.st_nlink > 1:
            submission.skip(relative, "a hard link")
            return
        used = sum(map(len, submission.files.values()))
        if facts.st_size > MAX_FILE or used + facts.st_size > MAX_TOTAL:
            submission.skip(relative, f"too large ({facts.st_size >> 20} MB)")
            return
        with os.fdopen(os.dup(descriptor), "rb") as file:
            submission.files[relative] = file.read(MAX_FILE)
    finally:
        os.close(descriptor)
