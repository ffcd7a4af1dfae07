# task: permissions of the broker. execution: permissions of ECS when it starts a task. The scheduler's role is in
# scheduler.tf.

locals {
  index_arns = [for name in keys(local.table_indexes) : "${local.table_arns.pool}/index/${name}"]

  # A transaction needs the permission of every write and check in it; TransactWriteItems has no permission of its own.
  # Creating, changing and deleting tables is left to Terraform.
  table_actions = {
    on_table = [
      "dynamodb:BatchGetItem",
      "dynamodb:ConditionCheckItem",
      "dynamodb:DeleteItem",
      "dynamodb:DescribeTable",
      "dynamodb:DescribeTimeToLive",
      "dynamodb:GetItem",
      "dynamodb:PutItem",
      "dynamodb:Query",
      "dynamodb:Scan",
      "dynamodb:UpdateItem",
    ]
    on_indexes = ["dynamodb:Query"]
  }

  # The keys of the tables and of the secrets. Keys owned or managed by AWS need no permission.
  task_key_arns = toset(compact([local.table_kms_key_arn, var.kms_key_arn]))
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
    sid       = "Tables"
    actions   = local.table_actions.on_table
    resources = values(local.table_arns)
  }

  statement {
    sid       = "PoolIndexes"
    actions   = local.table_actions.on_indexes
    resources = local.index_arns
  }

  statement {
    # The broker reads the current and the previous version of each secret.
    sid       = "Secrets"
    actions   = ["secretsmanager:GetSecretValue"]
    resources = [for variable in local.secrets_in_use : aws_secretsmanager_secret.broker[variable].arn]
  }

  dynamic "statement" {
    for_each = length(local.task_key_arns) > 0 ? [local.task_key_arns] : []

    content {
      # Only through these two services, never directly. The list of actions is from the DynamoDB developer guide.
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
      resources = statement.value

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
      #checkov:skip=CKV_AWS_111:X-Ray's write actions support no resource restriction.
      #checkov:skip=CKV_AWS_356:X-Ray's write actions support no resource restriction.
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
    #checkov:skip=CKV_AWS_356:This action supports no resource restriction.
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
    # Streams are named after tasks, whose ids are not known in advance.
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
