"""What can be wrong with the database as a whole."""

from __future__ import annotations

from appliance.errors import AppError


class DatabaseTooNew(AppError):
    """A newer R1 Box has migrated the database."""

    code = "database_too_new"
    template = "The database {path} is of a newer R1 Box (revision {found}); this one knows revisions up to {known}."
    hint_template = "Start the newer version again, or restore the backup that was made before the update."


class DatabaseUnusable(AppError):
    """The file is not a database, is damaged, or cannot be opened."""

    code = "database_unusable"
    template = "The database {path} cannot be used: {reason}."
    hint_template = "Restore it from a backup, or move it away to begin with an empty one (keys must be made again)."


class DatabaseBusy(AppError):
    """Another process holds the database's lock for too long."""

    code = "database_busy"
    template = "Another process has kept the database {path} locked for {waited_s} seconds."
    hint_template = "See which r1box processes run; one of them hangs or is still migrating."
