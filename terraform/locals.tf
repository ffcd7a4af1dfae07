data "aws_caller_identity" "current" {}

data "aws_partition" "current" {}

locals {
  account_id = data.aws_caller_identity.current.account_id
  partition  = data.aws_partition.current.partition

  # How long the broker finishes running requests after SIGTERM. Must be less than stop_timeout_sec, after which ECS
  # kills the task.
  shutdown_sec = 25
  # Must be less than broker_keep_alive: the load balancer then closes idle connections first, and never sends a request
  # over one that the broker has closed.
  alb_idle_sec       = 60
  broker_keep_alive  = 75
  stop_timeout_sec   = 30
  is_scheduler       = var.jobs_runner == "scheduler"
  jobs_run           = !local.is_scheduler || var.schedules_enabled
  cloudwatch_metrics = "SandboxBroker/${var.name}"

  # overdue_after: the number of intervals without a completed run that raises an alarm. Higher for cleanup, which takes
  # long after a large class.
  jobs = {
    sync              = { interval_sec = var.job_intervals_sec.sync, overdue_after = 3 }
    cleanup           = { interval_sec = var.job_intervals_sec.cleanup, overdue_after = 6 }
    auto-expire       = { interval_sec = var.job_intervals_sec.auto_expire, overdue_after = 3 }
    auto-delete-stale = { interval_sec = var.job_intervals_sec.auto_delete_stale, overdue_after = 2 }
  }
}
