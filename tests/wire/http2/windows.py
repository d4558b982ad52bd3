"""Flow control: windows that are none, too large, or never opened: RFC 9113, 5.2 and 6.9."""

from attack import *

# SETTINGS_INITIAL_WINDOW_SIZE.
NONE = b"\0\x04\0\0\0\0"
ONE = b"\0\x04\0\0\0\x01"


@vector("goaway PROTOCOL_ERROR")
def a_window_opened_by_nothing(client):
    client.send(frame(WINDOW_UPDATE, 0, 0, b"\0\0\0\0"))
    return client.end()


@vector("goaway PROTOCOL_ERROR", "reset PROTOCOL_ERROR", at_most=1)
def a_window_of_a_stream_opened_by_nothing(client):
    client.raw_request(client.header(method="POST"), flags=END_HEADERS)
    client.send(frame(WINDOW_UPDATE, 0, 1, b"\0\0\0\0"))
    return client.outcome()


@vector("goaway FLOW_CONTROL_ERROR")
def a_window_that_overflows(client):
    client.send(frame(WINDOW_UPDATE, 0, 0, b"\x7f\xff\xff\xff"))
    return client.end()


@vector("reset FLOW_CONTROL_ERROR", "goaway FLOW_CONTROL_ERROR", at_most=1)
def a_window_of_a_stream_that_overflows(client):
    client.raw_request(client.header(method="POST"), flags=END_HEADERS)
    client.send(frame(WINDOW_UPDATE, 0, 1, b"\x7f\xff\xff\xff"))
    return client.outcome()


@vector("goaway FLOW_CONTROL_ERROR", "goaway PROTOCOL_ERROR")
def a_first_window_that_overflows(client):
    client.send(frame(SETTINGS, 0, 0, b"\0\x04\x80\0\0\0"))
    return client.end()


@vector("goaway PROTOCOL_ERROR")
def a_window_of_a_stream_that_never_began(client):
    client.send(frame(WINDOW_UPDATE, 0, 9, b"\0\0\0\x01"))
    return client.end()


@vector("goaway FRAME_SIZE_ERROR", "goaway PROTOCOL_ERROR")
def a_window_update_of_three_bytes(client):
    client.send(frame(WINDOW_UPDATE, 0, 0, b"\0\0\x01"))
    return client.end()


@vector("goaway FLOW_CONTROL_ERROR", "reset FLOW_CONTROL_ERROR", at_most=1)
def more_data_than_the_window_allows(client):
    client.raw_request(client.header(method="POST"), flags=END_HEADERS)
    client.send(*(frame(DATA, 0, 1, b"x" * 16_384) for _ in range(60)))
    return client.outcome()


def stalls(client, settings):
    """Takes an answer by a window that is never opened; the outcome is how the stream ends, after its header."""
    with client.again(settings=settings) as other:
        other.raw_request(other.header(path=f"/large/{client.name}"))
        outcome = other.outcome()
        assert outcome == "200", outcome
        return other.outcome()


@vector("reset CANCEL", "reset INTERNAL_ERROR", vms=1)
def no_window_ever(client):
    return stalls(client, NONE)


@vector("reset CANCEL", "reset INTERNAL_ERROR", vms=1)
def a_window_of_one_byte(client):
    return stalls(client, ONE)


@vector("reset CANCEL", "reset INTERNAL_ERROR", vms=1)
def a_window_for_the_first_bytes(client):
    return stalls(client, b"")


@vector("200", vms=1)
def a_window_opened_by_one_now_and_then(client):
    """A small answer, byte by byte."""
    with client.again(settings=NONE) as other:
        other.raw_request(other.header())
        outcome = other.outcome()
        for _ in range(2):
            other.send(frame(WINDOW_UPDATE, 0, 1, b"\0\0\0\x01"))
        assert other.body() == b"ok"
        return outcome


@vector("200", vms=1)
def a_window_that_shrinks_below_nothing(client):
    """RFC 9113, 6.9.2: a window may become negative, and nothing is sent until it is none."""
    with client.again(settings=b"\0\x04\0\0\0\x01") as other:
        other.raw_request(other.header())
        outcome = other.outcome()
        other.send(frame(SETTINGS, 0, 0, NONE), frame(WINDOW_UPDATE, 0, 1, b"\0\0\0\x05"))
        assert other.body() == b"ok"
        return outcome
