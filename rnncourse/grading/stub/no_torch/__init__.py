"""Stands where torch would be for an assignment that does not use it."""

raise ModuleNotFoundError("torch is not part of this assignment", name="torch")
