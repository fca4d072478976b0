"""These are programs, some for interpreters with packages that this one has not: no tests to be collected."""

collect_ignore_glob = ["*.py"]
