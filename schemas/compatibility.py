"""Whether records written with one version of a schema can be read as another."""

from schemas.contract import Schema
from schemas.errors import UnsupportedSchemaError
from schemas.resolution import field_types, resolve


def incompatibilities(writer: Schema, reader: Schema) -> list[str]:
    """What could go wrong when values of `writer` are read with `reader`; empty when nothing can."""
    found: list[str] = []
    if writer.name != reader.name:
        found.append(f"{writer.name} is not {reader.name}")
    for name in reader.fields:
        try:
            resolve(writer, reader, [name])
        except UnsupportedSchemaError as error:
            found.append(str(error))
    written, wanted = field_types(writer), field_types(reader)
    for name in written.keys() & wanted.keys():
        source, into = written[name], wanted[name]
        if source.nullable and not into.nullable:
            found.append(f"{name}: may be null where it was written, but not where it is read")
        lost = [symbol for symbol in source.symbols if symbol not in into.symbols]
        if lost and into.default_symbol is None:
            found.append(
                f"{name}: {', '.join(lost)} is unknown where it is read, and the enum has no default"
            )
    return found
