"""An HTTP proxy that fails on purpose: before a server, it answers 500 or 503, resets, cuts bodies, and loses replies.

Which request fails, and how, follows from a seed and from what is asked for the how-many-eth time: so a run can be
repeated, whatever its threads do.
"""

from __future__ import annotations

import hashlib
import socket
import socketserver
import struct
import threading
from collections import Counter
from typing import ClassVar, Self

_FAULTS = {"GET": ("500", "503", "reset", "cut"), "PUT": ("500", "503", "reset", "lost")}
_ERROR = b"HTTP/1.1 %s Failed\r\nContent-Type: application/xml\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s"
_BODY = b'<?xml version="1.0" encoding="UTF-8"?><Error><Code>%s</Code><Message>on purpose</Message></Error>'


class FaultProxy(socketserver.ThreadingTCPServer):
    """Hands requests on to a server, but for a share of them. Counts what it did."""

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self, upstream: tuple[str, int], share: float, seed: int = 0, only: str = "") -> None:
        super().__init__(("127.0.0.1", 0), _Exchange)
        self.upstream, self.share, self.seed, self.only = upstream, share, seed, only
        self.asked: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.seen: Counter[tuple[str, str]] = Counter()
        self.lock = threading.Lock()
        self.deaf: tuple[bytes, ...] = ()
        """Headers that do not reach the server, as if it did not know them."""

    def clear(self) -> None:
        """Forget what was asked so far."""
        with self.lock:
            for counter in (self.asked, self.faults, self.seen):
                counter.clear()

    @property
    def url(self) -> str:
        """Its own address."""
        return "http://{}:{}".format(*self.server_address)

    def fault(self, method: str, target: str) -> str:
        """What befalls this request; empty for nothing."""
        with self.lock:
            self.asked[method] += 1
            self.seen[method, target] += 1
            told = f"{self.seed} {method} {target} {self.seen[method, target]}"
            drawn = int.from_bytes(hashlib.sha256(told.encode()).digest()[:8], "big")
            kinds = _FAULTS.get(method, ("500", "503", "reset"))
            kind = self.only or kinds[drawn % len(kinds)]
            if (drawn >> 16) / 2**48 >= self.share or kind not in kinds:
                return ""
            self.faults[kind] += 1
            return kind

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()


class _Exchange(socketserver.BaseRequestHandler):
    """One connection, of which one request is served."""

    server: FaultProxy
    _DROPPED: ClassVar = (b"expect:", b"connection:", b"keep-alive:")

    def handle(self) -> None:
        head, body = self._request()
        if not head:
            return
        line, *headers = head.split(b"\r\n")
        method, target, _ = line.decode("latin-1").split(" ", 2)
        fault = self.server.fault(method, target)
        if fault == "reset":
            self._reset()
        elif fault in ("500", "503"):
            said = _BODY % (b"InternalError" if fault == "500" else b"SlowDown")
            self.request.sendall(_ERROR % (fault.encode(), len(said), b"" if method == "HEAD" else said))
        else:
            kept = [h for h in headers if h and not h.lower().startswith((*self._DROPPED, *self.server.deaf))]
            answer = self._answer(b"\r\n".join([line, *kept, b"Connection: close", b"", b""]) + body)
            if fault == "lost":
                self._reset()
            elif fault == "cut":
                start = answer.index(b"\r\n\r\n") + 4
                self.request.sendall(answer[: start + (len(answer) - start) // 2])
                self._reset()
            else:
                self.request.sendall(answer)

    def _request(self) -> tuple[bytes, bytes]:
        data = b""
        while b"\r\n\r\n" not in data:
            piece = self.request.recv(1 << 16)
            if not piece:
                return b"", b""
            data += piece
        head, body = data.split(b"\r\n\r\n", 1)
        fields = dict(h.lower().split(b":", 1) for h in head.split(b"\r\n")[1:] if b":" in h)
        length = int(fields.get(b"content-length", b"0"))
        if b"100-continue" in fields.get(b"expect", b""):
            self.request.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        while len(body) < length:
            body += self.request.recv(1 << 16)
        return head, body

    def _answer(self, request: bytes) -> bytes:
        with socket.create_connection(self.server.upstream) as upstream:
            upstream.sendall(request)
            answer = b""
            while piece := upstream.recv(1 << 16):
                answer += piece
            return answer

    def _reset(self) -> None:
        """Have the other side see a reset, not an end."""
        self.request.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.request.close()
