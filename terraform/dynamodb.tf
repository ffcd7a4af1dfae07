# The table that stores the pool. The FastAPI service's table has the same key and indexes and can be adopted: see
# README.md.

locals {
  # Index name to partition key. The sort key is always allocated_at, and all attributes are projected. Only sandbox
  # items have these attributes.
  table_indexes = {
    StatusIndex      = "status"
    TrackIndex       = "allocated_to_track"
    IdempotencyIndex = "idempotency_key"
  }
  table_arn = var.create_table ? aws_dynamodb_table.pool[0].arn : data.aws_dynamodb_table.pool[0].arn
}

resource "aws_dynamodb_table" "pool" {
  count = var.create_table ? 1 : 0

  #checkov:skip=CKV_AWS_119:The key is var.kms_key_arn; without it DynamoDB encrypts with an AWS-owned key.
  #checkov:skip=CKV2_AWS_16:An on-demand table has no capacity to scale.
  name                        = var.table_name
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
      hash_key        = global_secondary_index.value
      range_key       = "allocated_at"
      projection_type = "ALL"
    }
  }

  point_in_time_recovery {
    enabled = true
  }
  server_side_encryption {
    # The table is encrypted either way; false selects the AWS-owned key.
    enabled     = var.kms_key_arn != null
    kms_key_arn = var.kms_key_arn
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

data "aws_dynamodb_table" "pool" {
  count = var.create_table ? 0 : 1

  name = var.table_name
}
