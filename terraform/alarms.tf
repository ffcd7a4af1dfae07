resource "aws_sns_topic" "alarms" {
  #checkov:skip=CKV_AWS_26:The key is var.kms_key_arn. CloudWatch cannot publish to a topic encrypted with the AWS-managed key of SNS, and alarms contain no secrets.
  name              = "${var.name}-alarms"
  kms_master_key_id = var.kms_key_arn
}

data "aws_iam_policy_document" "alarms" {
  statement {
    sid       = "CloudWatchPublishes"
    actions   = ["sns:Publish"]
    resources = [aws_sns_topic.alarms.arn]

    principals {
      type        = "Service"
      identifiers = ["cloudwatch.amazonaws.com"]
    }
    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [local.account_id]
    }
  }
}

resource "aws_sns_topic_policy" "alarms" {
  arn    = aws_sns_topic.alarms.arn
  policy = data.aws_iam_policy_document.alarms.json
}

resource "aws_sns_topic_subscription" "email" {
  for_each = var.alarm_emails

  topic_arn = aws_sns_topic.alarms.arn
  protocol  = "email"
  endpoint  = each.value
}

locals {
  services                = concat([aws_ecs_service.broker.name], aws_ecs_service.worker[*].name)
  alb_dimensions          = { LoadBalancer = aws_lb.main.arn_suffix }
  target_group_dimensions = { LoadBalancer = aws_lb.main.arn_suffix, TargetGroup = aws_lb_target_group.broker.arn_suffix }

  # One alarm per entry. It fires when the statistic breaches the threshold in `periods` consecutive periods of `period`
  # seconds. missing: how a period without data is treated. notify: whether it notifies, true by default.
  alarms = merge(
    {
      pool-low = {
        description = "Few sandboxes are available${local.warms_pools ? " or on the way to it in time" : ""}. Check for pending and failed deletions, or create accounts in CSP."
        namespace   = local.cloudwatch_metrics, metric = local.warms_pools ? "PoolExpected" : "PoolAvailable", dimensions = {}
        statistic   = "Minimum", period = 60, periods = 5
        comparison  = "LessThanThreshold", threshold = var.alarm_thresholds.pool_available, missing = "missing"
      }
      pool-exhausted = {
        description = "An allocation was rejected because no sandbox was available."
        namespace   = local.cloudwatch_metrics, metric = "PoolExhausted", dimensions = {}
        statistic   = "Sum", period = 60, periods = 1
        comparison  = "GreaterThanThreshold", threshold = 0, missing = "notBreaching"
      }
      deletion-failed = {
        description = "Sandboxes could not be deleted from CSP and need an operator: run job cleanup --retry-failed, or bulk-delete."
        namespace   = local.cloudwatch_metrics, metric = "PoolDeletionFailed", dimensions = {}
        statistic   = "Maximum", period = 300, periods = 1
        comparison  = "GreaterThanThreshold", threshold = 0, missing = "missing"
      }
      breaker-opened = {
        description = "CSP or NIOSXaaS has failed in three or more cleanups of the last hour; deletions wait. Nothing is lost."
        namespace   = local.cloudwatch_metrics, metric = "BreakerOpened", dimensions = {}
        statistic   = "Sum", period = 3600, periods = 1
        comparison  = "GreaterThanThreshold", threshold = 2, missing = "notBreaching"
      }
      credentials-rejected = {
        description = "CSP or NIOSXaaS rejects the broker's credentials. Nothing is synchronised or deleted until they are replaced."
        namespace   = local.cloudwatch_metrics, metric = "CredentialsRejected", dimensions = {}
        statistic   = "Sum", period = max(300, local.jobs.sync.interval_sec), periods = 1
        comparison  = "GreaterThanThreshold", threshold = 0, missing = "notBreaching"
      }
      expirations-deferred = {
        description = "Most allocations are overdue: a class was never released and the next auto-expire ends it, or the clock of a task is wrong."
        namespace   = local.cloudwatch_metrics, metric = "ExpirationsDeferred", dimensions = {}
        statistic   = "Sum", period = 300, periods = 1
        comparison  = "GreaterThanThreshold", threshold = 0, missing = "notBreaching"
      }
      pause-forgotten = {
        description = "An operator paused an activity ${var.alarm_thresholds.endless_pause_hours} hours ago, and the pause has no end. GET /v1/admin/pauses shows why; end it, or set it again with an end."
        namespace   = local.cloudwatch_metrics, metric = "EndlessPause", dimensions = {}
        statistic   = "Maximum", period = 300, periods = 1
        comparison  = "GreaterThanThreshold", threshold = var.alarm_thresholds.endless_pause_hours * 3600, missing = "missing"
      }
      policy-unreadable = {
        description = "A broker cannot read the policy and goes on with the last version that it knows. GET /v1/admin/overview shows the fault under policy."
        namespace   = local.cloudwatch_metrics, metric = "PolicyUnreadable", dimensions = {}
        statistic   = "Maximum", period = 300, periods = 2
        comparison  = "GreaterThanThreshold", threshold = 0, missing = "missing"
      }
      load-balancer-5xx = {
        description = "The load balancer answers with 5xx errors of its own: no broker is running, or it does not respond."
        namespace   = "AWS/ApplicationELB", metric = "HTTPCode_ELB_5XX_Count", dimensions = local.alb_dimensions
        statistic   = "Sum", period = 300, periods = 1
        comparison  = "GreaterThanThreshold", threshold = var.alarm_thresholds.errors_5xx, missing = "notBreaching"
      }
      allocate-latency = {
        description = "Allocations are slow (99th percentile)."
        namespace   = local.cloudwatch_metrics, metric = "AllocateLatency", dimensions = {}
        statistic   = "p99", period = 300, periods = 2
        comparison  = "GreaterThanThreshold", threshold = var.alarm_thresholds.allocate_p99_ms, missing = "notBreaching"
      }
      pool-not-counted = {
        description = "No broker has counted the pool for ten minutes: DynamoDB does not answer, or no broker runs."
        namespace   = local.cloudwatch_metrics, metric = "PoolTotal", dimensions = {}
        statistic   = "SampleCount", period = 300, periods = 2
        comparison  = "LessThanThreshold", threshold = 1, missing = "breaching"
      }
      unhealthy-targets = {
        description = "A broker task fails its health check."
        namespace   = "AWS/ApplicationELB", metric = "UnHealthyHostCount", dimensions = local.target_group_dimensions
        statistic   = "Maximum", period = 60, periods = 5
        comparison  = "GreaterThanThreshold", threshold = 0, missing = "notBreaching"
      }
      no-healthy-target = {
        description = "No broker task passes its health check."
        namespace   = "AWS/ApplicationELB", metric = "HealthyHostCount", dimensions = local.target_group_dimensions
        statistic   = "Maximum", period = 60, periods = 2
        comparison  = "LessThanThreshold", threshold = 1, missing = "breaching"
      }
    },
    {
      for name, alarm in local.warm_pool_alarms : name => merge(alarm, {
        namespace = local.cloudwatch_metrics, dimensions = {}, missing = "missing"
      }) if alarm.is_used
    },
    {
      for service in local.services : "${service}-cpu" => {
        description = "The tasks of the service ${service} lack CPU. Autoscaling adds brokers from 70 % on: they are at their maximum, or one request after another is expensive."
        namespace   = "AWS/ECS", metric = "CPUUtilization", dimensions = { ClusterName = aws_ecs_cluster.main.name, ServiceName = service }
        statistic   = "Average", period = 60, periods = 15
        comparison  = "GreaterThanThreshold", threshold = var.alarm_thresholds.cpu_percent, missing = "notBreaching"
      }
    },
    {
      for service in local.services : "${service}-memory" => {
        description = "A task of the service ${service} is about to run out of memory, at which ECS kills it."
        namespace   = "AWS/ECS", metric = "MemoryUtilization", dimensions = { ClusterName = aws_ecs_cluster.main.name, ServiceName = service }
        statistic   = "Maximum", period = 60, periods = 5
        comparison  = "GreaterThanThreshold", threshold = var.alarm_thresholds.memory_percent, missing = "notBreaching"
      }
    },
    {
      for job, settings in local.jobs : "job-failed-${job}" => {
        description = "The job ${job} failed. Its log event has the reason."
        namespace   = local.cloudwatch_metrics, metric = "JobsFailed", dimensions = { Job = job }
        # A frequent job may recover with its next run, so one failure is no alarm.
        statistic  = "Sum", period = settings.interval_sec, periods = settings.interval_sec < 3600 ? 2 : 1
        comparison = "GreaterThanThreshold", threshold = 0, missing = "notBreaching"
      }
    },
    {
      # No run in the past is an overdue one, so these alarms are in ALARM before the jobs are enabled. They notify nobody
      # until then, and CloudWatch notifies on changes of the state only: the first message is the OK of the first run.
      for job, settings in local.jobs : "job-overdue-${job}" => {
        description = "The job ${job} has not completed a run for ${settings.overdue_after} intervals."
        namespace   = local.cloudwatch_metrics, metric = "JobsDone", dimensions = { Job = job }
        statistic   = "Sum", period = settings.interval_sec, periods = settings.overdue_after
        comparison  = "LessThanThreshold", threshold = 1, missing = "breaching"
        notify      = var.schedules_enabled
      }
    },
    {
      for queue in aws_sqs_queue.dead_letters[*] : "dead-letters" => {
        description = "A job could not be started; the message in ${queue.name} has the reason."
        namespace   = "AWS/SQS", metric = "ApproximateNumberOfMessagesVisible", dimensions = { QueueName = queue.name }
        statistic   = "Maximum", period = 300, periods = 1
        comparison  = "GreaterThanThreshold", threshold = 0, missing = "notBreaching"
      }
    },
  )

  # Alarms of deployments that check or create accounts.
  warm_pool_alarms = {
    pool-empty = {
      is_used     = local.warms_pools
      description = "No sandbox is available, even if some are being created or checked: allocations are rejected."
      metric      = "PoolAvailable"
      statistic   = "Minimum", period = 60, periods = 2
      comparison  = "LessThanThreshold", threshold = 1
    }
    pool-late = {
      is_used     = local.creates_accounts
      description = "A pool of the policy has been below its target for longer than a creation takes. GET /v1/admin/overview names it under pools, with the reason."
      metric      = "PoolsLate"
      statistic   = "Maximum", period = 300, periods = 2
      comparison  = "GreaterThanThreshold", threshold = 0
    }
    refill-stopped = {
      is_used     = local.creates_accounts
      description = "CSP refuses to create accounts for a pool of the policy. GET /v1/admin/overview names it under pools, with CSP's reason. One creation tries again every 15 minutes."
      metric      = "PoolsStopped"
      statistic   = "Maximum", period = 300, periods = 1
      comparison  = "GreaterThanThreshold", threshold = 0
    }
    quarantine-growing = {
      is_used     = local.checks_accounts
      description = "Checks have quarantined three or more sandboxes within an hour: CSP, or the user that checks, may be at fault and not the accounts."
      metric      = "QuarantinedByChecks"
      statistic   = "Maximum", period = 300, periods = 1
      comparison  = "GreaterThanThreshold", threshold = 2
    }
  }

  # DynamoDB counts throttled calls separately for a table and for each of its indexes.
  throttles = {
    for table, name in local.table_names : table => merge(
      {
        for kind in ["Read", "Write"] : lower("${kind}_table") => {
          metric     = "${kind}ThrottleEvents"
          dimensions = { TableName = name }
        }
      },
      {
        for pair in setproduct(["Read", "Write"], keys(local.table_indexes)) : lower(join("_", pair)) => {
          metric     = "${pair[0]}ThrottleEvents"
          dimensions = { TableName = name, GlobalSecondaryIndexName = pair[1] }
        } if table == "pool"
      },
    )
  }
}

