"""Read a submission's folder without following anything it may point to."""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass, field

MAX_FILE = 20 << 20
MAX_TOTAL = 48 << 20
MAX_FILES = 1000
MAX_DEPTH = 8
IGNORED = frozenset({".ipynb_checkpoints", "__pycache__", ".git", "__MACOSX", ".DS_Store"})


@dataclass
class Submission:
    """What was read of a submission's folder.

    Attributes
    ----------
    files : dict of str to bytes
        Contents by relative path, with ``/`` between folders.
    skipped : list of str
        What was left out, and why.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)

    def digest(self) -> str:
        """Return a fingerprint of names and contents."""
        total = hashlib.sha256()
        for name in sorted(self.files):
            total.update(f"{name}\0{len(self.files[name])}\0".encode())
            total.update(self.files[name])
        return total.hexdigest()


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
    for name in sorted(os.listdir(folder)):
        if name in IGNORED:
            continue
        relative = prefix + name
        shown = relative.encode("utf-8", "replace").decode()
        if shown != relative or any(ord(character) < 32 for character in name):
            submission.skipped.append(f"{shown}: the name is not valid text")
            continue
        if len(submission.files) >= MAX_FILES:
            submission.skipped.append(f"{shown}: more than {MAX_FILES} files")
            return
        try:
            _read_entry(folder, name, relative, depth, submission)
        except OSError as error:
            submission.skipped.append(f"{shown}: {error.strerror or error}")


def _read_entry(folder: int, name: str, relative: str, depth: int, submission: Submission) -> None:
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    mode = os.lstat(name, dir_fd=folder).st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        kind = "a link" if stat.S_ISLNK(mode) else "not a regular file"
        submission.skipped.append(f"{relative}: {kind}")
        return
    descriptor = os.open(name, flags, dir_fd=folder)
    try:
        facts = os.fstat(descriptor)
        if stat.S_ISDIR(facts.st_mode):
            if depth >= MAX_DEPTH:
                submission.skipped.append(f"{relative}: folders nested too deeply")
            else:
                _read(descriptor, relative + "/", depth + 1, submission)
            return
        if not stat.S_ISREG(facts.st_mode):
            submission.skipped.append(f"{relative}: not a regular file")
            return
        if facts.st_nlink > 1:
            submission.skipped.append(f"{relative}: a hard link")
            return
        used = sum(map(len, submission.files.values()))
        if facts.st_size > MAX_FILE or used + facts.st_size > MAX_TOTAL:
            submission.skipped.append(f"{relative}: too large ({facts.st_size >> 20} MB)")
            return
        with os.fdopen(os.dup(descriptor), "rb") as file:
            submission.files[relative] = file.read(MAX_FILE)
    finally:
        os.close(descriptor)
