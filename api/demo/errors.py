"""What ends the demo early."""

from api.errors import ApiRoomError


class DemoFailed(ApiRoomError, RuntimeError):
    """A job of the demo did not succeed, or its server did not come up; says which and why."""

    code = "DEMO_FAILED"
