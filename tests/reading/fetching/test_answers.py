"""Every answer is checked before its bytes count."""

import itertools

import pytest
from rasterio.errors import RasterioIOError

from raw_server import response
from rio_terrascope.reading.fetching import Fetcher

pytestmark = pytest.mark.usefixtures("quick")


def error_of(found):
    (one,) = found
    assert one.data is None
    assert isinstance(one.error, RasterioIOError)
    assert "/a.tif: " in str(one.error)
    return str(one.error)


@pytest.mark.parametrize(
    ("headers", "says"),
    [
        ({"Content_Range": None}, "does not say which bytes"),
        ({"Content_Range": "bytes 0-99/*"}, "does not say which bytes"),
        ({"Content_Type": "multipart/byteranges; boundary=x"}, "several parts"),
        ({"Content_Type": "text/html; charset=utf-8"}, "web page"),
        ({"Content_Encoding": "gzip"}, "Content-Encoding"),
        ({"body": bytes(101)}, "more bytes than it says"),
        ({"status": 404}, "HTTP response code: 404"),
        ({"status": 418}, "HTTP response code: 418"),
        ({"status": 304}, "HTTP response code: 304"),
        ({"status": 416}, "HTTP response code: 416"),
        ({"status": 403}, "HTTP response code: 403"),
    ],
)
def test_one_wrong_answer_is_an_error(raw, fetch, headers, says):
    def answer(request, connection):
        more = {name.replace("_", "-"): value for name, value in headers.items()}
        return server.part(request, **more)

    server = raw(answer)
    assert says in error_of(fetch(server.url, (0, 100)))
    assert len(server.requests) == 1


@pytest.mark.parametrize(("said", "length"), [("1-100", 100), ("0-98", 99)])
def test_another_range_is_asked_for_again(raw, fetch, said, length):
    def answer(request, connection):
        return server.part(request, **{"Content-Range": f"bytes {said}/300000"}, body=bytes(length))

    server = raw(answer)
    assert f"the bytes {said} instead" in error_of(fetch(server.url, (0, 100)))
    assert len(server.requests) == 4


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_trouble_that_passes(raw, fetch, status):
    count = itertools.count()

    def answer(request, connection):
        return server.part(request) if next(count) > 1 else response(status)

    server = raw(answer)
    (one,) = fetch(server.url, (0, 100))
    assert one.data == server.content[:100]


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_trouble_that_stays(raw, fetch, status):
    server = raw(lambda request, connection: response(status))
    assert f"HTTP response code: {status}" in error_of(fetch(server.url, (0, 100)))
    assert len(server.requests) == (5 if status == 429 else 4)


@pytest.mark.parametrize("kind", ["short", "closed", "half a header", "chunked and short"])
def test_broken_answers_are_asked_for_again(raw, fetch, kind):
    count = itertools.count()

    def answer(request, connection):
        whole = server.part(request)
        if next(count) >= 2:
            return whole
        if kind == "chunked and short":
            headers = whole.partition(b"\r\n\r\n")[0].replace(
                b"Content-Length: 100", b"Transfer-Encoding: chunked"
            )
            return headers + b"\r\n\r\n2\r\nab\r\n0\r\n\r\n"
        connection.sendall({"short": whole[:-10], "closed": b"", "half a header": whole[:30]}[kind])
        return None

    server = raw(answer)
    (one,) = fetch(server.url, (0, 100))
    assert one.error is None
    assert one.data == server.content[:100]
    server.answer = lambda request, connection: None
    (one,) = fetch(server.url, (0, 100))
    assert "no answer" in str(one.error)


def test_a_chunked_answer(raw, fetch):
    def answer(request, connection):
        head, _, body = server.part(request).partition(b"\r\n\r\n")
        head = head.replace(b"Content-Length: 100", b"Transfer-Encoding: chunked")
        return head + b"\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)

    server = raw(answer)
    found = fetch(server.url, (0, 100), (5000, 100))
    assert [one.data for one in found] == [server.content[:100], server.content[5000:5100]]


@pytest.mark.parametrize("header", ["ETag", "Last-Modified", "Content-Range"])
def test_a_file_that_is_replaced(raw, fetch, fetcher, header):
    versions = iter(["1", "1", "2"])

    def answer(request, connection):
        value = next(versions)
        if header == "Content-Range":
            value = f"bytes {request.first}-{request.last}/30000{value}"
        return server.part(request, **{header: value})

    server = raw(answer)
    source = fetcher.open(server.url)
    fetch(source, (0, 100))
    fetch(source, (1000, 100))
    assert "was replaced while it was read" in error_of(fetch(source, (2000, 100)))


@pytest.mark.parametrize(("size", "fits"), [(300_000, True), (2**20, True), (2**20 + 1, False)])
def test_a_server_without_ranges(raw, fetch, fetcher, size, fits):
    server = raw(lambda request, connection: response(200, server.content), content=bytes(range(256)) * 4097)
    server.content = server.content[:size]
    source = fetcher.open(server.url)
    if fits:
        found = fetch(source, (0, 100), (5000, 100), (size - 10, 100))
        assert [one.data for one in found] == [
            server.content[one.offset : one.offset + one.length] for one in found
        ]
        assert source.size == size
    else:
        assert "does not support range requests" in error_of(fetch(source, (0, 100)))


def test_a_whole_file_of_unknown_length(raw, fetch):
    server = raw(lambda request, connection: response(200, server.content, Content_Length=None) and None)

    def answer(request, connection):
        connection.sendall(response(200, server.content, Content_Length=None))

    server.answer = answer
    assert "does not support range requests" in error_of(fetch(server.url, (0, 100)))


def test_an_empty_file(raw, fetch, fetcher):
    server = raw(lambda request, connection: response(416, Content_Range="bytes */0"))
    source = fetcher.open(server.url)
    (one,) = fetch(source, (0, 32768))
    assert one.data == b""
    assert source.size == 0


def test_connections_are_used_again_until_the_server_closes_them(raw, fetch):
    """A connection that the server has closed costs no attempt: nothing was wrong with the request."""

    def answer(request, connection):
        connection.sendall(server.part(request))
        if request.first == 5000:
            return None
        return b""

    server = raw(answer)
    for first in (0, 2000, 5000, 8000, 5000, 8000):
        (one,) = fetch(server.url, (first, 100))
        assert one.data == server.content[first : first + 100]
        if first == 5000:
            server.wait_until(lambda s: s.open == 0)
    assert server.connections == 3
    assert len(server.requests) == 6


def test_the_server_closes_as_the_request_comes(raw, fetch):
    def answer(request, connection):
        return (
            server.part(request)
            if sum(r.connection == request.connection for r in server.requests) < 3
            else None
        )

    server = raw(answer)
    with Fetcher(at_once=1) as one_by_one:
        found = fetch(server.url, *[(n * 2000, 10) for n in range(10)], by=one_by_one)
    assert all(one.error is None for one in found)


def test_ranges_of_one_request_have_errors_of_their_own(raw, fetch):
    server = raw(lambda request, connection: response(404))
    first, second = fetch(server.url, (0, 10), (20, 10))
    assert len(server.requests) == 1
    assert first.error is not second.error
