# jobs_runner = "scheduler": each run is a task that exits when its job is done. A run that finds the job lease taken
# exits immediately with code 75, so an interval may be shorter than a run.

locals {
  scheduled_jobs = local.is_scheduler ? local.jobs : {}
}

resource "aws_scheduler_schedule_group" "jobs" {
  count = local.is_scheduler ? 1 : 0

  name = var.name
}

resource "aws_scheduler_schedule" "job" {
  for_each = local.scheduled_jobs

  #checkov:skip=CKV_AWS_297:A schedule contains the name of a job and no data.
  name                = "${var.name}-${each.key}"
  group_name          = aws_scheduler_schedule_group.jobs[0].name
  description         = "sandbox-broker job ${each.key}"
  state               = var.schedules_enabled ? "ENABLED" : "DISABLED"
  schedule_expression = each.value.interval_sec == 60 ? "rate(1 minute)" : "rate(${each.value.interval_sec / 60} minutes)"

  flexible_time_window {
    mode = "OFF"
  }

  target {
    arn      = aws_ecs_cluster.main.arn
    role_arn = aws_iam_role.scheduler[0].arn
    input    = jsonencode({ containerOverrides = [{ name = local.container_name, command = ["job", each.key] }] })

    ecs_parameters {
      task_definition_arn = aws_ecs_task_definition.jobs.arn
      launch_type         = "FARGATE"

      network_configuration {
        subnets         = aws_subnet.private[*].id
        security_groups = [aws_security_group.tasks.id]
      }
    }
    # Covers starting the task only; alarms cover the outcome of the job. Events older than an interval are dropped,
    # because the next run does the same work.
    retry_policy {
      maximum_retry_attempts       = 3
      maximum_event_age_in_seconds = min(each.value.interval_sec, 3600)
    }
    dead_letter_config {
      arn = aws_sqs_queue.dead_letters[0].arn
    }
  }

  depends_on = [
    # The jobs change to a new version once its brokers serve, and not at all if their deployment fails. Therefore the
    # target is a revision: the family alone would mean the newest, from the moment at which it is registered.
    aws_ecs_service.broker,
    # A schedule that starts before the role has its policy would end in the dead-letter queue.
    aws_iam_role_policy.scheduler,
  ]
}

resource "aws_sqs_queue" "dead_letters" {
  count = local.is_scheduler ? 1 : 0

  name                              = "${var.name}-dead-letters"
  message_retention_seconds         = 14 * 24 * 60 * 60
  sqs_managed_sse_enabled           = var.kms_key_arn == null ? true : null
  kms_master_key_id                 = var.kms_key_arn
  kms_data_key_reuse_period_seconds = var.kms_key_arn == null ? null : 300
}

data "aws_iam_policy_document" "scheduler_trust" {
  count = local.is_scheduler ? 1 : 0

  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["scheduler.amazonaws.com"]
    }
    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [local.account_id]
    }
    condition {
      test     = "ArnEquals"
      variable = "aws:SourceArn"
      values   = [aws_scheduler_schedule_group.jobs[0].arn]
    }
  }
}

data "aws_iam_policy_document" "scheduler" {
  count = local.is_scheduler ? 1 : 0

  statement {
    sid     = "Start"
    actions = ["ecs:RunTask"]
    # Any revision of this family: a schedule may start the old one while a new one is being deployed.
    resources = ["${aws_ecs_task_definition.jobs.arn_without_revision}:*"]

    condition {
      test     = "ArnEquals"
      variable = "ecs:cluster"
      values   = [aws_ecs_cluster.main.arn]
    }
  }

  statement {
    sid       = "PassRoles"
    actions   = ["iam:PassRole"]
    resources = [aws_iam_role.task.arn, aws_iam_role.execution.arn]

    condition {
      test     = "StringEquals"
      variable = "iam:PassedToService"
      values   = ["ecs-tasks.amazonaws.com"]
    }
  }

  statement {
    sid       = "DeadLetters"
    actions   = ["sqs:SendMessage"]
    resources = [aws_sqs_queue.dead_letters[0].arn]
  }

  dynamic "statement" {
    for_each = var.kms_key_arn[*]

    content {
      sid       = "DeadLettersKey"
      actions   = ["kms:Decrypt", "kms:GenerateDataKey"]
      resources = [statement.value]

      condition {
        test     = "StringEquals"
        variable = "kms:ViaService"
        values   = ["sqs.${var.region}.amazonaws.com"]
      }
    }
  }
}

resource "aws_iam_role" "scheduler" {
  count = local.is_scheduler ? 1 : 0

  name               = "${var.name}-scheduler"
  assume_role_policy = data.aws_iam_policy_document.scheduler_trust[0].json
}

resource "aws_iam_role_policy" "scheduler" {
  count = local.is_scheduler ? 1 : 0

  name   = "start-jobs"
  role   = aws_iam_role.scheduler[0].id
  policy = data.aws_iam_policy_document.scheduler[0].json
}
