"""What a worker prints: passed on to the user as far as a terminal can bear, remembered for its last words."""

import codecs
import contextlib
import re
import sys

__all__ = ["Overheard"]

# Of what one request prints so much is shown, and so much is remembered; bytes.
_SHOWN = 64 * 1024
_REMEMBERED = 8 * 1024
# Words in a reason: the line that says most, cut to a length that a table can bear.
_LONGEST = 200
_TELLING = re.compile(r"terminate called|Fatal Python error:|libc\+\+abi:|libgomp:")
_SILENCED = "\nattnbench: it prints more than 64 KiB; the rest is not shown.\n"


class Overheard:
    """Hears the bytes of one process after the other, in whichever thread reads them."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self.begin()

    def begin(self) -> None:
        """Another request begins: it may print as much, and what was said before it is not among its words."""
        self.bytes = 0
        self._end = b""
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def hear(self, chunk: bytes) -> None:
        """Pass it on, through `sys.stderr` as it is now: what draws on the terminal has put itself in its place."""
        silenced, room = self.endless, max(0, _SHOWN - self.bytes)
        self.bytes += len(chunk)
        self._end = (self._end + chunk)[-_REMEMBERED:]
        if self._quiet or silenced:
            return
        text = self._decoder.decode(chunk[:room]) + (_SILENCED if self.endless else "")
        with contextlib.suppress(Exception):  # a terminal that is gone must not end the reading
            sys.stderr.write(text)
            sys.stderr.flush()

    @property
    def endless(self) -> bool:
        """Whether this request has printed more than anybody would read."""
        return self.bytes > _SHOWN

    def words(self) -> str:
        """The line of this request's last words that tells most; empty where there is none."""
        lines = [line.strip() for line in self._end.decode(errors="replace").splitlines() if line.strip()]
        telling = next((number for number, line in enumerate(lines) if _TELLING.search(line)), len(lines) - 1)
        if not lines:
            return ""
        what = next((line for line in lines[telling + 1 : telling + 2] if line.startswith("what():")), "")
        return f"{lines[telling]} {what}".strip()[:_LONGEST]
