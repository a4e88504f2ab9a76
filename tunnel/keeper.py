"""The keeper of a node's listeners: it starts generations of the tunnel, and has them follow each other.

It holds a duplicate of every listener in every pod, so that connections wait while no generation accepts
them, and are not refused when a tunnel is killed. One mechanism serves all cases:

    start       a first generation makes its own listeners
    kill -9     a new one takes what is kept, with the connections that wait in it
    upgrade     a new keeper has the old one let go, and starts its own generation; the one that serves comes
                to the new keeper with its listeners, and is retired once the new one knows all that it has to
    rollback    a keeper whose successor ends becomes the keeper again

A retired generation accepts nothing more and ends with its last connection. The keeper has one thread and has
loaded all that a generation needs, so that a fork of it serves within a fraction of a second.

Longer than other files: one state machine.
"""

import fcntl
import logging
import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any, NoReturn

from protocols.report import Stage
from tunnel import handover
from tunnel.handover import DESCRIPTORS, Places
from tunnel.kept import Kept
from tunnel.membership import BY_NUMBER, Child, Member
from tunnel.packets import PacketError, received

log = logging.getLogger("warren.keeper")

_RECONNECT = 2.0  # seconds for generations that run to come to a new keeper
_TAKE_OVER = 5.0  # seconds for the keeper before us to let go
_RETIRE = 2.0  # seconds for a generation to accept no more
_PATIENCE = 5.0  # seconds for which connections wait, where no generation serves, for one that knows all
_BACKOFF = 5.0  # seconds, at most, between two starts of a generation that is killed each time


class KeeperError(Exception):
    """There can be no keeper here; the text says why."""


