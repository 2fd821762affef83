"""What can keep a local server from running, each said in one line with its remedy.

LocalServerError
├── JavaUnusableError        no Java on this machine, or one that is too old
├── JarsUnavailableError     Kafka's jars are absent or could not be fetched
├── PortTakenError           another process listens on the port
├── DiskFullError            too little room for the data directory
├── DirectoryInUseError      another Chatgauge runs on the same data directory
├── StartFailedError         the process ended, or did not answer in time
└── TopicsDifferError        a topic exists with other partitions than it must have
"""


class LocalServerError(Exception):
    """The message is one line for a person: what is wrong and what to do."""


class JavaUnusableError(LocalServerError):
    pass


class JarsUnavailableError(LocalServerError):
    pass


class PortTakenError(LocalServerError):
    pass


class DiskFullError(LocalServerError):
    pass


class DirectoryInUseError(LocalServerError):
    pass


class StartFailedError(LocalServerError):
    """Carries the end of the process's log, which says why."""

    def __init__(self, message: str, log_tail: str = "") -> None:
        super().__init__(message)
        self.log_tail = log_tail
        if log_tail:
            self.add_note(log_tail)


class TopicsDifferError(LocalServerError):
    pass
