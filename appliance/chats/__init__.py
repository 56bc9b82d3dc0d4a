"""The page's chats: kept in the box's database, searched, answered by the daemon whether or not anybody looks on."""
