"""A stand-in for Terraform's AWS provider, which cannot be downloaded where only package registries are reachable.

It has the names and types of the real provider (schema.json), creates nothing and invents the answers of AWS. The real
Terraform thus finds every misspelled argument, wrong type and dangling reference, and can complete an apply. The
stand-in does not know which values AWS accepts, and which changes replace a resource, except those in REPLACING.
"""

import itertools
import json
import os
from concurrent import futures
from pathlib import Path

import grpc
import msgpack
from tf.gen import tfplugin_pb2 as pb
from tf.gen import tfplugin_pb2_grpc as rpc

ACCOUNT = "123456789012"
REGION = "eu-west-1"
UNKNOWN = msgpack.ExtType(0, b"\0")

SCHEMA = json.loads((Path(__file__).parent / "schema.json").read_text())
NESTING = {
    "single": pb.Schema.NestedBlock.SINGLE,
    "list": pb.Schema.NestedBlock.LIST,
    "set": pb.Schema.NestedBlock.SET,
}
SERIAL = itertools.count(1)

# The arguments of a resource whose change replaces it, where a check depends on that.
REPLACING = {
    "aws_dynamodb_table": ["name", "hash_key", "range_key"],
    "aws_ecs_task_definition": ["container_definitions", "cpu", "memory"],
}
# The attributes of resources that exist without Terraform, for imports and data sources: (type, id) -> attributes.
EXISTING = {}


def is_unknown(value):
    return isinstance(value, msgpack.ExtType)


def schema_block(level):
    result = pb.Schema.Block()
    for name, attribute in level["attributes"].items():
        computed = attribute.get("computed", False)
        result.attributes.add(
            name=name,
            type=json.dumps(attribute["type"]).encode(),
            required=attribute.get("required", False),
            computed=computed,
            optional=not attribute.get("required", False) and (not computed or attribute.get("optional", False)),
        )
    for name, inner in level["blocks"].items():
        result.block_types.add(
            type_name=name,
            block=schema_block(inner),
            nesting=NESTING[inner["nesting"]],
            min_items=inner["min"],
            max_items=inner["max"],
        )
    return result


def fill(level, values, make):
    """Sets every attribute that the provider would compute to the value that `make` returns."""
    for name, attribute in level["attributes"].items():
        if attribute.get("computed") and (values.get(name) is None or is_unknown(values[name])):
            values[name] = make(name, attribute["type"])
    for name, inner in level["blocks"].items():
        found = values.get(name)
        if isinstance(found, dict):
            fill(inner, found, make)
        elif isinstance(found, list):
            for each in found:
                fill(inner, each, make)
    return values


def invented(kind):
    """Returns a function that invents the value of an attribute of a resource or data source of this kind."""

    def make(name, of):
        if isinstance(of, list):
            container, inner = of
            if name == "names":
                return [f"{REGION}{letter}" for letter in "abcd"]
            if container == "map":
                return {}
            if container == "object":
                return {field: make(field, field_type) for field, field_type in inner.items()}
            return [make(name, inner)]
        if of == "number":
            return 1
        if of == "bool":
            return False
        if name == "account_id":
            return ACCOUNT
        if name == "partition":
            return "aws"
        service = kind.removeprefix("aws_").partition("_")[0]
        if "arn" in name.split("_"):
            return f"arn:aws:{service}:{REGION}:{ACCOUNT}:{kind.removeprefix('aws_')}/{next(SERIAL)}"
        return f"{kind.removeprefix('aws_')}-{name}-{next(SERIAL)}"

    return make


def complete(level, values):
    """Adds the attributes and blocks of a resource or block that are missing, as null or empty."""
    for name in level["attributes"]:
        values.setdefault(name, None)
    for name, inner in level["blocks"].items():
        values.setdefault(name, None if inner["nesting"] == "single" else [])
        for each in values[name] or []:
            complete(inner, each)
    return values


def shaped(of, value):
    """Returns the value with the missing fields of its objects as null."""
    if not isinstance(of, list) or value is None:
        return value
    container, inner = of
    if container == "object":
        return {name: shaped(field, value.get(name)) for name, field in inner.items()}
    if container == "map":
        return {key: shaped(inner, each) for key, each in value.items()}
    return [shaped(inner, each) for each in value]


def known(section, kind, name):
    """Returns the attributes of a resource that exists without Terraform."""
    attributes, blocks = SCHEMA[section][kind]["attributes"], SCHEMA[section][kind]["blocks"]
    found = EXISTING.get((kind, name), {})
    values = {key: shaped(of["type"], found[key]) for key, of in attributes.items() if key in found}
    return values | {key: found[key] for key in blocks if key in found}


def compute(section, kind, values):
    """Sets the attributes that the provider would know after an apply or a read."""
    if kind == "aws_dynamodb_table":
        values["arn"] = f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/{values['name']}"
    return fill(SCHEMA[section][kind], values, invented(kind))


