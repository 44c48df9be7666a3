"""flow.py - numbered packets there and back: flow.py echo ADDRESS PORT, flow.py send ADDRESS PORT PROGRESS.

The sender has at most WINDOW numbers on the way; when nothing comes back for PATIENCE those are given up, and it sends one at a time until one does. A line
is added to the file PROGRESS for each 50 that came back. On SIGTERM each says in one line of JSON what it saw: how many, how many twice, how many after a later one.
"""
import json, select, signal, socket, sys

WINDOW, PATIENCE = 16, 0.1
ended = False


def end(*_):
    global ended
    ended = True


class Seen:
    """Numbers as they came."""

    def __init__(self):
        self.numbers, self.last, self.twice, self.late = set(), -1, 0, 0

    def add(self, n):
        self.twice += n in self.numbers
        self.late += n < self.last
        self.numbers.add(n)
        self.last = max(self.last, n)

    def words(self, **more):
        return json.dumps({"came": len(self.numbers), "twice": self.twice, "late": self.late, **more})


def echo(s):
    seen = Seen()
    while not ended:
        if select.select([s], [], [], 0.1)[0]:
            data, sender = s.recvfrom(2000)
            seen.add(int(data[:10]))
            s.sendto(data, sender)
    return seen.words()


def send(s, progress):
    seen, sent, waiting, room = Seen(), 0, set(), 1
    while not ended or waiting:
        while len(waiting) < room and not ended:
            s.send(b"%010d" % sent + b"x" * (sent % 1300))
            waiting.add(sent)
            sent += 1
        if not select.select([s], [], [], PATIENCE)[0]:
            waiting.clear()
            room = 1
            continue
        n = int(s.recv(2000)[:10])
        seen.add(n)
        waiting.discard(n)
        room = WINDOW
        if n % 50 == 0:
            print(n, file=progress, flush=True)
    return seen.words(sent=sent, lost=sent - len(seen.numbers))


def main(what, address, port, *more):
    signal.signal(signal.SIGTERM, end)
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    if what == "echo":
        s.bind((address, int(port)))
        print(echo(s), flush=True)
    else:
        s.connect((address, int(port)))
        with open(more[0], "w") as progress:
            print(send(s, progress), flush=True)


main(*sys.argv[1:])
