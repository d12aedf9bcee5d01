"""Rewrites what torch's safe unpickler refuses in the pickles of torch.save before 1.6.

The class of a pickled module is a persistent id there, ("module", class, file, source), which
`torch.load(weights_only=True)` refuses whatever the class is. Here the id becomes a call of `NAME`,
for which there is a stand-in as for every other name. Long strings of Python 2, such as the source,
become strings of Python 3. Nothing else is changed, and the safe unpickler judges the result.
"""

import mmap
import pickletools
import struct
import tempfile
from typing import IO, NamedTuple, cast

NAME = ("flax_densenet", "module_class")  # of the stand-in that gets the id and returns the class

_CALLED = "c{}\n{}\n".format(*NAME).encode()
_PICKLES_BEFORE = 3  # magic number, version of the protocol, what the machine was
_TEXT = ("BINUNICODE", "SHORT_BINSTRING", "BINSTRING")
_PUT = ("BINPUT", "LONG_BINPUT")
_GET = ("BINGET", "LONG_BINGET")


class _Edit(NamedTuple):
    start: int
    end: int
    content: bytes


def readable(file: IO[bytes]) -> IO[bytes]:
    """Returns the file, or a temporary one in its place that torch's safe unpickler takes.

    Args:
      file: A file that torch.save wrote before 1.6, open at its beginning.

    Raises:
      ValueError: It is damaged.
    """
    # Mapped, so that no length in it makes Python ask for more memory than the file has bytes.
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        opened = cast(IO[bytes], content)
        for _ in range(_PICKLES_BEFORE):
            for _ in pickletools.genops(opened):
                pass
        edits = _edits(opened)
        if not edits:
            return file
        rewritten = tempfile.TemporaryFile()
        with memoryview(content) as whole:
            at = 0
            for edit in sorted(edits):
                rewritten.write(whole[at : edit.start])
                rewritten.write(edit.content)
                at = edit.end
            rewritten.write(whole[at:])
    rewritten.seek(0)
    return rewritten


def _edits(content: IO[bytes]) -> list[_Edit]:
    """Reads one pickle, and returns what is to be changed in it."""
    edits = []
    texts: dict[int, str] = {}  # by their number in the pickle's memory
    marks: list[int] = []
    firsts: dict[int, str] = {}  # the text that follows a mark at once
    newest: str | None = None  # text on top of the stack
    closed: int | None = None  # mark of the tuple on top of the stack
    follows: int | None = None  # mark before this operation
    for opcode, argument, start in pickletools.genops(content):
        assert start is not None  # since the content can tell where it is
        name, before = opcode.name, follows
        follows = None
        if name in _PUT:
            if newest is not None:
                texts[cast(int, argument)] = newest
            continue  # leaves the top of the stack as it is
        newest = None
        if name in _TEXT or name in _GET:
            newest = argument if name in _TEXT else texts.get(cast(int, argument))
        if newest is not None and before is not None:
            firsts[before] = newest
        if name == "BINPERSID" and closed is not None and firsts.get(closed) == "module":
            edits += [_Edit(closed, closed, _CALLED), _Edit(start, start + 1, b"R")]
        if name == "BINSTRING":
            text = str(argument).encode()
            edits.append(_Edit(start, content.tell(), b"X" + struct.pack("<I", len(text)) + text))
        closed = None
        if name == "MARK":
            marks.append(start)
            follows = start
        elif pickletools.markobject in opcode.stack_before and marks:
            mark = marks.pop()
            closed = mark if name == "TUPLE" else None
    return edits
