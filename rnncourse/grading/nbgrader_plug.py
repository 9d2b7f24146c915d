"""The grader as part of nbgrader.

`configure` is called from ``nbgrader_config.py``. It does two things. It names the preprocessors
below in nbgrader's own options, so that any path through nbgrader runs submissions sealed. And it
puts `SealedAutograde` where ``nbgrader autograde`` and the formgrader look for their converter, so
that both also get the clean staging, the parallel run and one transaction per submission.
"""

from __future__ import annotations

import builtins
import fnmatch
import importlib
import os
import re
import sys
from pathlib import Path
from typing import Any

from nbgrader.converters import autograde as nbgrader_autograde
from nbgrader.converters.base import NbGraderException
from nbgrader.preprocessors import AssignLatePenalties
from nbgrader.preprocessors.base import NbGraderPreprocessor
from traitlets import Bool, Float, Integer, List, Unicode

from . import launch
from .batch import BusyError, Coordinator, Course, Options, Summary
from .gradebook import load_sources, open_gradebook
from .inside.trusted import OWN_NAMES, WHOSE, hidden_failure
from .notebooks import (
    AFTER_HIDDEN,
    BEGIN_HIDDEN,
    FROM_SUBMISSION,
    fill_in,
    hidden_spans,
    rebuild,
    runnable,
    without_hidden,
)

SANITIZE = [
    "rnncourse.grading.nbgrader_plug.StrictSanitize",
    "nbgrader.preprocessors.OverwriteKernelspec",
    "nbgrader.preprocessors.OverwriteCells",
    "nbgrader.preprocessors.CheckCellMetadata",
]
AUTOGRADE = [
    "rnncourse.grading.nbgrader_plug.SealedExecute",
    "nbgrader.preprocessors.LimitOutput",
    "nbgrader.preprocessors.SaveAutoGrades",
    "nbgrader.preprocessors.AssignLatePenalties",
    "nbgrader.preprocessors.CheckCellMetadata",
]
_WITHHELD = "[output withheld: this cell ran after hidden tests]"
_UNSAID = "[the text is withheld after hidden tests; run this test in your own notebook to see it]"
_CHECKED = re.compile(r"\w+ is right in all \d+ calls\.")
# Lines of a failed check that repeat the submission's own words.
_REPEATED = re.compile(r"(\w+): |not expected: |(?:First at .*: y|Y)ours is ['\"]")
_AT_LINE = re.compile(r"line (\d+): ")


def _coursedir(component: Any) -> Any:
    while component is not None:
        if getattr(component, "coursedir", None) is not None:
            return component.coursedir
        component = getattr(component, "parent", None)
    return None


def _sources(component: Any, resources: Any) -> Any:
    facts = resources["nbgrader"]
    coursedir = _coursedir(component)
    folders: tuple[Path, ...] = ()
    course_id = "default_course"
    if coursedir is not None:
        folders = Course(coursedir, facts["db_url"]).sources(facts["assignment"])
        course_id = coursedir.course_id
    with open_gradebook(facts["db_url"], course_id) as gradebook:
        return load_sources(gradebook, facts["assignment"], folders)[facts["notebook"]]


class StrictSanitize(NbGraderPreprocessor):  # type: ignore[misc, unused-ignore]
    """First of the sanitizers: keep the text of cells, take everything else from the gradebook."""

    def preprocess(self, nb: Any, resources: Any) -> tuple[Any, Any]:
        """Return a clean notebook with nbgrader's metadata as it was released."""
        source = _sources(self, resources)
        cells = [
            (
                cell.cell_type,
                cell.source,
                grade_id if isinstance(grade_id := self._grade_id(cell), str) else None,
            )
            for cell in nb.cells
        ]
        return rebuild(cells, source), resources

    @staticmethod
    def _grade_id(cell: Any) -> Any:
        data = cell.metadata.get("nbgrader")
        return data.get("grade_id") if isinstance(data, dict) else None


