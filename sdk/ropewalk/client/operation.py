"""A method of both clients from one function that says what is sent: blocking in one of them, awaited in the other."""

import functools
import inspect
from collections.abc import Callable, Coroutine
from typing import Any, Concatenate, Generic, ParamSpec, get_args, overload

from ropewalk.client.calls import Call, T
from ropewalk.client.connection import AsyncConnection, Connection

P = ParamSpec("P")


class Operation(Generic[P, T]):
    """Decorates a method that returns a `Call[T]`: on a client it does the call and returns T."""

    def __init__(self, describe: Callable[Concatenate[Any, P], Call[T]]) -> None:
        @functools.wraps(describe)
        def blocking(client: Connection, /, *args: P.args, **kwargs: P.kwargs) -> T:
            return client._do(describe(client, *args, **kwargs))

        @functools.wraps(describe)
        async def awaited(client: AsyncConnection, /, *args: P.args, **kwargs: P.kwargs) -> T:
            return await client._do(describe(client, *args, **kwargs))

        signature = inspect.signature(describe)
        (answer,) = get_args(signature.return_annotation)
        methods: list[Any] = [blocking, awaited]
        for method in methods:
            method.__signature__ = signature.replace(return_annotation=answer)
        self._blocking, self._awaited = blocking, awaited

    @overload
    def __get__(self, client: None, owner: type[Connection]) -> Callable[Concatenate[Connection, P], T]: ...
    @overload
    def __get__(
        self, client: None, owner: type[AsyncConnection]
    ) -> Callable[Concatenate[AsyncConnection, P], Coroutine[Any, Any, T]]: ...
    @overload
    def __get__(self, client: Connection, owner: type) -> Callable[P, T]: ...
    @overload
    def __get__(self, client: AsyncConnection, owner: type) -> Callable[P, Coroutine[Any, Any, T]]: ...
    def __get__(self, client: Connection | AsyncConnection | None, owner: type) -> Callable[..., Any]:
        method: Callable[..., Any] = self._awaited if issubclass(owner, AsyncConnection) else self._blocking
        bound: Callable[..., Any] = method if client is None else method.__get__(client, owner)
        return bound
