"""ClickHouse's errors, as its HTTP interface shows them."""

import re

_CODE = re.compile(r"Code: (\d+)\. ")

UNKNOWN = 1002
SYNTAX_ERROR = 62
NOT_IMPLEMENTED = 48
UNKNOWN_SETTING = 115
READONLY = 164
BAD_REQUEST_PARAMETER = 472
TOO_MANY_BYTES = 307
SESSION_NOT_FOUND = 372
SESSION_IS_LOCKED = 373
AUTHENTICATION_FAILED = 516
CANNOT_DECOMPRESS = 271
CANNOT_WRITE = 75
TIMEOUT_EXCEEDED = 159
NOT_ENOUGH_SPACE = 243

_NAMES = {
    SYNTAX_ERROR: "SYNTAX_ERROR",
    NOT_IMPLEMENTED: "NOT_IMPLEMENTED",
    UNKNOWN_SETTING: "UNKNOWN_SETTING",
    READONLY: "READONLY",
    BAD_REQUEST_PARAMETER: "BAD_REQUEST_PARAMETER",
    TOO_MANY_BYTES: "TOO_MANY_BYTES",
    SESSION_NOT_FOUND: "SESSION_NOT_FOUND",
    SESSION_IS_LOCKED: "SESSION_IS_LOCKED",
    AUTHENTICATION_FAILED: "AUTHENTICATION_FAILED",
    CANNOT_DECOMPRESS: "CANNOT_DECOMPRESS",
    NOT_ENOUGH_SPACE: "NOT_ENOUGH_SPACE",
    CANNOT_WRITE: "CANNOT_WRITE_TO_FILE_DESCRIPTOR",
}

# As the server maps them; every other code is a 500.
_STATUS = {
    403: (AUTHENTICATION_FAILED, 192, 193, 497),
    401: (194,),
    400: (6, 26, 27, 38, 41, 53, 62, 69, 70, 72, 117, 130, 131, 321, 457, 472),
    404: (46, 47, 50, 56, 57, 60, 61, 63, 73, 78, 79, 81, 115, 336, 372),
    408: (TIMEOUT_EXCEEDED,),
    413: (TOO_MANY_BYTES,),
    501: (NOT_IMPLEMENTED,),
    503: (76, 209, 439),
}
_STATUS_OF = {code: status for status, codes in _STATUS.items() for code in codes}


class ClickHouseError(Exception):
    """A query that failed, with ClickHouse's code and its text («Code: 60. DB::Exception: …»)."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text

    @classmethod
    def of(cls, code: int, message: str) -> "ClickHouseError":
        """An error that the interface itself raises."""
        return cls(code, f"Code: {code}. DB::Exception: {message}. ({_NAMES[code]})")

    @classmethod
    def from_engine(cls, error: Exception) -> "ClickHouseError":
        """What the engine says, without what its Python binding puts before it."""
        text = str(error)
        found = _CODE.search(text)
        if found is None:
            return cls(UNKNOWN, f"Code: {UNKNOWN}. DB::Exception: {text} (UNKNOWN_EXCEPTION)")
        return cls(int(found[1]), text[found.start() :].strip())

    @property
    def status(self) -> int:
        """The HTTP status of the answer."""
        return _STATUS_OF.get(self.code, 500)
