"""Frames that are none, or too large, or where none may be: RFC 9113, 3.4, 4 and 6.

The code of the h2 crate for a frame or a header that cannot be read is always PROTOCOL_ERROR.
"""

from attack import *


@vector("goaway PROTOCOL_ERROR", "closed")
def a_request_of_http_1_in_place_of_the_preface(client):
    with client.again(greets=False) as other:
        other.send(f"GET /{client.name} HTTP/1.1\r\nHost: vms.local\r\n\r\n".encode())
        return other.end()


@vector("goaway PROTOCOL_ERROR", "closed")
def a_preface_that_is_nearly_one(client):
    with client.again(greets=False) as other:
        other.send(PREFACE.replace(b"SM", b"SN"), frame(SETTINGS, 0, 0))
        other.raw_request(other.header())
        return other.end()


@vector("200", "goaway PROTOCOL_ERROR", at_most=1)
def a_request_before_the_settings(client):
    """The h2 crate takes the settings for those that hold without any."""
    with client.again(greets=False) as other:
        other.send(PREFACE)
        other.raw_request(other.header())
        return other.outcome()


@vector("200", vms=1)
def a_preface_byte_by_byte(client):
    with client.again(greets=False) as other:
        for byte in PREFACE + frame(SETTINGS, 0, 0):
            other.send(bytes([byte]))
        other.raw_request(other.header())
        return other.outcome()


@vector("goaway FRAME_SIZE_ERROR")
def a_frame_that_is_too_large(client):
    client.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, b"\0" * 20_000))
    return client.end()


@vector("goaway FRAME_SIZE_ERROR")
def a_frame_that_says_it_is_too_large(client):
    client.send(frame(DATA, 0, 1, b"x", length=(1 << 24) - 1))
    return client.end()


@vector("200", vms=1)
def frames_of_unknown_kinds(client):
    client.send(*(frame(kind, 0xFF, kind, b"x" * kind) for kind in range(16, 64)))
    client.raw_request(client.header())
    return client.outcome()


@vector("goaway PROTOCOL_ERROR")
def an_unknown_frame_inside_a_header(client):
    whole = block(client.header())
    client.send(
        frame(HEADERS, END_STREAM, 1, whole[:5]),
        frame(0x42, 0, 1, b"x"),
        frame(CONTINUATION, END_HEADERS, 1, whole[5:]),
    )
    return client.outcome()


@vector("goaway PROTOCOL_ERROR")
def another_stream_inside_a_header(client):
    whole = block(client.header())
    client.send(
        frame(HEADERS, END_STREAM, 1, whole[:5]),
        frame(CONTINUATION, END_HEADERS, 3, whole[5:]),
    )
    return client.outcome()


@vector("goaway PROTOCOL_ERROR")
def data_inside_a_header(client):
    client.send(frame(HEADERS, 0, 1, block(client.header())), frame(DATA, END_STREAM, 1, b"x"))
    return client.outcome()


@vector("goaway PROTOCOL_ERROR")
def a_continuation_of_nothing(client):
    client.send(frame(CONTINUATION, END_HEADERS, 1, block(client.header())))
    return client.end()


@vector("200", vms=1)
def a_header_in_pieces_of_one_byte(client):
    whole = block(client.header())
    pieces = [bytes([byte]) for byte in whole]
    client.send(
        frame(HEADERS, END_STREAM, 1, pieces[0]),
        # Fewer than a flood has.
        frame(CONTINUATION, 0, 1, whole[1:-1]),
        frame(CONTINUATION, END_HEADERS, 1, pieces[-1]),
    )
    return client.outcome()


@vector("goaway PROTOCOL_ERROR")
def more_padding_than_there_is_frame(client):
    client.send(frame(HEADERS, END_HEADERS | END_STREAM | PADDED, 1, b"\xff" + block(client.header())))
    return client.outcome()


@vector("goaway PROTOCOL_ERROR", at_most=1)
def data_with_more_padding_than_there_is_frame(client):
    client.raw_request(client.header(method="POST"), flags=END_HEADERS)
    client.send(frame(DATA, END_STREAM | PADDED, 1, b"\x05abc"))
    return client.outcome()


@vector("goaway COMPRESSION_ERROR", "goaway PROTOCOL_ERROR")
def a_header_that_is_no_hpack(client):
    client.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, b"\xff\xff\xff\xff\xff\xff\xff\xff\xff"))
    return client.outcome()


@vector("goaway COMPRESSION_ERROR", "goaway PROTOCOL_ERROR")
def a_field_that_no_table_has(client):
    client.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, block(client.header()) + b"\xfe"))
    return client.outcome()


@vector("goaway COMPRESSION_ERROR", "goaway PROTOCOL_ERROR")
def a_table_that_grows_beyond_what_is_allowed(client):
    size = b"\x3f" + b"\xe1\xff\x03"
    client.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, size + block(client.header())))
    return client.outcome()


@vector("goaway COMPRESSION_ERROR", "goaway PROTOCOL_ERROR")
def a_string_whose_huffman_code_ends_wrongly(client):
    broken = b"\x00\x81\xff\x81\xff"
    client.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, block(client.header()) + broken))
    return client.outcome()


@vector("goaway FRAME_SIZE_ERROR", "goaway PROTOCOL_ERROR")
def a_ping_of_seven_bytes(client):
    client.send(frame(PING, 0, 0, b"1234567"))
    return client.end()


@vector("goaway PROTOCOL_ERROR")
def a_ping_on_a_stream(client):
    client.send(frame(PING, 0, 1, b"12345678"))
    return client.end()


@vector("goaway FRAME_SIZE_ERROR", "goaway PROTOCOL_ERROR")
def settings_of_five_bytes(client):
    client.send(frame(SETTINGS, 0, 0, b"12345"))
    return client.end()


@vector("goaway FRAME_SIZE_ERROR", "goaway PROTOCOL_ERROR")
def an_acknowledgement_that_says_something(client):
    client.send(frame(SETTINGS, ACK, 0, b"\0\x04\0\0\0\0"))
    return client.end()


@vector("goaway PROTOCOL_ERROR")
def settings_on_a_stream(client):
    client.send(frame(SETTINGS, 0, 1, b""))
    return client.end()


@vector("goaway PROTOCOL_ERROR")
def a_push_that_is_neither_allowed_nor_forbidden(client):
    client.send(frame(SETTINGS, 0, 0, b"\0\x02\0\0\0\x02"))
    return client.end()


@vector("goaway PROTOCOL_ERROR")
def frames_that_may_be_of_no_size(client):
    client.send(frame(SETTINGS, 0, 0, b"\0\x05\0\0\0\x01"))
    return client.end()


@vector("goaway FRAME_SIZE_ERROR", "goaway PROTOCOL_ERROR")
def a_reset_of_three_bytes(client):
    client.raw_request(client.header(method="POST"), flags=END_HEADERS)
    client.send(frame(RST_STREAM, 0, 1, b"\0\0\0"))
    return client.outcome()
