"""Factor files that specs give."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from ropewalk.errors import InvalidFactorFile
from ropewalk.factors.factor_file import FactorFile
from ropewalk.wire.factor_value import FACTOR_FILE_SCHEMA, read_factors
from service.errors import InvalidSpec


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
            return read_factors(self.value)
        except InvalidFactorFile as error:
            raise InvalidSpec(f"factors must be a factor file: {error}", pointer=f"/factors{error.pointer}") from error

    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        written = core_schema.plain_serializer_function_ser_schema(lambda given: given.value)
        return core_schema.no_info_after_validator_function(cls, core_schema.dict_schema(), serialization=written)

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return FACTOR_FILE_SCHEMA
