"""Bodies that are longer or shorter than they say, and trailers: RFC 9113, 8.1 and 8.1.1. No byte of a body may become a
request of its own, and none may be waited for in vain."""

from attack import *

SMUGGLED = "GET /smuggled/{} HTTP/1.1\r\nHost: vms.local\r\n\r\n"


def post(client, payload, *fields, trailers=None):
    """Sends a body with these fields, and returns the outcome."""
    client.raw_request(client.header(*fields, method="POST"), flags=END_HEADERS)
    client.data(payload, ends=trailers is None)
    if trailers is not None:
        client.raw_request(trailers)
    return client.outcome()


@vector("200", vms=1)
def a_body_as_long_as_it_says(client):
    return post(client, b"hello", ("content-length", "5"))


# The header may have reached the VMS before the body was seen to be wrong, but never with a body that looks whole.
@vector("reset PROTOCOL_ERROR", "400", at_most=1)
def a_body_longer_than_it_says(client):
    return post(client, b"hello" + SMUGGLED.format(client.name).encode(), ("content-length", "5"))


@vector("reset PROTOCOL_ERROR", "400", at_most=1)
def a_body_shorter_than_it_says(client):
    return post(client, b"hello", ("content-length", "50"))


@vector("reset PROTOCOL_ERROR", "400")
def a_length_and_no_body(client):
    client.raw_request(client.header(("content-length", "5"), method="POST"))
    return client.outcome()


@vector("reset PROTOCOL_ERROR", "400", at_most=1)
def a_length_of_nothing_and_a_body(client):
    return post(client, SMUGGLED.format(client.name).encode(), ("content-length", "0"))


@vector("reset PROTOCOL_ERROR", "400")
def two_lengths(client):
    return post(client, b"hello", ("content-length", "5"), ("content-length", "0"))


@vector("reset PROTOCOL_ERROR", "400", "200", at_most=1)
def one_length_twice(client):
    return post(client, b"hello", ("content-length", "5"), ("content-length", "5"))


@vector("reset PROTOCOL_ERROR", "400")
def a_list_of_lengths(client):
    return post(client, b"hello", ("content-length", "5, 6"))


@vector("reset PROTOCOL_ERROR", "400")
def a_length_with_a_sign(client):
    return post(client, b"hello", ("content-length", "+5"))


@vector("reset PROTOCOL_ERROR", "400")
def a_length_that_no_number_holds(client):
    return post(client, b"hello", ("content-length", "18446744073709551621"))


@vector("200", vms=1)
def a_body_that_is_a_request(client):
    return post(client, SMUGGLED.format(client.name).encode())


@vector("200", vms=1)
def a_body_that_ends_like_a_chunked_one(client):
    return post(client, b"0\r\n\r\n" + SMUGGLED.format(client.name).encode())


@vector("200", vms=1)
def trailers(client):
    return post(client, b"hello", trailers=[("x-after", "1")])


@vector("200", "reset PROTOCOL_ERROR", "400", at_most=1)
def trailers_with_a_path(client):
    """They are dropped, as all trailers are."""
    return post(client, b"hello", trailers=[(":path", f"/smuggled/{client.name}")])


@vector("reset PROTOCOL_ERROR", "goaway PROTOCOL_ERROR", "400", at_most=1)
def trailers_with_a_line_break(client):
    return post(client, b"hello", trailers=[("x-after", "1\r\n\r\nGET /smuggled HTTP/1.1\r\n")])


@vector("200", "reset PROTOCOL_ERROR", "400", at_most=1)
def trailers_with_a_length(client):
    return post(client, b"hello", trailers=[("content-length", "500")])


@vector("200", "reset PROTOCOL_ERROR", "400", at_most=1)
def trailers_with_a_token(client):
    return post(client, b"hello", trailers=[("authorization", "Bearer other")])


@vector("goaway PROTOCOL_ERROR", "reset PROTOCOL_ERROR", at_most=1)
def trailers_that_do_not_end_the_stream(client):
    client.raw_request(client.header(method="POST"), flags=END_HEADERS)
    client.data(b"hello")
    client.raw_request([("x-after", "1")], flags=END_HEADERS)
    return client.outcome()


@vector("408", "504", "reset CANCEL", "reset INTERNAL_ERROR", at_most=1)
def a_body_that_never_ends(client):
    client.raw_request(client.header(method="POST"), flags=END_HEADERS)
    client.data(b"hello")
    return client.outcome()


@vector("closed", at_most=1)
def a_body_whose_sender_is_gone(client):
    with client.again() as other:
        other.raw_request(other.header(("content-length", "50"), method="POST"), flags=END_HEADERS)
        other.data(b"hello")
    return "closed"
