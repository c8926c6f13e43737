"""A factor file as a field of a pydantic model: `FactorFile.from_json` reads it, and `to_json` writes it.

Fields of later versions are ignored, as they are in the results that hold it.
"""

import json
from typing import Annotated

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from ropewalk.factors.factor_file import FactorFile
from ropewalk.reading.reader import known
from ropewalk.reading.writer import schema, write

FACTOR_FILE_SCHEMA: JsonSchemaValue = {
    **schema(FactorFile),
    "description": "a factor file (`ropewalk.factors/1`)",
}


def read_factors(value: object) -> FactorFile:
    """The file that a JSON value is.

    Raises:
        InvalidFactorFile: it is none.
    """
    return value if isinstance(value, FactorFile) else FactorFile.from_json(json.dumps(value))


def read_result(value: object) -> FactorFile:
    """The file that a JSON value of a server is: fields of later versions are ignored.

    Raises:
        InvalidFactorFile: it is none.
    """
    return value if isinstance(value, FactorFile) else read_factors(known(FactorFile, value))


def _write(file: FactorFile) -> object:
    return write(file)


class _AsFactorFile:
    """Makes a field of type `FactorFile` one that pydantic reads and writes as the file's JSON."""

    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        written = core_schema.plain_serializer_function_ser_schema(_write)
        return core_schema.no_info_plain_validator_function(read_result, serialization=written)

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return FACTOR_FILE_SCHEMA


FactorFileValue = Annotated[FactorFile, _AsFactorFile]
