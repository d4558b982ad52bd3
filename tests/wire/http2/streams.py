"""Streams that must not be, or not be so: RFC 9113, 5.1 and 5.1.1."""

from attack import *


@vector("goaway PROTOCOL_ERROR")
def a_stream_with_an_even_number(client):
    client.raw_request(client.header(), stream=2)
    return client.outcome(2)


@vector("goaway PROTOCOL_ERROR")
def a_request_on_stream_0(client):
    client.raw_request(client.header(), stream=0)
    return client.end()


@vector("goaway PROTOCOL_ERROR", "goaway STREAM_CLOSED", vms=1)
def a_stream_below_one_that_was_used(client):
    client.raw_request(client.header(), stream=5)
    client.outcome(5)
    client.raw_request(client.header(path="/smuggled"), stream=3)
    return client.outcome(3)


@vector("goaway PROTOCOL_ERROR", "goaway STREAM_CLOSED", vms=1)
def a_stream_that_is_used_twice(client):
    client.raw_request(client.header())
    client.outcome()
    client.raw_request(client.header(path="/smuggled"))
    return client.outcome(3)


@vector("goaway PROTOCOL_ERROR")
def data_on_stream_0(client):
    client.data(b"x", stream=0)
    return client.end()


@vector("goaway PROTOCOL_ERROR")
def data_on_an_idle_stream(client):
    client.data(b"x", stream=5)
    return client.end()


@vector("reset STREAM_CLOSED", "goaway STREAM_CLOSED", "goaway PROTOCOL_ERROR", at_most=1)
def data_after_the_end_of_a_stream(client):
    client.send(
        frame(HEADERS, END_HEADERS | END_STREAM, 1, block(client.header())),
        frame(DATA, 0, 1, b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"),
    )
    return client.outcome()


@vector("reset STREAM_CLOSED", "goaway STREAM_CLOSED", "goaway PROTOCOL_ERROR", at_most=1)
def a_second_header_after_the_end_of_a_stream(client):
    header = frame(HEADERS, END_HEADERS | END_STREAM, 1, block(client.header()))
    client.send(header, header)
    return client.outcome()


@vector("200", vms=2)
def data_on_a_stream_that_was_answered_long_ago(client):
    client.request(client.header())
    client.outcome()
    client.body()
    client.data(b"x")
    # Whether the edge ends the stream once more or the connection, nothing of it is a request.
    with client.again() as other:
        return other.asks()


@vector("goaway PROTOCOL_ERROR")
def the_end_of_a_stream_that_never_began(client):
    client.send(frame(RST_STREAM, 0, 7, b"\0\0\0\x08"))
    return client.end()


@vector("goaway PROTOCOL_ERROR")
def the_end_of_stream_0(client):
    client.send(frame(RST_STREAM, 0, 0, b"\0\0\0\x08"))
    return client.end()


@vector("goaway PROTOCOL_ERROR", "goaway FRAME_SIZE_ERROR", "reset PROTOCOL_ERROR")
def a_stream_that_depends_on_itself(client):
    payload = (1).to_bytes(4, "big") + b"\x10" + block(client.header())
    client.send(frame(HEADERS, END_HEADERS | END_STREAM | WITH_PRIORITY, 1, payload))
    return client.outcome()


@vector("goaway PROTOCOL_ERROR", "reset PROTOCOL_ERROR", "200", at_most=1)
def a_priority_that_depends_on_itself(client):
    client.send(frame(PRIORITY, 0, 1, (1).to_bytes(4, "big") + b"\x10"))
    client.raw_request(client.header())
    return client.outcome()


@vector("goaway PROTOCOL_ERROR")
def a_push_by_the_client(client):
    client.send(frame(PUSH_PROMISE, END_HEADERS, 1, b"\0\0\0\x02" + block(client.header())))
    return client.end()


@vector("200", vms=100)
def more_streams_at_once_than_are_allowed(client):
    # Those of which only the header has come are open. The 101st is refused, which says that it may be asked again.
    streams = range(1, 241, 2)
    header = block(client.header(method="POST"))
    client.send(*(frame(HEADERS, END_HEADERS, stream, header) for stream in streams))
    refused = client.outcome(201)
    assert refused == "reset REFUSED_STREAM", refused
    client.send(*(frame(DATA, END_STREAM, stream, b"x") for stream in streams[:100]))
    return client.outcome(1)


@vector("goaway PROTOCOL_ERROR", "closed")
def a_stream_of_the_servers(client):
    client.send(frame(WINDOW_UPDATE, 0, 2, b"\0\0\0\x01"))
    return client.end()


@vector("200", vms=1)
def a_request_before_the_client_goes_away(client):
    client.send(
        frame(HEADERS, END_HEADERS | END_STREAM, 1, block(client.header())),
        frame(GOAWAY, 0, 0, b"\0\0\0\0\0\0\0\0"),
    )
    return client.outcome()


@vector("closed", at_most=1)
def a_request_after_the_client_went_away(client):
    client.send(frame(GOAWAY, 0, 0, b"\0\0\0\0\0\0\0\x01"))
    client.raw_request(client.header())
    outcome = client.outcome()
    return client.end() if outcome == "200" else outcome
