"""A page of the site → the same page as a file that needs no server (pure)."""

import posixpath
import re
from collections.abc import Callable
from html import escape
from html.parser import HTMLParser

Target = Callable[[str], str | None]
"""From a link as it stands in a page to a file of the copy with its fragment; None where the copy has none."""

_LINKS = ("href", "xlink:href", "src", "data-specification")
_CONTROLS = ("form", "input")
_DROPPED = frozenset({"script", "noscript", "search", "button", "select", "textarea", "label"})
_END = re.compile(r"</\s*([^\s>/]+)")
_VOID = frozenset({"input", "meta", "link", "img", "br", "hr", "col", "source", "wbr", "area", "base", "embed"})


def rewrite(markup: str, target: Target, notice: str = "") -> str:
    """Return HTML, SVG or Atom with links to files beside it, and without what only a server can answer.

    Forms keep what stands in them and lose their controls; scripts and searches go. A link that leads nowhere keeps
    its text, and in navigation goes as a whole. `notice` is markup that is put at the beginning of the content.
    """
    rewriter = _Rewriter(target, notice)
    rewriter.feed(markup)
    rewriter.close()
    return "".join(rewriter.parts)


def beside(here: str, there: str) -> str:
    """Return the relative link from one file to another, both as paths below one folder; a fragment stays."""
    name, sign, fragment = there.partition("#")
    return posixpath.relpath(name, posixpath.dirname(here) or ".") + sign + fragment


class _Rewriter(HTMLParser):
    """Copies markup as it is written and changes start tags alone, so that nothing else can be damaged."""

    def __init__(self, target: Target, notice: str) -> None:
        super().__init__(convert_charrefs=False)
        self.parts: list[str] = []
        self.target, self.notice = target, notice
        self.dropping: list[str] = []
        """The element that is left out, and those open within it."""
        self.navigation = 0
        self.ends_at = 0

    def parse_endtag(self, i: int) -> int:
        self.ends_at = i
        return super().parse_endtag(i)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._start(tag, attrs, closed=tag in _VOID)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._start(tag, attrs, closed=True)

    def handle_endtag(self, tag: str) -> None:
        if tag in self.dropping:
            while self.dropping.pop() != tag:
                pass
            return
        if tag == "nav":
            self.navigation -= 1
        if tag != "form":
            self._copy(f"</{self._spelled(tag)}>")

    def handle_data(self, data: str) -> None:
        self._copy(data)

    def handle_entityref(self, name: str) -> None:
        self._copy(f"&{name};")

    def handle_charref(self, name: str) -> None:
        self._copy(f"&#{name};")

    def handle_comment(self, data: str) -> None:
        self._copy(f"<!--{data}-->")

    def handle_decl(self, decl: str) -> None:
        self._copy(f"<!{decl}>")

    def handle_pi(self, data: str) -> None:
        self._copy(f"<?{data}>")

    def _copy(self, text: str) -> None:
        if not self.dropping:
            self.parts.append(text)

    def _start(self, tag: str, attrs: list[tuple[str, str | None]], *, closed: bool) -> None:
        text = self.get_starttag_text() or ""
        changed, dead = self._linked(text, attrs)
        if self.dropping or tag in _DROPPED or (dead and (tag == "link" or (tag == "a" and self.navigation))):
            if not closed:
                self.dropping.append(tag)
            return
        if tag not in _CONTROLS:
            self._copy(changed)
        self.navigation += tag == "nav"
        if tag == "main":
            self._copy(self.notice)

    def _linked(self, text: str, attrs: list[tuple[str, str | None]]) -> tuple[str, bool]:
        """Return a start tag with its links rewritten, and whether one of them leads nowhere."""
        dead = False
        for name, value in attrs:
            if name in _LINKS and value is not None and not value.startswith(("#", "data:")):
                there = self.target(value)
                dead = dead or there is None
                new = "" if there is None else f' {name}="{escape(there)}"'
                text = re.sub(rf"""\s{name}\s*=\s*("[^"]*"|'[^']*')""", lambda _, new=new: new, text, flags=re.I)
        return text, dead

    def _spelled(self, tag: str) -> str:
        """Return an end tag's name as it is written: SVG tells `clipPath` from `clippath`."""
        found = _END.match(self.rawdata, self.ends_at)
        return found[1] if found else tag
