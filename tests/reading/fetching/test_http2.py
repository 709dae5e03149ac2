"""HTTP/2: one connection for all requests, whatever the server does with it."""

import contextlib
import dataclasses
import logging
import os
import random
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import trustme
from h2.errors import ErrorCodes
from hpack import NeverIndexedHeaderTuple

from helpers import in_child
from http2_server import Http2Server
from rio_terrascope import certificates
from rio_terrascope.certificates import Bundle
from rio_terrascope.http import NoAnswerError
from rio_terrascope.reading.fetching import Fetcher, choice, transport
from rio_terrascope.reading.fetching.http2 import Http2
from rio_terrascope.reading.fetching.options import Options
from rio_terrascope.reading.fetching.transport import Http1
from rio_terrascope.secret import Secret, SecretText

CONTENT = random.Random(2).randbytes(500_000)
TOKEN = "t0ken-" + "x" * 800


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture(scope="module")
def bundle(authority, tmp_path_factory):
    file = tmp_path_factory.mktemp("authority") / "ca.pem"
    authority.cert_pem.write_to_path(file)
    return Bundle(str(file), "SSL_CERT_FILE")


@pytest.fixture
def serve(authority):
    """Start servers."""
    certificate = authority.issue_cert("127.0.0.1", "localhost")
    with contextlib.ExitStack() as stack:

        def serve(answer=lambda link, request: link.part(request), content=CONTENT, **options):
            return stack.enter_context(Http2Server(answer, certificate, content=content, **options))

        yield serve


@pytest.fixture
def options(bundle):
    return Options(
        retries=0,
        delay=0.0,
        connect_seconds=10.0,
        stall_seconds=20.0,
        slow=1.0,
        whole_seconds=None,
        bundle=bundle,
        checks_certificate=True,
        proxy=None,
        user_agent="test",
    )


@pytest.fixture
def connect(options):
    """Make transports to servers."""
    with contextlib.ExitStack() as stack:

        def connect(server, **changed):
            made = choice.new_transport(server.url, dataclasses.replace(options, **changed), 16)
            stack.callback(made.close)
            return made

        yield connect


def get(transport, server, number=0, **more):
    first = number * 1000
    headers = {"Range": f"bytes={first}-{first + 999}", "Accept-Encoding": "identity"}
    return transport.get(server.url, headers | more.pop("headers", {}), None, **({"limit": 1000} | more))


def get_all(transport, server, count, threads=100):
    """Make many requests, and check the bytes of each. Return what was raised."""
    faults = []

    def one(number):
        number %= len(CONTENT) // 1000
        try:
            answer = get(transport, server, number)
        except NoAnswerError as error:
            faults.append(error)
        else:
            assert answer.status == 206
            assert answer.body == CONTENT[number * 1000 : number * 1000 + 1000]

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(one, range(count)))
    return faults


def started(function, *arguments, **options):
    """Call a function in a thread. `result` of what this returns gives its result or raises."""
    pool = ThreadPoolExecutor(1)
    future = pool.submit(function, *arguments, **options)
    pool.shutdown(wait=False)
    return future


def test_one_connection_for_all(serve, connect):
    server = serve()
    over = connect(server)
    assert isinstance(over, Http2)
    over.connect()
    assert over.at_once == 100
    assert not get_all(over, server, 500)
    assert server.connections == 1
    assert 2 < server.most <= 100


def test_many_threads_that_begin_together_share_one_connection(serve, connect):
    server = serve()
    over = connect(server)
    assert over.at_once == 16  # it could be a server of HTTP/1.1
    assert not get_all(over, server, 64, threads=64)
    assert server.connections == 1


def test_the_windows_are_large(serve, connect):
    content = bytes(20_000_000)
    windows = []

    def answer(link, request):
        windows.append((link.h2.remote_settings.initial_window_size, link.h2.outbound_flow_control_window))
        link.part(request)

    server = serve(answer, content)
    answer = connect(server).get(server.url, {}, None, limit=len(content))
    assert answer.body == content
    assert windows == [(2**22, 2**24)]


@pytest.mark.parametrize("streams", [1, 10])
def test_no_more_at_once_than_the_server_allows(serve, connect, streams):
    server = serve(streams=streams)
    over = connect(server)
    get(over, server)
    get(over, server)  # by then, it has told
    assert over.at_once == streams
    server.change(most=0)
    assert not get_all(over, server, 100, threads=50)
    assert server.most <= streams
    assert server.connections == 1


