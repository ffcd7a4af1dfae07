data "aws_caller_identity" "current" {}

data "aws_partition" "current" {}

locals {
  account_id = data.aws_caller_identity.current.account_id
  partition  = data.aws_partition.current.partition

  # How long the broker lets running requests end after SIGTERM. Less than stopTimeout, after which ECS kills it.
  shutdown_sec = 25
  # The load balancer closes idle connections first, so it never sends a request into one that the broker has closed.
  alb_idle_sec       = 60
  broker_keep_alive  = 75
  stop_timeout_sec   = 30
  is_scheduler       = var.jobs_runner == "scheduler"
  jobs_run           = !local.is_scheduler || var.schedules_enabled
  cloudwatch_metrics = "SandboxBroker/${var.name}"

  # overdue_after: how many intervals without a finished run are an alarm. A cleanup of a whole class takes long.
  jobs = {
    sync              = { interval_sec = var.job_intervals_sec.sync, overdue_after = 3 }
    cleanup           = { interval_sec = var.job_intervals_sec.cleanup, overdue_after = 6 }
    auto-expire       = { interval_sec = var.job_intervals_sec.auto_expire, overdue_after = 3 }
    auto-delete-stale = { interval_sec = var.job_intervals_sec.auto_delete_stale, overdue_after = 2 }
  }
}
