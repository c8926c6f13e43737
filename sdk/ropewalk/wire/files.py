"""The files that a job has left, as a server sends them."""

from pydantic import Field

from ropewalk.wire.jobs import Resource


class FileResource(Resource):
    """One file, whole."""

    name: str = Field(description="factors.json, or checkpoint/... ; the last part of its address")
    bytes: int
    sha256: str = Field(description="of its content")


class FileList(Resource):
    """All of a job's files, by name; what is still being written is not among them."""

    items: list[FileResource]
