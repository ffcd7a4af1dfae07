# Queries of CloudWatch Logs Insights, below "Saved queries" in its console. They cost only what they scan.

locals {
  saved_queries = merge(local.common_queries, { for name, query in local.pool_queries : name => query if local.creates_accounts })

  pool_queries = {
    "pools late or stopped" = {
      logs = ["broker"]
      text = <<-EOT
        fields @timestamp, message, pool, state, reason, target_available, available, provisioning, under_way
        | filter message in ["pool needs attention", "pool recovered"]
        | sort @timestamp desc
        | limit 200
      EOT
    }
  }

  common_queries = {
    "allocations by lab" = {
      logs = ["broker"]
      text = <<-EOT
        filter message = "request" and action = "allocate" and outcome = "allocated"
        | stats count(*) as allocations, count_distinct(track_id) as plays by lab
        | sort allocations desc
      EOT
    }
    "errors" = {
      logs = ["broker", "jobs"]
      text = <<-EOT
        fields @timestamp, message, action, outcome, status, cause, error, request_id
        | filter level = "ERROR" or status >= 500
        | sort @timestamp desc
        | limit 200
      EOT
    }
    "one sandbox's life" = {
      logs = ["broker", "jobs"]
      text = <<-EOT
        # Replace SANDBOX_ID.
        fields @timestamp, message, action, outcome, principal, track_id, lab, cause, error, request_id
        | filter @message like "SANDBOX_ID"
        | sort @timestamp asc
      EOT
    }
    "slow requests" = {
      logs = ["broker"]
      text = <<-EOT
        fields @timestamp, latency_ms, action, outcome, track_id, request_id
        | filter message = "request" and latency_ms >= 500
        | sort latency_ms desc
        | limit 100
      EOT
    }
    "job runs" = {
      logs = ["broker", "jobs"]
      text = <<-EOT
        fields @timestamp, action, message, counts, error, run_id
        | filter message in ["job done", "job failed"]
        | sort @timestamp desc
        | limit 200
      EOT
    }
    "refused callers" = {
      logs = ["broker"]
      text = <<-EOT
        filter message = "request" and status >= 400 and status < 500
        | stats count(*) as refused by outcome, action, principal, track_id, client
        | sort refused desc
        | limit 100
      EOT
    }
  }
}

resource "aws_cloudwatch_query_definition" "main" {
  for_each = local.saved_queries

  # The console shows the part before the slash as a folder.
  name            = "${var.name}/${each.key}"
  log_group_names = [for key in each.value.logs : aws_cloudwatch_log_group.main[key].name]
  query_string    = each.value.text
}
