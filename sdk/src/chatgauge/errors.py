"""What the library raises: only when a gauge is made, never when a chat is measured.

ChatgaugeError
└── ConfigurationError
"""


class ChatgaugeError(Exception):
    """The root of all errors of this library."""


class ConfigurationError(ChatgaugeError, ValueError):
    """A setting is missing or wrong; the message says which, and what to do."""
