"""Open dashboards as a process: `watchers.py PORT NUMBER` reads NUMBER streams of `/` until it is ended.

A line on stdout reports that all of them have received their first event.
"""

from __future__ import annotations

import selectors
import socket
import sys

_ASK = "GET / HTTP/1.1\r\nHost: localhost:{}\r\nAccept: text/event-stream\r\n\r\n"


def main() -> None:
    port, number = int(sys.argv[1]), int(sys.argv[2])
    waiting = set()
    with selectors.DefaultSelector() as selector:
        for _ in range(number):
            sock = socket.create_connection(("127.0.0.1", port))
            sock.sendall(_ASK.format(port).encode())
            selector.register(sock, selectors.EVENT_READ)
            waiting.add(sock)
        all_told = False
        while True:
            for key, _ in selector.select():
                said = key.fileobj.recv(1 << 20)  # type: ignore[union-attr]  # it is a socket
                if not said:
                    sys.exit("a stream has ended")
                if b"data: " in said:
                    waiting.discard(key.fileobj)
            if not waiting and not all_told:
                print("all are told", flush=True)
                all_told = True


if __name__ == "__main__":
    main()