def test_what_was_refused_as_too_much_is_sent_again(serve, connect):
    refused = set()

    def answer(link, request):
        if len(refused) < 20 and request.first not in refused:
            refused.add(request.first)
            link.reset(request.stream, ErrorCodes.REFUSED_STREAM)
        else:
            link.part(request)

    server = serve(answer)
    assert not get_all(connect(server), server, 100)
    assert len(refused) == 20
    assert server.connections == 1


def test_what_is_refused_again_is_not_sent_without_end(serve, connect):
    server = serve(lambda link, request: link.reset(request.stream, ErrorCodes.REFUSED_STREAM))
    with pytest.raises(NoAnswerError, match="REFUSED_STREAM") as raised:
        get(connect(server), server)
    assert raised.value.may_pass
    assert len(server.requests) == 2


def test_a_server_that_leaves_in_order_loses_nothing(serve, connect):
    """As nginx does after so many requests: it answers up to the last stream, and ignores the others."""
    late = {}

    def answer(link, request):
        mine = late.setdefault(link.number, [])
        if link.requests <= 40:
            mine.append(request)
        if link.requests == 40:
            link.leave(request.stream)
            for one in reversed(mine):
                link.part(one)
            # it would close the connection now; the client does

    server = serve(answer)
    assert not get_all(connect(server), server, 200, threads=60)
    assert server.connections == 5
    answered = [request.first for requests in late.values() for request in requests]
    assert len(answered) == len(set(answered)) == 200  # none was asked for again that was answered


def test_a_first_warning_before_leaving(serve, connect):
    """The last stream may be named late (RFC 9113, section 6.8)."""

    def answer(link, request):
        if request.number == 1:
            link.leave(2**31 - 1)
            link.leave(request.stream)
        link.part(request)

    server = serve(answer)
    over = connect(server)
    assert not get_all(over, server, 10, threads=1)
    assert server.connections == 2


def test_a_server_that_leaves_at_once_is_not_asked_without_end(serve, connect):
    server = serve(lambda link, request: link.leave(0))
    with pytest.raises(NoAnswerError, match="ends each connection") as raised:
        get(connect(server), server)
    assert raised.value.may_pass
    assert server.connections == 3


def test_what_a_lost_connection_had_under_way_is_sent_again_once(serve, connect):
    def answer(link, request):
        if request.number == 30:
            link.close()
        elif request.number <= 10 or link.number > 1:
            link.part(request)

    server = serve(answer)
    over = connect(server)
    assert not get_all(over, server, 10, threads=1)
    assert not get_all(over, server, 20, threads=20)
    assert server.connections == 2


def test_a_request_is_not_lost_twice(serve, connect):
    under_way = []

    def answer(link, request):
        if request.number == 1 or link.number > 2:
            link.part(request)
            return
        under_way.append(request)
        if len(under_way) % 2 == 0:
            if link.number == 2:
                link.part(under_way[-1])
            link.close()

    server = serve(answer)
    over = connect(server)
    get(over, server)
    (fault,) = get_all(over, server, 2, threads=2)
    assert fault.may_pass
    assert "connection failed" in str(fault)
    assert server.connections == 2


def test_a_connection_that_was_closed_meanwhile(serve, connect):
    server = serve()
    over = connect(server)
    for _ in range(3):
        get(over, server)
        server.links[-1].close()
        server.wait_until(lambda s: s.open == 0)
    assert server.connections == 3


def test_one_reset_concerns_no_other(serve, connect):
    def answer(link, request):
        if request.first == 7000:
            link.reset(request.stream, ErrorCodes.INTERNAL_ERROR)
        else:
            link.part(request)

    server = serve(answer)
    faults = get_all(connect(server), server, 100)
    assert [str(fault) for fault in faults] == ["the server has ended the answer (INTERNAL_ERROR)"]
    assert faults[0].may_pass
    assert server.connections == 1


@pytest.mark.parametrize("said", [500, 2000])
def test_a_body_of_another_length_than_it_says(serve, connect, said):
    def answer(link, request):
        # h2 itself would not send this
        link.part(request, content_length=str(said))

    server = serve(answer)
    with pytest.raises(NoAnswerError, match="cannot be understood") as raised:
        get(connect(server), server, limit=2000)
    assert raised.value.may_pass


@pytest.mark.parametrize("sent", [b"\0\0\1\0\0\0\0\0\0x", b"HTTP/1.1 200 OK\r\n\r\n"])
def test_no_sense_at_all(serve, connect, sent):
    server = serve(lambda link, request: link.send(sent))
    with pytest.raises(NoAnswerError, match=r"cannot be understood|in time"):
        get(connect(server, stall_seconds=0.3, slow=1000.0), server)
    server.wait_until(lambda s: s.open == 0)


