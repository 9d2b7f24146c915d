"""Shared by the grader's tests: skip where there is no sandbox."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session", autouse=True)
def sandbox() -> None:
    """Everything here needs the sandbox."""
    from rnncourse.grading import why_unavailable

    reason = why_unavailable()
    if reason is not None:
        pytest.skip(reason)
