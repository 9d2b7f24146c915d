"""Sort what an LMS exports into the folders that nbgrader reads.

An export is a folder with one archive, folder or notebook per student, under names that hold the
student's somewhere, with whatever students put into it. Archives are read without being trusted:
nothing is written outside the student's folder, links are left out and sizes are capped.
"""

from __future__ import annotations

import csv
import datetime
import io
import json
import os
import re
import shutil
import stat
import unicodedata
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from .notebooks import MAX_PARTS
from .staging import (
    IGNORED,
    MAX_DEPTH,
    MAX_ENTRIES,
    MAX_FILE,
    MAX_FILES,
    MAX_TOTAL,
    Submission,
    printable,
    read_folder,
    without_conflicts,
)

# "doejane_LATE_1234_5678_ps1.zip" is Canvas's, "Jane Doe_1234_assignsubmission_file_" Moodle's.
_CANVAS = re.compile(r"^(?P<student>[^_]+)(?P<late>_LATE)?_(?P<lms>\d+)_\d+_", re.IGNORECASE)
_MOODLE = re.compile(r"^(?P<student>.+?)_(?P<lms>\d+)_assignsubmission_", re.IGNORECASE)
_COPY = re.compile(r"(?:\s*\(\d+\)|[-_ ]?copy\d*|[-_ ]\d+)+$", re.IGNORECASE)


@dataclass
class Received:
    """One student's files.

    Attributes
    ----------
    student : str
    origin : str
        Name of the archive or folder.
    stamp : datetime.datetime
        When it was handed in, in UTC.
    late : bool
        Whether the LMS marked it as late.
    files : dict of str to bytes
    notes : list of str
        What was odd about it.
    """

    student: str
    origin: str
    stamp: datetime.datetime
    late: bool = False
    files: dict[str, bytes] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def plain_name(text: str) -> str:
    """Reduce a name to letters, digits and ``._@-``, so that it can name a folder.

    Examples
    --------
    >>> plain_name("Zoë  O'Neil (2)")
    'zoe-oneil-2'
    """
    ascii_text = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    kept = re.sub(r"[^\w.@ -]", "", ascii_text.lower())
    return re.sub(r"[\s-]+", "-", kept)[:100].strip("-. ") or "unknown"


def who(
    name: str, roster: Mapping[str, str], pattern: re.Pattern[str] | None
) -> tuple[str, bool, bool]:
    """Find the student in the name of an archive.

    Parameters
    ----------
    name : str
        File name without its ending.
    roster : mapping of str to str
        Student ids by name, e-mail address or number, all in plain letters.
    pattern : re.Pattern or None
        The course's own pattern, with a group ``student``.

    Returns
    -------
    tuple
        The id, whether the LMS says late, and whether the id is certain.
    """
    match = pattern.search(name) if pattern is not None else None
    match = match or _MOODLE.match(name) or _CANVAS.match(name)
    groups = match.groupdict() if match is not None else {}
    late = bool(groups.get("late"))
    guess = groups.get("student") or _COPY.sub("", name) or name
    for key in (groups.get("lms"), guess, name):
        if key and (known := roster.get(plain_name(key))):
            return known, late, True
    if roster:
        flat = plain_name(guess).replace("-", "")
        same = {student for key, student in roster.items() if key.replace("-", "") == flat}
        if len(same) == 1:
            return same.pop(), late, True
    return plain_name(guess), late, not roster


def read_roster(path: Path | None) -> dict[str, str]:
    """Read a roster: a CSV file with a column ``id`` and any others that identify a student.

    What two students have in common, such as a first name or a group, identifies neither.
    """
    if path is None:
        return {}
    named: dict[str, set[str]] = {}
    ids: set[str] = set()
    with path.open(newline="", encoding="utf-8-sig") as file:
        for row in csv.DictReader(file):
            student = (row.get("id") or "").strip()
            if not student:
                continue
            for value in row.values():
                if isinstance(value, str) and value.strip():
                    named.setdefault(plain_name(value), set()).add(student)
            first, last = row.get("first_name") or "", row.get("last_name") or ""
            for joined in (f"{first} {last}", f"{last} {first}"):
                if joined.strip():
                    named.setdefault(plain_name(joined), set()).add(student)
            ids.add(student)
    roster = {key: min(students) for key, students in named.items() if len(students) == 1}
    return roster | {plain_name(student): student for student in sorted(ids)}