def policy_json(values):
    """Returns the JSON of an aws_iam_policy_document, for the arguments that terraform/ uses."""

    def one(items):
        return items[0] if items and len(items) == 1 else items

    statements = []
    for each in values["statement"]:
        statement = {"Sid": each["sid"] or "", "Effect": each["effect"] or "Allow"}
        for key, name in (("Action", "actions"), ("Resource", "resources"), ("NotResource", "not_resources")):
            if each[name]:
                statement[key] = one(each[name])
        if each["principals"]:
            statement["Principal"] = {principal["type"]: one(principal["identifiers"]) for principal in each["principals"]}
        conditions = {}
        for condition in each["condition"]:
            conditions.setdefault(condition["test"], {})[condition["variable"]] = one(condition["values"])
        if conditions:
            statement["Condition"] = conditions
        statements.append(statement)
    return json.dumps({"Version": "2012-10-17", "Statement": statements})


def unpack(value):
    return msgpack.unpackb(value.msgpack, raw=False, strict_map_key=False)


def pack(value):
    return pb.DynamicValue(msgpack=msgpack.packb(value, use_bin_type=True))


class StandIn(rpc.ProviderServicer):
    def GetMetadata(self, request, context):
        return pb.GetMetadata.Response(
            resources=[pb.GetMetadata.ResourceMetadata(type_name=name) for name in SCHEMA["resource"]],
            data_sources=[pb.GetMetadata.DataSourceMetadata(type_name=name) for name in SCHEMA["data"]],
        )

    def GetProviderSchema(self, request, context):
        string_map = {"type": ["map", "string"]}
        default_tags = {
            "nesting": "list", "max": 1, "min": 0, "attributes": {"tags": string_map}, "blocks": {},
        }  # fmt: skip
        provider = {"attributes": {"region": {"type": "string"}}, "blocks": {"default_tags": default_tags}}

        def schema(level):
            return pb.Schema(version=0, block=schema_block(level))

        return pb.GetProviderSchema.Response(
            provider=schema(provider),
            resource_schemas={name: schema(level) for name, level in SCHEMA["resource"].items()},
            data_source_schemas={name: schema(level) for name, level in SCHEMA["data"].items()},
        )

    def ValidateProviderConfig(self, request, context):
        return pb.ValidateProviderConfig.Response()

    def ValidateResourceConfig(self, request, context):
        return pb.ValidateResourceConfig.Response()

    def ValidateDataResourceConfig(self, request, context):
        return pb.ValidateDataResourceConfig.Response()

    def ConfigureProvider(self, request, context):
        return pb.ConfigureProvider.Response()

    def UpgradeResourceState(self, request, context):
        return pb.UpgradeResourceState.Response(upgraded_state=pack(json.loads(request.raw_state.json)))

    def ReadResource(self, request, context):
        return pb.ReadResource.Response(new_state=request.current_state)

    def ImportResourceState(self, request, context):
        values = {"id": request.id, "name": request.id} | known("resource", request.type_name, request.id)
        complete(SCHEMA["resource"][request.type_name], values)
        compute("resource", request.type_name, values)
        imported = pb.ImportResourceState.ImportedResource(type_name=request.type_name, state=pack(values))
        return pb.ImportResourceState.Response(imported_resources=[imported])

    def PlanResourceChange(self, request, context):
        proposed, prior = unpack(request.proposed_new_state), unpack(request.prior_state)
        replacing = []
        if proposed is not None and prior is None:
            fill(SCHEMA["resource"][request.type_name], proposed, lambda name, of: UNKNOWN)
        elif proposed is not None:
            replacing = [name for name in REPLACING.get(request.type_name, []) if proposed[name] != prior[name]]
        paths = [pb.AttributePath(steps=[pb.AttributePath.Step(attribute_name=name)]) for name in replacing]
        return pb.PlanResourceChange.Response(
            planned_state=pack(proposed), requires_replace=paths, legacy_type_system=True
        )

    def ApplyResourceChange(self, request, context):
        planned = unpack(request.planned_state)
        if planned is not None:
            compute("resource", request.type_name, planned)
        return pb.ApplyResourceChange.Response(new_state=pack(planned), legacy_type_system=True)

    def ReadDataSource(self, request, context):
        values = unpack(request.config)
        if request.type_name == "aws_iam_policy_document":
            values["json"] = policy_json(values)
        values |= known("data", request.type_name, values.get("name"))
        complete(SCHEMA["data"][request.type_name], values)
        compute("data", request.type_name, values)
        return pb.ReadDataSource.Response(state=pack(values))

    def StopProvider(self, request, context):
        return pb.StopProvider.Response()


def serve():
    """Starts the stand-in; returns the server and the TF_REATTACH_PROVIDERS that makes Terraform use it."""
    server = grpc.server(
        futures.ThreadPoolExecutor(max_workers=8),
        options=[("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)],
    )
    rpc.add_ProviderServicer_to_server(StandIn(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    address = {"Network": "tcp", "String": f"127.0.0.1:{port}"}
    reattach = {"Protocol": "grpc", "ProtocolVersion": 6, "Pid": os.getpid(), "Test": True, "Addr": address}
    return server, json.dumps({"hashicorp/aws": reattach})
