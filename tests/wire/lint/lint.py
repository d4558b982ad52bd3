"""Says what is wrong with HTTP answers.

Reads an exchange from each line of its input, a JSON object, and writes what httplint has to say of its answer to a line of
its output: a list of [name, sentence], of what is bad and of what it warns of.
"""

import json
import sys

from httplint import HttpRequestLinter, HttpResponseLinter

CONCERNS = ("BAD", "WARN")


def fields(message):
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in message["fields"]]


def lint(asked, given):
    request = HttpRequestLinter()
    request.process_request_topline(asked["method"].encode(), asked["target"].encode(), b"1.1")
    request.process_headers(fields(asked))
    request.finish_content(True)
    response = HttpResponseLinter(no_content=asked["method"] == "HEAD", _related=request)
    response.process_response_topline(b"1.1", str(given["status"]).encode(), given["reason"].encode())
    response.process_headers(fields(given))
    response.feed_content(bytes(given["body"]))
    response.finish_content(True)
    return [
        [type(note).__name__, str(note.summary)]
        for note in response.notes
        # What the status says is what it is for.
        if note.level.name in CONCERNS and not type(note).__name__.startswith("STATUS_")
    ]


for line in sys.stdin:
    exchange = json.loads(line)
    print(json.dumps(lint(exchange["asked"], exchange["given"])), flush=True)
