"""The API reference of the site: Markdown pages made from an OpenAPI document. scripts/site/stage.py calls it."""

import json
import re

# The pages of operations, by their readers: tag, file, title.
READERS = [
    ("Tracks", "plays.md", "Plays"),
    ("Admin", "operators.md", "Operators"),
    ("Jobs", "jobs.md", "Jobs"),
    ("Health", "health.md", "Health and metrics"),
]
ROLES = {"track_token": "track", "viewer_token": "viewer", "operator_token": "operator", "admin_token": "admin"}
# Headers that nearly every answer has; the first page describes them.
COMMON_HEADERS = {"X-Request-ID", "X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset"}
# A schema with any other keyword is an error, so that no part of the document is left out silently.
KEYWORDS = {
    "$ref", "type", "enum", "format", "description", "example", "properties", "required", "items", "oneOf", "allOf",
    "minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems", "additionalProperties", "propertyNames",
}
# An error code links to the endpoints that return it, unless there are more.
FEW_ENDPOINTS = 8


def table(header, rows):
    """A Markdown table, or nothing if there are no rows."""
    if not rows:
        return ""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(map(cell, line)) + " |" for line in lines) + "\n"


def cell(text):
    return " ".join(str(text).split()).replace("|", "\\|")


def plain(text):
    """Text that Markdown shows as it is."""
    return re.sub(r"([\\`*_\[\]<>])", r"\\\1", text)


def code(value):
    return f"`{value if isinstance(value, str) else json.dumps(value)}`"


def listed(items, last="or"):
    """`a, b or c`."""
    items = list(items)
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} {last} {items[-1]}"


def json_block(value):
    return "```json\n" + json.dumps(value, indent=2, ensure_ascii=False) + "\n```\n"


def link_of(reference):
    name = reference.removeprefix("#/components/schemas/")
    return f"[{name}](bodies.md#{name.lower()})"


def type_of(schema):
    """The type of a value with its limits, in words."""
    unknown = schema.keys() - KEYWORDS
    if unknown:
        raise ValueError(f"scripts/site/reference.py cannot show {sorted(unknown)} of {schema}")
    if "$ref" in schema:
        return link_of(schema["$ref"])
    if "oneOf" in schema:
        return " or ".join(type_of(each) for each in schema["oneOf"])
    if "allOf" in schema:
        return " and ".join(type_of(each) for each in schema["allOf"])
    if "enum" in schema:
        return listed(map(code, schema["enum"]))
    types = schema.get("type", "any value")
    types = types if isinstance(types, list) else [types]
    return " or ".join(words(schema, each) for each in types)


def words(schema, name):
    """One of the types of a schema, with its limits."""
    if name == "array" and "items" in schema:
        return f"array of {type_of(schema['items'])}{limits(schema, 'Items', ' items')}"
    if name == "object" and isinstance(schema.get("additionalProperties"), dict):
        return f"object, each value: {type_of(schema['additionalProperties'])}"
    if name == "string":
        return f"{name}{limits(schema, 'Length', ' characters')}"
    if name in ("integer", "number"):
        return f"{name}{limits(schema, 'imum', '')}"
    return name


def limits(schema, suffix, unit):
    """` (1 to 500 characters)`: the limits of a length, a number of items or a value."""
    least, most = schema.get("min" + suffix), schema.get("max" + suffix)
    if most is None:
        return f" (at least {least}{unit})" if least else ""
    return f" ({'at most' if least is None else f'{least} to'} {most}{unit})"


def description_of(schema):
    parts = schema.get("oneOf", [])
    return schema.get("description") or next((part["description"] for part in parts if "description" in part), "")


def fields_of(schema):
    """The table of an object's fields."""
    required = schema.get("required", [])
    rows = [
        (code(name), type_of(field), "yes" if name in required else "", description_of(field))
        for name, field in schema.get("properties", {}).items()
    ]
    return table(("field", "type", "required", "meaning"), rows)


def body_section(name, schema):
    parts = [f"## {name} {{#{name.lower()}}}\n", schema.get("description", "") + "\n"]
    for part in schema.get("allOf", [schema]):
        if "$ref" in part:
            parts.append(f"All fields of {link_of(part['$ref'])}, and:\n")
        elif "properties" in part:
            parts.append(fields_of(part))
        else:
            parts.append(f"{type_of(part).capitalize()}.\n")
    if "example" in schema:
        parts.append(json_block(schema["example"]))
    return "\n".join(parts)