@pytest.mark.parametrize("told", [True, False])
def test_a_longer_body_than_wanted_is_not_read(serve, connect, told):
    content = bytes(50_000_000)

    def answer(link, request):
        if request.number > 1 or told:
            link.part(request)
        else:
            link.part(request, content_length=None)

    server = serve(answer, content)
    over = connect(server)
    answer = over.get(server.url, {}, None, limit=1000)
    assert answer.body == (b"" if told else bytes(1000))
    server.wait_until(lambda s: s.resets)
    assert server.resets == [(1, ErrorCodes.CANCEL)]
    assert get(over, server).body == bytes(1000)
    assert server.connections == 1


def test_no_bytes_for_a_while(serve, connect):
    def answer(link, request):
        if request.number == 1:
            link.part(request)

    server = serve(answer)
    over = connect(server, stall_seconds=1.0)
    get(over, server)
    faults = get_all(over, server, 5)
    assert [str(fault) for fault in faults] == ["no answer in time"] * 5
    assert len(set(faults)) == 5  # each has its own traceback
    assert all(fault.may_pass for fault in faults)
    server.wait_until(lambda s: s.open == 0)


def test_the_stall_of_one_among_many(serve, connect):
    """The server goes on with others, so that the connection never stalls."""

    def answer(link, request):
        if request.first != 7000:
            link.part(request)

    server = serve(answer)
    over = connect(server, stall_seconds=2.0)
    stalled = started(get, over, server, 7)
    while not stalled.done():
        assert not get_all(over, server, 1, threads=1)
    with pytest.raises(NoAnswerError, match="in time"):
        stalled.result()
    server.wait_until(lambda s: s.resets)
    assert server.connections == 1


def test_an_answer_that_takes_too_long_as_a_whole(serve, connect):
    server = serve(lambda link, request: link.part(request, ends=False))
    over = connect(server, whole_seconds=0.3)
    with pytest.raises(NoAnswerError, match="in time"):
        get(over, server)
    server.wait_until(lambda s: s.resets)


def test_another_thread_can_stop_one(serve, connect):
    def answer(link, request):
        if request.first != 7000:
            link.part(request)

    server = serve(answer)
    over = connect(server)
    threads = []

    def one():
        threads.append(threading.get_ident())
        return get(over, server, 7)

    waiting = started(one)
    server.wait_until(lambda s: s.requests)
    over.end(threads[0])
    with pytest.raises(NoAnswerError):
        waiting.result(10)
    server.wait_until(lambda s: s.resets)
    assert server.resets == [(1, ErrorCodes.CANCEL)]
    get(over, server)
    assert server.connections == 1


def test_closing_ends_all_at_once(serve, connect):
    server = serve(lambda link, request: None)
    over = connect(server)
    waiting = [started(get, over, server, number) for number in range(20)]
    server.wait_until(lambda s: len(s.requests) == 20)
    over.close()
    for one in waiting:
        with pytest.raises(NoAnswerError):
            one.result(10)
    server.wait_until(lambda s: s.open == 0)
    server.answer = lambda link, request: link.part(request)
    get(over, server)
    assert server.connections == 2


def test_closing_while_it_connects(connect, serve):
    import socket

    class Mute:
        listener = socket.create_server(("127.0.0.1", 0))
        url = f"https://127.0.0.1:{listener.getsockname()[1]}/"

    over = connect(Mute)
    waiting = started(get, over, Mute)
    connection, _ = Mute.listener.accept()
    over.close()
    with pytest.raises(NoAnswerError):
        waiting.result(5)
    while connection.recv(4096):
        pass
    connection.close()
    Mute.listener.close()


def test_headers_in_any_case_and_redirects_not_followed(serve, connect):
    server = serve(lambda link, request: link.part(request, status=302, body=b"", location="/b"))
    answer = get(connect(server), server)
    assert answer.is_redirect
    assert answer.headers["LOCATION"] == answer.headers["location"] == "/b"
    assert len(server.requests) == 1


def test_what_is_said_before_the_answer(serve, connect):
    def answer(link, request):
        link.h2.send_headers(request.stream, [(":status", "103"), ("link", "</style.css>")])
        link.part(request)

    server = serve(answer)
    answer = get(connect(server), server)
    assert (answer.status, answer.body) == (206, CONTENT[:1000])
    assert "link" not in answer.headers


