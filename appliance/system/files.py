"""How many files this process may open: every connection is one."""

from __future__ import annotations

import resource


def allow_many_files() -> int:
    """Raise the soft limit to the hard one; the limit then. Shells commonly give 1,024 of half a million."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard if hard != resource.RLIM_INFINITY else 1_048_576
