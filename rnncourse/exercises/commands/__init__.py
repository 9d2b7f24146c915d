"""The subcommands for students who work alone: check one notebook, or see how far all are."""
