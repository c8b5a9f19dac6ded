"""Bodies that never arrive are given up, with a status that says why."""

import asyncio

import pytest

pytest.importorskip("fastapi")
from starlette.requests import Request

from segzoo.serving import bodies
from segzoo.serving.limits import Limits, RefusedError


def read(receive, headers=()):
    scope = {"type": "http", "method": "POST", "headers": list(headers)}
    return asyncio.run(bodies.read_image_bytes(Request(scope, receive), Limits(max_bytes=100)))


def test_a_body_that_stalls_is_given_up(monkeypatch):
    timeout = asyncio.timeout
    monkeypatch.setattr(bodies.asyncio, "timeout", lambda seconds: timeout(seconds * 0))

    async def never():
        await asyncio.Event().wait()

    with pytest.raises(RefusedError, match="did not arrive within 60 seconds") as error:
        read(never)
    assert error.value.status == 408


@pytest.mark.parametrize("headers", [[], [(b"content-type", b"multipart/form-data; boundary=x")]])
def test_a_client_that_goes_away_is_no_failure_of_the_server(headers):
    async def gone():
        return {"type": "http.disconnect"}

    with pytest.raises(RefusedError) as error:
        read(gone, headers)
    assert error.value.status == 400


def test_a_stated_length_over_the_limit_is_refused_before_anything_is_read():
    async def unread():
        raise AssertionError("the body was read")

    with pytest.raises(RefusedError) as error:
        read(unread, [(b"content-length", b"101")])
    assert error.value.status == 413