class SealedExecute(NbGraderPreprocessor):  # type: ignore[misc, unused-ignore]
    """Run a notebook sealed, in place of nbgrader's ``Execute``."""

    timeout = Float(30.0, help="Seconds per cell.").tag(config=True)
    total_timeout = Float(300.0, help="Seconds per submission.").tag(config=True)
    memory_mb = Integer(2048, help="Memory of a submission, all its processes.").tag(config=True)
    disk_mb = Integer(64, help="Disk of a submission, in its home and in /tmp.").tag(config=True)
    processes = Integer(64, help="Processes and threads of a submission.").tag(config=True)
    respawns = Integer(20, help="Restarts after crashes and time-outs.").tag(config=True)
    jobs = Integer(0, help="Submissions at the same time; 0: one per processor.").tag(config=True)
    torch = Bool(
        None, allow_none=True, help="Is torch there? None: if the tests or cells import it."
    ).tag(config=True)
    trusted_path = List(
        Unicode(), help="Folders from which test cells may import; students never see them."
    ).tag(config=True)

    def limits(self) -> launch.Limits:
        """Return the configured limits."""
        return launch.Limits(
            cell_s=self.timeout,
            total_s=self.total_timeout,
            memory_mb=self.memory_mb,
            disk_mb=self.disk_mb,
            processes=self.processes,
            respawns=self.respawns,
        )

    def trusted_folders(self) -> tuple[str, ...]:
        """Return the folders for test cells, relative ones seen from the course."""
        coursedir = _coursedir(self)
        root = "." if coursedir is None else coursedir.root
        return tuple(os.path.realpath(os.path.join(root, path)) for path in self.trusted_path)

    def preprocess(self, nb: Any, resources: Any) -> tuple[Any, Any]:
        """Run the cells and fill in their outputs."""
        source = _sources(self, resources)
        cells, positions = runnable(nb, source)
        use_torch = source.uses_torch() if self.torch is None else self.torch
        preload = ("numpy", "torch") if use_torch else ("numpy",)
        profile = launch.Profile(
            preload, bool(use_torch), self.trusted_folders(), limits=self.limits()
        )
        task = launch.Task(cells, source.plain, source.answers(), {}, profile)
        fill_in(nb, positions, launch.grade_task(task))
        return nb, resources


