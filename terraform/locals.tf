data "aws_caller_identity" "current" {}

data "aws_partition" "current" {}

locals {
  account_id = data.aws_caller_identity.current.account_id
  partition  = data.aws_partition.current.partition

  # After SIGTERM the broker accepts connections for shutdown_delay_sec, because nodes of the load balancer may send
  # requests for some seconds after the task was deregistered, and then finishes running requests for at most
  # shutdown_sec. ECS kills the task after stop_timeout_sec.
  shutdown_delay_sec = 10
  shutdown_sec       = 25
  stop_timeout_sec   = local.shutdown_delay_sec + local.shutdown_sec + 5
  # Must be less than broker_keep_alive: the load balancer then closes idle connections first, and never sends a request
  # over one that the broker has closed.
  alb_idle_sec       = 60
  broker_keep_alive  = 75
  is_scheduler       = var.jobs_runner == "scheduler"
  cloudwatch_metrics = "SandboxBroker/${var.name}"

  checks_accounts  = var.check_mode != "off"
  creates_accounts = var.refill_mode == "on"
  # Whether sandboxes are on their way to be available, which the alarm for a low pool has to know.
  warms_pools = local.checks_accounts || local.creates_accounts

  # overdue_after: the number of intervals without a completed run that raises an alarm. Higher for cleanup, which takes
  # long after a large class.
  jobs = merge(
    {
      sync              = { interval_sec = var.job_intervals_sec.sync, overdue_after = 3 }
      cleanup           = { interval_sec = var.job_intervals_sec.cleanup, overdue_after = 6 }
      auto-expire       = { interval_sec = var.job_intervals_sec.auto_expire, overdue_after = 3 }
      auto-delete-stale = { interval_sec = var.job_intervals_sec.auto_delete_stale, overdue_after = 2 }
    },
    # These run so often that three intervals are over before a task has started. Half an hour, as in the alert rules.
    {
      for job, settings in {
        check  = { mode = var.check_mode, interval_sec = var.job_intervals_sec.check }
        refill = { mode = var.refill_mode, interval_sec = var.job_intervals_sec.refill }
      } :
      job => { interval_sec = settings.interval_sec, overdue_after = max(3, ceil(1800 / settings.interval_sec)) }
      if settings.mode != "off"
    },
  )
}
