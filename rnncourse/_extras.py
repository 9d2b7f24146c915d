"""Packages that only a few functions need: what says which of them is missing."""

from __future__ import annotations

import importlib


def require(package: str, extra: str) -> None:
    """Import a package that is no hard dependency, or say how to install it.

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
    try:
        importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise
        raise ModuleNotFoundError(
            f"this needs {package}: pip install 'rnncourse[{extra}]'", name=package
        ) from None
