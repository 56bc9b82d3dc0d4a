"""Who may use the box."""
