"""Collects the pages of the site in a folder from which mdBook builds it.

    stage.py FOLDER REPOSITORY_URL

docs/SUMMARY.md is the table of contents; the decisions follow their list. The pages keep their places in the repository, so
that links between them stay as they are. Links to other files of the repository lead to REPOSITORY_URL, and links to
docs/openapi.json to the reference that is made from it.
"""

import json
import posixpath
import re
import shutil
import sys
from pathlib import Path

from reference import Reference

CONTENTS = "docs/SUMMARY.md"
OPENAPI = "docs/openapi.json"
REFERENCE = "docs/reference"
DECISIONS = "docs/decisions"
PICTURES = {".png", ".svg"}
# Code, in which nothing is a link: blocks between fences, and code within a line.
CODE = re.compile(r"^( *)(```+).*?^\1\2 *$|(`+)(?!`).*?(?<!`)\3(?!`)", re.MULTILINE | re.DOTALL)
# The target of a Markdown link, or of an attribute of an HTML tag.
TARGET = re.compile(r'(?:(?<=\]\()|(?<=\bhref=")|(?<=\bsrc=")|(?<=\bsrcset="))[^()"\s]+(?=[)"])')


class Site:
    def __init__(self, folder, repository_url):
        self.folder = folder
        self.repository_url = repository_url
        self.decisions = sorted(each.as_posix() for each in Path(DECISIONS).glob("[0-9]*.md"))
        self.pages = {*self.pages_of_contents(), *self.decisions}
        self.faults = []

    def pages_of_contents(self):
        for target in TARGET.finditer(Path(CONTENTS).read_text()):
            if target[0].endswith(".md"):
                yield posixpath.normpath(f"docs/{target[0]}")

    def write(self, path, text):
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def copy(self, path):
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, file)

    def place_of(self, path):
        """The place of a page in the site: the README of a folder is its index."""
        return re.sub(r"(^|/)README\.md$", r"\1index.md", path)

    def target_of(self, page, target):
        """The target in the site of a link of a page in the repository. A picture is copied to the site."""
        if re.match(r"[a-z]+:|#", target):
            return target
        path, mark, anchor = target.partition("#")
        path = posixpath.normpath(posixpath.join(posixpath.dirname(page), path))
        if path in self.pages:
            return self.relative(page, self.place_of(path)) + mark + anchor
        if path == OPENAPI:
            return self.relative(page, f"{REFERENCE}/index.md")
        if not Path(path).exists():
            self.faults.append(f"{page}: {target} does not exist")
        elif Path(path).suffix in PICTURES:
            self.copy(path)
            return target
        return f"{self.repository_url}/{'tree' if Path(path).is_dir() else 'blob'}/HEAD/{path}{mark}{anchor}"

    def relative(self, page, path):
        return posixpath.relpath(path, posixpath.dirname(page) or ".")

    def rewritten(self, page):
        """The text of a page with its links rewritten, except in code."""
        text, done, parts = Path(page).read_text(), 0, []
        for code in CODE.finditer(text):
            parts += [self.with_targets(page, text[done : code.start()]), code[0]]
            done = code.end()
        return "".join([*parts, self.with_targets(page, text[done:])])

    def with_targets(self, page, text):
        """A text of a page, outside of code, with its links rewritten."""
        return TARGET.sub(lambda found: self.target_of(page, found[0]), text)

    def stage(self):
        for page in self.pages:
            if not Path(page).exists():
                self.faults.append(f"{CONTENTS}: {page} does not exist")
                continue
            self.write(self.place_of(page), self.rewritten(page))
        self.copy(OPENAPI)
        reference = []
        for file, title, text in Reference(json.loads(Path(OPENAPI).read_text())).pages():
            self.write(f"{REFERENCE}/{file}", text)
            reference.append((title, f"{REFERENCE}/{file}"))
        decisions = [(Path(each).read_text().partition("\n")[0].removeprefix("# "), each) for each in self.decisions]
        self.write("SUMMARY.md", self.contents(reference[1:] + decisions))

    def contents(self, further):
        """The table of contents, with paths from the root of the site. Further pages, as (title, path), follow the index of
        their folder."""
        lines = []
        for line in Path(CONTENTS).read_text().splitlines():
            line = TARGET.sub(lambda found: posixpath.normpath(f"docs/{self.target_of(CONTENTS, found[0])}"), line)
            folder = re.search(r"\((.*)/index\.md\)", line)
            lines += [line, *(f"  - [{title}]({path})" for title, path in further if folder and Path(path).parent.as_posix() == folder[1])]
        return "\n".join(lines) + "\n"


if __name__ == "__main__":
    site = Site(Path(sys.argv[1]), sys.argv[2].rstrip("/"))
    site.stage()
    if site.faults:
        sys.exit("\n".join(sorted(site.faults)))
    print(f"{len(site.pages)} pages, and the API reference")
