"""gdb commands for the coroutines of weald-runtime, in a stopped process or a core:

    (gdb) source runtime/gdb/weald.py
    (gdb) weald coroutines [COUNT]            list those that have started: number, state, worker, name, place; 1,000 if no count is given
    (gdb) weald coroutine NUMBER|NAME COMMAND run a gdb command with a coroutine's frames: bt, frame 3, info locals, ...; a name with spaces
                                              stands in 'single quotes'

A running coroutine's frames are those of its worker's thread. Coroutines that have not run have no frames, and are not listed. The program
needs its symbol table; debug information makes backtraces better and is not needed to list. Backtraces of parked coroutines are made
on x86-64 only. Nothing in the process is changed or run.
"""

import re
import struct

import gdb
import gdb.unwinder

VERSION = 0x7765616C64000002
# As in runtime/src/task/debugger.rs.
OFFSETS = (
    "started_newest",
    "state",
    "parked",
    "owner",
    "id",
    "spawned_at",
    "attributes",
    "name",
    "coroutine",
    "coroutine_size",
    "parked_at",
    "next_started",
    "guard_start",
    "base",
    "guard_size",
)
LISTED = 1000


def read(address, length):
    return bytes(gdb.selected_inferior().read_memory(address, length))


def words(address, count):
    return struct.unpack("<%dQ" % count, read(address, 8 * count))


def word(address):
    return words(address, 1)[0]