resource "aws_cloudwatch_metric_alarm" "main" {
  for_each = local.alarms

  alarm_name          = "${var.name}-${each.key}"
  alarm_description   = each.value.description
  namespace           = each.value.namespace
  metric_name         = each.value.metric
  dimensions          = each.value.dimensions
  statistic           = startswith(each.value.statistic, "p") ? null : each.value.statistic
  extended_statistic  = startswith(each.value.statistic, "p") ? each.value.statistic : null
  period              = each.value.period
  evaluation_periods  = each.value.periods
  comparison_operator = each.value.comparison
  threshold           = each.value.threshold
  treat_missing_data  = each.value.missing
  actions_enabled     = try(each.value.notify, true)
  alarm_actions       = [aws_sns_topic.alarms.arn]
  ok_actions          = [aws_sns_topic.alarms.arn]

  # An alarm that is created before the brokers serve would report that they do not.
  depends_on = [aws_ecs_service.broker]
}

moved {
  from = aws_cloudwatch_metric_alarm.main["broker-5xx"]
  to   = aws_cloudwatch_metric_alarm.broker_5xx
}

# Without the refusals of paused allocations, which an operator has ordered.
resource "aws_cloudwatch_metric_alarm" "broker_5xx" {
  alarm_name          = "${var.name}-broker-5xx"
  alarm_description   = "The broker answers with 5xx errors."
  comparison_operator = "GreaterThanThreshold"
  threshold           = var.alarm_thresholds.errors_5xx
  evaluation_periods  = 1
  treat_missing_data  = "notBreaching"
  alarm_actions       = [aws_sns_topic.alarms.arn]
  ok_actions          = [aws_sns_topic.alarms.arn]
  depends_on          = [aws_ecs_service.broker]

  metric_query {
    id          = "failed"
    label       = "5xx answers other than ALLOCATIONS_PAUSED"
    expression  = "FILL(errors, 0) - FILL(paused, 0)"
    return_data = true
  }

  metric_query {
    id = "errors"

    metric {
      namespace   = "AWS/ApplicationELB"
      metric_name = "HTTPCode_Target_5XX_Count"
      dimensions  = local.alb_dimensions
      stat        = "Sum"
      period      = 300
    }
  }

  metric_query {
    id = "paused"

    metric {
      namespace   = local.cloudwatch_metrics
      metric_name = "AllocationsPaused"
      stat        = "Sum"
      period      = 300
    }
  }
}

# One per table, because an alarm takes at most ten metrics.
resource "aws_cloudwatch_metric_alarm" "throttles" {
  for_each = local.throttles

  alarm_name          = "${var.name}-dynamodb-throttles-${each.key}"
  alarm_description   = "DynamoDB throttles the table ${local.table_names[each.key]} or an index of it. In on-demand mode this ends by itself unless the load has more than doubled."
  comparison_operator = "GreaterThanThreshold"
  threshold           = 0
  evaluation_periods  = 2
  treat_missing_data  = "notBreaching"
  alarm_actions       = [aws_sns_topic.alarms.arn]
  ok_actions          = [aws_sns_topic.alarms.arn]

  metric_query {
    id          = "throttles"
    label       = "Throttled calls"
    expression  = join(" + ", [for id in keys(each.value) : "FILL(${id}, 0)"])
    return_data = true
  }

  dynamic "metric_query" {
    for_each = each.value

    content {
      id = metric_query.key

      metric {
        namespace   = "AWS/DynamoDB"
        metric_name = metric_query.value.metric
        dimensions  = metric_query.value.dimensions
        stat        = "Sum"
        period      = 60
      }
    }
  }
}