class Keeper:
    """`generation` is what a generation does, given its number; it returns when that has ended."""

    def __init__(self, places: Places, generation: Callable[[int], None]) -> None:
        self._places, self._generation = places, generation
        self._selector = selectors.DefaultSelector()
        self._lock = os.open(places.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._listener: socket.socket | None = None
        self._former: socket.socket | None = None  # to the keeper before us, which returns when it closes
        self._members: dict[socket.socket, Member] = {}
        self._left = Kept()  # of a generation that is gone
        self._children: dict[int, Child] = {}
        self._fresh = True  # no generation was started yet
        self._failures = 0
        self._not_before = 0.0  # monotonic, of the next start
        self._wait_for: set[int] = set()  # generations that run, and have not come yet
        self._wait_until = 0.0
        self._retired: set[int] = set()  # numbers
        self._ending = False

    # --- which keeper it is

    def run(self) -> NoReturn:
        """Keep until told to stop, or until our generation ends by itself. Raises KeeperError, OSError."""
        signal.signal(signal.SIGTERM, lambda *_: self._leave())
        signal.signal(signal.SIGINT, lambda *_: self._end())
        self._become()
        while True:
            self._advance()
            for key, _ in self._selector.select(self._until_due()):
                key.data()

    def _become(self) -> None:
        """Become the keeper of this node: the one before lets go."""
        if not self._claim():
            former = self._ask_former()
            deadline = time.monotonic() + _TAKE_OVER
            while not self._claim():
                if time.monotonic() > deadline:
                    raise KeeperError(
                        f"{self._places.lock} is held by a keeper that does not let go: end it first"
                    )
                time.sleep(0.002)
            self._former = former
        self._open()

    def _claim(self) -> bool:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _ask_former(self) -> socket.socket | None:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            connection.connect(str(self._places.socket))
            handover.send(connection, "take_over")
        except OSError:
            connection.close()
            return None
        return connection

    def _open(self) -> None:
        self._places.socket.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
        former = os.umask(0o177)
        try:
            listener.bind(str(self._places.socket))
        finally:
            os.umask(former)
        listener.listen(64)
        self._listener = listener
        self._selector.register(listener, selectors.EVENT_READ, self._accept)
        self._wait_for = self._running()
        self._wait_until = time.monotonic() + (_RECONNECT if self._wait_for else 0)

    def _running(self) -> set[int]:
        """The numbers of the generations that run. What others have left is tidied up."""
        running = set()
        for path in self._places.generations():
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink(missing_ok=True)
            except BlockingIOError:
                running.add(int(path.stem.rpartition("-")[2]))
            finally:
                os.close(fd)
        return running

    def _let_go(self, successor: Member) -> None:
        """The one that asks is the keeper now. We come back when it ends."""
        log.info("another keeper takes over")
        self._forget(successor)
        for member in list(self._members.values()):
            self._forget(member)
            member.close()
        self._left.close_all()
        if self._listener:
            self._selector.unregister(self._listener)
            self._listener.close()
            self._listener = None
            self._places.socket.unlink(missing_ok=True)
        fcntl.flock(self._lock, fcntl.LOCK_UN)
        self._selector.register(successor.connection, selectors.EVENT_READ, lambda: self._return(successor))

    def _return(self, successor: Member) -> None:
        self._selector.unregister(successor.connection)
        successor.close()
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        log.info("the other keeper has ended: keeping again")
        self._open()

    # --- generations

    def _start(self) -> None:
        self._fresh = False
        number = self._next_number()
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid == 0:
            os._exit(self._be(number))
        child = self._children[pid] = Child(number, pid)
        self._selector.register(child.fd, selectors.EVENT_READ, lambda: self._ended(child))
        log.info("started generation %d of the tunnel, pid %d", number, pid)

    def _be(self, number: int) -> int:
        """In the child: what remains of the keeper is closed."""
        for signal_number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(signal_number, signal.SIG_DFL)
        self._selector.close()
        if self._listener:
            self._listener.close()
        if self._former:
            self._former.close()
        for member in self._members.values():
            member.close()
        self._left.close_all()
        for child in self._children.values():
            os.close(child.fd)
        os.close(self._lock)
        try:
            self._generation(number)
        except SystemExit as end:
            return end.code if isinstance(end.code, int) else int(end.code is not None)
        except Exception as error:
            log.error("generation %d ended: %s", number, error)
            return 1
        return 0

    def _next_number(self) -> int:
        number = int(os.pread(self._lock, 20, 0) or b"0") + 1
        os.pwrite(self._lock, b"%d" % number, 0)
        return number

    def _ended(self, child: Child) -> None:
        self._selector.unregister(child.fd)
        os.close(child.fd)
        del self._children[child.pid]
        _, status = os.waitpid(child.pid, 0)
        code = os.waitstatus_to_exitcode(status)
        if self._ending and not any(not one.outlasts for one in self._children.values()):
            sys.exit(0)
        if self._ending or self._listener is None or child.number in self._retired:
            return log.info("generation %d ended with %d", child.number, code)
        if code >= 0:
            sys.exit(code)  # the generation before it, if there is one, serves on
        lived = time.monotonic() - child.started
        self._failures = self._failures + 1 if lived < 2 * _BACKOFF else 0
        pause = min(_BACKOFF, 0.1 * 2**self._failures) if self._failures > 1 else 0.0
        log.error(
            "generation %d was killed by signal %d: the next starts in %.1f s", child.number, -code, pause
        )
        self._not_before = time.monotonic() + pause

    def _accept(self) -> None:
        assert self._listener
        connection, _ = self._listener.accept()
        if not handover.is_one_of_us(connection):
            connection.close()
            return
        connection.settimeout(1.0)  # for what we say to it
        member = self._members[connection] = Member(connection)
        self._selector.register(connection, selectors.EVENT_READ, lambda: self._hear(member))

    def _hear(self, member: Member) -> None:
        try:
            packet, fds = received(member.connection, DESCRIPTORS)
            if not packet:
                return self._lost(member)
            self._obey(member, *handover.decode(packet), fds)
        except (PacketError, OSError) as error:
            log.warning("closed the connection of a generation: %s", error)
            self._lost(member)

    def _obey(self, member: Member, kind: str, fields: dict[str, Any], fds: list[int]) -> None:
        match kind:
            case "hello":
                member.told = handover.generation(fields)
                self._wait_for.discard(member.told.number)
                self._compare(member, fields.get("handover", 1))
                if child := self._children.get(member.told.pid):
                    child.outlasts = member.told.outlasts
                handover.send(member.connection, "output", fds=[1, 2])
            case "kept" if not member.foreign:
                member.kept.add(handover.listeners_of(fields, fds))
            case "closed":
                member.kept.close(int(fields["netns"]))
            case "ready":
                member.ready = True
            case "serving":
                self._left.close_all()
                self._set_stage(member, Stage.SERVING)
            case "retired":
                self._inherit(member)
                self._set_stage(member, Stage.RETIRED)
                self._retired.add(member.number)
            case "open":
                member.told = handover.generation(fields)
                self._tell_others()
            case "take_over":
                self._let_go(member)
            case _:
                for fd in fds:
                    os.close(fd)

    def _compare(self, member: Member, version: object) -> None:
        """Raises PacketError for one that waits for its turn, which never comes."""
        member.foreign = version != handover.VERSION
        if not member.foreign:
            return
        text = f"generation {member.number} speaks version {version} of the handover, not {handover.VERSION}"
        if member.stage is Stage.STANDBY:
            raise PacketError(text)
        log.warning("%s: it goes on with its own listeners until the next generation has others", text)

    def _set_stage(self, member: Member, stage: Stage) -> None:
        if member.told:
            member.told = replace(member.told, stage=stage)
        self._tell_others()

    def _tell_others(self) -> None:
        told = {"all": [asdict(one.told) for one in self._members.values() if one.told]}
        for member in self._in(Stage.SERVING):
            self._say(member, "others", told)

    def _lost(self, member: Member) -> None:
        """A generation is gone, or is no good: what it listened on stays."""
        if member.stage is Stage.SERVING:
            self._inherit(member)
        self._forget(member)
        member.close()

    def _inherit(self, member: Member) -> None:
        self._left.add(member.kept.take())

    def _forget(self, member: Member) -> None:
        if self._members.pop(member.connection, None):
            self._selector.unregister(member.connection)

    # --- who serves

    def _advance(self) -> None:
        """Have the newest generation serve, and the others not."""
        if self._listener is None:
            return
        now = time.monotonic()
        if self._lacks_generation(now):
            self._start()
        standby, serving = self._in(Stage.STANDBY), self._in(Stage.SERVING)
        if ours := [one for one in serving if not one.foreign]:
            for member in serving:
                if member is not ours[-1]:
                    self._retire(member, now)
        if standby and self._may_follow(following := standby[-1], ours, now):
            self._promote(following)

    def _in(self, stage: Stage) -> list[Member]:
        """Those that are so far, the newest last."""
        return sorted((one for one in self._members.values() if one.stage is stage), key=BY_NUMBER)

    def _until_due(self) -> float | None:
        """Seconds until something has to be looked at that no event tells of; None: nothing."""
        now = time.monotonic()
        due = [self._not_before] if self._not_before > now else []
        if self._wait_for:
            due.append(self._wait_until)
        for member in self._members.values():
            if member.stage is Stage.STANDBY and not member.promoted:
                due.append(member.since + _PATIENCE)
            if member.stage is Stage.SERVING and member.retiring is not None:
                due.append(member.retiring + _RETIRE)
        return max(0.0, min(due) - now) if due else None

    def _lacks_generation(self, now: float) -> bool:
        if now >= self._wait_until:
            self._wait_for.clear()
        if now < self._not_before or self._wait_for or self._ending:
            return False
        coming = {child.number for child in self._children.values()} - self._retired
        useful = any(one.stage is not Stage.RETIRED and not one.foreign for one in self._members.values())
        return self._fresh or not (coming or useful)

    def _may_follow(self, following: Member, serving: list[Member], now: float) -> bool:
        """Whether it is its turn; asks those that serve to retire when it is ready."""
        if not serving:
            return following.ready or not self._somebody() or now >= following.since + _PATIENCE
        if not following.ready:
            return False
        for member in serving:
            self._retire(member, now)
        if any(member.retiring is not None and now < member.retiring + _RETIRE for member in serving):
            return False
        for member in serving:  # it does not answer: its listeners are taken all the same
            self._inherit(member)
        return True

    def _somebody(self) -> bool:
        """Whether somebody has served, for whom connections wait, or does."""
        return bool(self._left.namespaces or self._in(Stage.SERVING))

    def _retire(self, member: Member, now: float) -> None:
        if member.retiring is None:
            member.retiring = now
            self._say(member, "retire")

    def _promote(self, member: Member) -> None:
        if member.promoted:
            return
        member.promoted = True
        try:
            handover.send_listeners(member.connection, "left", [*self._left])
            handover.send(member.connection, "serve", {"alone": not self._somebody()})
        except OSError as error:
            log.warning("generation %d: %s", member.number, error)
            self._lost(member)

    def _say(self, member: Member, kind: str, fields: dict[str, Any] | None = None) -> None:
        try:
            handover.send(member.connection, kind, fields)
        except OSError as error:
            log.warning("generation %d: %s", member.number, error)
            self._lost(member)

    def _leave(self) -> None:
        """Our container ends. A generation that outlasts it goes on until another keeper's follows it."""
        self._end(lasting=False)

    def _end(self, *, lasting: bool = True) -> None:
        """Have generations end in order, `lasting` ones as well; with the last one we end."""
        ending = [child for child in self._children.values() if lasting or not child.outlasts]
        if not ending:
            sys.exit(0)
        self._ending = True
        for child in ending:
            os.kill(child.pid, signal.SIGTERM)
