"""What can keep a local server from running, each said in one line with its remedy.

LocalServerError
├── JavaUnusable        no Java on this machine, or one that is too old
├── JarsUnavailable     Kafka's jars are absent or could not be fetched
├── PortTaken           another process listens on the port
├── DiskFull            too little room for the data directory
├── DirectoryInUse      another Chatgauge runs on the same data directory
├── StartFailed         the process ended, or did not answer in time
└── TopicsDiffer        a topic exists with other partitions than it must have
"""


class LocalServerError(Exception):
    """The message is one line for a person: what is wrong and what to do."""


class JavaUnusable(LocalServerError):
    pass


class JarsUnavailable(LocalServerError):
    pass


class PortTaken(LocalServerError):
    pass


class DiskFull(LocalServerError):
    pass


class DirectoryInUse(LocalServerError):
    pass


class StartFailed(LocalServerError):
    """Carries the end of the process's log, which says why."""

    def __init__(self, message: str, log_tail: str = "") -> None:
        super().__init__(message)
        self.log_tail = log_tail


class TopicsDiffer(LocalServerError):
    pass