def _unzip(data: bytes, submission: Submission, prefix: str = "", depth: int = 0) -> None:
    """Read the members of an archive, and of archives in it."""
    if data.count(b"PK\x01\x02") > MAX_ENTRIES:  # the mark of every entry in the list of contents
        submission.skip(prefix or "the archive", f"more than {MAX_FILES} files")
        return
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OverflowError):
        submission.skip(prefix or "the archive", "damaged, or not a zip file")
        return
    with archive:
        for member in archive.infolist():
            parts = PurePosixPath(member.filename.replace("\\", "/")).parts
            name = "/".join(parts)
            if member.is_dir() or IGNORED & set(parts) or parts[-1:] == ("Thumbs.db",):
                continue
            if not parts or ".." in parts or name.startswith("/") or ":" in parts[0]:
                submission.skip(name, "points outside the archive")
                continue
            if printable(name, len(name)) != name:
                submission.skip(name, "the name is not valid text")
                continue
            if len(parts) > MAX_DEPTH or any(len(part.encode()) > 255 for part in parts):
                submission.skip(name, "the name is too long, or in too many folders")
                continue
            if stat.S_ISLNK(member.external_attr >> 16):
                submission.skip(name, "a link")
                continue
            used = sum(map(len, submission.files.values()))
            if len(submission.files) >= MAX_FILES or used + member.file_size > MAX_TOTAL:
                submission.skip(name, "too many or too large files")
                continue
            try:
                with archive.open(member) as file:
                    content = file.read(MAX_FILE + 1)
            except (
                RuntimeError,
                zipfile.BadZipFile,
                OSError,
                EOFError,
                NotImplementedError,
            ) as error:
                submission.skip(name, f"cannot be unpacked ({printable(str(error))})")
                continue
            except Exception as error:  # the decompressors raise errors of their own
                submission.skip(name, f"damaged ({type(error).__name__})")
                continue
            if len(content) > MAX_FILE:
                submission.skip(name, "too large")
            elif name.lower().endswith(".zip") and depth < 2:
                _unzip(content, submission, name, depth + 1)
            else:
                submission.files.setdefault(name, content)


def receive(entry: Path, roster: Mapping[str, str], pattern: re.Pattern[str] | None) -> Received:
    """Read one entry of the export.

    Parameters
    ----------
    entry : Path
        An archive, a folder or a single file.
    roster, pattern
        As for `who`.

    Returns
    -------
    Received
    """
    stem = (
        entry.name if entry.is_dir() else re.sub(r"(\.zip|\.ipynb)+$", "", entry.name, flags=re.I)
    )
    student, late, certain = who(stem, roster, pattern)
    modified = datetime.datetime.fromtimestamp(entry.lstat().st_mtime, datetime.UTC)
    origin = printable(entry.name)
    received = Received(student, origin, modified.replace(tzinfo=None, microsecond=0), late)
    if not certain:
        received.notes.append(f"{origin}: nobody on the roster; filed under {student}")
    if entry.is_symlink():
        received.notes.append("a link, left out")
        return received
    submission = Submission()
    if entry.is_dir():
        submission = read_folder(entry)
        for name in [name for name in submission.files if name.lower().endswith(".zip")]:
            _unzip(submission.files.pop(name), submission, name)
    elif not entry.is_file():
        submission.skip(entry.name, "not a regular file")
    elif entry.stat().st_size > 4 * MAX_TOTAL:
        submission.skip(entry.name, "the archive is too large")
    elif entry.suffix.lower() == ".zip":
        _unzip(entry.read_bytes(), submission)
    else:
        submission.files[origin] = entry.read_bytes()
    received.files = submission.files
    received.notes += submission.skipped
    return received


def _grade_ids(data: bytes) -> set[str]:
    if data.count(b"[") + data.count(b"{") > MAX_PARTS:
        return set()
    try:
        cells = json.loads(data)["cells"]
        found = {c["metadata"].get("nbgrader", {}).get("grade_id") for c in cells}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return set()
    return {name for name in found if isinstance(name, str)}


