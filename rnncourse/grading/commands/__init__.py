"""The grader's subcommands of ``rnncourse``."""
