"""``/api/chats`` and ``/api/attachments``: the page's chats."""
