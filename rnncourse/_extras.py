"""Packages that only a few functions need: what says which of them is missing."""

from __future__ import annotations

import importlib.util


def require(package: str, extra: str) -> None:
    """Make sure of a package that is no hard dependency, without the time that its import takes.

    Parameters
    ----------
    package : str
        What is needed.
    extra : str
        The extra of `rnncourse` that brings it.

    Raises
    ------
    ModuleNotFoundError
        If the package is not installed; the message says what to install.

    Examples
    --------
    >>> require("numpy", extra="plots")
    >>> require("no_such_package", extra="plots")
    Traceback (most recent call last):
        ...
    ModuleNotFoundError: this needs no_such_package: pip install 'rnncourse[plots]'
    """
    if importlib.util.find_spec(package) is None:
        raise ModuleNotFoundError(
            f"this needs {package}: pip install 'rnncourse[{extra}]'", name=package
        )
