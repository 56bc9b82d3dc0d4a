"""What can be wrong with keys, users, sessions and certificates."""

from __future__ import annotations

from appliance.errors import AppError


class BadKeyName(AppError):
    """The name cannot be used."""

    code = "bad_key_name"
    http_status = 400
    template = "The name {name!r} cannot be used for a key: {reason}."
    hint_template = "Use 1 to 64 printable characters, such as: ward-3-app"


class BadKeyGrant(AppError):
    """What a key should have makes no sense."""

    code = "bad_key_grant"
    http_status = 400
    template = "The key cannot be made like this: {reason}."


class KeyNameTaken(AppError):
    """A live key has the name."""

    code = "key_name_taken"
    http_status = 409
    template = "There is a key with the name '{name}' already."
    hint_template = "Choose another name, or end the old one with: r1box keys revoke {name}"


class KeyNotFound(AppError):
    """No live key has the name."""

    code = "key_not_found"
    http_status = 404
    template = "There is no live key with the name '{name}'."
    hint_template = "r1box keys list shows them."


class BadUserName(AppError):
    """The name cannot be used."""

    code = "bad_user_name"
    http_status = 400
    template = "The name {name!r} cannot be used for a user: {reason}."
    hint_template = "Use 1 to 64 letters, digits, dots, hyphens, underscores or @, such as: li.wei"


class UserNameTaken(AppError):
    """Another user has the name, be it in capitals."""

    code = "user_name_taken"
    http_status = 409
    template = "There is a user with the name '{name}' already."
    hint_template = "Choose another name."


class UserNotFound(AppError):
    """No user has the name or id."""

    code = "user_not_found"
    http_status = 404
    template = "There is no user '{user}'."
    hint_template = "r1box users list shows them."


class BadPassword(AppError):
    """The password cannot be used; it is never quoted."""

    code = "bad_password"
    http_status = 400
    template = "This password cannot be used: {reason}."
    hint_template = "Take at least 10 characters that are not easily guessed; a few words with spaces are fine."


class LastAdmin(AppError):
    """The change would leave the box without an administrator who can log in."""

    code = "last_admin"
    http_status = 409
    template = "'{name}' is the only administrator who can log in."
    hint_template = "Make another one first: r1box users create NAME --role admin"


class LoginFailed(AppError):
    """Name or password is wrong; which of them, or whether the user is disabled, is not told."""

    code = "login_failed"
    http_status = 401
    template = "The name or the password is wrong."
    hint_template = "A forgotten password is reset on the box itself: r1box users reset NAME"


class LoginThrottled(AppError):
    """Too many failed logins."""

    code = "login_throttled"
    http_status = 429
    template = "There were too many failed logins. The next one is possible in {wait_s} seconds."
    hint_template = "On the box itself no login is needed: r1box users reset NAME"

    def __init__(self, *, wait_s: int) -> None:
        super().__init__(wait_s=wait_s)
        self.retry_after_s = wait_s


class SetupClosed(AppError):
    """There is an administrator already, or the token is not the one of this box."""

    code = "setup_closed"
    http_status = 403
    template = "{problem}"
    hint_template = "On the box itself: r1box users setup-token shows the token while there is no administrator."


class SessionNotFound(AppError):
    """No live session has the id."""

    code = "session_not_found"
    http_status = 404
    template = "There is no live session {id}."


class TooMuchGranted(AppError):
    """Someone tried to give away more than they have."""

    code = "too_much_granted"
    http_status = 403
    template = "You cannot grant what you may not do yourself: {permissions}."


class NotLoggedIn(AppError):
    """The session has ended, or was ended."""

    code = "not_logged_in"
    http_status = 401
    template = "This session has ended."
    hint_template = "Log in again."


class Forbidden(AppError):
    """The caller is known and may not do this."""

    code = "forbidden"
    http_status = 403
    template = "{who} may not do this: it needs '{needed}'."
    hint_template = "An administrator gives keys their scopes and people their roles."


class LocalOnly(AppError):
    """Only possible on the box itself."""

    code = "local_only"
    http_status = 403
    template = "This is possible on the box itself alone."
    hint_template = "Use the console, or there: {command}"


class PasswordChangeNeeded(AppError):
    """Somebody else chose this person's password."""

    code = "password_change_needed"
    http_status = 403
    template = "First choose a password of your own."
    hint_template = "POST /api/auth/password"


class CsrfRejected(AppError):
    """A request with a session's cookie that its page may not have meant to send."""

    code = "csrf_rejected"
    http_status = 403
    template = "The request came with a session but {problem}."
    hint_template = "Send the csrf_token that GET /api/auth/me gives in the header X-R1Box-CSRF."


class ForeignOrigin(AppError):
    """A page of another server asks."""

    code = "foreign_origin"
    http_status = 403
    template = "Pages of {origin} may not use this box."
    hint_template = "An operator can allow it: allowed_origins in the settings."


class KeyInUrl(AppError):
    """A secret was sent in the address."""

    code = "key_in_url"
    http_status = 400
    template = "The address holds a key. Addresses end up in logs and histories; consider the key known to others."
    hint_template = "Send it as 'Authorization: Bearer r1b_...', and replace the key: r1box keys revoke NAME"


class CertificateUnusable(AppError):
    """Certificate or key cannot be read, do not belong together, or cannot be written."""

    code = "certificate_unusable"
    template = "The certificate in {path} cannot be used: {reason}."
    hint_template = (
        'r1box tls show says what there is, r1box tls new-authority starts over, tls = "off" serves without.'
    )


class ModelNotAllowed(AppError):
    """The key may not ask for this model."""

    code = "model_not_allowed"
    http_status = 403
    template = "The key '{key}' may not use the model '{model}'. It may use: {allowed}."


class RateLimited(AppError):
    """A limit per minute is reached."""

    code = "rate_limit_exceeded"
    http_status = 429
    template = "{who} may use {limit:,} {what} per minute, and has. Try again in {wait_s} seconds."
    hint_template = "Send less at a time, or ask an administrator for a higher limit."

    def __init__(self, *, what: str, limit: int, wait_s: int, who: str = "This key") -> None:
        super().__init__(who=who, what=what, limit=limit, wait_s=wait_s)
        self.retry_after_s = max(wait_s, 1)


class QuotaExceeded(AppError):
    """The day's tokens are used up, or set aside for requests that run now."""

    code = "quota_exceeded"
    http_status = 429
    template = (
        "{who} may use {limit:,} tokens per day: {used:,} are used, {reserved:,} set aside for running requests, "
        "and this request needs {wanted:,}. The day ends in {reset_s:,} seconds, at 00:00 UTC."
    )
    hint_template = "Set a smaller max_tokens, wait, or ask an administrator for a higher quota."

    def __init__(
        self, *, limit: int, used: int, reserved: int, wanted: int, wait_s: int, reset_s: int, who: str = "This key"
    ) -> None:
        super().__init__(
            who=who, limit=limit, used=used, reserved=reserved, wanted=wanted, wait_s=wait_s, reset_s=reset_s
        )
        self.retry_after_s = max(wait_s, 1)
