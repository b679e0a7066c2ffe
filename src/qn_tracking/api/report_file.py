"""Reports as files: one page of HTML, or Markdown between markers with pictures beside it."""

from __future__ import annotations

import os
from collections.abc import Sequence

from qn_tracking.api.picture import Picture
from qn_tracking.errors import UnsupportedError, UsageError
from qn_tracking.files import format_of
from qn_tracking.render.report import Block, fresh, html, markdown, markers, section
from qn_tracking.render.text import counted

FORMATS = ("md", "html")


class Report:
    """A report: a `title`, `blocks` of text, tables and figures, and the `pictures` by name.

    `key` names its place in a file of Markdown: the text between the lines `<!-- qn:report KEY -->`
    and `<!-- /qn:report KEY -->` is the report, everything around it is the reader's own.
    `label` is in the names of the pictures' files. `without_episodes` are runs whose episodes are
    not here, so that it may lack what it once had.
    """

    title: str
    key: str
    label: str = ""
    blocks: Sequence[Block]
    pictures: dict[str, Picture]
    without_episodes: int = 0

    def html(self) -> str:
        """One page that stands alone, without scripts. Raises UnsupportedError without the engine
        that draws.
        """
        drawn = {name: picture.svg() for name, picture in self.pictures.items()}
        return html(self.title, self.blocks, drawn)

    def save(self, path: str | os.PathLike[str], *, replace: bool = True) -> list[str]:
        """Writes the report as .html, or as .md with an SVG for each picture beside it.

        In a file of Markdown that has its markers, only the text between them is replaced, and
        `replace` is not asked for. Returns the paths. Raises UsageError for another ending, for
        markers that are not a pair, or for a file that is there unless it may be replaced;
        StorageError; UnsupportedError without `vl-convert-python`.
        """
        from qn_tracking.store.transfer import check_output
        from qn_tracking.store.write import published

        name = os.fspath(path)
        files: dict[str, str] = {}
        spliced = False
        if format_of(name, FORMATS) == "html":
            files[name] = self.html()
        else:
            page = _read(name)
            place = None if page is None else self._section(page, name)
            if page is not None and place is None and not replace:
                begin, end = markers(self.key)
                hint = f"--force replaces it, or the lines {begin} and {end} make a place for it"
                raise UsageError("is there already", file=name, hint=hint)
            beside = self._beside(name)
            for kind, picture in self.pictures.items():
                files[os.path.join(os.path.dirname(name), beside[kind])] = picture.svg()
            body = self._body(name)
            if page is not None and place is not None:
                files[name], spliced = page[: place[0]] + body + page[place[1] :], True
            else:
                files[name] = fresh(self.title, self.key, body)
        for file in files:
            check_output(file, replace or spliced)
        for file, content in files.items():
            with published(file, replace=replace or spliced) as stream:
                stream.write(content.encode())
        return [name, *(file for file in files if file != name)]

    def stale(self, path: str | os.PathLike[str]) -> list[str]:
        """Why a file is not this report: empty if it is up to date.

        Of Markdown, the text between the markers is compared, and the pictures have to be there.
        Raises UsageError as `save` does, and UnsupportedError where it differs and episodes are not
        here that the report may have been made of.
        """
        name = os.fspath(path)
        format, page = format_of(name, FORMATS), _read(name)
        if page is None:
            return [f"{name}: no such file"]
        if format == "html":
            found = [] if page == self.html() else [f"{name}: not up to date"]
        else:
            place = self._section(page, name)
            if place is None:
                return [f"{name}: has no line {markers(self.key)[0]}"]
            text = page[place[0] : place[1]].replace("\r\n", "\n")
            found = []
            if text != self._body(name):
                found.append(f"{name}: the text between the markers is not up to date")
            for file in self._beside(name).values():
                if not os.path.exists(os.path.join(os.path.dirname(name), file)):
                    found.append(f"{name}: its picture {file} is not here")
        if found and self.without_episodes:
            lacking = counted(self.without_episodes, "run")
            cause = f"differs, and the episodes of {lacking} are not here"
            raise UnsupportedError(cause, file=name, hint="git carries records, bundles carry all")
        return found

    def _body(self, name: str) -> str:
        return markdown(self.blocks, self._beside(name)) + "\n"

    def _beside(self, name: str) -> dict[str, str]:
        """The names of the pictures, beside the file."""
        stem = os.path.basename(os.path.splitext(name)[0])
        return {kind: f"{stem}{self.label}-{kind}.svg" for kind in self.pictures}

    def _section(self, page: str, name: str) -> tuple[int, int] | None:
        try:
            return section(page, self.key)
        except ValueError as error:
            raise UsageError(str(error), file=name) from None


def _read(name: str) -> str | None:
    """The text of a file that is there."""
    from qn_tracking.files import load

    try:
        return load(name, error=UsageError, follow=True)[0].decode()
    except FileNotFoundError:
        return None
    except UnicodeDecodeError:
        raise UsageError("not UTF-8", file=name) from None
