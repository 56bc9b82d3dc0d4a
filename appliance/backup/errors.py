"""What backups, restores and resets are refused for."""

from __future__ import annotations

from appliance.errors import AppError


class BackupUnreadable(AppError):
    """The file is no backup, or cannot be read at all."""

    code = "backup_unreadable"
    http_status = 400
    template = "{path} cannot be read as a backup: {reason}."
    hint_template = "Backups end in .r1backup; r1box backup list shows those of this box."


class BackupTooNew(AppError):
    """A newer R1 Box wrote it."""

    code = "backup_too_new"
    http_status = 409
    template = "{path} was written by a newer R1 Box ({found}); this one knows {known}."
    hint_template = "Update this box first, then restore."


class WrongPassphrase(AppError):
    """The passphrase does not open it, or its first bytes were changed; which of the two nobody can tell."""

    code = "backup_wrong_passphrase"
    http_status = 400
    template = "The passphrase does not open {path}."
    hint_template = "Type it again, and mind capitals and the keyboard's layout. If it is right, the file was changed."


class BackupDamaged(AppError):
    """It is not what was written: truncated, changed, put together from others, or never made by a box."""

    code = "backup_damaged"
    http_status = 400
    template = "{path} is not whole: {reason}. Nothing was changed."
    hint_template = "Copy it again from where it came, or take another backup."


class BackupNoRoom(AppError):
    """The disk is too full."""

    code = "backup_no_room"
    http_status = 507
    template = "{path} has {free_mib:,} MiB free; {needed_mib:,} MiB are needed."
    hint_template = "Make room there, or choose another place."


class BackupTargetUnusable(AppError):
    """The place for the backup cannot be written."""

    code = "backup_target_unusable"
    http_status = 400
    template = "The backup could not be written to {path}: {reason}."
    hint_template = "Look whether the stick is in, mounted and writable. A FAT32 stick holds files up to 4 GiB."


class StateDamaged(AppError):
    """The database of this box is damaged, so a copy of it would be worth nothing."""

    code = "state_damaged"
    http_status = 500
    template = "The database is damaged ({problem}); no backup was made of it, and the ones there are were kept."
    hint_template = "Restore the newest backup: r1box backup restore FILE"


class BadPassphrase(AppError):
    """Too short to keep anybody out."""

    code = "bad_passphrase"
    http_status = 400
    template = "A passphrase for backups has {least} characters or more, {most} at most."
    hint_template = "Five words that do not belong together are easy to keep and hard to guess."


class PassphraseMissing(AppError):
    """None was given, and none is set for this box."""

    code = "backup_passphrase_missing"
    http_status = 400
    template = "There is no passphrase for the backup: none was given, and none is set on this box."
    hint_template = "Give one, or set it once for all backups: r1box backup passphrase"


class BackupNotFound(AppError):
    """There is no such backup in the box's folder."""

    code = "backup_not_found"
    http_status = 404
    template = "There is no backup '{name}' in the box's folder."
    hint_template = "GET /api/admin/backups lists them."


class StateInUse(AppError):
    """Another process works with the state folder."""

    code = "state_in_use"
    http_status = 409
    template = "The state folder {path} is in use by a running R1 Box."
    hint_template = "It takes effect when that restarts: systemctl restart r1box"