class HideTests(NbGraderPreprocessor):  # type: ignore[misc, unused-ignore]
    """Keep hidden tests, and what could tell about them, out of students' feedback."""

    def preprocess(self, nb: Any, resources: Any) -> tuple[Any, Any]:
        """Remove hidden regions, and what submitted code said after it had seen their inputs."""
        from nbformat import v4

        seen = False
        for cell in nb.cells:
            data = cell.metadata.get("nbgrader", {})
            if cell.cell_type != "code":
                continue
            is_test = data.get("grade", False) and not data.get("solution", False)
            if is_test:
                cell.outputs = [
                    self._only_ours(output, cell.source)
                    if seen or self._is_after_hidden(output, cell.source)
                    else output
                    for output in cell.outputs
                ]
            if is_test and BEGIN_HIDDEN in cell.source:
                seen = True
                cell.source = without_hidden(cell.source)
            elif seen and not is_test and cell.outputs:
                cell.outputs = [v4.new_output("stream", name="stdout", text=_WITHHELD)]
        return nb, resources

    @staticmethod
    def _is_after_hidden(output: Any, source: str) -> bool:
        """Whether an output comes from a visible line of a test below its hidden ones."""
        if output.output_type != "error":
            return bool(output.get("metadata") == AFTER_HIDDEN)
        spans = hidden_spans(source)
        before = len(output.traceback) - len(output.evalue.split("\n")) - 1
        at = _AT_LINE.match(output.traceback[before]) if before >= 0 else None
        return bool(spans) and (at is None or int(at[1]) > spans[0][0])

    @staticmethod
    def _only_ours(output: Any, source: str) -> Any:
        """Return an output of a test without the words that may be the submission's."""
        from nbformat import v4

        visible = without_hidden(source)
        if output.get("metadata") in (FROM_SUBMISSION, AFTER_HIDDEN):
            return v4.new_output("stream", name="stdout", text=_WITHHELD)
        if output.output_type in ("stream", "display_data"):
            # A test may print what the submission returned.
            said = output.text if output.output_type == "stream" else output.data["text/plain"]
            lines = [line.strip() for line in said.strip().split("\n")]
            if all(line in visible or line == "True" or _CHECKED.fullmatch(line) for line in lines):
                return output
            return v4.new_output("stream", name="stdout", text=_WITHHELD)
        if output.output_type != "error":
            return output
        said = output.evalue.strip()
        ours = [hidden_failure(output.ename, whose) for whose in WHOSE]
        if output.ename == "CheckFailed":
            text = "\n".join(line for line in said.split("\n") if not _is_repeated(line))
        elif output.ename in OWN_NAMES or said in ours or said in visible:
            text = output.evalue
        else:
            text = _UNSAID
        known = output.ename in OWN_NAMES or hasattr(builtins, output.ename)
        name = output.ename if known else "StudentError"
        lines = [f"line {n}: {line.strip()}" for n, line in enumerate(source.split("\n"), 1)]
        where = [line for line in output.traceback if line in lines][-1:]
        return v4.new_output(
            "error", ename=name, evalue=text, traceback=[*where, *f"{name}: {text}".split("\n")]
        )


def _is_repeated(line: str) -> bool:
    """Whether a line of a failed check may hold words of the submission."""
    match = _REPEATED.match(line)
    if match is None or match[1] is None:
        return match is not None
    return hasattr(builtins, match[1]) or match[1] in ("LinAlgError", "StudentError")