class Root:
    """What runtime/src/debugger.rs shows of one copy of the runtime in the program."""

    def __init__(self, address):
        (self.version, records, count, length, example, file, file_length, line, column) = words(address, 9)
        if self.version != VERSION:
            raise gdb.GdbError("the program's runtime and this script are of different versions")
        self.offsets = dict(zip(OFFSETS, words(address + 72, len(OFFSETS))))
        self.workers = [Worker(self, *words(records + 8 * length * index, length)) for index in range(count)]
        self.learn(example, file, file_length, line, column)

    def learn(self, example, file, file_length, line, column):
        """How the compiler arranged a Location: by one of which all is known."""
        bytes_ = read(example, 24)
        self.file_at = next(at for at in (0, 8) if bytes_[at : at + 8] == struct.pack("<Q", file))
        # The text may be followed by a zero that the length counts.
        lengths = [struct.pack("<Q", file_length), struct.pack("<Q", file_length + 1)]
        self.length_at = next(at for at in (0, 8, 16) if at != self.file_at and bytes_[at : at + 8] in lengths)
        self.zero = bytes_[self.length_at : self.length_at + 8] == lengths[1]
        rest = [at for at in range(0, 24, 4) if at // 8 not in (self.file_at // 8, self.length_at // 8)]
        self.line_at = next(at for at in rest if bytes_[at : at + 4] == struct.pack("<I", line))
        self.column_at = next(at for at in rest if at != self.line_at and bytes_[at : at + 4] == struct.pack("<I", column))

    def location(self, address):
        if not address:
            return None
        bytes_ = read(address, 24)
        file, length = (struct.unpack_from("<Q", bytes_, at)[0] for at in (self.file_at, self.length_at))
        line, column = (struct.unpack_from("<I", bytes_, at)[0] for at in (self.line_at, self.column_at))
        return "%s:%d:%d" % (read(file, length - self.zero).decode(errors="replace"), line, column)


class Worker:
    def __init__(self, root, started, running, parking, index, thread):
        self.root, self.index, self.thread = root, index, thread
        self.running = word(running)
        self.parking = word(parking)
        self.newest = word(started + root.offsets["started_newest"])

    def coroutines(self):
        header = self.newest
        while header:
            coroutine = Coroutine(self, header)
            yield coroutine
            header = word(coroutine.owner + self.root.offsets["next_started"])


class Coroutine:
    def __init__(self, worker, header):
        self.worker, self.header, self.offsets = worker, header, worker.root.offsets
        self.owner = self.field("owner")
        self.id = self.field("id")

    def field(self, name):
        return word(self.header + self.offsets[name])

    def name(self):
        attributes = self.field("attributes")
        if not attributes:
            return None
        text, length = words(attributes + self.offsets["name"], 2)
        return read(text, length).decode(errors="replace") if text else None

    def is_running(self):
        return self.worker.running == self.header

    def state(self):
        if self.is_running():
            return "running"
        # The last park of a round is not in the state yet.
        parked = self.worker.parking == self.header or self.field("state") & self.offsets["parked"]
        return "parked" if parked else "runnable"

    def place(self):
        parked_at = word(self.owner + self.offsets["parked_at"])
        if parked_at:
            return "at " + self.worker.root.location(parked_at)
        spawned_at = self.worker.root.location(self.field("spawned_at"))
        return "spawned at " + spawned_at if spawned_at else ""

    def registers(self):
        """Those that the switch away from the coroutine saved at the end of its stack."""
        low = word(self.owner + self.offsets["guard_start"]) + self.offsets["guard_size"]
        fields = words(self.owner + self.offsets["coroutine"], self.offsets["coroutine_size"] // 8)
        # The stack as it was at first, and as it is: that is the longer one.
        pointer = min(field for field in fields if low <= field < self.owner)
        rip, rbx, rbp = words(pointer, 3)
        return {"rip": rip, "rsp": pointer + 24, "rbx": rbx, "rbp": rbp}

    def __str__(self):
        name = self.name()
        name = " '%s'" % name if name is not None else ""
        return "%d%s [%s, worker %d] %s" % (self.id, name, self.state(), self.worker.index, self.place())


class ParkedFrames(gdb.unwinder.Unwinder):
    """While it has registers, they are those of the caller of the selected thread's innermost frame."""

    def __init__(self):
        super().__init__("weald-coroutine")
        self.registers = None

    def __call__(self, pending):
        if self.registers is None:
            return None
        here = {name: int(pending.read_register(name)) & (1 << 64) - 1 for name in ("rip", "rsp")}
        if here == self.innermost:
            caller = self.registers
        elif "stack_init_trampoline" in gdb.execute("info symbol %d" % here["rip"], to_string=True):
            # Below lies whatever resumed it last: here it ends.
            caller = {"rip": 0, "rsp": here["rsp"] + 16}
        else:
            return None
        frame = FrameId(*(gdb.Value(here[name]) for name in ("rsp", "rip")))
        unwound = pending.create_unwind_info(frame)
        for name, value in caller.items():
            unwound.add_saved_register(name, gdb.Value(value).cast(pending.read_register(name).type))
        return unwound

    def run(self, registers, command):
        """The text of a gdb command, with the frames of a coroutine from number 1 on."""
        frame = gdb.newest_frame()
        self.innermost = {name: int(frame.read_register(name)) & (1 << 64) - 1 for name in ("rip", "rsp")}
        self.registers = registers
        gdb.invalidate_cached_frames()
        try:
            gdb.newest_frame().older().select()
            return gdb.execute(command, to_string=True)
        finally:
            self.registers = None
            gdb.invalidate_cached_frames()
            gdb.newest_frame().select()


class FrameId:
    def __init__(self, sp, pc):
        self.sp, self.pc = sp, pc


def roots():
    text = gdb.execute("info variables -q WEALD_DEBUGGER", to_string=True)
    found = re.findall(r"^(0x[0-9a-f]+) ", text, re.MULTILINE)
    if not found:
        # With debug information they are listed by name.
        names = re.findall(r"([\w:]*WEALD_DEBUGGER)", text)
        found = [re.search(r"0x[0-9a-f]+", gdb.execute("info address " + name, to_string=True)).group() for name in set(names)]
    if not found:
        raise gdb.GdbError("no weald-runtime in this program, or it has no symbols")
    return [Root(int(address, 16)) for address in found]


def workers():
    found = [worker for root in roots() for worker in root.workers]
    if not found:
        raise gdb.GdbError("no runtime is there, or the process stopped while one began or ended a worker")
    return found


def find(wanted):
    everyone = [coroutine for worker in workers() for coroutine in worker.coroutines()]
    found = [coroutine for coroutine in everyone if str(coroutine.id) == wanted]
    found = found or [coroutine for coroutine in everyone if coroutine.name() == wanted]
    if len(found) != 1:
        raise gdb.GdbError("%d coroutines have the number or name %s" % (len(found), wanted))
    return found[0]


def is_frame_list(command):
    return command.split()[0] in ("bt", "backtrace", "where")


class Weald(gdb.Command):
    """Coroutines of weald-runtime."""

    def __init__(self):
        super().__init__("weald", gdb.COMMAND_STACK, prefix=True)


class Coroutines(gdb.Command):
    """List the coroutines that have started: weald coroutines [COUNT]"""

    def __init__(self):
        super().__init__("weald coroutines", gdb.COMMAND_STACK)

    def invoke(self, argument, from_tty):
        limit, shown = int(argument or LISTED), 0
        for worker in workers():
            for coroutine in worker.coroutines():
                if shown == limit:
                    gdb.write("and more: give a larger count\n")
                    return
                gdb.write("%s\n" % coroutine)
                shown += 1


class OneCoroutine(gdb.Command):
    """Run a command with the frames of a coroutine: weald coroutine NUMBER|NAME COMMAND"""

    def __init__(self, frames):
        super().__init__("weald coroutine", gdb.COMMAND_STACK)
        self.frames = frames

    def invoke(self, argument, from_tty):
        words_ = re.fullmatch(r"(?:'([^']+)'|(\S+))\s+(.+)", argument.strip())
        if not words_:
            raise gdb.GdbError("weald coroutine NUMBER|NAME COMMAND")
        wanted, command = words_[1] or words_[2], words_[3]
        coroutine = find(wanted)
        gdb.write("%s\n" % coroutine)
        if coroutine.is_running():
            gdb.write(on_thread(coroutine.worker.thread, command))
            return
        if gdb.selected_inferior().architecture().name() != "i386:x86-64":
            raise gdb.GdbError("frames of parked coroutines are known on x86-64 only")
        text = self.frames.run(coroutine.registers(), command)
        if is_frame_list(command):
            # The first is that of the thread which happens to be selected; the last, the end.
            text = "".join(line for line in text.splitlines(True) if not re.match(r"#0 |#\d+ +0x0+ in \?\?", line))
        gdb.write(text)


def on_thread(number, command):
    selected = gdb.selected_thread()
    try:
        next(thread for thread in gdb.selected_inferior().threads() if thread.ptid[1] == number).switch()
        return gdb.execute(command, to_string=True)
    finally:
        selected.switch()


Weald()
Coroutines()
FRAMES = ParkedFrames()
OneCoroutine(FRAMES)
gdb.unwinder.register_unwinder(None, FRAMES, replace=True)
