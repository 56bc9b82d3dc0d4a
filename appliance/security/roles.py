"""What may be done here, and which role may do it.

Roles are a ladder: each may all that the one below it may. A key has scopes, which are permissions too; a key that
belongs to a user never may more than its user.
"""

from __future__ import annotations

from enum import StrEnum


class Permission(StrEnum):
    """A group of routes. The values are the names of the scopes that keys have.

    ``inference``: ask models. ``metrics``: Prometheus. ``admin:read``: see how the box does. ``admin:write``: change
    what it does (models, engine, jobs). ``accounts:read``: see users, keys, sessions, usage and the request log.
    ``accounts:write``: change users, keys and sessions. ``audit:read``: the audit log. ``settings:write``: settings.
    """

    INFERENCE = "inference"
    METRICS = "metrics"
    ADMIN_READ = "admin:read"
    ADMIN_WRITE = "admin:write"
    ACCOUNTS_READ = "accounts:read"
    ACCOUNTS_WRITE = "accounts:write"
    AUDIT_READ = "audit:read"
    SETTINGS_WRITE = "settings:write"


class Role(StrEnum):
    """What a person is to the box, from the least to the most."""

    VIEWER = "viewer"
    USER = "user"
    OPERATOR = "operator"
    ADMIN = "admin"


EVERYTHING = frozenset(Permission)
_VIEWER = frozenset((Permission.ADMIN_READ, Permission.METRICS))
_USER = _VIEWER | {Permission.INFERENCE}
_OPERATOR = _USER | {Permission.ADMIN_WRITE, Permission.ACCOUNTS_READ}

PERMISSIONS: dict[Role, frozenset[Permission]] = {
    Role.VIEWER: _VIEWER,
    Role.USER: _USER,
    Role.OPERATOR: _OPERATOR,
    Role.ADMIN: EVERYTHING,
}
