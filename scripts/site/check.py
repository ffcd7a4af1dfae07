"""Checks a built site: every link and anchor within it, that it loads nothing from other hosts, and that the reference has
every operation of the OpenAPI document.

    check.py FOLDER [PATH]

PATH, by default /, is where the site is published: 404.html names its files from there.
"""

import json
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

OPENAPI = "docs/openapi.json"


class Page(HTMLParser):
    """The ids and the links of a page, and the files that it loads."""

    def __init__(self, text):
        super().__init__()
        self.ids, self.links, self.loads, self.base = {""}, [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        if "id" in values:
            self.ids.add(values["id"])
        if tag == "base":
            self.base = values["href"]
        elif tag == "a" and "href" in values:
            self.links.append(values["href"])
        else:
            self.loads += [values[name] for name in ("href", "src", "srcset", "data") if values.get(name)]


class Checker:
    def __init__(self, folder, path):
        self.folder, self.path, self.faults, self.checked = folder, path, [], 0
        self.pages = {file.relative_to(folder).as_posix(): Page(file.read_text()) for file in folder.rglob("*.html")}

    def check(self):
        for name, page in self.pages.items():
            for link in page.links:
                if urlsplit(link).scheme not in ("http", "https", "mailto"):
                    self.check_link(name, page, link)
            for link in page.loads:
                if urlsplit(link).netloc:
                    self.faults.append(f"{name}: loads {link} from another host")
                elif urlsplit(link).scheme != "data":
                    self.check_link(name, page, link)
        self.check_reference()

    def check_link(self, name, page, link):
        """Checks that a link leads to a file of the site, and its anchor to an id there."""
        self.checked += 1
        place = urlsplit(urljoin(urljoin(f"{self.path}{name}", page.base), link))
        if not place.path.startswith(self.path):
            self.faults.append(f"{name}: {link} leads out of the site")
            return
        path = unquote(place.path.removeprefix(self.path))
        path = f"{path}index.html" if path.endswith("/") or not path else path
        if not (self.folder / path).is_file():
            self.faults.append(f"{name}: {link} does not exist")
        elif path in self.pages and unquote(place.fragment) not in self.pages[path].ids:
            self.faults.append(f"{name}: {link}: no such anchor")

    def check_reference(self):
        ids = {each for name, page in self.pages.items() if name.startswith("docs/reference/") for each in page.ids}
        for path, methods in json.loads(Path(OPENAPI).read_text())["paths"].items():
            for method, operation in methods.items():
                if operation["operationId"] not in ids:
                    self.faults.append(f"the reference lacks {method.upper()} {path}")


if __name__ == "__main__":
    checker = Checker(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "/")
    checker.check()
    if checker.faults:
        sys.exit("\n".join(sorted(set(checker.faults))))
    print(f"ok: {checker.checked} links on {len(checker.pages)} pages")
