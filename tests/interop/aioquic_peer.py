"""An HTTP/3 and hq-interop peer on aioquic, for the interop script.

    aioquic_peer.py serve --root DIR --cert FILE --key FILE --port-file FILE
    aioquic_peer.py get --alpn h3|hq-interop --ca FILE --output FILE URL

The server serves files until it is killed; it writes its port to the port file once it listens. The client exits with an error unless the
whole file came.
"""

import argparse
import asyncio
import os
import pathlib
import sys
from urllib.parse import urlparse

from aioquic.asyncio import QuicConnectionProtocol, connect, serve
from aioquic.h0.connection import H0Connection
from aioquic.h3.connection import H3Connection
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import ConnectionTerminated, ProtocolNegotiated, StreamReset

HQ = "hq-interop"


class HttpProtocol(QuicConnectionProtocol):
    """What both roles share: the HTTP layer that ALPN chose, and its events."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.http = None

    def quic_event_received(self, event):
        if isinstance(event, ProtocolNegotiated):
            self.http = H0Connection(self._quic) if event.alpn_protocol == HQ else H3Connection(self._quic)
        if isinstance(event, (ConnectionTerminated, StreamReset)):
            self.on_failure(event)
        if self.http is not None:
            for http_event in self.http.handle_event(event):
                self.on_http(http_event)

    def on_failure(self, event):
        pass


class Server(HttpProtocol):
    root = pathlib.Path()

    def on_http(self, event):
        if not isinstance(event, HeadersReceived):
            return
        path = dict(event.headers)[b":path"].decode()
        file = (self.root / path.lstrip("/")).resolve()
        found = file.is_file() and file.is_relative_to(self.root)
        body = file.read_bytes() if found else b"not found\n"
        headers = [(b":status", b"200" if found else b"404"), (b"content-length", str(len(body)).encode())]
        self.http.send_headers(event.stream_id, headers)
        self.http.send_data(event.stream_id, body, end_stream=True)
        self.transmit()


class Client(HttpProtocol):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.done = asyncio.get_running_loop().create_future()
        self.body = bytearray()
        self.status = None

    def get(self, authority, path):
        stream = self._quic.get_next_available_stream_id()
        headers = [(b":method", b"GET"), (b":scheme", b"https"), (b":authority", authority.encode()), (b":path", path.encode())]
        self.http.send_headers(stream, headers, end_stream=True)
        self.transmit()

    def on_http(self, event):
        if isinstance(event, HeadersReceived):
            self.status = dict(event.headers).get(b":status", b"200")
        if isinstance(event, DataReceived):
            self.body += event.data
        if getattr(event, "stream_ended", False) and not self.done.done():
            self.done.set_result(None)

    def on_failure(self, event):
        if not self.done.done():
            self.done.set_exception(RuntimeError(f"the transfer ended with {event}"))


async def run_server(arguments):
    configuration = QuicConfiguration(is_client=False, alpn_protocols=["h3", HQ])
    configuration.load_cert_chain(arguments.cert, arguments.key)
    Server.root = arguments.root.resolve()
    server = await serve("127.0.0.1", 0, configuration=configuration, create_protocol=Server)
    port = server._transport.get_extra_info("sockname")[1]
    # Written whole or not at all: a reader waits for the file to appear.
    partial = arguments.port_file.with_suffix(".partial")
    partial.write_text(str(port))
    os.rename(partial, arguments.port_file)
    await asyncio.Event().wait()


async def run_client(arguments):
    url = urlparse(arguments.url)
    configuration = QuicConfiguration(is_client=True, alpn_protocols=[arguments.alpn])
    configuration.load_verify_locations(str(arguments.ca))
    async with connect(url.hostname, url.port, configuration=configuration, create_protocol=Client) as client:
        client.get(url.netloc, url.path)
        await asyncio.wait_for(client.done, timeout=60)
        if client.status not in (None, b"200"):
            sys.exit(f"status {client.status.decode()}")
        arguments.output.write_bytes(client.body)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    server = commands.add_parser("serve")
    server.add_argument("--root", type=pathlib.Path, required=True)
    server.add_argument("--cert", required=True)
    server.add_argument("--key", required=True)
    server.add_argument("--port-file", type=pathlib.Path, required=True)
    server.set_defaults(run=run_server)
    client = commands.add_parser("get")
    client.add_argument("--alpn", choices=["h3", HQ], required=True)
    client.add_argument("--ca", type=pathlib.Path, required=True)
    client.add_argument("--output", type=pathlib.Path, required=True)
    client.add_argument("url")
    client.set_defaults(run=run_client)
    arguments = parser.parse_args()
    asyncio.run(arguments.run(arguments))


main()