class SealedAutograde(nbgrader_autograde.Autograde):  # type: ignore[misc, unused-ignore]
    """nbgrader's ``autograde``, sealed, in parallel and one transaction per submission."""

    trust_submissions = Bool(
        False, help="Run submissions without a sandbox: only for one's own work."
    ).tag(config=True)
    scheduler = Unicode(None, allow_none=True, help="Address of a Dask scheduler to grade on.").tag(
        config=True
    )
    quiet = Bool(False, help="No progress bar.").tag(config=True)
    last_summary: Summary | None = None
    logs_summary = True  # nbgrader's own commands say nothing else

    def start(self) -> None:
        """Grade the submissions of the assignment."""
        if "Execute" in self.config and self.config.Execute.get("enabled") is False:
            message = "Without executing there is nothing to grade: leave out --no-execute."
            self.log.error(message)
            raise NbGraderException(message)
        if self.trust_submissions:
            self.log.warning(
                "--trust-submissions: the submitted code runs as you, with your files and your "
                "network. Use this for your own work only."
            )
            plain = nbgrader_autograde.Autograde.class_traits()
            self.sanitize_preprocessors = plain["sanitize_preprocessors"].default()
            self.autograde_preprocessors = plain["autograde_preprocessors"].default()
            super().start()
            return
        currdir = os.getcwd()
        os.chdir(self.coursedir.root)
        try:
            self.run_pre_convert_hook()
            summary = self._run()
            self.run_post_convert_hook()
        except (launch.GradingUnavailableError, BusyError) as error:
            self.log.error(str(error))
            raise NbGraderException(str(error)) from None
        finally:
            os.chdir(currdir)
        self.last_summary = summary
        for line in summary.text().splitlines() if self.logs_summary else ():
            (self.log.error if "NOT graded" in line else self.log.info)(line)
        if summary.stopped:
            raise KeyboardInterrupt
        if summary.failed:
            raise NbGraderException(f"{len(summary.failed)} submissions could not be graded")

    def _run(self) -> Summary:
        course = Course(self.coursedir, self.coursedir.db_url)
        sealed = SealedExecute(parent=self)
        late = AssignLatePenalties(parent=self)
        late.init_plugin()
        assignment = self.coursedir.assignment_id
        options = Options(
            jobs=sealed.jobs,
            force=self.force,
            students=self._students(course, assignment),
            limits=sealed.limits(),
            trusted_path=sealed.trusted_folders(),
            torch=sealed.torch,
            scheduler=self.scheduler,
            quiet=self.quiet,
            create_students=self.create_student,
            extra=self._extra_steps(),
            penalty=late.plugin_inst.late_submission_penalty,
            exclude=tuple(self.exclude_overwriting.get(assignment, [])),
            permissions=int(str(self.permissions), 8),
        )
        return Coordinator(course, assignment, options).run()

    def _students(self, course: Course, assignment: str) -> list[str] | None:
        pattern = self.coursedir.student_id
        excluded = set(filter(None, self.coursedir.student_id_exclude.split(",")))
        if pattern == "*" and not excluded:
            if not course.students(assignment):
                folder = course.folder("submitted", "*", assignment)
                message = f"No submissions of '{assignment}' in {folder}"
                self.log.error(message)
                raise NbGraderException(message)
            return None
        found = [
            student
            for student in course.students(assignment)
            if fnmatch.fnmatchcase(student, pattern) and student not in excluded
        ]
        return found or [pattern]

    def _extra_steps(self) -> list[Any]:
        """Preprocessors that the instructor added to nbgrader's or ours."""
        known = set(SANITIZE) | set(AUTOGRADE)
        known |= {
            f"nbgrader.preprocessors.{name}"
            for name in ("Execute", "ClearOutput", "DeduplicateIds", "IgnorePattern")
        }
        steps = []
        for item in self.autograde_preprocessors:
            name = item if isinstance(item, str) else f"{item.__module__}.{item.__name__}"
            short = name.rpartition(".")[2]
            if name in known or short in {entry.rpartition(".")[2] for entry in known}:
                continue
            if short == "ClearMetadataPreprocessor":
                continue
            if isinstance(item, str):
                module, _, attribute = item.rpartition(".")
                item = getattr(importlib.import_module(module), attribute)
            steps.append(item(parent=self) if isinstance(item, type) else item)
        return steps


def install() -> None:
    """Make nbgrader's command and the formgrader use `SealedAutograde`."""
    from nbgrader import converters
    from nbgrader.apps import api, autogradeapp

    for module in (converters, api, autogradeapp):
        module.Autograde = SealedAutograde


def configure(config: Any, root: str | os.PathLike[str]) -> None:
    """Switch the sealed grader on for a course.

    Parameters
    ----------
    config : traitlets.config.Config
        What ``get_config()`` returns in ``nbgrader_config.py``.
    root : path
        The course's folder.
    """
    folder = Path(root).resolve()
    config.CourseDirectory.root = str(folder)
    config.Autograde.sanitize_preprocessors = SANITIZE
    config.Autograde.autograde_preprocessors = AUTOGRADE
    config.OverwriteCells.add_missing_cells = True
    config.GenerateFeedback.preprocessors = [
        "nbgrader.preprocessors.GetGrades",
        "rnncourse.grading.nbgrader_plug.HideTests",
        "nbconvert.preprocessors.CSSHTMLHeaderPreprocessor",
    ]
    names = ("highlight_code", "markdown2html")  # in feedback and in the formgrader
    config.HTMLExporter.filters.update({n: f"rnncourse.grading.rendering.{n}" for n in names})
    # nbgrader looks for `alembic` on the path when it makes a gradebook.
    programs = str(Path(sys.executable).parent)
    if programs not in os.environ.get("PATH", "").split(os.pathsep):
        os.environ["PATH"] = os.pathsep.join([programs, os.environ.get("PATH", "")])
    install()