def test_what_is_sent(serve, connect):
    server = serve()
    over = connect(server)
    url = server.url + "?X-Amz-Signature=abc&b=%2F ü#fragment"
    secret = SecretText("k3y")
    for _ in range(2):
        over.get(url, {"Range": "bytes=0-9", "X-Key": secret, "Connection": "x"}, Secret(TOKEN), limit=10)
    for request in server.requests:
        assert request.headers == {
            ":method": "GET",
            ":scheme": "https",
            ":authority": f"127.0.0.1:{server.port}",
            ":path": "/a.tif?X-Amz-Signature=abc&b=%2F%20%C3%BC",
            "range": "bytes=0-9",
            "x-key": "k3y",
            "authorization": f"Bearer {TOKEN}",
        }
        never = {name for name, _ in filter(lambda f: isinstance(f, NeverIndexedHeaderTuple), request.fields)}
        assert never == {":path", "x-key", "authorization"}


def test_no_secret_is_logged(serve, connect, caplog):
    server = serve()
    with caplog.at_level(logging.DEBUG), caplog.at_level(logging.DEBUG, "hpack"):
        over = connect(server)
        over.get(server.url + "?signature=s1gned", {"Range": "bytes=0-9"}, Secret(TOKEN), limit=10)
        server.links[0].close()
        over.get(server.url + "?signature=s1gned", {"Range": "bytes=0-9"}, Secret(TOKEN), limit=10)
    assert not [record for record in caplog.records if record.name.startswith(("hpack", "h2"))]
    assert "t0ken" not in caplog.text
    assert "s1gned" not in caplog.text


def test_no_secret_in_an_error(serve, connect):
    server = serve(lambda link, request: link.close())
    over = connect(server)
    with pytest.raises(NoAnswerError) as raised:
        over.get(server.url + "?signature=s1gned", {}, Secret(TOKEN), limit=10)
    assert len(server.requests) == 1  # on a new connection, it is not sent again
    error = raised.value
    assert error.__cause__ is None
    assert error.__context__ is None
    frames = []
    trace = error.__traceback__
    while trace is not None:
        frames.append(repr(trace.tb_frame.f_locals))
        trace = trace.tb_next
    assert "t0ken" not in "".join(frames[1:]) + repr(error)


def test_a_certificate_of_an_unknown_authority(serve, connect):
    server = serve()
    with pytest.raises(NoAnswerError, match="not signed by an authority") as raised:
        get(connect(server, bundle=None), server)
    assert raised.value.advice
    assert not raised.value.may_pass


def test_a_server_without_http2_costs_no_connection(serve, connect):
    server = serve(protocols=["http/1.1"])
    over = connect(server)
    assert not get_all(over, server, 1)
    assert server.connections == 1
    assert over.at_once == 16
    assert not get_all(over, server, 100, threads=16)
    assert server.connections <= 16
    assert isinstance(connect(server), Http1)  # it is remembered


def test_many_that_begin_together_at_a_server_without_http2(serve, connect):
    server = serve(protocols=["http/1.1"])
    over = connect(server)
    assert not get_all(over, server, 64, threads=16)
    assert server.connections <= 16


def test_more_connections_are_opened_to_a_server_without_http2(serve, connect):
    server = serve(protocols=["http/1.1"])
    over = connect(server)
    over.connect()
    over.connect()
    server.wait_until(lambda s: s.open == 3)


def test_another_thread_can_stop_one_of_http1(serve, connect):
    server = serve(protocols=["http/1.1"])
    over = connect(server)
    get(over, server)
    server.goes_on.clear()
    threads = []

    def one():
        threads.append(threading.get_ident())
        return get(over, server)

    waiting = started(one)
    server.wait_until(lambda s: len(s.requests) == 2)
    over.end(threads[0])
    with pytest.raises(NoAnswerError):
        waiting.result(10)
    server.goes_on.set()


def test_a_server_that_wants_http1_for_a_file(serve, connect):
    server = serve(lambda link, request: link.reset(request.stream, ErrorCodes.HTTP_1_1_REQUIRED))
    over = connect(server)
    assert not get_all(over, server, 20, threads=4)
    assert server.requests[-1].stream == 0
    server.wait_until(lambda s: all(request.stream == 0 for request in s.requests[-10:]))


def test_without_the_extra(serve, connect, monkeypatch):
    monkeypatch.setitem(sys.modules, "rio_terrascope.reading.fetching.http2", None)
    server = serve()
    over = connect(server)
    assert isinstance(over, Http1)
    assert not get_all(over, server, 20, threads=4)


def test_without_tls(options):
    assert isinstance(choice.new_transport("http://127.0.0.1/", options, 16), Http1)


