"""What jobs are refused for."""

from __future__ import annotations

from appliance.errors import AppError


class JobNotFound(AppError):
    """There is no such job, or it is so old that it was forgotten."""

    code = "job_not_found"
    http_status = 404
    template = "There is no job '{job}'."
    hint_template = "The list of jobs shows those that are remembered."


class JobNotCancellable(AppError):
    """It has ended, or it is of a kind that ends only by itself."""

    code = "job_not_cancellable"
    http_status = 409
    template = "The job '{job}' cannot be cancelled: {reason}."
    hint_template = None


class TooManyJobs(AppError):
    """The queue of jobs is full."""

    code = "too_many_jobs"
    http_status = 429
    template = "{waiting} jobs wait already."
    hint_template = "Wait until some have ended, or cancel some."
    retry_after_s = 60


class PathNotAllowed(AppError):
    """A path that jobs may not read or write. It does not say whether there is such a file."""

    code = "path_not_allowed"
    http_status = 403
    template = "Jobs may not use '{path}': it is in none of the allowed folders ({allowed})."
    hint_template = (
        "Put in a stick, or name the folder in the setting job_folders. On the box itself the command line takes any "
        "path: r1box models import PATH"
    )


class PathNotThere(AppError):
    """An allowed path with nothing there."""

    code = "path_not_there"
    http_status = 404
    template = "There is nothing at '{path}' that the box can read."
    hint_template = "Look whether the stick is mounted and the path is right."


class JobCancelled(Exception):
    """Raised inside a job's work when it is to end. Not for clients."""
