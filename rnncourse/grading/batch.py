"""The coordinator: grade every submission of an assignment, in parallel, and lose nothing.

Workers only compute. This one process reads submissions, writes the gradebook, one transaction per
submission, and after it the graded notebooks. A submission counts as done once its receipt is
there, which is written last; killed at any moment, the next run repeats what has none.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import datetime
import fcntl
import hashlib
import json
import mimetypes
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from .launch import (
    Limits,
    Profile,
    Result,
    SandboxError,
    Task,
    close_parents,
    ensure_available,
    grade_task,
    parents,
    resume,
    stop,
)
from .notebooks import (
    UnreadableNotebookError,
    clean_text,
    fill_in,
    parse,
    rebuild,
    runnable,
)
from .staging import Submission, printable, read_folder, without_conflicts

RECEIPTS = ".receipts"
_ODD_IN_NAME = frozenset('<>"`\\')
# What a browser would run when it is opened from the graded folder, on the formgrader's own origin.
_ACTIVE = re.compile(r"\.(?:[sx]?html?|xht|mht(?:ml)?|svgz?|xml|xslt?|js|mjs|swf)$", re.IGNORECASE)
_ACTIVE_KINDS = re.compile(r"html|[/+]xml$|svg|(?:java|ecma)script|rfc822|shockwave|multipart")
_LONGEST_NAME = 255


def passive_name(path: str) -> str:
    """Return a name under which a browser shows a student's file as text or stores it.

    Examples
    --------
    >>> passive_name("a/page.HTML"), passive_name("feed.rdf"), passive_name("data.csv")
    ('a/page.HTML.txt', 'feed.rdf.txt', 'data.csv')
    """
    folder, slash, name = path.rpartition("/")
    kind = mimetypes.guess_type(name, strict=False)[0] or ""
    if not (_ACTIVE.search(name) or _ACTIVE_KINDS.search(kind)):
        return path
    while len(name.encode()) > _LONGEST_NAME - len(".txt"):
        name = name[:-1]
    return f"{folder}{slash}{name}.txt"


class BusyError(RuntimeError):
    """Another coordinator is grading this course."""


class Executor(Protocol):
    """What of `concurrent.futures.Executor` the coordinator uses."""

    def submit(self, function: Callable[..., Any], /, *args: Any) -> Any: ...


@dataclass
class Course:
    """Where a course's files and gradebook are; nbgrader's `CourseDirectory` in short.

    Attributes
    ----------
    coursedir : nbgrader.coursedir.CourseDirectory
    db_url : str
        Address of the gradebook.
    """

    coursedir: Any
    db_url: str

    def folder(self, kind: str, student: str, assignment: str) -> Path:
        """Return a folder, ``kind`` being ``submitted``, ``autograded`` or ``feedback``."""
        name = getattr(self.coursedir, f"{kind}_directory")
        return Path(self.coursedir.format_path(name, student, assignment))

    def sources(self, assignment: str) -> tuple[Path, ...]:
        """Folders of the instructor's notebook, best first."""
        names = (self.coursedir.source_directory, self.coursedir.release_directory)
        return tuple(Path(self.coursedir.format_path(name, ".", assignment)) for name in names)

    def state(self) -> Path:
        """The folder beside the graded notebooks that holds the lock and the receipts."""
        graded = self.folder("autograded", "x", "y")
        return graded.parents[2] if len(graded.parents) > 2 else Path(self.coursedir.root)

    def receipt(self, student: str, assignment: str) -> Path:
        """The file that says that a submission is graded completely."""
        return self.state() / RECEIPTS / assignment / f"{student}.json"

    def students(self, assignment: str) -> list[str]:
        """Everybody who handed in a folder for the assignment, in order."""
        return [name for name in self._names(assignment) if is_student_id(name)]

    def unusable(self, assignment: str) -> list[str]:
        """Names of folders with a submission that cannot be the id of a student."""
        return [name for name in self._names(assignment) if not is_student_id(name)]

    def is_linked(self, student: str, assignment: str) -> bool:
        """Whether the way to a submission leads over a link, and so to somebody else's files."""
        folder = self.folder("submitted", student, assignment)
        other = self.folder("submitted", "@STUDENT@", assignment)
        (index,) = [i for i, part in enumerate(other.parts) if "@STUDENT@" in part]
        steps = range(index + 1, len(folder.parts) + 1)
        return any(Path(*folder.parts[:step]).is_symlink() for step in steps)

    def _names(self, assignment: str) -> list[str]:
        pattern = self.folder("submitted", "@STUDENT@", assignment)
        parts = pattern.parts
        (index,) = [i for i, part in enumerate(parts) if "@STUDENT@" in part]
        base = Path(*parts[:index])
        before, after = parts[index].split("@STUDENT@")
        found = []
        with contextlib.suppress(FileNotFoundError):
            for entry in os.scandir(base):
                name = entry.name
                if not (name.startswith(before) and name.endswith(after)):
                    continue
                student = name[len(before) : len(name) - len(after)]
                folder = self.folder("submitted", student, assignment)
                if not student.startswith(".") and os.path.lexists(folder):
                    found.append(student)
        return sorted(found)


