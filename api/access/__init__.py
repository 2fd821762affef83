"""Who may change things: whoever holds the admin key."""
