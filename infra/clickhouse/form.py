"""A request that is a form (multipart/form-data): the statement and its parameters, when they are long."""

from email.message import Message

from infra.clickhouse.errors import BAD_REQUEST_PARAMETER, NOT_IMPLEMENTED, ClickHouseError

CONTENT_TYPE = "multipart/form-data"


def fields(content_type: str, body: bytes) -> dict[str, str]:
    """The form's fields by name. Raises ClickHouseError for files, which would be external tables, and for
    what is no form."""
    boundary = _header(content_type).get_boundary()
    if not boundary:
        raise _refusal("the form says no boundary")
    found: dict[str, str] = {}
    first, *parts = (b"\r\n" + body).split(b"\r\n--" + boundary.encode())
    if first or not parts or not parts[-1].startswith(b"--"):
        raise _refusal("the form is cut off, or doesn't begin with its boundary")
    for part in parts[:-1]:
        head, separator, content = part.partition(b"\r\n\r\n")
        told = [line for line in head.split(b"\r\n") if line.lower().startswith(b"content-disposition:")]
        disposition = _header(told[0].partition(b":")[2].decode(errors="surrogateescape")) if told else None
        name = disposition.get_param("name") if disposition else None
        if not separator or disposition is None or not isinstance(name, str):
            raise _refusal("a part of the form has no name")
        if disposition.get_param("filename") is not None:
            raise ClickHouseError.of(NOT_IMPLEMENTED, "External tables are not served")
        found[name] = content.decode(errors="surrogateescape")
    return found


def _header(value: str) -> Message:
    message = Message()
    message["content-type"] = value.strip()
    return message


def _refusal(detail: str) -> ClickHouseError:
    return ClickHouseError.of(BAD_REQUEST_PARAMETER, f"The request can't be read: {detail}")