def is_student_id(name: str) -> bool:
    """Whether a folder's name can be the id of a student: plain, visible text and not too long.

    Examples
    --------
    >>> is_student_id("zoë.o'neil@uni.org"), is_student_id("a\\x1b[2J"), is_student_id("<b>")
    (True, False, False)
    """
    if printable(name, len(name)) != name or _ODD_IN_NAME & set(name):
        return False
    return 0 < len(name.encode()) <= 200 and name == name.strip()


@dataclass
class Options:
    """How to grade.

    Attributes
    ----------
    jobs : int
        Submissions at the same time.
    force : bool
        Grade again what is graded already.
    students : sequence of str or None
        Only these.
    limits : Limits
    trusted_path : tuple of str
        Folders from which the tests may import.
    torch : bool or None
        Whether submissions may use torch; ``None`` looks whether the instructor's cells do.
    scheduler : str or None
        Address of a Dask scheduler.
    quiet : bool
        No progress bar.
    extra : sequence of callables
        Further steps on each graded notebook, given the notebook and nbgrader's resources.
    penalty : callable
        Of student, score and seconds late.
    exclude : sequence of str
        The instructor's files that do not replace the submission's.
    """

    jobs: int = 0
    force: bool = False
    students: Sequence[str] | None = None
    limits: Limits = field(default_factory=Limits)
    trusted_path: tuple[str, ...] = ()
    torch: bool | None = None
    scheduler: str | None = None
    quiet: bool = False
    create_students: bool = True
    extra: Sequence[Callable[[Any, Any], Any]] = ()
    penalty: Callable[[str, float, float], float | None] = lambda student, score, late: None
    exclude: Sequence[str] = ()
    permissions: int = 0o444


