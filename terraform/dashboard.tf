locals {
  # Each row has three graphs, each eight columns wide.
  dashboard_rows = concat(local.dashboard_base, local.warms_pools ? [local.dashboard_warm_pools] : [])

  dashboard_warm_pools = [
    {
      title   = "Available, and on the way to it"
      stat    = "Maximum"
      metrics = [for metric in ["PoolAvailable", "PoolProvisioning", "PoolExpected"] : [local.cloudwatch_metrics, metric]]
    },
    {
      title   = "Pools that are late, or that CSP refuses to fill"
      stat    = "Maximum"
      metrics = [for metric in ["PoolsLate", "PoolsStopped"] : [local.cloudwatch_metrics, metric]]
    },
    {
      title   = "Quarantined by checks within an hour"
      stat    = "Maximum"
      metrics = [[local.cloudwatch_metrics, "QuarantinedByChecks"]]
    },
  ]

  dashboard_base = [
    [
      {
        title = "Pool"
        stat  = "Maximum"
        metrics = [
          for metric in ["PoolAvailable", "PoolAllocated", "PoolPendingDeletion", "PoolStale", "PoolDeletionFailed", "PoolQuarantined"] :
          [local.cloudwatch_metrics, metric]
        ]
      },
      {
        title   = "Allocations refused: no sandbox available"
        stat    = "Sum"
        metrics = [[local.cloudwatch_metrics, "PoolExhausted"]]
      },
      {
        title = "Allocation latency, ms"
        stat  = "p99"
        metrics = [
          [local.cloudwatch_metrics, "AllocateLatency", { stat = "p50" }],
          [local.cloudwatch_metrics, "AllocateLatency", { stat = "p99" }],
        ]
      },
    ],
    [
      {
        title = "Requests and errors"
        stat  = "Sum"
        metrics = [
          for metric in ["RequestCount", "HTTPCode_Target_4XX_Count", "HTTPCode_Target_5XX_Count", "HTTPCode_ELB_5XX_Count"] :
          ["AWS/ApplicationELB", metric, "LoadBalancer", aws_lb.main.arn_suffix]
        ]
      },
      {
        title = "Broker tasks"
        stat  = "Maximum"
        metrics = [
          for metric in ["HealthyHostCount", "UnHealthyHostCount"] :
          ["AWS/ApplicationELB", metric, "LoadBalancer", aws_lb.main.arn_suffix, "TargetGroup", aws_lb_target_group.broker.arn_suffix]
        ]
      },
      {
        title = "CPU and memory, %"
        stat  = "Average"
        metrics = [
          for metric in ["CPUUtilization", "MemoryUtilization"] :
          ["AWS/ECS", metric, "ClusterName", aws_ecs_cluster.main.name, "ServiceName", aws_ecs_service.broker.name]
        ]
      },
    ],
    [
      {
        title = "Jobs done and failed"
        stat  = "Sum"
        metrics = [
          for pair in setproduct(["JobsDone", "JobsFailed"], keys(local.jobs)) : [local.cloudwatch_metrics, pair[0], "Job", pair[1]]
        ]
      },
      {
        # A conflict is two callers trying to allocate one sandbox. Many of them mean a burst, not a fault.
        title = "DynamoDB: throttles and conflicts"
        stat  = "Sum"
        metrics = concat(
          [for throttle in flatten([for metrics in values(local.throttles) : values(metrics)]) : concat(["AWS/DynamoDB", throttle.metric], flatten([for name, value in throttle.dimensions : [name, value]]))],
          [for name in values(local.table_names) : ["AWS/DynamoDB", "TransactionConflict", "TableName", name]],
        )
      },
      {
        title = "WAF: blocked requests"
        stat  = "Sum"
        metrics = [
          for rule in ["KnownBadInputsRuleSet", "CommonRuleSet", "rate-per-address"] :
          ["AWS/WAFV2", "BlockedRequests", "WebACL", aws_wafv2_web_acl.main.name, "Region", var.region, "Rule", rule]
        ]
      },
    ],
  ]
}

resource "aws_cloudwatch_dashboard" "main" {
  dashboard_name = var.name

  dashboard_body = jsonencode({
    widgets = flatten([
      for y, row in local.dashboard_rows : [
        for x, graph in row : {
          type   = "metric"
          x      = x * 8
          y      = y * 6
          width  = 8
          height = 6
          properties = {
            title   = graph.title
            region  = var.region
            view    = "timeSeries"
            period  = 60
            stat    = graph.stat
            metrics = graph.metrics
          }
        }
      ]
    ])
  })
}
