"""The sealed grader: nothing stolen, nothing broken, nothing lost.

nbgrader runs a student's notebook and the tests in one kernel, as the instructor. Here a
coordinator, which runs nobody's code, writes the gradebook; a trusted process runs the test cells;
and the submitted code runs in a process of its own that sees no reference, no tests, no network and
no files but its own. The last two talk over a wire that carries numbers and text, never pickles.

An nbgrader course switches it on with two lines in its ``nbgrader_config.py``::

    from rnncourse.grading.nbgrader_plug import configure

    configure(get_config(), ".")

Importing this package imports neither nbgrader nor anything of a sandbox.
"""

from __future__ import annotations

from .launch import (
    Cell,
    GradingUnavailableError,
    Limits,
    Profile,
    SandboxError,
    Task,
    ensure_available,
    grade_task,
    why_unavailable,
)

__all__ = [
    "Cell",
    "GradingUnavailableError",
    "Limits",
    "Profile",
    "SandboxError",
    "Task",
    "ensure_available",
    "grade_task",
    "why_unavailable",
]
