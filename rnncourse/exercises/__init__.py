"""Checks for the exercises: each knows the right answer, and the mistakes that students make."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["CheckFailed", "check"]


class CheckFailed(AssertionError):
    """A check found something wrong; the text is the feedback for the student."""

    is_feedback = True

    def _render_traceback_(self) -> list[str]:
        """Return what IPython shows in place of a traceback through the checking code."""
        from rnncourse.exercises.checking import wrapped

        return [wrapped(f"CheckFailed: {self}")]


def check(name: str, function: Callable[..., Any], *, hidden: bool = False) -> None:
    """Compare a solution with the reference on many inputs.

    Parameters
    ----------
    name : str
        Name of the exercise.
    function : callable
        The solution; the grader passes a proxy of it.
    hidden : bool, optional
        Draw fresh inputs, and keep them and the expected values out of the feedback.

    Raises
    ------
    CheckFailed
        If the solution is wrong; the text says what is wrong and where to reread.
    KeyError
        If there is no exercise of that name.

    Examples
    --------
    >>> from rnncourse.clipping import global_norm
    >>> check("global_norm", global_norm)
    global_norm is right in all 9 calls.
    """
    from rnncourse.exercises.checking import judge
    from rnncourse.exercises.registry import get_exercise

    verdict = judge(get_exercise(name), function, hidden=hidden)
    if verdict.printed and not hidden:
        print(verdict.printed, end="" if verdict.printed.endswith("\n") else "\n")
    if not verdict.passed:
        raise CheckFailed(verdict.text)
    where = "hidden calls" if hidden else "calls"
    print(f"{name} is right in all {verdict.calls} {where}.")
