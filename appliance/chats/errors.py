"""What can be wrong with chats and attachments. What belongs to somebody else is not told from what does not exist."""

from __future__ import annotations

from appliance.errors import AppError


class ChatNotFound(AppError):
    """The caller has no such chat."""

    code = "chat_not_found"
    http_status = 404
    template = "You have no chat {chat_id}."


class MessageNotFound(AppError):
    """The chat has no such message."""

    code = "message_not_found"
    http_status = 404
    template = "The chat has no message {message_id}."


class BadParent(AppError):
    """A message cannot stand where it should."""

    code = "bad_parent"
    http_status = 400
    template = "{problem}"

    def __init__(self, problem: str) -> None:
        super().__init__(problem=problem, param="parent_id")


class AnswerRunning(AppError):
    """The answer must have ended first."""

    code = "answer_running"
    http_status = 409
    template = "The answer before this is still being written."
    hint_template = "Wait for it, or stop it."


class AnswerOver(AppError):
    """The answer has ended already."""

    code = "answer_over"
    http_status = 409
    template = "This answer has ended."


class TooManyAnswers(AppError):
    """One person has as many answers under way as one may."""

    code = "too_many_answers"
    http_status = 429
    template = "{running} of your answers are being written; more at a time are not possible."
    hint_template = "Wait for one of them, or stop one."
    retry_after_s = 5


class ChatFull(AppError):
    """A chat holds all that one may."""

    code = "chat_full"
    http_status = 409
    template = "This chat is full: {reason}."
    hint_template = "Begin another one."


class ChatSpaceUsed(AppError):
    """A person's chats take all the space that they may."""

    code = "chat_space_used"
    http_status = 409
    template = "Your chats and attachments take {used_bytes:,} bytes; {limit_bytes:,} are yours."
    hint_template = "Delete chats that you do not need any more."


class BadSearch(AppError):
    """The words cannot be searched for."""

    code = "bad_search"
    http_status = 400
    template = "This cannot be searched for: {reason}."


class BadCursor(AppError):
    """A cursor that no list gave."""

    code = "bad_cursor"
    http_status = 400
    template = "The cursor is not one that a list gave."


class AttachmentNotFound(AppError):
    """The caller has no such attachment."""

    code = "attachment_not_found"
    http_status = 404
    template = "You have no attachment {attachment_id}."
    hint_template = "An attachment that no message has is forgotten after a day."


class AttachmentInUse(AppError):
    """A message has it, or one of another chat."""

    code = "attachment_in_use"
    http_status = 409
    template = "The attachment belongs to a message of chat {chat_id}."
    hint_template = "It goes with that chat. Attach the file again to use it in another one."


class TooManyAttachments(AppError):
    """More files than one message, or one person, may have waiting."""

    code = "too_many_attachments"
    http_status = 409
    template = "More than {most} attachments are not possible {where}."


class AttachmentTooLarge(AppError):
    """The file, or its text, is longer than what is taken."""

    code = "attachment_too_large"
    http_status = 413
    template = "'{name}' has {problem}."
    hint_template = "Attach a part of it: no model here could read so much at once."


class AttachmentUnreadable(AppError):
    """No text can be had from the file."""

    code = "attachment_unreadable"
    http_status = 422
    template = "'{name}' cannot be read: {reason}."
    hint_template = "Text, Markdown, CSV, source code and PDF files with text can be attached."
