# Metrics extracted from the broker's JSON log. The messages matched here are part of the broker's interface: changing
# one breaks an alarm.

locals {
  log_metrics = {
    allocate_ms = {
      metric  = "AllocateLatency"
      unit    = "Milliseconds"
      pattern = "{ $.message = \"request\" && $.action = \"allocate\" }"
      value   = "$.latency_ms"
    }
    pool_exhausted = {
      metric  = "PoolExhausted"
      unit    = "Count"
      pattern = "{ $.message = \"request\" && $.outcome = \"NO_SANDBOXES_AVAILABLE\" }"
      value   = "1"
    }
    allocations_paused = {
      metric  = "AllocationsPaused"
      unit    = "Count"
      pattern = "{ $.message = \"request\" && $.outcome = \"ALLOCATIONS_PAUSED\" }"
      value   = "1"
    }
    endless_pause = {
      metric  = "EndlessPause"
      unit    = "Seconds"
      pattern = "{ $.message = \"pool counted\" }"
      value   = "$.endless_pause_sec"
    }
    policy_unreadable = {
      metric  = "PolicyUnreadable"
      unit    = "Count"
      pattern = "{ $.message = \"pool counted\" }"
      value   = "$.policy_unreadable"
    }
  }

  pool_counts = merge(local.pool_statuses, local.warm_pool_counts)

  # Numbers of the event "pool counted".
  pool_statuses = {
    total            = "PoolTotal"
    available        = "PoolAvailable"
    allocated        = "PoolAllocated"
    pending_deletion = "PoolPendingDeletion"
    stale            = "PoolStale"
    deletion_failed  = "PoolDeletionFailed"
    quarantined      = "PoolQuarantined"
  }
  warm_pool_counts = {
    for field, metric in {
      # Available, or on the way to it and in time.
      expected              = { name = "PoolExpected", is_used = local.warms_pools }
      provisioning          = { name = "PoolProvisioning", is_used = local.warms_pools }
      pools_late            = { name = "PoolsLate", is_used = local.creates_accounts }
      pools_stopped         = { name = "PoolsStopped", is_used = local.creates_accounts }
      quarantined_by_checks = { name = "QuarantinedByChecks", is_used = local.checks_accounts }
    } : field => metric.name if metric.is_used
  }

  # Both log groups, because a job started through the API runs in the broker task.
  job_outcomes = {
    for pair in setproduct(["broker", "jobs"], ["done", "failed"]) :
    "${pair[0]}-${pair[1]}" => { group = pair[0], message = "job ${pair[1]}", metric = pair[1] == "done" ? "JobsDone" : "JobsFailed" }
  }
}

locals {
  # Events of jobs, in both log groups for the same reason.
  job_events = {
    for pair in setproduct(["broker", "jobs"], [
      { event = "breaker-opened", message = "circuit breaker opened", metric = "BreakerOpened" },
      { event = "credentials-rejected", message = "credentials rejected", metric = "CredentialsRejected" },
      { event = "expirations-deferred", message = "expirations deferred", metric = "ExpirationsDeferred" },
    ]) :
    "${pair[0]}-${pair[1].event}" => { group = pair[0], message = pair[1].message, metric = pair[1].metric }
  }
}

resource "aws_cloudwatch_log_metric_filter" "request" {
  for_each = local.log_metrics

  name           = each.key
  log_group_name = aws_cloudwatch_log_group.main["broker"].name
  pattern        = each.value.pattern

  metric_transformation {
    namespace = local.cloudwatch_metrics
    name      = each.value.metric
    value     = each.value.value
    unit      = each.value.unit
  }
}

resource "aws_cloudwatch_log_metric_filter" "pool" {
  for_each = local.pool_counts

  name           = "pool-${each.key}"
  log_group_name = aws_cloudwatch_log_group.main["broker"].name
  pattern        = "{ $.message = \"pool counted\" }"

  metric_transformation {
    namespace = local.cloudwatch_metrics
    name      = each.value
    value     = "$.${each.key}"
    unit      = "Count"
  }
}

resource "aws_cloudwatch_log_metric_filter" "job" {
  for_each = local.job_outcomes

  name           = each.key
  log_group_name = aws_cloudwatch_log_group.main[each.value.group].name
  pattern        = "{ $.message = \"${each.value.message}\" }"

  metric_transformation {
    namespace  = local.cloudwatch_metrics
    name       = each.value.metric
    value      = "1"
    unit       = "Count"
    dimensions = { Job = "$.action" }
  }
}

resource "aws_cloudwatch_log_metric_filter" "job_event" {
  for_each = local.job_events

  name           = each.key
  log_group_name = aws_cloudwatch_log_group.main[each.value.group].name
  pattern        = "{ $.message = \"${each.value.message}\" }"

  metric_transformation {
    namespace = local.cloudwatch_metrics
    name      = each.value.metric
    value     = "1"
    unit      = "Count"
  }
}