@dataclass
class Summary:
    """What a run did.

    Attributes
    ----------
    graded, skipped : list of str
        Students.
    review : dict of str to list of str
        Students whose submission a person should look at, with the reasons.
    failed : dict of str to str
        Students whose submission could not be graded, with the reason.
    seconds : float
    stopped : bool
        Whether the run was interrupted.
    """

    graded: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    review: dict[str, list[str]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    marks: dict[str, tuple[float, float]] = field(default_factory=dict)
    seconds: float = 0.0
    stopped: bool = False

    def text(self) -> str:
        """Return the summary for the terminal."""
        lines = []
        if self.graded:
            rate = self.seconds / len(self.graded)
            lines.append(
                f"{len(self.graded)} graded in {self.seconds:.1f} s ({rate * 1000:.0f} ms each), "
                f"{len(self.skipped)} were graded already."
            )
        else:
            lines.append(f"Nothing to grade: {len(self.skipped)} were graded already.")
        if self.marks:
            shares = sorted(score / most for score, most in self.marks.values() if most)
            if shares:
                middle = shares[len(shares) // 2]
                lines.append(f"Median {middle:.0%}, lowest {shares[0]:.0%}.")
        for student, reasons in sorted(self.review.items()):
            lines.append(f"  to review  {student}: {'; '.join(reasons)}")
        for student, reason in sorted(self.failed.items()):
            lines.append(f"  NOT graded {student}: {reason}")
        if self.failed:
            lines.append("Run the same command again to grade those that are missing.")
        if self.stopped:
            lines.append("Stopped. Run the same command again to go on.")
        return "\n".join(lines)


@contextlib.contextmanager
def only_coordinator(course: Course) -> Iterator[None]:
    """Hold the course's lock.

    Raises
    ------
    BusyError
        If somebody else holds it.
    """
    folder = course.state()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / ".grading.lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.read(descriptor, 100).decode(errors="replace").strip()
            raise BusyError(
                f"Another grader is at work on this course ({holder or 'unknown process'}). "
                "Wait until it is done; nothing was changed."
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()} on {os.uname().nodename}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


@dataclass
class _Prepared:
    """A submission that is read and ready to run."""

    student: str
    digest: str
    submission: Submission
    timestamp: datetime.datetime | None
    notebooks: dict[str, Any] = field(default_factory=dict)
    positions: dict[str, list[int]] = field(default_factory=dict)
    tasks: dict[str, Task] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)
    review: list[str] = field(default_factory=list)


def grade_many(tasks: dict[str, Task]) -> dict[str, list[Result]]:
    """Grade the notebooks of one submission; this is what travels to a worker."""
    return {name: grade_task(task) for name, task in tasks.items()}


def _reason(error: Exception) -> str:
    """Say in the summary why a submission could not be graded."""
    text = clean_text(str(error), 500)
    ours = isinstance(error, SandboxError | OSError)
    return text if ours else f"{type(error).__name__}: {text}"


class Coordinator:
    """Grade an assignment.

    Parameters
    ----------
    course : Course
    assignment : str
    options : Options
    """

    def __init__(self, course: Course, assignment: str, options: Options) -> None:
        self._course = course
        self._assignment = assignment
        self._options = options
        self._summary = Summary()

    def run(self) -> Summary:
        """Grade, and return what was done.

        Returns
        -------
        Summary

        Raises
        ------
        BusyError
            If another coordinator holds the course.
        GradingUnavailableError
            If there is no sandbox.
        """
        from .gradebook import load_layout, load_sources, open_gradebook

        started = time.monotonic()
        if self._options.scheduler is None:
            ensure_available()
        with only_coordinator(self._course):
            self._gradebook = open_gradebook(self._course.db_url, self._course.coursedir.course_id)
            try:
                folders = self._course.sources(self._assignment)
                self._sources = load_sources(self._gradebook, self._assignment, folders)
                self._layout = load_layout(self._gradebook, self._assignment)
                self._extra_files = self._instructors_files()
                self._profile = self._make_profile()
                self._source_digest = self._digest_sources()
                self._remove_leftovers()
                self._grade_all()
            finally:
                self._gradebook.close()
        self._summary.seconds = time.monotonic() - started
        return self._summary

    def _make_profile(self) -> Profile:
        text = "\n".join(source.text() for source in self._sources.values())
        torch = self._options.torch
        if torch is None:
            torch = any(source.uses_torch() for source in self._sources.values())
        preload = ["numpy"]
        if torch:
            preload += ["torch", "torch.nn"]
            if "optim" in text:  # torch loads this with the first optimiser, in two seconds
                preload.append("torch._dynamo")
        if re.search(r"matplotlib|rnncourse\.plots", text):
            preload += ["matplotlib.pyplot", "matplotlib_inline.backend_inline"]
        files = tuple(sorted(self._extra_files.items()))
        path = self._options.trusted_path
        return Profile(tuple(preload), torch, path, files, self._options.limits)

    def _instructors_files(self) -> dict[str, bytes]:
        """Files beside the instructor's notebook, which replace the submission's of that name."""
        folder = self._course.sources(self._assignment)[0]
        if not folder.is_dir():
            return {}
        files = read_folder(folder).files
        excluded = set(self._options.exclude)
        return {
            name: data
            for name, data in files.items()
            if not name.endswith(".ipynb") and name not in excluded
        }

    def _digest_sources(self) -> str:
        facts = [repr(source) for _, source in sorted(self._sources.items())]
        facts += [
            f"{name}:{hashlib.sha256(data).hexdigest()}"
            for name, data in sorted(self._extra_files.items())
        ]
        return hashlib.sha256("\n".join(facts).encode()).hexdigest()

    def _remove_leftovers(self) -> None:
        """Remove what a killed run left half done."""
        parent = self._course.state()
        for path in parent.glob(".half-*"):
            shutil.rmtree(path, ignore_errors=True)

    def _grade_all(self) -> None:
        students = self._course.students(self._assignment)
        for name in self._course.unusable(self._assignment):
            if self._options.students is None:
                self._summary.failed[printable(name)] = (
                    "this folder's name cannot be a student's id: rename the folder"
                )
        if self._options.students is not None:
            wanted = set(self._options.students)
            missing = wanted - set(students)
            for student in sorted(missing):
                self._summary.failed[student] = "there is no submission of that student"
            students = [student for student in students if student in wanted]
        jobs = self._options.jobs or len(os.sched_getaffinity(0))
        with self._executor(jobs) as (executor, width), self._bar(len(students)) as bar:
            waiting: dict[Any, _Prepared] = {}
            try:
                for student in students:
                    prepared = self._prepared(student)
                    if prepared is None:
                        bar.update(1)
                        continue
                    if prepared.tasks:
                        waiting[executor.submit(grade_many, prepared.tasks)] = prepared
                    else:
                        self._finish(prepared, None, bar)
                    while len(waiting) >= width:
                        self._collect(waiting, bar)
                while waiting:
                    self._collect(waiting, bar)
            except KeyboardInterrupt:
                self._summary.stopped = True
                for future in waiting:
                    future.cancel()
                stop()

    @contextlib.contextmanager
    def _executor(self, jobs: int) -> Iterator[tuple[Executor, int]]:
        if self._options.scheduler is not None:
            from .cluster import cluster_executor

            with cluster_executor(self._options.scheduler) as (executor, workers):
                yield executor, 4 * workers
            return
        resume()
        parents(self._profile)
        # Threads only wait here: what they wait for are the processes in the sandboxes.
        pool = concurrent.futures.ThreadPoolExecutor(jobs, thread_name_prefix="grade")
        try:
            yield pool, jobs + 2
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
            close_parents()

    @contextlib.contextmanager
    def _bar(self, total: int) -> Iterator[Any]:
        from tqdm import tqdm

        with tqdm(
            total=total,
            unit="submission",
            desc=self._assignment,
            disable=self._options.quiet,
            mininterval=0.2,
            file=sys.stderr,
        ) as bar:
            yield bar

    def _collect(self, waiting: dict[Any, _Prepared], bar: Any) -> None:
        names = ", ".join(sorted(prepared.student for prepared in waiting.values())[:3])
        bar.set_postfix_str(names, refresh=False)
        done, _ = concurrent.futures.wait(
            list(waiting), return_when=concurrent.futures.FIRST_COMPLETED
        )
        for future in done:
            self._finish(waiting.pop(future), future, bar)

    def _prepared(self, student: str) -> _Prepared | None:
        try:
            return self._prepare(student)
        except Exception as error:  # whatever is odd about one submission is no other's
            self._summary.failed[student] = _reason(error)
            return None

    def _prepare(self, student: str) -> _Prepared | None:
        """Read a submission; ``None`` if it is graded already or cannot be read now."""
        folder = self._course.folder("submitted", student, self._assignment)
        try:
            if self._course.is_linked(student, self._assignment):
                raise OSError(0, "the folder is a link")
            submission = read_folder(folder)
        except OSError as error:
            submission = Submission()
            submission.skip(folder.name, str(error.strerror))
        digest = f"{submission.digest()}-{self._source_digest}"
        if not self._options.force and self._is_done(student, digest):
            self._summary.skipped.append(student)
            return None
        prepared = _Prepared(student, digest, submission, None)
        prepared.timestamp = self._timestamp(prepared)
        prepared.review += submission.skipped
        files = {
            name: data
            for name, data in submission.files.items()
            if not name.endswith(".ipynb") and name != "timestamp.txt"
        }
        files = without_conflicts(files, self._extra_files)
        for name, source in self._sources.items():
            data = submission.files.get(f"{name}.ipynb")
            try:
                if data is None:
                    raise UnreadableNotebookError(self._why_missing(name, submission))
                notebook = rebuild(parse(data), source)
            except UnreadableNotebookError as error:
                prepared.unreadable[name] = clean_text(str(error), 500)
                continue
            cells, positions = runnable(notebook, source)
            prepared.notebooks[name] = notebook
            prepared.positions[name] = positions
            prepared.tasks[name] = Task(cells, source.plain, source.answers(), files, self._profile)
        prepared.review += [f"{n}.ipynb: {why}" for n, why in prepared.unreadable.items()]
        prepared.review = list(dict.fromkeys(prepared.review))
        return prepared

    @staticmethod
    def _why_missing(name: str, submission: Submission) -> str:
        others = sorted(path for path in submission.files if path.endswith(".ipynb"))
        skipped = [text for text in submission.skipped if text.startswith(f"{name}.ipynb:")]
        if skipped:
            return skipped[0].removeprefix(f"{name}.ipynb: ")
        if others:
            found = ", ".join(map(printable, others[:3]))
            return f"the notebook {name}.ipynb is missing (found: {found})"
        return f"the notebook {name}.ipynb is missing"

    def _timestamp(self, prepared: _Prepared) -> datetime.datetime | None:
        from nbgrader.utils import parse_utc

        data = prepared.submission.files.get("timestamp.txt")
        if not data or not data.strip():
            return None
        try:
            stamp: datetime.datetime = parse_utc(data[:200].decode().strip())
        except (ValueError, ArithmeticError, TypeError):
            prepared.review.append("timestamp.txt: not a date")
            return None
        return stamp

    def _is_done(self, student: str, digest: str) -> bool:
        from nbgrader import api

        try:
            receipt = json.loads(self._course.receipt(student, self._assignment).read_text())
        except (OSError, ValueError):
            return False
        if not isinstance(receipt, dict) or receipt.get("digest") != digest:
            return False
        folder = self._course.folder("autograded", student, self._assignment)
        if not all((folder / f"{name}.ipynb").is_file() for name in receipt.get("notebooks", [])):
            return False
        row = (
            self._gradebook.db.query(api.SubmittedAssignment.id)
            .join(api.Assignment, api.Assignment.id == api.SubmittedAssignment.assignment_id)
            .filter(api.Assignment.name == self._assignment)
            .filter(api.SubmittedAssignment.student_id == student)
        ).first()
        self._gradebook.db.rollback()
        return row is not None

    def _finish(self, prepared: _Prepared, future: Any, bar: Any) -> None:
        try:
            results: dict[str, list[Result]] = {} if future is None else future.result()
            self._record(prepared, results)
        except Exception as error:
            self._summary.failed[prepared.student] = _reason(error)
        else:
            self._summary.graded.append(prepared.student)
            if prepared.review:
                self._summary.review[prepared.student] = prepared.review
        bar.update(1)

    def _record(self, prepared: _Prepared, results: dict[str, list[Result]]) -> None:
        """Write one submission: notebooks aside, marks in one transaction, notebooks in place."""
        from .gradebook import patiently, save, transaction

        student = prepared.student
        for name, notebook in prepared.notebooks.items():
            fill_in(notebook, prepared.positions[name], results[name])
            resources = {
                "nbgrader": {
                    "student": student,
                    "assignment": self._assignment,
                    "notebook": name,
                    "db_url": self._course.db_url,
                },
                "unique_key": name,
            }
            for step in self._options.extra:
                notebook, _ = step(notebook, resources)
            prepared.notebooks[name] = notebook
        half = self._write_aside(prepared)

        def write() -> dict[str, tuple[float, float]]:
            with transaction(self._gradebook) as session:
                return save(
                    session,
                    self._layout,
                    student,
                    prepared.notebooks,
                    prepared.unreadable,
                    prepared.timestamp,
                    self._options.penalty,
                    self._options.create_students,
                )

        try:
            # without a receipt, whatever fails from here on is graded again by the next run
            self._course.receipt(student, self._assignment).unlink(missing_ok=True)
            totals = patiently(write)
            self._put_in_place(half, student)
            self._write_receipt(prepared, results)
        except BaseException:
            shutil.rmtree(half, ignore_errors=True)
            raise
        score = sum(score for score, _ in totals.values())
        self._summary.marks[student] = (score, sum(most for _, most in totals.values()))

    def _write_aside(self, prepared: _Prepared) -> Path:
        import nbformat

        key = hashlib.sha256(prepared.student.encode()).hexdigest()[:16]
        half = self._course.state() / f".half-{key}"
        shutil.rmtree(half, ignore_errors=True)
        half.mkdir(parents=True)
        files = {
            passive_name(name): data
            for name, data in prepared.submission.files.items()
            if not name.endswith(".ipynb")
        }
        reserved = {f"{name}.ipynb": b"" for name in prepared.notebooks}
        files = without_conflicts(files, self._extra_files | reserved)
        try:
            for name, notebook in prepared.notebooks.items():
                text = nbformat.writes(notebook, nbformat.NO_CONVERT)
                (half / f"{name}.ipynb").write_text(text + "\n", encoding="utf-8")
            for name, data in files.items():
                if name in reserved:
                    continue
                path = half / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
            for path in half.rglob("*"):
                if path.is_file():
                    path.chmod(self._options.permissions)
        except BaseException:
            shutil.rmtree(half, ignore_errors=True)
            raise
        return half

    def _put_in_place(self, half: Path, student: str) -> None:
        target = self._course.folder("autograded", student, self._assignment)
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.is_symlink():
            target.unlink()
        if target.exists():
            old = half.with_name(half.name + "-old")
            shutil.rmtree(old, ignore_errors=True)
            os.rename(target, old)
            shutil.rmtree(old, ignore_errors=True)
        os.rename(half, target)

    def _write_receipt(self, prepared: _Prepared, results: dict[str, list[Result]]) -> None:
        path = self._course.receipt(prepared.student, self._assignment)
        path.parent.mkdir(parents=True, exist_ok=True)
        details = {
            name: [
                {"cell": index, "detail": clean_text(result["detail"], 4000)}
                for index, result in zip(prepared.positions[name], results[name], strict=True)
                if result.get("detail")
            ]
            for name in prepared.notebooks
        }
        receipt = {
            "digest": prepared.digest,
            "notebooks": sorted(prepared.notebooks),
            "review": prepared.review,
            "unreadable": prepared.unreadable,
            "details": details,
            "seconds": {
                name: round(sum(float(r.get("seconds", 0)) for r in cells), 3)
                for name, cells in results.items()
            },
        }
        aside = path.with_suffix(".half")
        aside.write_text(json.dumps(receipt, indent=1) + "\n", encoding="utf-8")
        os.replace(aside, path)
