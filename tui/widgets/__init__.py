"""Parts of screens: they take values and send messages, and ask nobody."""
