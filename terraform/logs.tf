# The log groups of the FastAPI service are not managed here.

locals {
  log_groups = merge(
    {
      broker = "/${var.name}/broker"
      jobs   = "/${var.name}/jobs"
    },
    var.tracing_enabled ? { collector = "/${var.name}/collector" } : {},
    var.flow_log_traffic != "NONE" ? { flow = "/${var.name}/flow" } : {},
    # AWS WAF requires this prefix.
    var.waf_logging ? { waf = "aws-waf-logs-${var.name}" } : {},
  )
}

resource "aws_cloudwatch_log_group" "main" {
  for_each = local.log_groups

  #checkov:skip=CKV_AWS_158:The key is var.kms_key_arn; without it CloudWatch Logs encrypts with an AWS-owned key.
  #checkov:skip=CKV_AWS_338:The retention is var.log_retention_days, a year by default.
  name              = each.value
  retention_in_days = var.log_retention_days
  kms_key_id        = var.kms_key_arn
}
