# Single sign-on: the load balancer signs people in with an OpenID Connect provider before the dashboard and the admin
# API, and the broker verifies the header that it adds. Without var.single_sign_on nothing of this exists.

locals {
  is_sign_on = var.single_sign_on != null

  # The path, the addresses and one more value: a rule takes at most five condition values.
  sign_on_cidr_triples = local.is_sign_on ? chunklist(var.admin_cidrs, 3) : []
  # The path and the addresses.
  sign_on_cidr_quadruples = local.is_sign_on ? chunklist(var.admin_cidrs, 4) : []

  # Requests to the admin API that pass without signing in. The broker checks their tokens, as it does everywhere.
  without_sign_on = {
    # Programs, and pages with a token.
    bearer = { priority = 20, headers = ["Bearer *"], methods = [] }
    # Browsers send preflight requests without credentials; the broker answers them by CORS_ALLOWED_ORIGINS.
    preflight = { priority = 30, headers = [], methods = ["OPTIONS"] }
  }
  with_sign_on = {
    # 401 in place of a redirect, which a script of a page cannot follow to another origin.
    api       = { priority = 40, path = "/v1/admin*", on_unauthenticated_request = "deny" }
    dashboard = { priority = 60, path = "/dashboard*", on_unauthenticated_request = "authenticate" }
  }

  sign_on_environment = var.single_sign_on == null ? {} : {
    ALB_OIDC_SIGNER_ARN   = aws_lb.main.arn
    ALB_OIDC_ISSUER       = var.single_sign_on.issuer
    ALB_OIDC_CLIENT_ID    = var.single_sign_on.client_id
    ALB_OIDC_GROUPS_CLAIM = var.single_sign_on.groups_claim
    ALB_OIDC_ADMINS       = join(",", var.single_sign_on.admins)
    ALB_OIDC_OPERATORS    = join(",", var.single_sign_on.operators)
    ALB_OIDC_VIEWERS      = join(",", var.single_sign_on.viewers)
  }
}

# The provider takes the secret as a plain argument, so Terraform keeps it in the state. Here it is in no variable, file
# or workflow besides.
data "aws_secretsmanager_secret_version" "sign_on" {
  count = local.is_sign_on ? 1 : 0

  secret_id = var.single_sign_on.client_secret_arn
}

resource "aws_lb_listener_rule" "without_sign_on" {
  for_each = {
    for rule in setproduct(keys(local.without_sign_on), range(length(local.sign_on_cidr_triples))) :
    "${rule[0]}-${rule[1]}" => merge(local.without_sign_on[rule[0]], { index = rule[1] })
  }

  listener_arn = aws_lb_listener.https.arn
  priority     = each.value.priority + each.value.index

  action {
    type             = "forward"
    target_group_arn = aws_lb_target_group.broker.arn
  }

  condition {
    path_pattern {
      values = ["/v1/admin*"]
    }
  }
  condition {
    source_ip {
      values = local.sign_on_cidr_triples[each.value.index]
    }
  }
  dynamic "condition" {
    for_each = each.value.headers

    content {
      http_header {
        http_header_name = "Authorization"
        values           = [condition.value]
      }
    }
  }
  dynamic "condition" {
    for_each = each.value.methods

    content {
      http_request_method {
        values = [condition.value]
      }
    }
  }
}

resource "aws_lb_listener_rule" "with_sign_on" {
  for_each = {
    for rule in setproduct(keys(local.with_sign_on), range(length(local.sign_on_cidr_quadruples))) :
    "${rule[0]}-${rule[1]}" => merge(local.with_sign_on[rule[0]], { index = rule[1] })
  }

  listener_arn = aws_lb_listener.https.arn
  priority     = each.value.priority + each.value.index

  action {
    type  = "authenticate-oidc"
    order = 1

    authenticate_oidc {
      issuer                     = var.single_sign_on.issuer
      authorization_endpoint     = var.single_sign_on.authorization_endpoint
      token_endpoint             = var.single_sign_on.token_endpoint
      user_info_endpoint         = var.single_sign_on.user_info_endpoint
      client_id                  = var.single_sign_on.client_id
      client_secret              = data.aws_secretsmanager_secret_version.sign_on[0].secret_string
      scope                      = var.single_sign_on.scope
      session_timeout            = var.single_sign_on.session_timeout_sec
      on_unauthenticated_request = each.value.on_unauthenticated_request
    }
  }
  action {
    type             = "forward"
    order            = 2
    target_group_arn = aws_lb_target_group.broker.arn
  }

  condition {
    path_pattern {
      values = [each.value.path]
    }
  }
  condition {
    source_ip {
      values = local.sign_on_cidr_quadruples[each.value.index]
    }
  }

  # Otherwise nobody could sign in yet, and programs would have to.
  depends_on = [aws_lb_listener_rule.without_sign_on, aws_vpc_security_group_egress_rule.alb_to_provider]
}

resource "aws_vpc_security_group_egress_rule" "alb_to_provider" {
  count = local.is_sign_on ? 1 : 0

  # Any destination, because the addresses of the provider change; HTTPS only.
  security_group_id = aws_security_group.alb.id
  description       = "HTTPS to the OpenID Connect provider"
  cidr_ipv4         = "0.0.0.0/0"
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
}
