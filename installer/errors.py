"""What an installation refuses or fails with: a stable code, a plain message, what to do next."""

from __future__ import annotations

from drivers.errors import DriverError


class InstallRefused(DriverError):
    """Nothing was changed. ``code`` is one of ``answers_unreadable``, ``answers_invalid``, ``no_disk_matches``,
    ``two_disks_match``, ``disk_unusable``, ``disk_too_small``, ``wipe_not_confirmed``, ``machine_unfit``,
    ``inventory_unreadable``, ``payload_missing``, ``journal_of_another_plan``, ``journal_unreadable``,
    ``journal_finished`` or ``nothing_to_resume``."""


class InstallFailed(DriverError):
    """An action failed after others had been carried out: ``code`` is ``action_failed``, ``disk_changed`` or
    ``copy_damaged``. The journal knows how far it came."""