def test_a_proxy(serve, connect):
    server = serve()
    with tunnels() as proxy:
        over = connect(server, proxy=Secret(f"http://me:pass@127.0.0.1:{proxy.port}"))
        assert not get_all(over, server, 50)
        (line,) = (line for line in proxy.asked if line.startswith(b"CONNECT"))
        assert line.split()[1] == f"127.0.0.1:{server.port}".encode()
        assert any(line.lower().startswith(b"proxy-authorization: basic") for line in proxy.asked)
    assert server.connections == 1


@contextlib.contextmanager
def tunnels():
    """Run a proxy for CONNECT."""
    import socket

    class Proxy:
        listener = socket.create_server(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        asked = []  # noqa: RUF012

    def pump(one, other):
        with contextlib.suppress(OSError):
            while data := one.recv(65536):
                other.sendall(data)
            other.shutdown(socket.SHUT_RDWR)

    def serve():
        with contextlib.suppress(OSError):
            while True:
                connection, _ = Proxy.listener.accept()
                with connection.makefile("rb", buffering=0) as lines:
                    line = lines.readline()
                    host, _, port = line.split()[1].decode().partition(":")
                    while line != b"\r\n":
                        Proxy.asked.append(line)
                        line = lines.readline()
                target = socket.create_connection((host, int(port)))
                connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                for pair in ((connection, target), (target, connection)):
                    threading.Thread(target=pump, args=pair, daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    yield Proxy
    Proxy.listener.close()


@pytest.fixture
def trusted(bundle, monkeypatch):
    for name in certificates.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SSL_CERT_FILE", bundle.path)


def fetch_all(fetcher, source, count=400):
    fetcher.ask(source, [(number * 1200, 100) for number in range(count)])
    while fetcher.waiting:
        one = fetcher.next(30)
        if one.error is not None:
            raise one.error
        assert one.data == CONTENT[one.offset : one.offset + 100]


@pytest.mark.usefixtures("trusted")
def test_a_fetcher_uses_it_by_itself(serve, fetcher):
    server = serve()
    source = fetcher.open(server.url)
    fetch_all(fetcher, source, 1)
    fetch_all(fetcher, source)
    assert server.connections == 1
    assert 16 < server.most <= 100


@pytest.mark.usefixtures("trusted")
def test_a_fetcher_and_a_server_without_http2(serve, fetcher):
    server = serve(protocols=["http/1.1"])
    source = fetcher.open(server.url)
    fetcher.connect(source, 15)
    fetch_all(fetcher, source)
    assert server.connections <= 16


@pytest.mark.usefixtures("trusted")
def test_closing_a_fetcher_stops_its_requests_and_keeps_the_connection(serve):
    server = serve(lambda link, request: None)
    with Fetcher() as fetcher:
        source = fetcher.open(server.url)
        fetcher.ask(source, [(number * 3000, 100) for number in range(10)])
        server.wait_until(lambda s: len(s.requests) == 10)
    server.wait_until(lambda s: len(s.resets) == 10)
    server.answer = lambda link, request: link.part(request)
    with Fetcher() as fetcher:
        fetch_all(fetcher, fetcher.open(server.url), 10)
    assert server.connections == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork.*:DeprecationWarning")
@pytest.mark.usefixtures("trusted")
def test_a_forked_child_has_a_connection_of_its_own(serve, fetcher):
    server = serve()
    source = fetcher.open(server.url)
    fetch_all(fetcher, source)
    in_child(lambda: fetch_all(fetcher, source))
    assert {request.connection for request in server.requests[400:]} == {2}
    fetch_all(fetcher, source)
    assert {request.connection for request in server.requests[800:]} == {1}


@pytest.mark.usefixtures("trusted")
def test_the_interpreter_ends_while_requests_are_under_way(serve):
    server = serve(lambda link, request: None)
    script = f"""
import sys
from rio_terrascope.reading.fetching import Fetcher
fetcher = Fetcher()
source = fetcher.open({server.url!r})
fetcher.ask(source, [(number * 3000, 100) for number in range(10)])
sys.stdin.read(1)
"""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    child = subprocess.Popen([sys.executable, "-c", script], **pipes)
    server.wait_until(lambda s: len(s.requests) == 10)
    output, _ = child.communicate(b"x", timeout=20)
    assert (child.returncode, output) == (0, b"")


def test_nobody_else_is_remembered_as_without_http2(serve, connect):
    server = serve()
    get(connect(server), server)
    assert ("https", "127.0.0.1", server.port) not in transport.without_http2
