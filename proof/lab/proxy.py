"""A TCP proxy whose far end can be changed: what a failover by DNS or a balancer looks like.

The one idea: two threads per connection that copy bytes.  What may go wrong: a connection
that is under way when the target changes is cut, as it would be by a real failover.
"""

import contextlib
import socket
import threading
import time

from bench.common import HOST

CHUNK_BYTES = 65536


class Proxy:
    """A context manager; ``target`` is the port that new connections are led to.

    :ivar delay_s: how long an answer is held back
    :ivar inspect: called as ``inspect(answer, port)`` before an answer is passed on to the client
        that connects from ``port``; if it says True, the answer never arrives
    """

    def __init__(self, target, backlog=64):
        self.target, self.backlog = target, backlog
        self.delay_s = 0
        self.inspect = None
        self._open = set()
        self._lock = threading.Lock()
        self._accepting = threading.Event()
        self._accepting.set()
        self._listener = socket.create_server((HOST, 0), backlog=backlog)
        self.port = self._listener.getsockname()[1]

    def __enter__(self):
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_exc):
        self._listener.close()
        self.cut()

    def switch(self, target):
        """Lead to another port from now on, and cut what leads to the old one."""
        self.target = target
        self.cut()

    @contextlib.contextmanager
    def full(self):
        """Within it the accept queue is full: the kernel drops who wants to connect."""
        self._accepting.clear()
        self.cut()
        with contextlib.ExitStack() as stack:
            # one more is accepted, one more than its length fits into the queue
            for _number in range(self.backlog + 5):
                filler = stack.enter_context(socket.socket())
                filler.setblocking(False)
                filler.connect_ex((HOST, self.port))
            yield
        self._accepting.set()

    def cut(self):
        """End every connection."""
        with self._lock:
            ends, self._open = self._open, set()
        for end in ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                near, _address = self._listener.accept()
                self._accepting.wait()
                try:
                    far = socket.create_connection((HOST, self.target), timeout=5)
                except OSError:
                    near.close()
                    continue
                far.settimeout(None)
                for end in (near, far):
                    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                with self._lock:
                    self._open |= {near, far}
                for ends in ((near, far, False), (far, near, True)):
                    threading.Thread(target=self._copy, args=ends, daemon=True).start()

    def _copy(self, source, sink, answers):
        with contextlib.suppress(OSError):
            while chunk := source.recv(CHUNK_BYTES):
                if answers and self.delay_s:
                    time.sleep(self.delay_s)
                if answers and self.inspect and self.inspect(chunk, sink.getpeername()[1]):
                    break
                sink.sendall(chunk)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        with self._lock:
            self._open -= {source, sink}
        source.close()
