"""Weald beside aioquic, both roles: what each case asks for is read off both ends, so that none passes because nothing happened.

    aioquic_cases.py WEALD

WEALD is the program; its `serve` and `get` say in JSON what happened on their connections. Prints a table of cases, and exits with an
error unless all of them passed.

aioquic has neither ML-KEM nor HelloRetryRequest: a client sends its half of a key exchange for each of its groups at once, and a server
takes the first that it knows of those that come. A client that has sent early data forgets it at a Retry: it begins anew with other packets,
and holds what its streams have sent for sent. Both are in the suites with quinn and quiche.
"""

import asyncio
import contextlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

from aioquic import tls
from aioquic.asyncio import QuicConnectionProtocol, connect, serve
from aioquic.h0.connection import H0Connection
from aioquic.h3.connection import FrameType, H3Connection, encode_frame
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import ConnectionTerminated, DatagramFrameReceived, ProtocolNegotiated, StreamReset
from aioquic.quic.packet import QuicProtocolVersion
from aioquic.tls import Epoch

H3 = "h3"
HQ = "hq-interop"
ECHO = "datagram-echo"
V1 = QuicProtocolVersion.VERSION_1
V2 = QuicProtocolVersion.VERSION_2
# As weald says them.
NAMES = {V1: "v1", V2: "v2"}
SIZE = 10_000_000
DATAGRAMS = 20
# Far more than a case needs on a busy machine: one that takes longer hangs.
LONGEST = 90
# A code of four bytes as it goes over the wire, and words beyond ASCII.
CODE, WORDS = 0x1234_5678, "closed by aioquic: été"

weald = sys.argv[1]
# What a case looks at on standard error is errors, not a busy machine's warnings.
os.environ["WEALD_LOG"] = "error"
work = pathlib.Path()
content = os.urandom(SIZE)


def check(what, found, expected):
    if found != expected:
        raise AssertionError(f"{what}: {found!r} instead of {expected!r}")


# aioquic's part.


class Groups:
    """The groups of the halves of key exchanges that aioquic has taken up, which it tells nobody."""

    decode = staticmethod(tls.decode_public_key)
    taken = []

    @classmethod
    def note(cls, key_share):
        cls.taken.append(tls.Group(key_share[0]).name.lower())
        return cls.decode(key_share)

    @classmethod
    def latest(cls):
        return cls.taken[-1]


tls.decode_public_key = Groups.note


