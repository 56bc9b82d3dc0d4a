"""What was used: a row per request for a while, a sum per key, user, model and day for ever."""
