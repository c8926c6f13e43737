"""Factor files as fields of specs and results: `FactorFile.from_json` reads them, and `to_json` writes them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from search_space.errors import InvalidFactorFile
from search_space.factors.factor_file import FactorFile
from search_space.reading.writer import schema, write
from service.errors import InvalidSpec

FACTOR_FILE_SCHEMA: JsonSchemaValue = {
    **schema(FactorFile),
    "description": "a factor file (`ropewalk.factors/1`)",
}


def _read(value: object) -> FactorFile:
    return value if isinstance(value, FactorFile) else FactorFile.from_json(json.dumps(value))


def _write(file: FactorFile) -> object:
    return write(file)


class _AsFactorFile:
    """Makes a field of type `FactorFile` one that pydantic reads and writes as the file's JSON."""

    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        written = core_schema.plain_serializer_function_ser_schema(_write)
        return core_schema.no_info_plain_validator_function(_read, serialization=written)

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return FACTOR_FILE_SCHEMA


FactorFileValue = Annotated[FactorFile, _AsFactorFile]


@dataclass(frozen=True, slots=True)
class GivenFactors:
    """A factor file that a spec gives: kept as it was written, so that the spec's own text is what was submitted."""

    value: Mapping[str, Any]

    def read(self) -> FactorFile:
        """The file.

        Raises:
            InvalidSpec: it is none; names the field inside it.
        """
        try:
            return _read(self.value)
        except InvalidFactorFile as error:
            raise InvalidSpec(str(error), pointer=f"/factors{error.pointer}") from error

    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        written = core_schema.plain_serializer_function_ser_schema(lambda given: given.value)
        return core_schema.no_info_after_validator_function(cls, core_schema.dict_schema(), serialization=written)

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return FACTOR_FILE_SCHEMA