class Reference:
    def __init__(self, document):
        self.document = document
        self.schemas = document["components"]["schemas"]
        self.operations = []
        for path, methods in document["paths"].items():
            for method, operation in methods.items():
                self.operations.append((f"{method.upper()} {path}", operation))

    def pages(self):
        """The text of each page by its file name, in the order of the table of contents, with its title."""
        yield "index.md", "API reference", self.front_page()
        for tag, file, title in READERS:
            yield file, title, self.reader_page(tag, title)
        yield "errors.md", "Error codes", self.errors_page()
        yield "bodies.md", "Bodies", self.bodies_page()
        known = {tag for tag, _, _ in READERS}
        for endpoint, operation in self.operations:
            if not known.intersection(operation["tags"]):
                raise ValueError(f"{endpoint}: scripts/site/reference.py has no page for {operation['tags']}")

    def of_reader(self, tag):
        return [each for each in self.operations if tag in each[1]["tags"]]

    def front_page(self):
        parts = [
            "# API reference\n",
            self.document["info"]["description"] + "\n",
            "This reference is made from [openapi.json](../openapi.json), which is also `/v1/openapi.json` of a running "
            "broker; `/v1/docs` shows it there, with forms that send requests. [The API by example](../api.md) is a "
            "walkthrough. [Error codes](errors.md) and [bodies](bodies.md) have pages of their own.\n",
            "## Headers of every answer\n",
            table(("header", "meaning"), [(code(name), text) for name, text in self.common_headers().items()]),
        ]
        for tag, file, title in READERS:
            about = next(each["description"] for each in self.document["tags"] if each["name"] == tag)
            rows = [
                (f"[`{endpoint}`]({file}#{operation['operationId']})", roles_of(operation), operation["summary"])
                for endpoint, operation in self.of_reader(tag)
            ]
            parts += [f"## {title}\n", about + "\n", table(("endpoint", "role", "effect"), rows)]
        return "\n".join(parts)

    def common_headers(self):
        found = {}
        for _, operation in self.operations:
            for response in operation["responses"].values():
                for name, header in response.get("headers", {}).items():
                    if name in COMMON_HEADERS:
                        found[name] = header["description"]
        return found

    def reader_page(self, tag, title):
        sections = [self.operation_section(*each) for each in self.of_reader(tag)]
        return "\n".join([f"# {title}\n", *sections])

    def operation_section(self, endpoint, operation):
        parts = [
            f"## {operation['summary']} {{#{operation['operationId']}}}\n",
            f"{code(endpoint)}. {role_sentence(operation)}\n",
            operation.get("description", "") + "\n",
            table(("parameter", "in", "type", "required", "meaning"), map_rows(parameter_row, operation.get("parameters"))),
            self.request_body(operation),
            self.answers(operation),
            errors_table(operation),
        ]
        return "\n".join(filter(str.strip, parts))

    def request_body(self, operation):
        body = operation.get("requestBody")
        if not body:
            return ""
        content = body["content"]
        schema = content["application/json"]["schema"]
        name = next(each["$ref"] for each in schema.get("oneOf", [schema]) if "$ref" in each)
        target = self.schemas[name.removeprefix("#/components/schemas/")]
        others = [code(each) for each in content if each != "application/json"]
        parts = [
            f"**Body**{'' if body.get('required') else ', optional'}: {link_of(name)}, as `application/json`"
            f"{' or ' + listed(others) if others else ''}. {body.get('description', '')}\n",
            fields_of(target),
        ]
        if "example" in target:
            parts.append(json_block(target["example"]))
        return "\n".join(parts)

    def answers(self, operation):
        """The table of the answers that are no errors, and the first example of a body."""
        rows, example = [], ""
        for status, response in operation["responses"].items():
            if status >= "400" and error_examples(response):
                continue
            headers = [name for name in response.get("headers", {}) if name not in COMMON_HEADERS]
            kinds = [
                type_of(content["schema"]) if kind == "application/json" else code(kind)
                for kind, content in response.get("content", {}).items()
            ]
            rows.append((status, response["description"], " or ".join(kinds), ", ".join(map(code, headers))))
            example = example or self.example_of(response)
        return table(("answer", "meaning", "body", "headers"), rows) + ("\n" + example if example else "")

    def example_of(self, response):
        content = response.get("content", {}).get("application/json", {})
        if "example" in content:
            return json_block(content["example"])
        name = content.get("schema", {}).get("$ref", "").removeprefix("#/components/schemas/")
        return json_block(self.schemas[name]["example"]) if "example" in self.schemas.get(name, {}) else ""

    def errors_page(self):
        where = {name: {} for name in self.schemas["ErrorCode"]["enum"]}
        messages = {}
        for endpoint, operation in self.operations:
            file = next(file for tag, file, _ in READERS if tag in operation["tags"])
            for status, response in operation["responses"].items():
                for name, message in error_examples(response).items():
                    where[name].setdefault(status, []).append(f"[`{endpoint}`]({file}#{operation['operationId']})")
                    messages.setdefault(name, plain(message))
        rows = []
        for name, statuses in sorted(where.items()):
            endpoints = [each for found in statuses.values() for each in found]
            by = ", ".join(endpoints) if len(endpoints) <= FEW_ENDPOINTS else f"{len(endpoints)} endpoints"
            rows.append((code(name), ", ".join(sorted(statuses)), messages.get(name, ""), by or "requests that match no endpoint"))
        intro = (
            "# Error codes\n\nEvery error has the body [ErrorBody](bodies.md#errorbody). The code is for programs, the "
            "message for readers. [Errors](../api.md#errors) says which of them a retry can overcome.\n"
        )
        return intro + "\n" + table(("code", "status", "a message", "returned by"), rows)

    def bodies_page(self):
        sections = [body_section(name, schema) for name, schema in sorted(self.schemas.items())]
        return "\n".join(["# Bodies\n", "The JSON of requests and answers, by name.\n", *sections])


def map_rows(function, items):
    return [function(each) for each in items or []]


def roles_of(operation):
    return listed([code(ROLES[name]) for each in operation.get("security", []) for name in each] or ["none"])


def role_sentence(operation):
    return f"Role: {roles_of(operation)}." if operation.get("security") else "No token required."


def parameter_row(parameter):
    example = f" For example {code(parameter['example'])}." if "example" in parameter else ""
    return (
        code(parameter["name"]),
        parameter["in"],
        type_of(parameter["schema"]),
        "yes" if parameter["required"] else "",
        parameter["description"] + example,
    )


def error_examples(response):
    """The message of each error code that an answer may have."""
    examples = response.get("content", {}).get("application/json", {}).get("examples", {})
    return {name: each["value"]["error"]["message"] for name, each in examples.items()}


def errors_table(operation):
    rows = []
    for status, response in operation["responses"].items():
        for name, message in error_examples(response).items():
            rows.append((status, code(name), plain(message)))
    return table(("error", "code", "a message"), rows)
