"""Keep doctest collection away from modules that only make sense inside the sandbox."""

collect_ignore_glob = ["stub/*", "inside/parent.py"]
