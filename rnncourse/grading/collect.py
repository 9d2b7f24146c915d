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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from .notebooks import MAX_PARTS
from .staging import (
    IGNORED,
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
_MOODLE = re.compile(
    r"^(?P<student>.+?)_(?P<lms>\d+)_assignsubmission_(?:file|onlinetext)?_?", re.IGNORECASE
)
MAX_PATH = 1000
MAX_UNPACKED = 4 * MAX_TOTAL  # with what is unpacked on the way, such as archives in archives
_COPY = re.compile(r"(?:\s*\(\d+\)|[-_ ]?copy\d*|[-_ ]\d+)+$", re.IGNORECASE)
_NOTEBOOK = re.compile(r"\.ipynb(?:\.(?:txt|json))?$", re.IGNORECASE)  # what browsers make of it
_PACKED = re.compile(r"\.(?:rar|7z|tar|tgz|gz|bz2|xz)$", re.IGNORECASE)
_OF_THE_DESKTOP = frozenset({"thumbs.db", "desktop.ini"})
_ACCENTS = re.compile(r"[\u0300-\u036f]")


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
    lms : str
        The student's number in the LMS, if the name holds one.
    alone : bool
        Whether it is a part of a submission, which the LMS hands out file by file.
    stamped : bool
        Whether the time is the LMS's own.
    """

    student: str
    origin: str
    stamp: datetime.datetime
    late: bool = False
    files: dict[str, bytes] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    lms: str = ""
    alone: bool = False
    stamped: bool = False


def plain_name(text: str) -> str:
    """Reduce a name to letters of any script, digits and ``._@-``, so that it can name a folder.

    Examples
    --------
    >>> plain_name("Zoë  O'Neil (2)"), plain_name("李伟")
    ('zoe-oneil-2', '李伟')
    """
    letters = _ACCENTS.sub("", unicodedata.normalize("NFKD", text.casefold()))
    kept = "".join(
        sign
        for sign in unicodedata.normalize("NFC", letters)
        if sign.isalnum() or sign in "_.@ -" or unicodedata.category(sign).startswith("M")
    )
    short = re.sub(r"[\s-]+", "-", kept).encode()[:150].decode(errors="ignore")
    return short.strip("-. ") or "unknown"


def _match(name: str, pattern: re.Pattern[str] | None) -> re.Match[str] | None:
    found = pattern.search(name) if pattern is not None else None
    return found or _MOODLE.match(name) or _CANVAS.match(name)


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
    match = _match(name, pattern)
    groups = match.groupdict() if match is not None else {}
    late = bool(groups.get("late"))
    guess = groups.get("student") or _COPY.sub("", name) or name
    keys = [plain_name(key) for key in (groups.get("lms"), guess, name) if key]
    known = {roster[key] for key in keys if key in roster}
    if len(known) == 1:
        return known.pop(), late, True
    if roster and not known:
        flat = plain_name(guess).replace("-", "")
        same = {student for key, student in roster.items() if key.replace("-", "") == flat}
        if len(same) == 1:
            return same.pop(), late, True
    return plain_name(guess), late, not roster


def _read_table(path: Path, *needed: str) -> list[dict[str, str]]:
    """Read a CSV file with commas, semicolons or tabs; columns' names in small letters.

    Raises
    ------
    ValueError
        If a column is missing or the file is not text in UTF-8.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not in UTF-8: save it as “CSV UTF-8”.") from None
    head = text.partition("\n")[0]
    reader = csv.DictReader(io.StringIO(text), delimiter=max(",;\t", key=head.count))
    names = [name.strip().lower() for name in reader.fieldnames or ()]
    for name in needed:
        if name not in names:
            found = ", ".join(filter(None, names)) or "none"
            raise ValueError(f"{path} needs a column `{name}`; it has: {found}.")
    reader.fieldnames = names
    return [{k: v.strip() for k, v in row.items() if isinstance(v, str)} for row in reader]


def read_roster(path: Path | None) -> dict[str, str]:
    """Read a roster: a CSV file with a column ``id`` and any others that identify a student.

    Parameters
    ----------
    path : Path or None

    Returns
    -------
    dict of str to str
        Ids by all that names exactly one student. A name that two students share is left out.

    Raises
    ------
    ValueError
        If the file is not a table with that column.
    """
    if path is None:
        return {}
    named: dict[str, set[str]] = {}
    rows = [row for row in _read_table(path, "id") if row["id"]]
    for row in rows:
        first, last = row.get("first_name", ""), row.get("last_name", "")
        for value in (*row.values(), f"{first} {last}", f"{last} {first}"):
            if value.strip():
                named.setdefault(plain_name(value), set()).add(row["id"])
    named.pop(plain_name(""), None)
    roster = {name: ids.pop() for name, ids in named.items() if len(ids) == 1}
    return roster | {plain_name(row["id"]): row["id"] for row in rows}


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
            submission.entries += 1
            if submission.entries > MAX_ENTRIES or submission.unpacked > MAX_UNPACKED:
                submission.skip(name, "the archives hold too much to unpack")
                return
            desktop = parts and parts[-1].lower() in _OF_THE_DESKTOP
            if member.is_dir() or IGNORED & set(parts) or desktop:
                continue
            if not parts or ".." in parts or name.startswith("/") or ":" in parts[0]:
                submission.skip(name, "points outside the archive")
                continue
            if printable(name, len(name)) != name:
                submission.skip(name, "the name is not valid text")
                continue
            if len(name.encode()) > MAX_PATH or any(len(part.encode()) > 255 for part in parts):
                submission.skip(name, "the name is too long")
                continue
            if stat.S_ISLNK(member.external_attr >> 16):
                submission.skip(name, "a link")
                continue
            if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                # Python unpacks the other kinds without a limit.
                submission.skip(name, "packed in a way that is not opened")
                continue
            if member.flag_bits & 1:
                submission.skip(name, "protected by a password")
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
            submission.unpacked += len(content)
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
    single = not entry.is_dir()
    stem = re.sub(r"(\.zip|\.ipynb)+$", "", entry.name, flags=re.I) if single else entry.name
    student, late, certain = who(stem, roster, pattern)
    modified = datetime.datetime.fromtimestamp(entry.lstat().st_mtime, datetime.UTC)
    origin = printable(entry.name)
    received = Received(student, origin, modified.replace(tzinfo=None, microsecond=0), late)
    match = _match(stem, pattern)
    received.lms = (match.groupdict().get("lms") or "") if match is not None else ""
    if not certain:
        received.notes.append(f"{origin}: nobody on the roster, or several; filed under {student}")
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
        theirs = origin[match.end() :] if match is not None else origin
        named = theirs if theirs.strip(". ") and not theirs.startswith(".") else origin
        submission.files[named] = entry.read_bytes()
        received.alone = True
    received.alone |= "_assignsubmission_onlinetext" in entry.name.lower()
    received.notes += [
        f"{name}: a packed file of this kind is not opened; unpack it, or ask for a zip file"
        for name in submission.files
        if _PACKED.search(name)
    ]
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


def _is_notebook(name: str) -> bool:
    return _NOTEBOOK.search(name) is not None


def _stem(path: str) -> str:
    return _NOTEBOOK.sub("", PurePosixPath(path).name)


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
    notebooks = {n: d for n, d in received.files.items() if _is_notebook(n)}
    placed: dict[str, bytes] = {}
    taken: dict[str, str] = {}
    for name, ids in expected.items():
        best, rank = None, 0.0
        for path, data in sorted(notebooks.items()):
            if path in taken.values():
                continue
            stem = _stem(path)
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
        shared = _grade_ids(notebooks[best]) & ids
        if 2 * len(shared) < len(ids):
            few = f"only {len(shared)} of the {len(ids)} marked cells of {name}"
            received.notes.append(f"{best} has {few}: the right file?")
    known = set[str]().union(*expected.values())
    for path in sorted(notebooks.keys() - set(taken.values())):
        if _grade_ids(notebooks[path]) & known:
            received.notes.append(f"{path} is a second version and does not count")
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


def _same_person(entries: Sequence[Received]) -> list[Received]:
    """Tell people of one name apart by their numbers in the LMS."""
    numbers: dict[str, set[str]] = {}
    for received in entries:
        if received.lms:
            numbers.setdefault(received.student, set()).add(received.lms)
    for received in entries:
        if received.lms and len(numbers[received.student]) > 1:
            shared, received.student = received.student, f"{received.student}-{received.lms}"
            received.notes.append(
                f"{received.origin}: several people hand in as {shared}; filed under "
                f"{received.student}"
            )
    return list(entries)


def _join(entries: Sequence[Received], expected: Mapping[str, set[str]]) -> Received:
    """Make one submission of what one student handed in, in several goes or file by file."""
    known = set[str]().union(*expected.values())

    def rank(received: Received) -> tuple[Any, ...]:
        notebooks = {n: d for n, d in received.files.items() if _is_notebook(n)}
        copy = re.search(r"\((\d+)\)\.\w+$|\((\d+)\)$", received.origin)
        return (
            any(_grade_ids(data) & known for data in notebooks.values()),
            bool(notebooks),
            received.stamp,
            int(next(filter(None, copy.groups()))) if copy else 0,
            any(_stem(name) in expected for name in notebooks),
            received.origin,
        )

    chosen, *others = sorted(entries, key=rank, reverse=True)
    for other in others:
        chosen.late |= other.late and other.alone
        rest = other.files.items() if other.alone else ()
        loose = {n: d for n, d in rest if len(expected) > 1 or not _is_notebook(n)}
        for name, data in loose.items():
            chosen.files.setdefault(name, data)
        if not loose:
            useful = rank(other)[:2] == rank(chosen)[:2]
            why = "is older" if useful else "holds no notebook of this assignment"
            chosen.notes.append(f"{other.origin} {why} and was left out")
    return chosen


def collect(
    source: Path,
    expected: Mapping[str, set[str]],
    *,
    roster: Mapping[str, str] | None = None,
    pattern: re.Pattern[str] | None = None,
    stamps: Mapping[str, datetime.datetime] | None = None,
) -> list[tuple[Received, dict[str, bytes]]]:
    """Read an export: the newest submission of each student, arranged.

    Of several archives of one student the newest with a notebook of the assignment counts. Files
    that the LMS hands out one by one are put together.

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
    entries = [
        receive(entry, roster or {}, pattern)
        for entry in sorted(source.iterdir())
        if not entry.name.startswith(".")
        and entry.name not in IGNORED
        and entry.name.lower() not in _OF_THE_DESKTOP
    ]
    by_student: dict[str, list[Received]] = {}
    for received in _same_person(entries):
        by_student.setdefault(received.student, []).append(received)
    joined = [_join(theirs, expected) for _, theirs in sorted(by_student.items())]
    for received in joined:
        if stamps and received.student in stamps:
            received.stamp, received.stamped = stamps[received.student], True
    return [(received, arrange(received, expected)) for received in joined]


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
        False if what is there already is as new, or the same at the time that the LMS gave; then
        nothing is changed.
    """
    from nbgrader.utils import parse_utc

    stamp = f"{received.stamp:%Y-%m-%d %H:%M:%S} UTC\n"
    wanted = without_conflicts(files, {"timestamp.txt": stamp.encode()})
    stamp_file = folder / "timestamp.txt"
    if stamp_file.is_file():
        if received.stamped:
            if read_folder(folder).files == wanted:
                return False
        elif parse_utc(stamp_file.read_text().strip()) >= received.stamp:
            return False
    half = folder.with_name(f".{folder.name}.half")
    shutil.rmtree(half, ignore_errors=True)
    for name, data in wanted.items():
        path = half / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    if folder.exists():
        old = folder.with_name(f".{folder.name}.old")
        shutil.rmtree(old, ignore_errors=True)
        os.rename(folder, old)
        os.rename(half, folder)
        shutil.rmtree(old, ignore_errors=True)
    else:
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
    """Read times of submission: a CSV file with the columns ``id`` and ``timestamp``.

    Parameters
    ----------
    path : Path or None

    Returns
    -------
    dict of str to datetime
        In UTC; a time without a zone counts as UTC.

    Raises
    ------
    ValueError
        If a column is missing or a time cannot be read.
    """
    from nbgrader.utils import parse_utc

    stamps = {}
    for row in _read_table(path, "id", "timestamp") if path is not None else []:
        if row["id"] and row.get("timestamp"):
            try:
                stamps[row["id"]] = parse_utc(row["timestamp"])
            except (ValueError, OverflowError, TypeError):
                raise ValueError(
                    f"{path}: {row['timestamp']!r}, the timestamp of {row['id']}, is not a time "
                    "such as 2026-11-23 14:00 UTC."
                ) from None
    return stamps