class Peer(QuicConnectionProtocol):
    """What both roles share: the HTTP layer that ALPN chose, and what happened."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.http = None
        self.phases = [0]
        self.datagrams = asyncio.Queue()
        self.ended = asyncio.get_running_loop().create_future()

    def key_updates(self):
        phase = self._quic._cryptos[Epoch.ONE_RTT].key_phase
        if phase != self.phases[-1]:
            self.phases.append(phase)
        return len(self.phases) - 1

    def retried(self):
        # A server knows of its Retry by the id that it gave in it.
        return self._quic._retry_source_connection_id is not None

    def quic_event_received(self, event):
        # Looked at again and again: it has no more to tell than the last phase.
        self.key_updates()
        if isinstance(event, ProtocolNegotiated):
            self.http = {H3: H3Connection, HQ: H0Connection}.get(event.alpn_protocol, lambda quic: None)(self._quic)
        if isinstance(event, DatagramFrameReceived):
            self.on_datagram(event.data)
        if isinstance(event, ConnectionTerminated) and not self.ended.done():
            self.ended.set_result(event)
        if isinstance(event, (ConnectionTerminated, StreamReset)):
            self.on_failure(event)
        if self.http is not None:
            for http_event in self.http.handle_event(event):
                self.on_http(http_event)

    def on_datagram(self, data):
        self.datagrams.put_nowait(data)

    def on_failure(self, event):
        pass

    def on_http(self, event):
        pass


class Server(Peer):
    """Serves /file, sends back datagrams, updates keys in the middle of /update, and closes with a code for /close."""

    latest = None

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        Server.latest = self

    def on_datagram(self, data):
        super().on_datagram(data)
        self._quic.send_datagram_frame(data)
        self.transmit()

    def on_http(self, event):
        if not isinstance(event, HeadersReceived):
            return
        path = dict(event.headers)[b":path"]
        if path == b"/close":
            self.close(error_code=CODE, reason_phrase=WORDS)
            return
        if path == b"/update":
            self._loop.create_task(self.send_and_update(event.stream_id))
            return
        self.begin(event.stream_id)
        self.http.send_data(event.stream_id, content, end_stream=True)
        self.transmit()

    def begin(self, stream):
        self.http.send_headers(stream, [(b":status", b"200"), (b"content-length", str(SIZE).encode())])

    async def send_and_update(self, stream):
        self.begin(stream)
        self.http.send_data(stream, content[: SIZE // 2], end_stream=False)
        self.transmit()
        # Some of it is acknowledged by then, so that the handshake is confirmed.
        await self.ping()
        self.request_key_update()
        self.http.send_data(stream, content[SIZE // 2 :], end_stream=True)
        self.transmit()


class Client(Peer):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.body = bytearray()
        self.begun = asyncio.Event()
        self.done = asyncio.get_running_loop().create_future()

    async def get(self, path="/file", update=False):
        stream = self._quic.get_next_available_stream_id()
        headers = [(b":method", b"GET"), (b":scheme", b"https"), (b":authority", b"localhost"), (b":path", path.encode())]
        self.http.send_headers(stream, headers, end_stream=True)
        self.transmit()
        if update:
            await self.begun.wait()
            self.request_key_update()
        await self.done
        check("the body is the file", bytes(self.body) == content, True)

    def on_http(self, event):
        if isinstance(event, HeadersReceived):
            check("the status", dict(event.headers).get(b":status", b"200"), b"200")
        if isinstance(event, DataReceived):
            self.body += event.data
            self.begun.set()
        if getattr(event, "stream_ended", False) and not self.done.done():
            self.done.set_result(None)

    def on_failure(self, event):
        if not self.done.done():
            self.done.set_exception(RuntimeError(f"the transfer ended with {event}"))
            # Not all cases wait for a transfer.
            self.done.exception()


@contextlib.asynccontextmanager
async def aioquic_server(alpn, retry=False, tickets=None, fetched=None, **options):
    configuration = QuicConfiguration(is_client=False, alpn_protocols=[alpn], max_datagram_frame_size=65536, **options)
    configuration.load_cert_chain(work / "cert.pem", work / "key.pem")
    server = await serve(
        "127.0.0.1",
        0,
        configuration=configuration,
        create_protocol=Server,
        retry=retry,
        session_ticket_handler=None if tickets is None else lambda ticket: tickets.update({ticket.ticket: ticket}),
        session_ticket_fetcher=None if tickets is None else fetched or (lambda label: tickets.pop(label, None)),
    )
    try:
        yield server._transport.get_extra_info("sockname")[1]
    finally:
        server.close()


@contextlib.asynccontextmanager
async def aioquic_client(server, alpn, token=b"", token_handler=None, wait_connected=True, ticket_handler=None, **options):
    configuration = QuicConfiguration(is_client=True, alpn_protocols=[alpn], max_datagram_frame_size=65536, token=token, **options)
    configuration.load_verify_locations(str(work / "cert.pem"))
    async with connect(
        "localhost",
        server.port,
        configuration=configuration,
        create_protocol=Client,
        token_handler=token_handler,
        session_ticket_handler=ticket_handler,
        wait_connected=wait_connected,
    ) as client:
        yield client


# Weald's part.


class WealdServer:
    """A `weald serve` process."""

    def __init__(self, *options, port=0):
        identity = ["--cert", work / "cert.pem", "--key", work / "key.pem"]
        command = [weald, "serve", "--json", "--listen", f"127.0.0.1:{port}", "--root", work / "root", *identity, *options]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.port = int(json.loads(self.process.stdout.readline())["address"].rsplit(":", 1)[1])

    async def closed(self):
        """What it says of the next connection that ends."""
        while True:
            line = await asyncio.to_thread(self.process.stdout.readline)
            if not line:
                raise RuntimeError("weald serve has ended")
            event = json.loads(line)
            if event["event"] == "closed":
                return event

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        self.process.kill()
        self.process.wait()


async def weald_get(port, path, *options):
    """Runs `weald get`: its report, and what it says of errors."""
    command = [weald, "get", "--json", "--ca", work / "cert.pem", *options, f"https://localhost:{port}{path}"]
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        out, error = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    return json.loads(out), error.decode()


def whole(answer, times=1):
    report, error = answer
    check("the error", error, "")
    check("the bytes of the bodies", [transfer["bytes"] for transfer in report["transfers"]], [SIZE] * times)
    return report["connections"]


def saved_whole(answer):
    connections = whole(answer)
    check("the saved body is the file", (work / "out").read_bytes() == content, True)
    return connections


# The cases: each is a coroutine function, run with a time limit.


async def transfer_from_weald(alpn):
    async with WealdServer() as server, aioquic_client(server, alpn) as client:
        await client.get()


async def transfer_from_aioquic(alpn):
    async with aioquic_server(alpn) as port:
        saved_whole(await weald_get(port, "/file", "--alpn", alpn, "--output", work / "out"))


async def retry_of_weald():
    async with WealdServer("--retry", "always") as server:
        async with aioquic_client(server, H3) as client:
            await client.get()
            check("aioquic followed a Retry", client.retried(), True)
        check("weald sent a Retry", (await server.closed())["retried"], True)


async def retry_of_aioquic():
    async with aioquic_server(H3, retry=True) as port:
        [connection] = saved_whole(await weald_get(port, "/file", "--output", work / "out"))
        check("weald followed a Retry", connection["retried"], True)
        check("aioquic sent a Retry", Server.latest.retried(), True)


async def update_at_weald_server(by_aioquic):
    async with WealdServer() as server:
        async with aioquic_client(server, H3) as client:
            await client.get(update=by_aioquic)
            check("aioquic's key updates", client.key_updates(), 1)
        check("weald's key updates", (await server.closed())["key_updates"], 1)


async def updates_of_weald_server():
    async with WealdServer("--key-update-interval", "1000") as server:
        async with aioquic_client(server, H3) as client:
            await client.get()
            updates = client.key_updates()
            check(f"aioquic saw several key updates ({updates})", updates > 1, True)
        # Another one may have begun with the last packets.
        counted = (await server.closed())["key_updates"]
        check(f"weald counts as many ({counted}, aioquic {updates})", counted - updates in (0, 1), True)


async def update_at_weald_client(path, *options):
    async with aioquic_server(H3) as port:
        [connection] = saved_whole(await weald_get(port, path, *options, "--output", work / "out"))
        check("weald's key updates", connection["key_updates"], 1)
        check("aioquic's key updates", Server.latest.key_updates(), 1)


async def reconnect_to_weald():
    tokens = []
    async with WealdServer("--retry", "always") as server:
        for token, retried in [(b"", True), (None, False)]:
            async with aioquic_client(server, H3, tokens.pop() if token is None else token, tokens.append) as client:
                await client.get()
                check("aioquic followed a Retry", client.retried(), retried)
            closed = await server.closed()
            check("weald sent a Retry, saw a token", (closed["retried"], closed["address_token"]), (retried, not retried))


async def reconnect_to_aioquic():
    async with aioquic_server(H3, retry=True) as port:
        connections = whole(await weald_get(port, "/file", "--repeat", "2"), times=2)
        # Its servers give no tokens for later connections, and so ask each time.
        check("weald followed Retries", [connection["retried"] for connection in connections], [True, True])


async def resume_at_weald_server(verdict, *options):
    tickets = []
    async with WealdServer(*options) as server:
        async with aioquic_client(server, HQ, ticket_handler=tickets.append) as client:
            await client.get()
        closed = await server.closed()
        check("the first time", (closed["resumed"], closed["early_data"]), (False, "not_offered"))
        early = verdict == "accepted"
        async with aioquic_client(server, HQ, session_ticket=tickets.pop(), wait_connected=not early) as client:
            if early:
                # There is no ProtocolNegotiated before the handshake.
                client.http = H0Connection(client._quic)
            await client.get()
            tls = client._quic.tls
            check("aioquic resumed, sent early data", (tls.session_resumed, tls.early_data_accepted), (True, early))
        closed = await server.closed()
        check("weald resumed, took early data", (closed["resumed"], closed["early_data"]), (True, verdict))


async def rejection_by_weald_server():
    """A server that was started anew cannot read the tickets of the one before."""
    tickets = []
    async with WealdServer("--0rtt") as server:
        async with aioquic_client(server, HQ, ticket_handler=tickets.append) as client:
            await client.get()
        port = server.port
    async with WealdServer("--0rtt", port=port) as server:
        async with aioquic_client(server, HQ, session_ticket=tickets.pop(), wait_connected=False) as client:
            client.http = H0Connection(client._quic)
            await client.get()
            state = client._quic.tls
            check("aioquic resumed, sent early data that was taken", (state.session_resumed, state.early_data_accepted), (False, False))
        closed = await server.closed()
        check("weald resumed, took early data", (closed["resumed"], closed["early_data"]), (False, "rejected"))


async def rejection_by_aioquic_server():
    """One that has lost its tickets."""
    offered = []
    async with aioquic_server(HQ, tickets={}, fetched=lambda label: offered.append(label)) as port:
        first, second = whole(await weald_get(port, "/file", "--alpn", HQ, "--repeat", "2", "--0rtt"), times=2)
        check("the first time", (first["resumed"], first["early_data"]), (False, "not_offered"))
        check("the second time", (second["resumed"], second["early_data"]), (False, "rejected"))
        check("tickets that aioquic saw", len(offered), 1)
        check("aioquic resumed", Server.latest._quic.tls.session_resumed, False)


async def group_at_weald_server(agreed, *options):
    async with WealdServer(*options) as server:
        async with aioquic_client(server, H3) as client:
            await client.get()
            check("aioquic's group", Groups.latest(), agreed)
        check("weald's group", (await server.closed())["group"], agreed)


async def group_at_weald_client(agreed, *options):
    async with aioquic_server(H3) as port:
        [connection] = saved_whole(await weald_get(port, "/file", *options, "--output", work / "out"))
        check("weald's group", connection["group"], agreed)
        check("aioquic's group", Groups.latest(), agreed)


async def no_group_at_weald_client():
    async with aioquic_server(H3) as port:
        report, error = await weald_get(port, "/file", "--groups", "X25519MLKEM768")
        check("connections", report["connections"], [])
        # The alert handshake_failure.
        check("weald says so", "CRYPTO_ERROR (alert 40)" in error, True)


async def resume_at_weald_client(verdict, *options, retry=False):
    async with aioquic_server(HQ, tickets={}, retry=retry) as port:
        first, second = whole(await weald_get(port, "/file", "--alpn", HQ, "--repeat", "2", *options), times=2)
        check("the first time", (first["resumed"], first["early_data"]), (False, "not_offered"))
        check("the second time", (second["resumed"], second["early_data"], second["retried"]), (True, verdict, retry))
        check("aioquic resumed", Server.latest._quic.tls.session_resumed, True)
        check("aioquic took early data", Server.latest._quic.tls.early_data_accepted, verdict == "accepted")


async def datagrams_at_weald_server():
    async with WealdServer("--datagrams") as server:
        async with aioquic_client(server, ECHO) as client:
            for number in range(DATAGRAMS):
                sent = bytes([number]) * (number * 50)
                client._quic.send_datagram_frame(sent)
                client.transmit()
                check("the datagram that came back", await client.datagrams.get(), sent)
        closed = await server.closed()
        check("weald's datagrams", (closed["datagrams_received"], closed["datagrams_sent"]), (DATAGRAMS, DATAGRAMS))


async def datagrams_at_weald_client():
    async with aioquic_server(ECHO) as port:
        [connection] = (await weald_get(port, "/", "--datagrams", str(DATAGRAMS)))[0]["connections"]
        check("the datagrams that came back", connection["echoed"]["returned"], DATAGRAMS)
        check("weald's datagrams", (connection["datagrams_sent"], connection["datagrams_received"]), (DATAGRAMS, DATAGRAMS))
        check("aioquic's datagrams", Server.latest.datagrams.qsize(), DATAGRAMS)


async def close_by_aioquic_client():
    async with WealdServer() as server:
        async with aioquic_client(server, H3) as client:
            await client.get()
            client.close(error_code=CODE, reason_phrase=WORDS)
        check("how it ended for weald", (await server.closed())["end"], {"by": "peer_application", "code": CODE, "reason": WORDS})


async def close_by_aioquic_server():
    async with aioquic_server(H3) as port:
        report, error = await weald_get(port, "/close")
        check("how it ended for weald", report["connections"][0]["end"], {"by": "peer_application", "code": CODE, "reason": WORDS})
        check("weald says so", f"{CODE:#x}: {WORDS}" in error, True)


async def close_by_weald_server():
    async with WealdServer() as server:
        async with aioquic_client(server, H3) as client:
            stream = client._quic.get_next_available_stream_id()
            # No DATA frame comes before HEADERS: H3_FRAME_UNEXPECTED (RFC 9114 section 4.1).
            client._quic.send_stream_data(stream, encode_frame(FrameType.DATA, b"early"))
            client.transmit()
            with contextlib.suppress(RuntimeError):
                await client.done
            ended = await client.ended
            check("how it ended for aioquic", (ended.error_code, ended.frame_type), (0x105, None))
        check("how it ended for weald", (await server.closed())["end"]["by"], "application")


async def close_by_weald_client():
    async with aioquic_server(H3) as port:
        saved_whole(await weald_get(port, "/file", "--output", work / "out"))
        ended = await Server.latest.ended
        check("how it ended for aioquic", (ended.error_code, ended.frame_type, ended.reason_phrase), (0x100, None, "done"))


async def refusal_by_weald(code, alpn, *options):
    async with WealdServer(*options) as server, aioquic_client(server, alpn, wait_connected=False) as client:
        client.transmit()
        check("how it ended for aioquic", (await client.ended).error_code, code)


async def version_at_weald_server(first, offered, agreed, *options):
    async with WealdServer(*options) as server:
        async with aioquic_client(server, H3, original_version=first, supported_versions=offered) as client:
            await client.get()
            check("aioquic's version", client._quic._version, agreed)
        check("weald's version", (await server.closed())["quic_version"], NAMES[agreed])


async def version_at_weald_client(offered, spoken, agreed):
    async with aioquic_server(H3, supported_versions=spoken) as port:
        [connection] = saved_whole(await weald_get(port, "/file", "--quic-version", offered, "--output", work / "out"))
        check("weald's version", connection["quic_version"], NAMES[agreed])
        check("aioquic's version", Server.latest._quic._version, agreed)


CASES = [
    ("transfer, h3", "server", lambda: transfer_from_weald(H3)),
    ("transfer, h3", "client", lambda: transfer_from_aioquic(H3)),
    ("transfer, hq-interop", "server", lambda: transfer_from_weald(HQ)),
    ("transfer, hq-interop", "client", lambda: transfer_from_aioquic(HQ)),
    ("Retry", "server", retry_of_weald),
    ("Retry", "client", retry_of_aioquic),
    ("key update, begun by aioquic", "server", lambda: update_at_weald_server(True)),
    ("key update, begun by aioquic", "client", lambda: update_at_weald_client("/update")),
    ("key updates, begun by weald", "server", updates_of_weald_server),
    ("key update, begun by weald", "client", lambda: update_at_weald_client("/file", "--key-update")),
    ("connecting again, with a token", "server", reconnect_to_weald),
    ("connecting again, none is given", "client", reconnect_to_aioquic),
    ("resumption", "server", lambda: resume_at_weald_server("not_offered")),
    ("resumption", "client", lambda: resume_at_weald_client("not_offered")),
    ("0-RTT", "server", lambda: resume_at_weald_server("accepted", "--0rtt")),
    ("0-RTT", "client", lambda: resume_at_weald_client("accepted", "--0rtt")),
    ("0-RTT, and Retry", "client", lambda: resume_at_weald_client("accepted", "--0rtt", retry=True)),
    ("0-RTT rejected", "server", rejection_by_weald_server),
    ("0-RTT rejected", "client", rejection_by_aioquic_server),
    ("hybrid preferred, X25519 agreed on", "server", lambda: group_at_weald_server("x25519")),
    ("hybrid preferred, X25519 agreed on", "client", lambda: group_at_weald_client("x25519")),
    ("P-256", "server", lambda: group_at_weald_server("secp256r1", "--groups", "X25519MLKEM768,secp256r1")),
    ("P-256", "client", lambda: group_at_weald_client("secp256r1", "--groups", "secp256r1,x25519")),
    # The alert handshake_failure.
    ("hybrid or nothing", "server", lambda: refusal_by_weald(0x100 + 40, H3, "--groups", "X25519MLKEM768")),
    ("hybrid or nothing", "client", no_group_at_weald_client),
    ("datagrams", "server", datagrams_at_weald_server),
    ("datagrams", "client", datagrams_at_weald_client),
    ("code of a close by aioquic", "server", close_by_aioquic_client),
    ("code of a close by aioquic", "client", close_by_aioquic_server),
    ("code of a close by weald", "server", close_by_weald_server),
    ("code of a close by weald", "client", close_by_weald_client),
    ("version 2 from the first packet", "server", lambda: version_at_weald_server(V2, [V2], V2)),
    ("version 2 from the first packet", "client", lambda: version_at_weald_client("2", [V1, V2], V2)),
    ("version 2 agreed on (RFC 9368)", "server", lambda: version_at_weald_server(V1, [V2, V1], V2)),
    ("version 2 agreed on (RFC 9368)", "client", lambda: version_at_weald_client("2,1", [V2, V1], V2)),
    ("version 2 agreed on after Retry", "server", lambda: version_at_weald_server(V1, [V2, V1], V2, "--retry", "always")),
    ("version 1 kept, 2 offered", "server", lambda: version_at_weald_server(V1, [V1, V2], V1)),
    ("version 1 kept, 2 offered", "client", lambda: version_at_weald_client("1,2", [V1, V2], V1)),
    ("version 2 after Version Negotiation", "server", lambda: version_at_weald_server(V1, [V1, V2], V2, "--quic-versions", "2")),
    ("version 2 after Version Negotiation", "client", lambda: version_at_weald_client("1,2", [V2], V2)),
    # The alert no_application_protocol (RFC 9001 section 4.8), and CONNECTION_REFUSED.
    ("code of a failed handshake", "server", lambda: refusal_by_weald(0x100 + 120, "another")),
    ("code of a refusal", "server", lambda: refusal_by_weald(0x02, H3, "--max-connections", "0")),
]


async def run():
    failed = 0
    print(f"{'case':<37}{'weald as':<10}{'seconds':>8}  result")
    for name, role, case in CASES:
        started = time.monotonic()
        (work / "out").unlink(missing_ok=True)
        try:
            await asyncio.wait_for(case(), LONGEST)
            result = "ok"
        except Exception as error:
            failed += 1
            result = f"FAILED: {type(error).__name__}: {error}"
        print(f"{name:<37}{role:<10}{time.monotonic() - started:>8.2f}  {result}", flush=True)
    print(f"\ninterop with aioquic: {len(CASES) - failed} passed, {failed} failed")
    return failed


def main():
    global work
    with tempfile.TemporaryDirectory() as folder:
        work = pathlib.Path(folder)
        (work / "root").mkdir()
        (work / "root" / "file").write_bytes(content)
        names = ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-addext", "basicConstraints=critical,CA:FALSE"]
        made = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
        files = ["-keyout", work / "key.pem", "-out", work / "cert.pem"]
        subprocess.run([*made, "-subj", "/CN=localhost", *names, *files], check=True, stderr=subprocess.DEVNULL)
        sys.exit(1 if asyncio.run(run()) else 0)


main()
