"""Header fields that HTTP/1.1 would take for something else, or that end a line: RFC 9113, 8.2."""

from attack import *

# What ends a stream may as well end the connection (RFC 9113, 5.4.2), as it does for whatever is no field at all.
REFUSED = ("reset PROTOCOL_ERROR", "goaway PROTOCOL_ERROR", "400")


def refused(client, *fields, method="GET"):
    """The outcome of a request with more fields."""
    client.raw_request(client.header(*fields, method=method))
    return client.outcome()


@vector(*REFUSED)
def a_name_in_upper_case(client):
    return refused(client, ("X-Upper", "1"))


@vector(*REFUSED)
def an_empty_name(client):
    return refused(client, ("", "1"))


@vector(*REFUSED)
def a_name_with_a_colon(client):
    return refused(client, ("x-a:authorization", "1"))


@vector(*REFUSED)
def a_name_with_a_space(client):
    return refused(client, ("x-a ", "1"))


@vector(*REFUSED)
def a_name_with_a_line_break(client):
    return refused(client, ("x-a\r\nx-smuggled", "1"))


@vector(*REFUSED)
def a_value_with_a_request_in_it(client):
    return refused(client, ("x-a", f"1\r\n\r\nGET /smuggled/{client.name} HTTP/1.1\r\nHost: vms.local\r\n\r\n"))


@vector(*REFUSED)
def a_value_with_a_bare_line_feed(client):
    return refused(client, ("x-a", "1\nx-smuggled: 1"))


@vector(*REFUSED)
def a_value_with_a_bare_carriage_return(client):
    return refused(client, ("x-a", "1\rx-smuggled: 1"))


@vector(*REFUSED)
def a_value_with_a_nul(client):
    return refused(client, ("x-a", "1\x002"))


@vector(*REFUSED)
def a_value_with_a_delete(client):
    return refused(client, ("x-a", "1\x7f2"))


@vector(*REFUSED)
def a_connection_field(client):
    return refused(client, ("connection", "close"))


@vector(*REFUSED)
def a_connection_field_that_takes_the_token_away(client):
    return refused(client, ("authorization", "Bearer t"), ("connection", "authorization"))


@vector(*REFUSED)
def a_keep_alive_field(client):
    return refused(client, ("keep-alive", "timeout=5"))


@vector(*REFUSED)
def a_proxy_connection_field(client):
    return refused(client, ("proxy-connection", "keep-alive"))


@vector(*REFUSED)
def a_transfer_coding(client):
    client.raw_request(client.header(("transfer-encoding", "chunked"), method="POST"), flags=END_HEADERS)
    client.data(f"0\r\n\r\nGET /smuggled/{client.name} HTTP/1.1\r\nHost: a\r\n\r\n".encode(), ends=True)
    return client.outcome()


@vector(*REFUSED)
def an_upgrade(client):
    return refused(client, ("upgrade", "websocket"))


@vector(*REFUSED)
def an_upgrade_to_http_2(client):
    return refused(client, ("upgrade", "h2c"), ("http2-settings", "AAMAAABkAAQAAP__"))


@vector(*REFUSED)
def te_for_something_else_than_trailers(client):
    return refused(client, ("te", "gzip, chunked"))


@vector("200", vms=1)
def te_for_trailers(client):
    return refused(client, ("te", "trailers"))


@vector("200", vms=1)
def crumbs_of_a_cookie(client):
    return refused(client, ("cookie", "a=b"), ("cookie", "c=d"))


@vector("431")
def a_header_list_that_is_too_large(client):
    # Each field fits a frame; together they are more than a list may be.
    client.request(client.header(*((f"x-{number}", "x" * 1000) for number in range(80))))
    return client.outcome()


@vector("400")
def more_fields_than_are_taken(client):
    client.request(client.header(*((f"x-{number}", "1") for number in range(300))))
    return client.outcome()


@vector("431", "goaway COMPRESSION_ERROR", "goaway ENHANCE_YOUR_CALM", "reset PROTOCOL_ERROR")
def a_bomb_of_one_field_said_again_and_again(client):
    # RFC 7541, 6.2.1: the field enters the table, and each further byte is 4 KB of it.
    enters = b"\x40" + string("x-a") + string("x" * 4000)
    plain = block(client.header())
    client.send(
        frame(HEADERS, END_STREAM, 1, plain + enters + b"\xbe" * 8_000),
        frame(CONTINUATION, END_HEADERS, 1, b"\xbe" * 16_000),
    )
    return client.outcome()


@vector("431", "goaway COMPRESSION_ERROR", "goaway ENHANCE_YOUR_CALM", "reset PROTOCOL_ERROR", "closed", at_most=1)
def a_bomb_on_many_streams(client):
    enters = b"\x40" + string("x-a") + string("x" * 4000)
    plain = block(client.header())
    client.raw_request(client.header(method="POST"), flags=0)
    client.send(frame(CONTINUATION, END_HEADERS, 1, enters))
    client.send(*(frame(HEADERS, END_HEADERS | END_STREAM, stream, plain + b"\xbe" * 16_000) for stream in range(3, 99, 2)))
    return client.outcome(3)