def arrange(received: Received, expected: Mapping[str, set[str]]) -> dict[str, bytes]:
    """Give the notebooks their proper names and bring them to the top.

    Parameters
    ----------
    received : Received
        Notes are added to it.
    expected : mapping of str to set
        Grade ids of each notebook of the assignment, by name without the ending.

    Returns
    -------
    dict of str to bytes
        Files of the submission.
    """
    notebooks = {n: d for n, d in received.files.items() if n.lower().endswith(".ipynb")}
    placed: dict[str, bytes] = {}
    taken: dict[str, str] = {}
    for name, ids in expected.items():
        best, rank = None, 0.0
        for path, data in sorted(notebooks.items()):
            if path in taken.values():
                continue
            stem = PurePosixPath(path).stem
            score = 4.0 * (stem == name)
            score += 2.0 * (plain_name(_COPY.sub("", stem)) == plain_name(name))
            shared = _grade_ids(data) & ids
            score += 3.0 * len(shared) / max(len(ids), 1)
            score += 0.5 * (len(expected) == 1 and len(notebooks) == 1)
            if score > rank:
                best, rank = path, score
        if best is None:
            received.notes.append(f"no notebook {name}.ipynb")
            continue
        taken[name] = best
        placed[f"{name}.ipynb"] = notebooks[best]
        if PurePosixPath(best).name != f"{name}.ipynb":
            received.notes.append(f"{best} taken for {name}.ipynb")
    folders = {str(PurePosixPath(path).parent) for path in taken.values()}
    base = folders.pop() if len(folders) == 1 else "."
    for path, data in received.files.items():
        if path in taken.values() or PurePosixPath(path).name == "timestamp.txt":
            continue
        inside = path if base == "." else path.removeprefix(base + "/")
        if inside.lower().endswith(".ipynb") and PurePosixPath(inside).stem in expected:
            continue  # a second copy of a notebook that is already there
        placed.setdefault(inside, data)
    return placed


def collect(
    source: Path,
    expected: Mapping[str, set[str]],
    *,
    roster: Mapping[str, str] | None = None,
    pattern: re.Pattern[str] | None = None,
    stamps: Mapping[str, datetime.datetime] | None = None,
) -> list[tuple[Received, dict[str, bytes]]]:
    """Read an export: the newest submission of each student, arranged.

    Parameters
    ----------
    source : Path
        The folder with the archives.
    expected : mapping of str to set
        As for `arrange`.
    roster, pattern
        As for `who`.
    stamps : mapping of str to datetime, optional
        Times of submission by student, in UTC, in place of the archives' own.

    Returns
    -------
    list of tuple
        What was received, and the files to write, by student.
    """
    newest: dict[str, Received] = {}
    for entry in sorted(source.iterdir()):
        if entry.name.startswith(".") or entry.name in IGNORED:
            continue
        received = receive(entry, roster or {}, pattern)
        if stamps and received.student in stamps:
            received.stamp = stamps[received.student]
        other = newest.get(received.student)
        if other is not None:
            first, second = sorted((other, received), key=lambda r: (r.stamp, r.origin))
            second.notes.append(f"{first.origin} is older and was left out")
            newest[received.student] = second
        else:
            newest[received.student] = received
    return [(r, arrange(r, expected)) for _, r in sorted(newest.items())]


def write_submission(folder: Path, received: Received, files: Mapping[str, bytes]) -> bool:
    """Write one submission's folder in one step.

    Parameters
    ----------
    folder : Path
        ``submitted/<student>/<assignment>``.
    received : Received
    files : mapping of str to bytes

    Returns
    -------
    bool
        False if what is there already is as new; then nothing is changed.
    """
    from nbgrader.utils import parse_utc

    stamp_file = folder / "timestamp.txt"
    if stamp_file.is_file() and parse_utc(stamp_file.read_text().strip()) >= received.stamp:
        return False
    half = folder.with_name(f".{folder.name}.half")
    shutil.rmtree(half, ignore_errors=True)
    stamp = f"{received.stamp:%Y-%m-%d %H:%M:%S} UTC\n"
    for name, data in without_conflicts(files, {"timestamp.txt": stamp.encode()}).items():
        path = half / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    if folder.exists():
        old = folder.with_name(f".{folder.name}.old")
        shutil.rmtree(old, ignore_errors=True)
        os.rename(folder, old)
        shutil.rmtree(old, ignore_errors=True)
    os.rename(half, folder)
    return True


def expected_notebooks(folders: Sequence[Path]) -> dict[str, set[str]]:
    """Names and grade ids of an assignment's notebooks, from the instructor's folder."""
    for folder in folders:
        found = {path.stem: _grade_ids(path.read_bytes()) for path in folder.glob("*.ipynb")}
        if found:
            return found
    return {}


def read_stamps(path: Path | None) -> dict[str, datetime.datetime]:
    """Read times of submission: a CSV file with the columns ``id`` and ``timestamp``."""
    from nbgrader.utils import parse_utc

    if path is None:
        return {}
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows: Iterable[dict[str, str]] = list(csv.DictReader(file))
    return {row["id"].strip(): parse_utc(row["timestamp"]) for row in rows if row.get("timestamp")}
