resource "aws_wafv2_ip_set" "classrooms" {
  name               = "${var.name}-classrooms"
  description        = "Addresses shared by many students. Exempt from the rate rule."
  scope              = "REGIONAL"
  ip_address_version = "IPV4"
  addresses          = var.classroom_cidrs
}

resource "aws_wafv2_web_acl" "main" {
  name        = var.name
  description = "Web ACL of the broker load balancer"
  scope       = "REGIONAL"

  default_action {
    allow {}
  }

  rule {
    # Blocks requests that exploit known vulnerabilities, such as Log4j's.
    name     = "KnownBadInputsRuleSet"
    priority = 10

    override_action {
      none {}
    }

    statement {
      managed_rule_group_statement {
        vendor_name = "AWS"
        name        = "AWSManagedRulesKnownBadInputsRuleSet"
      }
    }

    visibility_config {
      metric_name                = "KnownBadInputsRuleSet"
      cloudwatch_metrics_enabled = true
      sampled_requests_enabled   = true
    }
  }

  rule {
    # Blocks common attack patterns, which no client of the broker sends. It also blocks requests without a User-Agent;
    # curl and wget send one.
    name     = "CommonRuleSet"
    priority = 20

    override_action {
      none {}
    }

    statement {
      managed_rule_group_statement {
        vendor_name = "AWS"
        name        = "AWSManagedRulesCommonRuleSet"
      }
    }

    visibility_config {
      metric_name                = "CommonRuleSet"
      cloudwatch_metrics_enabled = true
      sampled_requests_enabled   = true
    }
  }

  rule {
    name     = "rate-per-address"
    priority = 30

    action {
      block {
        custom_response {
          response_code = 429

          # Lab scripts wait this long before they retry.
          response_header {
            name  = "Retry-After"
            value = "60"
          }
        }
      }
    }

    statement {
      rate_based_statement {
        aggregate_key_type    = "IP"
        evaluation_window_sec = 300
        limit                 = var.rate_limit_per_5_minutes

        scope_down_statement {
          not_statement {
            statement {
              ip_set_reference_statement {
                arn = aws_wafv2_ip_set.classrooms.arn
              }
            }
          }
        }
      }
    }

    visibility_config {
      metric_name                = "rate-per-address"
      cloudwatch_metrics_enabled = true
      sampled_requests_enabled   = true
    }
  }

  visibility_config {
    metric_name                = var.name
    cloudwatch_metrics_enabled = true
    sampled_requests_enabled   = true
  }
}

resource "aws_wafv2_web_acl_association" "alb" {
  resource_arn = aws_lb.main.arn
  web_acl_arn  = aws_wafv2_web_acl.main.arn
}

resource "aws_wafv2_web_acl_logging_configuration" "main" {
  count = var.waf_logging ? 1 : 0

  resource_arn            = aws_wafv2_web_acl.main.arn
  log_destination_configs = [aws_cloudwatch_log_group.main["waf"].arn]

  redacted_fields {
    single_header {
      name = "authorization"
    }
  }
  # The session of single sign-on.
  dynamic "redacted_fields" {
    for_each = local.is_sign_on ? ["cookie"] : []

    content {
      single_header {
        name = redacted_fields.value
      }
    }
  }

  logging_filter {
    default_behavior = "DROP"

    filter {
      behavior    = "KEEP"
      requirement = "MEETS_ANY"

      condition {
        action_condition {
          action = "BLOCK"
        }
      }
      condition {
        action_condition {
          action = "COUNT"
        }
      }
    }
  }
}
