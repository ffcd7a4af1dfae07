# The pool's table, which has the FastAPI service's key and indexes and can be its table (README.md), and the companion
# table, which stores all other items.

locals {
  # Index name to partition key. The sort key is always allocated_at, and all attributes are projected. Only sandbox
  # items have these attributes.
  table_indexes = {
    StatusIndex      = "status"
    TrackIndex       = "allocated_to_track"
    IdempotencyIndex = "idempotency_key"
  }

  table_names = {
    pool      = var.table_name
    companion = coalesce(var.companion_table_name, "${var.table_name}-companion")
  }
  table_arns = {
    pool      = var.create_table ? aws_dynamodb_table.pool[0].arn : data.aws_dynamodb_table.existing["pool"].arn
    companion = aws_dynamodb_table.companion.arn
  }
  # Tables that exist before Terraform manages them, if it ever does.
  existing_tables = setunion(var.import_tables, var.create_table ? [] : ["pool"])

  table_encryption  = coalesce(var.table_encryption, var.kms_key_arn, "aws-owned")
  table_kms_key_arn = startswith(local.table_encryption, "arn:") ? local.table_encryption : null
}

resource "aws_dynamodb_table" "pool" {
  count = var.create_table ? 1 : 0

  #checkov:skip=CKV_AWS_119:The key is var.table_encryption or var.kms_key_arn; without them DynamoDB encrypts with an AWS-owned key.
  #checkov:skip=CKV2_AWS_16:An on-demand table has no capacity to scale.
  name                        = local.table_names.pool
  billing_mode                = "PAY_PER_REQUEST"
  hash_key                    = "PK"
  range_key                   = "SK"
  deletion_protection_enabled = true

  dynamic "attribute" {
    for_each = merge({ PK = "S", SK = "S", allocated_at = "N" }, { for attribute in values(local.table_indexes) : attribute => "S" })

    content {
      name = attribute.key
      type = attribute.value
    }
  }

  dynamic "global_secondary_index" {
    for_each = local.table_indexes

    content {
      name            = global_secondary_index.key
      projection_type = "ALL"

      key_schema {
        attribute_name = global_secondary_index.value
        key_type       = "HASH"
      }
      key_schema {
        attribute_name = "allocated_at"
        key_type       = "RANGE"
      }
    }
  }

  point_in_time_recovery {
    enabled = true
  }
  server_side_encryption {
    # The table is encrypted either way; false selects the AWS-owned key, and true without a key the AWS-managed one.
    enabled     = local.table_encryption != "aws-owned"
    kms_key_arn = local.table_kms_key_arn
  }
  ttl {
    attribute_name = "ttl"
    enabled        = true
  }

  lifecycle {
    # The table is the only record of the allocations. A plan that would replace it is an error.
    prevent_destroy = true
  }
}

resource "aws_dynamodb_table" "companion" {
  #checkov:skip=CKV_AWS_119:The key is var.table_encryption or var.kms_key_arn; without them DynamoDB encrypts with an AWS-owned key.
  #checkov:skip=CKV2_AWS_16:An on-demand table has no capacity to scale.
  name                        = local.table_names.companion
  billing_mode                = "PAY_PER_REQUEST"
  hash_key                    = "PK"
  range_key                   = "SK"
  deletion_protection_enabled = true

  attribute {
    name = "PK"
    type = "S"
  }
  attribute {
    name = "SK"
    type = "S"
  }

  point_in_time_recovery {
    enabled = true
  }
  server_side_encryption {
    enabled     = local.table_encryption != "aws-owned"
    kms_key_arn = local.table_kms_key_arn
  }
  ttl {
    attribute_name = "ttl"
    enabled        = true
  }

  lifecycle {
    # Its claims make a retry return the sandbox that the caller holds, and its tombstones keep used sandboxes out.
    prevent_destroy = true
  }
}

# The tables of the FastAPI service or of a restore, by var.import_tables. Once a table is in the state, its import is
# without effect.

import {
  for_each = setintersection(var.import_tables, ["pool"])

  to = aws_dynamodb_table.pool[0]
  id = local.table_names[each.key]
}

import {
  for_each = setintersection(var.import_tables, ["companion"])

  to = aws_dynamodb_table.companion
  id = local.table_names[each.key]
}

data "aws_dynamodb_table" "existing" {
  for_each = local.existing_tables

  name = local.table_names[each.key]

  lifecycle {
    # An apply would change the key of the table, and a plan shows that in one line among many.
    postcondition {
      condition = (
        try(self.server_side_encryption[0].enabled, false) == (local.table_encryption != "aws-owned") &&
        (local.table_kms_key_arn == null || try(self.server_side_encryption[0].kms_key_arn, null) == local.table_kms_key_arn)
      )
      error_message = "The table ${self.name} is encrypted with ${try(self.server_side_encryption[0].enabled, false) ? self.server_side_encryption[0].kms_key_arn : "the AWS-owned key"}, but this configuration says ${local.table_encryption}. Set table_encryption to the encryption that the table has: that ARN, \"aws-managed\" if it is the key alias/aws/dynamodb, or \"aws-owned\"."
    }
    postcondition {
      condition = (
        self.hash_key == "PK" && self.range_key == "SK" &&
        (each.key != "pool" || length(setsubtract(keys(local.table_indexes), self.global_secondary_index[*].name)) == 0)
      )
      error_message = "The table ${self.name} has another key, or lacks an index. docs/table.md describes both."
    }
  }
}
