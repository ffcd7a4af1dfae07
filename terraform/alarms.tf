resource "aws_sns_topic" "alarms" {
  #checkov:skip=CKV_AWS_26:The key is var.kms_key_arn. CloudWatch cannot send to a topic under AWS's own key for SNS, and an alarm tells no secret.
  name              = "${var.name}-alarms"
  kms_master_key_id = var.kms_key_arn
}

data "aws_iam_policy_document" "alarms" {
  statement {
    sid       = "CloudWatchTells"
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
  alb_dimensions          = { LoadBalancer = aws_lb.main.arn_suffix }
  target_group_dimensions = { LoadBalancer = aws_lb.main.arn_suffix, TargetGroup = aws_lb_target_group.broker.arn_suffix }

  # One alarm each: when the statistic over a period is beyond the threshold in so many periods in a row.
  # missing: what a period without data means.
  alarms = merge(
    {
      pool-low = {
        description = "Few sandboxes are free. Look for pending deletions and failed ones, or have CSP accounts made."
        namespace   = local.cloudwatch_metrics, metric = "PoolAvailable", dimensions = {}
        statistic   = "Minimum", period = 60, periods = 5
        comparison  = "LessThanThreshold", threshold = var.alarm_thresholds.pool_available, missing = "missing"
      }
      pool-exhausted = {
        description = "Somebody was refused a sandbox because none was free."
        namespace   = local.cloudwatch_metrics, metric = "PoolExhausted", dimensions = {}
        statistic   = "Sum", period = 60, periods = 1
        comparison  = "GreaterThanThreshold", threshold = 0, missing = "notBreaching"
      }
      deletion-failed = {
        description = "Sandboxes could not be deleted from CSP and wait for an admin: job cleanup --retry-failed, or bulk-delete."
        namespace   = local.cloudwatch_metrics, metric = "PoolDeletionFailed", dimensions = {}
        statistic   = "Maximum", period = 300, periods = 1
        comparison  = "GreaterThanThreshold", threshold = 0, missing = "missing"
      }
      broker-5xx = {
        description = "The broker answers with errors."
        namespace   = "AWS/ApplicationELB", metric = "HTTPCode_Target_5XX_Count", dimensions = local.alb_dimensions
        statistic   = "Sum", period = 300, periods = 1
        comparison  = "GreaterThanThreshold", threshold = var.alarm_thresholds.errors_5xx, missing = "notBreaching"
      }
      load-balancer-5xx = {
        description = "The load balancer answers with errors of its own: no broker is there, or it does not answer."
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
      unhealthy-targets = {
        description = "A broker is not ready."
        namespace   = "AWS/ApplicationELB", metric = "UnHealthyHostCount", dimensions = local.target_group_dimensions
        statistic   = "Maximum", period = 60, periods = 5
        comparison  = "GreaterThanThreshold", threshold = 0, missing = "notBreaching"
      }
      no-healthy-target = {
        description = "No broker is ready."
        namespace   = "AWS/ApplicationELB", metric = "HealthyHostCount", dimensions = local.target_group_dimensions
        statistic   = "Maximum", period = 60, periods = 2
        comparison  = "LessThanThreshold", threshold = 1, missing = "breaching"
      }
    },
    {
      for job, settings in local.jobs : "job-failed-${job}" => {
        description = "The job ${job} failed. Its log event says why."
        namespace   = local.cloudwatch_metrics, metric = "JobsFailed", dimensions = { Job = job }
        # The next run of a frequent job may well mend it.
        statistic  = "Sum", period = settings.interval_sec, periods = settings.interval_sec < 3600 ? 2 : 1
        comparison = "GreaterThanThreshold", threshold = 0, missing = "notBreaching"
      }
    },
    {
      # While the schedules are off, somebody else runs the jobs.
      for job, settings in local.jobs : "job-overdue-${job}" => {
        description = "The job ${job} has not come to an end for ${settings.overdue_after} intervals."
        namespace   = local.cloudwatch_metrics, metric = "JobsDone", dimensions = { Job = job }
        statistic   = "Sum", period = settings.interval_sec, periods = settings.overdue_after
        comparison  = "LessThanThreshold", threshold = 1, missing = "breaching"
      } if local.jobs_run
    },
    {
      for queue in aws_sqs_queue.dead_letters[*] : "dead-letters" => {
        description = "A job could not be started; the message in ${queue.name} says why."
        namespace   = "AWS/SQS", metric = "ApproximateNumberOfMessagesVisible", dimensions = { QueueName = queue.name }
        statistic   = "Maximum", period = 300, periods = 1
        comparison  = "GreaterThanThreshold", threshold = 0, missing = "notBreaching"
      }
    },
  )

  # DynamoDB counts a throttled call at the table and at the index that throttled it.
  throttles = merge(
    {
      for kind in ["Read", "Write"] : lower("${kind}_table") => {
        metric     = "${kind}ThrottleEvents"
        dimensions = { TableName = var.table_name }
      }
    },
    {
      for pair in setproduct(["Read", "Write"], keys(local.table_indexes)) : lower(join("_", pair)) => {
        metric     = "${pair[0]}ThrottleEvents"
        dimensions = { TableName = var.table_name, GlobalSecondaryIndexName = pair[1] }
      }
    },
  )
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
  alarm_actions       = [aws_sns_topic.alarms.arn]
  ok_actions          = [aws_sns_topic.alarms.arn]
}

resource "aws_cloudwatch_metric_alarm" "throttles" {
  alarm_name          = "${var.name}-dynamodb-throttles"
  alarm_description   = "DynamoDB throttles the table or an index. On demand that passes by itself, unless the load has more than doubled."
  comparison_operator = "GreaterThanThreshold"
  threshold           = 0
  evaluation_periods  = 2
  treat_missing_data  = "notBreaching"
  alarm_actions       = [aws_sns_topic.alarms.arn]
  ok_actions          = [aws_sns_topic.alarms.arn]

  metric_query {
    id          = "throttles"
    label       = "Throttled calls"
    expression  = join(" + ", [for id in keys(local.throttles) : "FILL(${id}, 0)"])
    return_data = true
  }

  dynamic "metric_query" {
    for_each = local.throttles

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
