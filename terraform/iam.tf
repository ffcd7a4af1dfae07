# task: what the broker may do. execution: what ECS may do to start it. scheduler: in scheduler.tf.

locals {
  index_arns = [for name in keys(local.table_indexes) : "${local.table_arn}/index/${name}"]

  # A transaction needs the permission of every write and check in it; there is none for TransactWriteItems itself.
  # The broker cannot make, change or delete the table: Terraform does.
  table_actions = {
    on_table = [
      "dynamodb:ConditionCheckItem",
      "dynamodb:DeleteItem",
      "dynamodb:GetItem",
      "dynamodb:PutItem",
      "dynamodb:Query",
      "dynamodb:Scan",
      "dynamodb:UpdateItem",
    ]
    on_indexes = ["dynamodb:Query"]
  }
}

data "aws_iam_policy_document" "tasks_trust" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["ecs-tasks.amazonaws.com"]
    }
    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [local.account_id]
    }
    condition {
      test     = "ArnLike"
      variable = "aws:SourceArn"
      values   = ["arn:${local.partition}:ecs:${var.region}:${local.account_id}:*"]
    }
  }
}

data "aws_iam_policy_document" "task" {
  statement {
    sid       = "Pool"
    actions   = local.table_actions.on_table
    resources = [local.table_arn]
  }

  statement {
    sid       = "PoolIndexes"
    actions   = local.table_actions.on_indexes
    resources = local.index_arns
  }

  statement {
    # Reads a secret's current and previous version.
    sid       = "Secrets"
    actions   = ["secretsmanager:GetSecretValue"]
    resources = values(aws_secretsmanager_secret.broker)[*].arn
  }

  dynamic "statement" {
    for_each = var.kms_key_arn[*]

    content {
      # Only through these two services, never directly. The list is the one that DynamoDB's guide asks for.
      sid = "Key"
      actions = [
        "kms:CreateGrant",
        "kms:Decrypt",
        "kms:DescribeKey",
        "kms:Encrypt",
        "kms:GenerateDataKey",
        "kms:ReEncryptFrom",
        "kms:ReEncryptTo",
      ]
      resources = [statement.value]

      condition {
        test     = "StringEquals"
        variable = "kms:ViaService"
        values   = ["dynamodb.${var.region}.amazonaws.com", "secretsmanager.${var.region}.amazonaws.com"]
      }
    }
  }

  dynamic "statement" {
    for_each = var.tracing_enabled ? [true] : []

    content {
      #checkov:skip=CKV_AWS_111:X-Ray's write actions know no resources.
      #checkov:skip=CKV_AWS_356:X-Ray's write actions know no resources.
      sid       = "Traces"
      actions   = ["xray:PutTelemetryRecords", "xray:PutTraceSegments"]
      resources = ["*"]
    }
  }
}

resource "aws_iam_role" "task" {
  name               = "${var.name}-task"
  assume_role_policy = data.aws_iam_policy_document.tasks_trust.json
}

resource "aws_iam_role_policy" "task" {
  name   = "broker"
  role   = aws_iam_role.task.id
  policy = data.aws_iam_policy_document.task.json
}

data "aws_iam_policy_document" "execution" {
  statement {
    #checkov:skip=CKV_AWS_356:This action knows no resources.
    sid       = "RegistryLogin"
    actions   = ["ecr:GetAuthorizationToken"]
    resources = ["*"]
  }

  statement {
    sid       = "Image"
    actions   = ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]
    resources = [aws_ecr_repository.broker.arn]
  }

  statement {
    sid     = "Logs"
    actions = ["logs:CreateLogStream", "logs:PutLogEvents"]
    # A stream's name ends with the id of its task, which nobody knows beforehand.
    resources = [
      for key in setintersection(["broker", "jobs", "collector"], keys(local.log_groups)) :
      "${aws_cloudwatch_log_group.main[key].arn}:log-stream:${local.log_stream_prefix}/*"
    ]
  }
}

resource "aws_iam_role" "execution" {
  name               = "${var.name}-execution"
  assume_role_policy = data.aws_iam_policy_document.tasks_trust.json
}

resource "aws_iam_role_policy" "execution" {
  name   = "start-tasks"
  role   = aws_iam_role.execution.id
  policy = data.aws_iam_policy_document.execution.json
}
