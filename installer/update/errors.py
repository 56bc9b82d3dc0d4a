"""What an update refuses or fails with."""

from __future__ import annotations

from drivers.errors import DriverError


class UpdateRefused(DriverError):
    """Nothing was changed. ``code`` is ``update_unreadable``, ``update_not_trusted``, ``update_for_other_box``,
    ``update_would_break_cards``, ``update_busy``, ``system_not_proved``, ``no_earlier_system`` or ``bad_request``."""

    def __init__(self, code: str, message: str, hint: str | None = None, *, http_status: int = 409) -> None:
        super().__init__(code, message, hint, http_status=http_status)


class UpdateFailed(DriverError):
    """``update_failed``: the running system is as it was, the other slot holds no system now and is not started."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__("update_failed", message, hint)
